//! The socket's place in the file system: one agent for each path, and nobody else's files touched.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::instance_of;

/// Root and the group that may operate the balancer; nobody else.
const DIRECTORY_MODE: u32 = 0o750;
/// Whoever may connect may change everything.
const SOCKET_MODE: u32 = 0o660;

/// Why the agent cannot have its socket.
#[derive(thiserror::Error, Debug)]
pub enum BindError {
    /// Somebody answers there.
    #[error("another agent serves instance \"{instance}\", {}; stop it first, or choose another --instance", whom(*.pid))]
    Taken {
        /// The instance.
        instance: String,
        /// The other agent's process, where the kernel tells.
        pid: Option<i32>,
    },
    /// Two agents start on the same socket at once.
    #[error("another agent is starting on socket {}; wait for it, or choose another --instance", .socket.display())]
    Starting {
        /// The socket.
        socket: PathBuf,
    },
    /// There is a file of another kind, which is not ours to remove.
    #[error("socket {}: there is a file that is not a socket; move it away", .socket.display())]
    NotASocket {
        /// The path.
        socket: PathBuf,
    },
    /// The system refused.
    #[error("socket {}: {operation}: {cause}{}", .socket.display(), way_out(cause))]
    System {
        /// The socket.
        socket: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

fn way_out(cause: &io::Error) -> &'static str {
    if cause.kind() == ErrorKind::PermissionDenied { "; weir run needs root" } else { "" }
}

fn whom(pid: Option<i32>) -> String {
    pid.map_or_else(|| "pid unknown".into(), |pid| format!("pid {pid}"))
}

/// Listens on `path`. Makes the directory if there is none, replaces the file that a dead agent left, and refuses if an
/// agent answers there.
pub async fn bind(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |operation| move |cause: io::Error| BindError::System { socket: path.to_owned(), operation, cause };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_directory(directory).map_err(failed("cannot make its directory"))?;
    // Held from the look at the old socket to the bind of the new one, so that of two agents one sees the other.
    let lock = File::open(directory).map_err(failed("cannot open its directory"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(BindError::Starting { socket: path.to_owned() }),
        Err(TryLockError::Error(cause)) => return Err(failed("cannot lock its directory")(cause)),
    }
    remove_if_dead(path).await?;
    let listener = UnixListener::bind(path).map_err(failed("cannot listen"))?;
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE)).map_err(failed("cannot set its mode"))?;
    Ok(listener)
}

fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    // The process's umask may have taken more away than meant.
    fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))
}

async fn remove_if_dead(path: &Path) -> Result<(), BindError> {
    let failed = |operation| move |cause: io::Error| BindError::System { socket: path.to_owned(), operation, cause };
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NotASocket { socket: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("cannot look at it")(error)),
    }
    let taken = |pid| BindError::Taken { instance: instance_of(path), pid };
    match UnixStream::connect(path).await {
        Ok(peer) => Err(taken(peer.peer_cred().ok().and_then(|credentials| credentials.pid()))),
        // Its queue is full: it lives.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(taken(None)),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!(socket = %path.display(), "replacing the socket of an agent that is gone");
            fs::remove_file(path).map_err(failed("cannot remove the dead one"))
        }
        Err(error) => Err(failed("cannot tell whether an agent answers")(error)),
    }
}

/// A socket's file, as it was when we listened on it.
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// The file that `listener` is bound to, if it has one.
    pub(super) fn of(listener: &UnixListener) -> Option<Self> {
        let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
        let metadata = fs::symlink_metadata(&path).ok()?;
        Some(Self { path, identity: (metadata.dev(), metadata.ino()) })
    }

    /// Removes it, unless it has become somebody else's.
    pub(super) fn remove(self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(socket = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_agent_is_refused_and_told_who_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/edge.sock");
        let first = bind(&path).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (DIRECTORY_MODE, SOCKET_MODE));
        let refused = bind(&path).await.unwrap_err().to_string();
        let expected = format!("another agent serves instance \"edge\", pid {}", std::process::id());
        assert!(refused.starts_with(&expected), "{refused}");
        drop(first);
        bind(&path).await.expect("the dead socket is replaced");
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edge.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path).await, Err(BindError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn only_our_own_file_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edge.sock");
        let first = bind(&path).await.unwrap();
        let file = SocketFile::of(&first).unwrap();
        let held = directory.path().join("held");
        fs::rename(&path, &held).unwrap();
        let second = bind(&path).await.unwrap();
        file.remove();
        assert!(path.exists());
        SocketFile::of(&second).unwrap().remove();
        assert!(!path.exists());
    }
}
