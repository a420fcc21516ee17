//! The agent's own files, in `STATE_DIR/INSTANCE/`: the lock, the hash key, the changes made at run time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lb_common::hash::{HashKey, KEY_WORDS};

use super::AgentError;
use crate::config::{Config, Overrides, OverridesError};

/// The files of one instance; the lock is held for as long as this lives.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    _lock: File,
}

impl Files {
    /// Makes the directory if there is none, and locks it.
    pub fn open(state_dir: &Path, instance: &str) -> Result<Self, AgentError> {
        let directory = state_dir.join(instance);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(file_error(
            "making",
            &directory,
            "run weir as root, or choose another --state-dir",
        ))?;
        let path = directory.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(file_error("opening", &path, "run weir as root, or choose another --state-dir"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(AgentError::Conflict(format!(
                "another agent serves instance \"{instance}\" (it holds {}); stop it first, or choose another --instance",
                path.display()
            ))),
            Err(TryLockError::Error(cause)) => Err(file_error("locking", &path, "check the file system")(cause)),
        }
    }

    /// The flow hash's secret, made at the first start. Nodes that share it place alike.
    pub fn hash_key(&self) -> Result<HashKey, AgentError> {
        let path = self.directory.join("hash.key");
        let hint = "to start over with a new key, remove the file: new flows are then placed elsewhere";
        if !path.exists() {
            let mut bytes = [0; KEY_WORDS * 8];
            let random = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
            random.map_err(file_error("reading", Path::new("/dev/urandom"), "check the system's devices"))?;
            let fresh = self.directory.join("hash.key.new");
            let words = bytes.as_chunks::<8>().0.iter().map(|word| format!("{:016x}\n", u64::from_ne_bytes(*word)));
            let text: String = words.collect();
            let written = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh).and_then(
                |mut file| {
                    file.write_all(text.as_bytes())?;
                    file.sync_all()
                },
            );
            written.and_then(|()| fs::rename(&fresh, &path)).map_err(file_error(
                "writing",
                &path,
                "check the file system",
            ))?;
        }
        let text = fs::read_to_string(&path).map_err(file_error("reading", &path, hint))?;
        let words: Result<Vec<u64>, _> = text.lines().map(|line| u64::from_str_radix(line.trim(), 16)).collect();
        let words = words.map_err(file_error("reading", &path, hint))?;
        let words = words.try_into().map_err(|words: Vec<u64>| {
            file_error("reading", &path, hint)(format!("it has {} words instead of {KEY_WORDS}", words.len()))
        })?;
        Ok(HashKey(words))
    }

    /// The config that holds, given the file's: with the changes made at run time; and sentences about those that do
    /// not apply any more.
    pub fn effective(&self, file: &Config) -> Result<(Config, Vec<String>), OverridesError> {
        Ok(Overrides::load(&self.overrides())?.onto(file))
    }

    /// Keeps what `effective` has beyond `file`.
    pub fn keep(&self, file: &Config, effective: &Config) -> Result<Overrides, OverridesError> {
        let overrides = Overrides::between(file, effective);
        overrides.save(&self.overrides())?;
        Ok(overrides)
    }

    fn overrides(&self) -> PathBuf {
        self.directory.join("overrides.json")
    }
}

fn file_error<E: ToString>(verb: &str, path: &Path, hint: &'static str) -> impl FnOnce(E) -> AgentError {
    let what = format!("{verb} {}", path.display());
    move |cause| AgentError::File { what, cause: cause.to_string(), hint }
}
