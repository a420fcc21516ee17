//! The agent's socket: what can be asked, and what comes back. One schema for the server, the command line and `-o json`.

pub mod client;
pub mod server;
pub mod socket;
pub mod types;

use std::path::{Path, PathBuf};

use crate::agent::options::InstanceName;

/// Where the sockets of all instances are.
pub const RUN_DIR: &str = "/run/weir";

/// The socket of an instance: `RUN_DIR/INSTANCE.sock`.
pub fn socket_path(instance: &InstanceName) -> PathBuf {
    Path::new(RUN_DIR).join(format!("{instance}.sock"))
}

/// The instance that a socket's path speaks of, for messages.
fn instance_of(socket: &Path) -> String {
    socket.file_stem().map_or_else(|| "?".into(), |stem| stem.to_string_lossy().into_owned())
}
