//! Overrides on disk: one JSON file that is either the old one or the new one, whenever the machine stops.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::overrides::Overrides;

/// Why overrides could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum OverridesError {
    /// The file is there and cannot be read.
    #[error("overrides file {}: {cause}: make it readable, or move it away to start from the config file alone", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file does not hold overrides.
    #[error("overrides file {}: not what weir wrote: {cause}: move it away to start from the config file alone", path.display())]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: serde_json::Error,
    },
    /// The file could not be written; the old one, if there is one, is as it was.
    #[error("overrides file {}: {cause}: see that its directory exists, is writable and has space left", path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl Overrides {
    /// Reads the overrides from `path`; a file that does not exist holds none.
    pub fn load(path: &Path) -> Result<Self, OverridesError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(cause) => return Err(OverridesError::Unreadable { path: path.to_owned(), cause }),
        };
        serde_json::from_slice(&text).map_err(|cause| OverridesError::Corrupt { path: path.to_owned(), cause })
    }

    /// Writes the overrides to `path`, which is the old file or the new one at any moment. Once this returns, it is the
    /// new one even if the machine stops.
    pub fn save(&self, path: &Path) -> Result<(), OverridesError> {
        let unwritable = |cause| OverridesError::Unwritable { path: path.to_owned(), cause };
        let mut text = serde_json::to_vec_pretty(self).map_err(|cause| unwritable(cause.into()))?;
        text.push(b'\n');
        replace(path, &text).map_err(unwritable)
    }
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file's path"))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new_name = name.to_owned();
    new_name.push(".new");
    let new = directory.join(new_name);
    let written = write_new(&new, content).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // Best effort: what is left is replaced by the next save, and the first error is the one that matters.
        let _ = fs::remove_file(&new);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {} // gone, whoever left it there
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
