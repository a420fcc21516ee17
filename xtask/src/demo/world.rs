//! The demo's processes and namespaces: starting them, asking them, and leaving nothing of them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::interrupt::Interrupt;
use super::report::{Load, Snapshot};
use crate::process::{describe, find, output};

/// The lab's name: its namespaces begin with it.
const LAB: &str = "demo";
/// Every host of the lab.
const HOSTS: [&str; 6] = ["client", "balancer", "backend1", "backend2", "backend3", "switch"];
/// The agent's instance, unlike any that serves in earnest.
const INSTANCE: &str = "weir-demo";
/// Config, state and logs; only root can write here.
const DIRECTORY: &str = "/run/weir-demo";
/// What a dead agent leaves: its pins, by which the kernel keeps the program, and its socket.
const PINS: &str = "/sys/fs/bpf/weir/weir-demo";
const SOCKET: &str = "/run/weir/weir-demo.sock";

/// How long processes get to end by themselves.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// Everything that the demo starts.
pub struct World {
    lab: PathBuf,
    weir: PathBuf,
    interrupt: Interrupt,
    children: Vec<Child>,
    kept: bool,
}

impl World {
    /// With these programs; nothing is started yet.
    pub fn new(lab: PathBuf, weir: PathBuf, interrupt: Interrupt) -> Self {
        Self { lab, weir, interrupt, children: Vec::new(), kept: false }
    }

    /// Makes the namespaces.
    pub fn up(&self) -> Result<()> {
        ask(Command::new(&self.lab).args(["up", "--name", LAB])).map(drop)
    }

    /// A command in the network namespace of a host.
    pub fn inside(&self, host: &str, words: &[&str]) -> Command {
        let mut command = Command::new(&self.lab);
        command.args(["exec", &format!("{LAB}-{host}"), "--"]).args(words);
        command
    }

    /// A `weir` command to the demo's agent.
    pub fn weir(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.weir);
        command.args(["--instance", INSTANCE]).args(words);
        command
    }

    /// Starts a backend's server; its process id.
    pub fn serve(&mut self, host: &str, port: u16) -> Result<u32> {
        let lab = self.lab.to_string_lossy().into_owned();
        let listen = format!("0.0.0.0:{port}");
        let command = self.inside(host, &[&lab, "serve", "--listen", &listen, "--name", host]);
        self.start(command, &format!("{host}.log"))
    }

    /// Starts the agent with this config.
    pub fn start_agent(&mut self, config: &str) -> Result<u32> {
        fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot make {DIRECTORY}"))?;
        let directory = Path::new(DIRECTORY);
        let file = directory.join("weir.toml");
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let (weir, file, state) =
            (self.weir.to_string_lossy().into_owned(), file.display().to_string(), directory.join("state"));
        let words = [&weir, "run", "--config", &file, "--instance", INSTANCE, "--state-dir", &state.to_string_lossy()];
        let command = self.inside("balancer", &words);
        self.start(command, "agent.log")
    }

    /// Starts the load generator on the client; its process id, for [`World::loaded`].
    pub fn start_load(&mut self, words: &[&str]) -> Result<u32> {
        let lab = self.lab.to_string_lossy().into_owned();
        let command = self.inside("client", &[&[&lab, "load", "--json"], words].concat());
        self.start(command, "load.json")
    }

    /// Waits for the load generator to end, and reads what it found.
    pub fn loaded(&mut self, id: u32, limit: Duration) -> Result<Load> {
        self.until("the load's end", limit, |world| Ok(world.has_ended(id).then_some(())))?;
        let printed = fs::read_to_string(Path::new(DIRECTORY).join("load.json")).context("the load left no report")?;
        // Its messages go to the same file, before the report.
        let report = printed.lines().last().unwrap_or_default();
        serde_json::from_str(report).with_context(|| format!("the load failed: {printed}"))
    }

    /// Ends a process without a warning, as a crash would.
    pub fn crash(&mut self, id: u32) -> Result<()> {
        signal(id, Signal::SIGKILL)?;
        self.until("the server's end", PATIENCE, |world| Ok(world.has_ended(id).then_some(())))
    }

    /// Everything that the agent shows.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let printed = ask(&mut self.weir(&["-o", "json", "status"]))?;
        serde_json::from_str(&printed).context("cannot read what weir status prints")
    }

    /// Asks until there is an answer.
    pub fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut ask: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            self.interrupt.check()?;
            if let Some(answer) = ask(self)? {
                return Ok(answer);
            }
            if start.elapsed() > limit {
                bail!("waited {} s for {what}", limit.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        self.until("time to pass", time * 2, |_| Ok((start.elapsed() >= time).then_some(())))
    }

    /// Whether a process that was started here is gone.
    pub fn has_ended(&mut self, id: u32) -> bool {
        self.running().all(|running| running != id)
    }

    /// The processes that were started here and still run.
    fn running(&mut self) -> impl Iterator<Item = u32> {
        self.children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        self.children.iter().map(Child::id)
    }

    /// Leaves everything running.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Takes down whatever a demo, this or an earlier one, has running.
    pub fn clear(&mut self) -> Result<()> {
        if Path::new(SOCKET).exists() {
            // If the agent does not answer any more, what it left goes below.
            let _ = ask(&mut self.weir(&["detach"]));
        }
        if !self.end_all(Signal::SIGTERM)? && !self.end_all(Signal::SIGKILL)? {
            bail!("processes {:?} do not end", self.processes());
        }
        ask(Command::new(&self.lab).args(["down", "--name", LAB]))?;
        for place in [PINS, DIRECTORY] {
            absent(fs::remove_dir_all(place)).with_context(|| format!("cannot remove {place}"))?;
        }
        absent(fs::remove_file(SOCKET)).with_context(|| format!("cannot remove {SOCKET}"))
    }

    /// Sends the signal to every process of the demo; whether all are gone soon after.
    fn end_all(&mut self, what: Signal) -> Result<bool> {
        let start = Instant::now();
        for id in self.processes() {
            signal(id, what)?;
        }
        while !self.processes().is_empty() {
            if start.elapsed() > PATIENCE {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
        Ok(true)
    }

    /// What was started here, and whatever else runs in the lab's namespaces: all of those are the demo's.
    fn processes(&mut self) -> BTreeSet<u32> {
        let ip = find("ip").unwrap_or_else(|| PathBuf::from("ip"));
        // A host that there is not has no processes.
        let inside = |host: &&str| ask(Command::new(&ip).args(["netns", "pids", &format!("{LAB}-{host}")])).ok();
        let listed = HOSTS.iter().filter_map(inside).collect::<String>();
        listed.lines().filter_map(|line| line.trim().parse().ok()).chain(self.running()).collect()
    }

    /// Starts a command that goes on while the story does.
    fn start(&mut self, mut command: Command, log: &str) -> Result<u32> {
        fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot make {DIRECTORY}"))?;
        let log = File::create(Path::new(DIRECTORY).join(log)).with_context(|| format!("cannot write {log}"))?;
        command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot run {}", describe(&command)))?;
        let id = child.id();
        self.children.push(child);
        Ok(id)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.kept || self.children.is_empty() {
            return;
        }
        // Only a panic gets here with processes running.
        if let Err(error) = self.clear() {
            eprintln!("demo: something is left: {error:#}");
        }
    }
}

/// Runs a command to its end; what it printed.
pub fn ask(command: &mut Command) -> Result<String> {
    // In a process group of its own: a Ctrl-C is for this program alone, which then cleans up in order.
    output(command.process_group(0))
}

/// The last lines that the agent logged.
pub fn agent_log_end() -> String {
    let log = fs::read_to_string(Path::new(DIRECTORY).join("agent.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// Sends a signal; a process that is gone already is no error.
fn signal(id: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(id).context("no process has such an id")?;
    match kill(Pid::from_raw(id), signal) {
        Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot signal process {id}")),
    }
}

/// Removing what is not there is done.
fn absent(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
