//! `hold`: connections that stay open, each of which must stay with the backend that it began with.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use harness::reports::{HoldReport, SHOWN_MAX};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{durations, signals, targets};

/// From one line to the next.
const PACE: Duration = Duration::from_secs(1);
/// How long a connection or an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many connections, whereto and for how long.
#[derive(Args)]
pub struct Hold {
    /// Address and port of a line server (weir-lab serve --hold: the port after the served one)
    #[arg(long, value_parser = targets::parse)]
    target: SocketAddr,
    /// How many connections
    #[arg(long)]
    connections: u32,
    /// For how long, as in 20s; SIGTERM and SIGINT end it early
    #[arg(long, value_parser = durations::parse)]
    duration: Duration,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

/// What became of one connection.
#[derive(Default)]
struct Outcome {
    backend: String,
    answers: u64,
    fault: Option<Fault>,
}

enum Fault {
    Broken(String),
    Moved(String),
}

impl Hold {
    /// Holds the connections and prints the report.
    pub async fn run(self) -> Result<()> {
        let (stop, stopped) = watch::channel(());
        let tasks: Vec<_> =
            (0..self.connections).map(|number| tokio::spawn(hold(self.target, number, stopped.clone()))).collect();
        let ended = timeout(self.duration, signals::asked_to_end()).await;
        drop(stop);
        let mut report = HoldReport { connections: self.connections.into(), ..HoldReport::default() };
        for task in tasks {
            add(&mut report, task.await.context("a connection's task failed")?);
        }
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            let HoldReport { connections, broken, moved, answers, .. } = &report;
            println!("{connections} connections: {broken} broken, {moved} moved; {answers} answers");
            report.errors.iter().take(5).for_each(|error| println!("  {error}"));
        }
        ended.unwrap_or(Ok(()))
    }
}

/// One connection, until the watched channel closes.
async fn hold(target: SocketAddr, number: u32, stopped: watch::Receiver<()>) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.fault = converse(target, number, stopped, &mut outcome).await.err();
    outcome
}

async fn converse(
    target: SocketAddr,
    number: u32,
    mut stopped: watch::Receiver<()>,
    outcome: &mut Outcome,
) -> Result<(), Fault> {
    let broken = |what: &str, why: String| Fault::Broken(format!("connection {number}: {what}: {why}"));
    let connected = patiently(TcpStream::connect(target)).await;
    let mut stream = connected.map_err(|error| broken("connect", error.to_string()))?;
    // Lines are small: waiting to fill a segment would only add delay.
    stream.set_nodelay(true).map_err(|error| broken("connect", error.to_string()))?;
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for line in 0_u64.. {
        tokio::select! {
            _ = pace.tick() => {}
            _ = stopped.changed() => break,
        }
        let stamp = format!("{number}.{line}");
        let asked = writer.write_all(format!("hello {stamp}\n").as_bytes()).await;
        asked.map_err(|error| broken("send", error.to_string()))?;
        let answer = patiently(lines.next_line()).await;
        let answer = answer.map_err(|error| broken("receive", error.to_string()))?;
        let answer = answer.ok_or_else(|| broken("receive", "the other side closed it".into()))?;
        let (backend, same) = answer.split_once(' ').unwrap_or_default();
        if same != stamp {
            return Err(broken("receive", format!("{answer:?} is no answer to {stamp}")));
        }
        if outcome.backend.is_empty() {
            backend.clone_into(&mut outcome.backend);
        } else if outcome.backend != backend {
            return Err(Fault::Moved(format!("connection {number}: moved from {} to {backend}", outcome.backend)));
        }
        outcome.answers += 1;
    }
    Ok(())
}

/// A step of the conversation, which fails when it takes too long.
async fn patiently<T>(step: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    let silence = |_| Err(std::io::Error::other(format!("nothing within {PATIENCE:?}")));
    timeout(PATIENCE, step).await.unwrap_or_else(silence)
}

fn add(report: &mut HoldReport, outcome: Outcome) {
    report.answers += outcome.answers;
    let error = match outcome.fault {
        Some(Fault::Broken(error)) => {
            report.broken += 1;
            *report.broken_by_backend.entry(outcome.backend.clone()).or_default() += 1;
            Some(error)
        }
        Some(Fault::Moved(error)) => {
            report.moved += 1;
            Some(error)
        }
        None => None,
    };
    report.errors.extend(error.filter(|_| report.errors.len() < SHOWN_MAX));
    if !outcome.backend.is_empty() {
        *report.by_backend.entry(outcome.backend).or_default() += 1;
    }
}
