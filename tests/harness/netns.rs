//! Network namespaces by name, as `ip netns` knows them: made, entered, left and deleted.
//!
//! Entering changes the network namespace of one thread and nothing else, so `/sys/fs/bpf` and every other file stay
//! visible there (`ip netns exec` mounts a `/sys` of its own over them).

use std::fs::{self, File};
use std::os::linux::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::command;

/// Where the kernel's handles of named namespaces stand.
pub const DIRECTORY: &str = "/run/netns";

/// A namespace that is deleted when this value goes.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    kept: bool,
}

impl Namespace {
    /// Makes a namespace.
    pub fn create(name: &str) -> Result<Self> {
        command::run(Command::new("ip").args(["netns", "add", name]))?;
        Ok(Self { name: name.into(), kept: false })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Leaves the namespace standing when this value goes.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = delete(&self.name)
        {
            eprintln!("namespace {}: {error:#}", self.name);
        }
    }
}

/// Deletes a namespace by name. What still runs in it goes on without a network.
pub fn delete(name: &str) -> Result<()> {
    command::run(Command::new("ip").args(["netns", "delete", name])).map(drop)
}

/// The names of all namespaces.
pub fn list() -> Result<Vec<String>> {
    match fs::read_dir(DIRECTORY) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        // Nobody has made one since the machine started.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("{DIRECTORY}: cannot be listed")),
    }
}

/// Moves the current thread, and only it, into a namespace for good.
///
/// Threads and processes that it starts from now on begin there.
pub fn enter(name: &str) -> Result<()> {
    let handle = File::open(path(name)).with_context(|| format!("namespace {name}: cannot be opened"))?;
    setns(handle, CloneFlags::CLONE_NEWNET).with_context(|| format!("namespace {name}: cannot be entered"))
}

/// Runs a closure in a namespace, on a thread of its own, and waits for it.
pub fn run<T: Send>(name: &str, job: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn_scoped(scope, || enter(name).map(|()| job()))
            .context("no thread for a namespace")?;
        // The panic is the closure's: it goes on where the closure was written.
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Starts a command in a namespace.
pub fn spawn(name: &str, command: &mut Command) -> Result<Child> {
    let what = command::shown(command);
    run(name, || command.spawn())?.map_err(|error| anyhow!("{what}: cannot be started in namespace {name}: {error}"))
}

/// Runs a command in a namespace to its end.
pub fn output(name: &str, command: &mut Command) -> Result<Output> {
    let what = command::shown(command);
    run(name, || command.output())?.map_err(|error| anyhow!("{what}: cannot be run in namespace {name}: {error}"))
}

/// The ids of the processes that are in a namespace.
pub fn processes(name: &str) -> Result<Vec<u32>> {
    let namespace = fs::metadata(path(name)).with_context(|| format!("namespace {name}: there is none"))?;
    let inside = |pid: &u32| {
        fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|of| of.st_ino() == namespace.st_ino() && of.st_dev() == namespace.st_dev())
    };
    let pids = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter(inside).collect())
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(DIRECTORY).join(name)
}
