//! Captures what passes an interface with tcpdump, and judges every frame of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use pcap_file::pcap::PcapReader;

use crate::frames::{self, Flow, Frame};
use crate::process::Process;
use crate::{netns, wait};

/// How long starting and ending may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Where the datagram goes that marks a capture's end: discard, by broadcast, so that no host must be there.
const MARK_TARGET: &str = "255.255.255.255:9";

/// A running capture; ended without a report when this value goes.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    said: Receiver<String>,
    namespace: String,
    interface: String,
    file: PathBuf,
}

impl Capture {
    /// Starts to capture an interface of a namespace into a file; returns once it captures.
    pub fn start(namespace: &str, interface: &str, file: &Path) -> Result<Self> {
        let mut command = Command::new("tcpdump");
        // Immediate and unbuffered: what was captured is in the file at once. As root: the file's directory is ours.
        command
            .args(["-i", interface, "-U", "--immediate-mode", "-B", "8192", "-s", "0", "-Z", "root", "-w"])
            .arg(file);
        let mut tcpdump = Process::spawn(namespace, command.stdout(Stdio::null()).stderr(Stdio::piped()))?;
        let stderr = tcpdump.child().stderr.take().context("tcpdump has no standard error")?;
        let said = lines(stderr);
        let mut heard = Vec::new();
        loop {
            match said.recv_timeout(LIMIT) {
                Ok(line) if line.contains("listening on") => break,
                Ok(line) => heard.push(line),
                Err(_) => bail!("tcpdump on {interface} of {namespace} does not capture: {}", heard.join("; ")),
            }
        }
        Ok(Self { tcpdump, said, namespace: namespace.into(), interface: interface.into(), file: file.into() })
    }

    /// Ends the capture, once everything that passed until now is in the file, and judges every frame.
    pub fn stop(mut self) -> Result<Report> {
        let mark = self.send_mark()?;
        let mut search = Search { file: File::open(&self.file)?, seen: Vec::new() };
        wait::until("the capture's end mark", LIMIT, || search.finds(mark.as_bytes()).transpose())??;
        self.tcpdump.signal(Signal::SIGINT)?;
        self.tcpdump.ended(LIMIT)?;
        let dropped = self.said.iter().find_map(|line| line.strip_suffix(" packets dropped by kernel")?.parse().ok());
        let mut report = Report::read(&self.file, mark.as_bytes())?;
        report.dropped = dropped.context("tcpdump does not say how many packets it lost")?;
        Ok(report)
    }

    fn send_mark(&self) -> Result<String> {
        let mark = format!("end of capture {} {:?}", std::process::id(), Instant::now());
        let interface = OsString::from(&self.interface);
        netns::run(&self.namespace, || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_broadcast(true)?;
            setsockopt(&socket, sockopt::BindToDevice, &interface)?;
            socket.send_to(mark.as_bytes(), MARK_TARGET)?;
            anyhow::Ok(())
        })?
        .context("the capture's end cannot be marked")?;
        Ok(mark)
    }
}

/// Passes on the lines of a pipe, as they come.
fn lines(pipe: ChildStderr) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok();
    });
    lines
}

/// A file that grows, and the end of what was read of it.
struct Search {
    file: File,
    seen: Vec<u8>,
}

impl Search {
    fn finds(&mut self, what: &[u8]) -> Result<Option<()>> {
        self.file.read_to_end(&mut self.seen)?;
        if contains(&self.seen, what) {
            return Ok(Some(()));
        }
        // The beginning of it may be there already.
        self.seen.drain(..self.seen.len().saturating_sub(what.len()));
        Ok(None)
    }
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// What a capture holds.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Frames in all.
    pub frames: u64,
    /// Those that are not IPv4, about which nothing was asked.
    pub other: u64,
    /// Right IPv4 frames by flow.
    pub flows: BTreeMap<Flow, u64>,
    /// What is wrong with the others: the frame's number, from 1, and the fault.
    pub bad: Vec<(u64, String)>,
    /// Packets that tcpdump was too slow for; the capture says nothing about them.
    pub dropped: u64,
}

impl Report {
    /// Judges a capture file, leaving out frames that contain `mark`.
    pub fn read(file: &Path, mark: &[u8]) -> Result<Self> {
        let shown = file.display();
        let mut reader = PcapReader::new(File::open(file).with_context(|| format!("{shown}: cannot be opened"))?)?;
        let mut report = Self::default();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.with_context(|| format!("{shown}: frame {}", report.frames + 1))?;
            ensure!(packet.data.len() == packet.orig_len as usize, "{shown}: frame {} is cut", report.frames + 1);
            if mark.is_empty() || !contains(packet.data.get(..256).unwrap_or(&packet.data), mark) {
                report.add(&packet.data);
            }
        }
        Ok(report)
    }

    /// How many right frames belong to flows that a question picks.
    pub fn count(&self, pick: impl Fn(&Flow) -> bool) -> u64 {
        self.flows.iter().filter(|(flow, _)| pick(flow)).map(|(_, count)| count).sum()
    }

    fn add(&mut self, frame: &[u8]) {
        self.frames += 1;
        match frames::verify(frame) {
            Ok(Frame::Ipv4(flow)) => *self.flows.entry(flow).or_default() += 1,
            Ok(Frame::Other) => self.other += 1,
            Err(fault) => self.bad.push((self.frames, format!("{fault:#}"))),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, other, flows, bad, dropped } = self;
        writeln!(
            f,
            "{frames} frames, {} bad, {} flows, {other} not IPv4, {dropped} not captured",
            bad.len(),
            flows.len()
        )?;
        for (number, fault) in bad.iter().take(20) {
            writeln!(f, "  frame {number}: {fault}")?;
        }
        for (flow, count) in flows.iter().take(50) {
            writeln!(f, "  {count} x {flow}")?;
        }
        Ok(())
    }
}
