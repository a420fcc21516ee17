//! The agent under test: the `weir` binary, run in the lab's balancer, and taken away with everything it left.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use lb_common::names::PIN_ROOT;
use lb_userspace::api::types::{BackendView, ServiceView, Snapshot, VerdictView};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use tempfile::TempDir;

use crate::process::Process;
use crate::topology::Lab;
use crate::{netns, wait};

/// Where BPF objects are pinned.
const BPF_FILESYSTEM: &str = "/sys/fs/bpf";
/// Where agents have their sockets.
const SOCKETS: &str = "/run/weir";
/// How long starting may take: the program is verified, maps are made.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long ending may take.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// An agent of its own instance; detached, killed and cleaned up after when this value goes.
#[derive(Debug)]
pub struct Agent {
    binary: PathBuf,
    namespace: String,
    instance: String,
    directory: TempDir,
    process: Option<Process>,
}

impl Agent {
    /// Runs an agent in the lab's balancer with a config; returns once it answers. `instance`: unique in this process.
    pub fn start(lab: &Lab, config: &str, instance: &str) -> Result<Self> {
        mount_bpf_filesystem()?;
        let directory = TempDir::new().context("no temporary directory")?;
        let instance = format!("{instance}-{}", std::process::id());
        let mut agent = Self { binary: binary()?, namespace: lab.balancer(), instance, directory, process: None };
        fs::create_dir(agent.directory.path().join("state"))?;
        agent.write_config(config)?;
        agent.restart()?;
        Ok(agent)
    }

    /// The instance's name.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Where the instance's BPF objects are pinned.
    pub fn pins(&self) -> PathBuf {
        Path::new(PIN_ROOT).join(&self.instance)
    }

    /// The agent's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The config file.
    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join("weir.toml")
    }

    /// What the agent has logged.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Replaces the config file; the agent reads it when it starts.
    pub fn write_config(&self, config: &str) -> Result<()> {
        fs::write(self.config_path(), config).context("the config cannot be written")
    }

    /// Starts the agent (again) on what the last one left; returns once it answers.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "agent {}: it runs already", self.instance);
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.run_command();
        let process =
            self.process.insert(Process::spawn(&self.namespace, command.stdout(log.try_clone()?).stderr(log))?);
        let mut gone = None;
        let answers = wait::succeeds(&format!("agent {}", self.instance), START_LIMIT, || {
            gone = process.child().try_wait()?;
            if gone.is_some() {
                return Ok(None);
            }
            snapshot(&self.binary, &self.namespace, &self.instance).map(Some)
        });
        match answers {
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                self.process = None;
                let status = gone.map_or_else(String::new, |status| status.to_string());
                bail!("agent {} ended with {status}: {}", self.instance, self.log().trim())
            }
            Err(error) => Err(error.context(self.log())),
        }
    }

    /// The command that runs an agent of this instance.
    pub fn run_command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["run", "--config"]).arg(self.config_path()).args(["--instance", &self.instance, "--state-dir"]);
        command.arg(self.directory.path().join("state"));
        command
    }

    /// Runs a `weir` command about this instance to its end.
    pub fn weir(&self, words: &[&str]) -> Result<Output> {
        weir(&self.binary, &self.namespace, &self.instance, words)
    }

    /// Runs a `weir` command that must succeed; returns what it printed.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        successful(&words.join(" "), &self.weir(words)?)
    }

    /// Everything that the agent shows.
    pub fn snapshot(&self) -> Result<Snapshot> {
        snapshot(&self.binary, &self.namespace, &self.instance)
    }

    /// Waits until what the agent shows answers a question.
    pub fn until<T>(&self, what: &str, limit: Duration, ask: impl Fn(&Snapshot) -> Option<T>) -> Result<T> {
        wait::succeeds(what, limit, || {
            let snapshot = self.snapshot()?;
            ask(&snapshot)
                .ok_or_else(|| anyhow!("the agent shows {}", serde_json::to_string(&snapshot).unwrap_or_default()))
        })
    }

    /// Kills the agent (SIGKILL): it can do nothing about it.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.take().context("no agent to kill")?.kill()
    }

    /// Ends the agent in order (SIGTERM).
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.take().context("no agent to stop")?.stop(STOP_LIMIT)
    }

    /// Waits until the agent has ended by itself.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        self.process.take().context("no agent to wait for")?.ended(STOP_LIMIT)
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("agent.log")
    }

    fn clean_up(&mut self) -> Result<()> {
        if self.pins().exists() {
            let mut detach = Command::new(&self.binary);
            detach.args(["--instance", &self.instance, "detach"]).stdout(Stdio::null()).stderr(Stdio::null());
            // Whether it works is another test's question: what is left goes below.
            let _ = Process::spawn(&self.namespace, &mut detach)?.ended(STOP_LIMIT);
        }
        self.process = None;
        removed(fs::remove_dir_all(self.pins()))?;
        removed(fs::remove_file(Path::new(SOCKETS).join(format!("{}.sock", self.instance))))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of agent {}:\n{}", self.instance, self.log());
        }
        if let Err(error) = self.clean_up() {
            eprintln!("agent {}: something is left: {error:#}", self.instance);
        }
    }
}

/// A service of a snapshot.
pub fn service<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a ServiceView> {
    snapshot.services.iter().find(|service| service.name.0 == name)
}

/// A backend of a snapshot, by `ADDRESS:PORT`.
pub fn backend<'a>(snapshot: &'a Snapshot, name: &str, address: &str) -> Option<&'a BackendView> {
    service(snapshot, name)?.backends.iter().find(|backend| backend.address.to_string() == address)
}

/// Packets that a snapshot counts for a verdict and reason.
pub fn packets(snapshot: &Snapshot, verdict: &str, reason: &str) -> u64 {
    let matches = |view: &&VerdictView| view.verdict == verdict && view.reason == reason;
    snapshot.verdicts.iter().filter(matches).map(|view| view.packets).sum()
}

/// The `weir` binary: `WEIR_BIN`, or the one beside the running test.
pub fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("WEIR_BIN") {
        let path = PathBuf::from(named);
        ensure!(path.is_file(), "WEIR_BIN names {}, where there is no file", path.display());
        return Ok(path);
    }
    let test = std::env::current_exe().context("the test does not know where it is")?;
    // target/PROFILE/deps/TEST: the same profile first.
    let profile = test.ancestors().nth(2).context("the test is not in a target directory")?;
    let beside = ["", "../debug", "../release"].map(|way| profile.join(way).join("weir"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("no weir binary in {}: build it, or name it in WEIR_BIN", profile.display()))
}

fn weir(binary: &Path, namespace: &str, instance: &str, words: &[&str]) -> Result<Output> {
    netns::output(namespace, Command::new(binary).args(["--instance", instance]).args(words).stdin(Stdio::null()))
}

fn snapshot(binary: &Path, namespace: &str, instance: &str) -> Result<Snapshot> {
    let printed = successful("status", &weir(binary, namespace, instance, &["-o", "json", "status"])?)?;
    serde_json::from_str(&printed).with_context(|| format!("weir status printed no snapshot: {printed}"))
}

fn successful(what: &str, output: &Output) -> Result<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "weir {what}: {}: {}", output.status, stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes BPF objects pinnable where nobody has mounted the file system yet.
fn mount_bpf_filesystem() -> Result<()> {
    let kind =
        statfs(BPF_FILESYSTEM).with_context(|| format!("{BPF_FILESYSTEM}: no such directory"))?.filesystem_type();
    if kind == BPF_FS_MAGIC {
        return Ok(());
    }
    mount(Some("bpf"), BPF_FILESYSTEM, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("{BPF_FILESYSTEM}: the BPF file system cannot be mounted"))
}

fn removed(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
