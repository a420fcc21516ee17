//! Processes that the tests start, none of which outlives the value that stands for it.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{command, netns, wait};

/// A running process; killed and reaped when this value goes.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
}

impl Process {
    /// Starts a command in a namespace; its standard input is empty.
    pub fn spawn(namespace: &str, command: &mut Command) -> Result<Self> {
        let child = netns::spawn(namespace, command.stdin(Stdio::null()))?;
        Ok(Self { what: command::shown(command), child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its pipes and its exit status.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("{}: no {signal} to process {pid}", self.what))
    }

    /// Kills it at once (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("{}: cannot be killed", self.what))?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.what);
        wait::until(&what, limit, || self.child.try_wait().transpose())?.with_context(|| format!("no {what}"))
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.ended(limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
