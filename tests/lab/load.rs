//! `load`: requests at a rate or as fast as answers come, each over a connection of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use harness::http::Head;
use harness::reports::{Failure, Latency, LoadReport, SHOWN_MAX, now_ms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{durations, signals, targets};

/// What to ask, whom, and how often.
#[derive(Args, Clone)]
pub struct Load {
    /// Address and port, loopback or private
    #[arg(long, value_parser = targets::parse)]
    target: SocketAddr,
    /// How many requests
    #[arg(long, required_unless_present = "duration", conflicts_with = "duration")]
    requests: Option<u64>,
    /// For how long, as in 6s
    #[arg(long, value_parser = durations::parse)]
    duration: Option<Duration>,
    /// Most requests at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
    /// Requests per second; without it as fast as answers come
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// How long one request may take
    #[arg(long, default_value = "2s", value_parser = durations::parse)]
    timeout: Duration,
    /// Give up after this many failed requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_failures: Option<u64>,
    /// What to ask for
    #[arg(long, default_value = "/")]
    path: String,
    /// Send from this address; several take turns
    #[arg(long)]
    source: Vec<IpAddr>,
    /// Report the start and the backend of every answered request
    #[arg(long)]
    samples: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

/// What all workers share.
struct Run {
    load: Load,
    request: Vec<u8>,
    begin: Instant,
    started: AtomicU64,
    failed: AtomicU64,
    stopped: AtomicBool,
}

/// What became of one worker's requests.
#[derive(Default)]
struct Tally {
    answers: Vec<Answered>,
    requests: u64,
    failed: u64,
    failures: Vec<Failure>,
    last_failure_ms: Option<u64>,
}

struct Answered {
    at_ms: u64,
    microseconds: u64,
    backend: String,
}

impl Load {
    /// Sends the requests (SIGTERM and SIGINT end it early) and prints the report.
    pub async fn run(self) -> Result<()> {
        let (json, samples, concurrency) = (self.json, self.samples, self.concurrency);
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.path, self.target);
        let run = Arc::new(Run {
            request: request.into_bytes(),
            begin: Instant::now(),
            started: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            load: self,
        });
        let started_ms = now_ms();
        let workers: Vec<_> = (0..concurrency).map(|_| tokio::spawn(Arc::clone(&run).work())).collect();
        let stopping = Arc::clone(&run);
        tokio::spawn(async move {
            let _ = signals::asked_to_end().await;
            stopping.stopped.store(true, Ordering::Relaxed);
        });
        let mut tallies = Vec::new();
        for worker in workers {
            tallies.push(worker.await.context("a worker failed")?);
        }
        let report = report(tallies, started_ms, samples);
        if json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print(&report);
        }
        Ok(())
    }
}

impl Run {
    async fn work(self: Arc<Self>) -> Tally {
        let mut tally = Tally::default();
        while let Some(number) = self.next().await {
            let (at_ms, start) = (now_ms(), Instant::now());
            tally.requests += 1;
            let result = timeout(self.load.timeout, self.exchange(number)).await;
            match result.unwrap_or_else(|_| Err(format!("no whole answer within {:?}", self.load.timeout))) {
                Ok((backend, end)) => {
                    let microseconds = u64::try_from((end - start).as_micros()).unwrap_or(u64::MAX);
                    tally.answers.push(Answered { at_ms, microseconds, backend });
                }
                Err(error) => {
                    tally.fail(Failure { at_ms, failed_at_ms: now_ms(), error });
                    let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
                    if self.load.max_failures.is_some_and(|most| failed >= most) {
                        self.stopped.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
        tally
    }

    /// Waits for the time of the next request; `None` when there is none.
    async fn next(&self) -> Option<u64> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        if self.load.requests.is_some_and(|all| number >= all) {
            return None;
        }
        if let Some(rate) = self.load.rate {
            let due = self.begin + Duration::from_nanos(number.saturating_mul(1_000_000_000 / u64::from(rate)));
            if self.load.duration.is_some_and(|all| due >= self.begin + all) {
                return None;
            }
            sleep_until(due).await;
        }
        let over = self.load.duration.is_some_and(|all| self.begin.elapsed() >= all);
        (!over && !self.stopped.load(Ordering::Relaxed)).then_some(number)
    }

    /// One request; who answered, and when the last byte was there.
    async fn exchange(&self, number: u64) -> Result<(String, Instant), String> {
        let mut stream = self.connect(number).await.map_err(|error| format!("connect: {error}"))?;
        stream.write_all(&self.request).await.map_err(|error| format!("send: {error}"))?;
        let mut buffer = vec![0; 16 * 1_024];
        let (mut early, mut head, mut received) = (Vec::new(), None::<Head>, 0);
        let mut whole_at = None;
        // To the end of the connection, which the server was asked for: then no half of it is left in the kernel.
        loop {
            let count = stream.read(&mut buffer).await.map_err(|error| format!("receive: {error}"))?;
            if count == 0 {
                break;
            }
            if head.is_some() {
                received += count as u64;
            } else {
                early.extend_from_slice(&buffer[..count]);
                head = Head::parse(&early).map_err(|error| format!("{error:#}"))?;
                received = head.as_ref().map_or(0, |head| (early.len() - head.length) as u64);
            }
            if head.as_ref().is_some_and(|head| received >= head.content_length) {
                whole_at.get_or_insert_with(Instant::now);
            }
        }
        let head = head.ok_or("closed without an answer")?;
        if received != head.content_length {
            return Err(format!("{received} bytes instead of {}", head.content_length));
        }
        if !(200..300).contains(&head.status) {
            return Err(format!("status {} from {}", head.status, head.backend.unwrap_or_default()));
        }
        Ok((head.backend.unwrap_or_else(|| "unnamed".into()), whole_at.unwrap_or_else(Instant::now)))
    }

    async fn connect(&self, number: u64) -> std::io::Result<TcpStream> {
        let sources = &self.load.source;
        if sources.is_empty() {
            return TcpStream::connect(self.load.target).await;
        }
        let turn = usize::try_from(number).unwrap_or_default() % sources.len();
        let socket = if self.load.target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(SocketAddr::new(sources[turn], 0))?;
        socket.connect(self.load.target).await
    }
}

impl Tally {
    fn fail(&mut self, failure: Failure) {
        self.failed += 1;
        self.last_failure_ms = self.last_failure_ms.max(Some(failure.at_ms));
        if self.failures.len() < SHOWN_MAX {
            self.failures.push(failure);
        }
    }
}

fn report(tallies: Vec<Tally>, started_ms: u64, with_samples: bool) -> LoadReport {
    let mut report = LoadReport { started_ms, ended_ms: now_ms(), ..LoadReport::default() };
    let mut answers = Vec::new();
    for tally in tallies {
        report.requests += tally.requests;
        report.failed += tally.failed;
        report.last_failure_ms = report.last_failure_ms.max(tally.last_failure_ms);
        report.failures.extend(tally.failures);
        answers.extend(tally.answers);
    }
    report.failures.sort_by_key(|failure| failure.at_ms);
    report.failures.truncate(SHOWN_MAX);
    report.ok = answers.len() as u64;
    for answer in &answers {
        *report.by_backend.entry(answer.backend.clone()).or_default() += 1;
    }
    report.latency_us = Latency::of(answers.iter().map(|answer| answer.microseconds).collect());
    if with_samples {
        answers.sort_by_key(|answer| answer.at_ms);
        report.samples = Some(answers.into_iter().map(|answer| (answer.at_ms, answer.backend)).collect());
    }
    report
}

fn print(report: &LoadReport) {
    let LoadReport { requests, ok, failed, latency_us: Latency { p50, p99, max, .. }, .. } = report;
    println!("{requests} requests: {ok} answered, {failed} failed; p50 {p50} us, p99 {p99} us, longest {max} us");
    for (backend, count) in &report.by_backend {
        println!("  {backend}: {count}");
    }
    for failure in report.failures.iter().take(5) {
        println!("  failed at {}: {}", failure.at_ms, failure.error);
    }
}
