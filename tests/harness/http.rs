//! The little HTTP/1.1 that the lab speaks as a client: heads, and whole answers over a blocking connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::{bytes, netns};

/// The header in which the test server says who it is.
pub const BACKEND_HEADER: &str = "x-backend";
/// Most bytes that a head may have.
pub const HEAD_MAX: usize = 16 * 1_024;
/// How long the other side may be silent before a request counts as failed.
const SILENCE: Duration = Duration::from_secs(10);

/// An answer up to its blank line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Its status.
    pub status: u16,
    /// How many bytes follow the head.
    pub content_length: u64,
    /// Which backend answered, as far as it says so.
    pub backend: Option<String>,
    /// How many bytes the head itself has, blank line included.
    pub length: usize,
}

impl Head {
    /// The head at the start of `received`; `None` while its end is missing.
    pub fn parse(received: &[u8]) -> Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
            ensure!(received.len() < HEAD_MAX, "an answer's head is longer than {HEAD_MAX} bytes");
            return Ok(None);
        };
        let text = std::str::from_utf8(&received[..end]).context("an answer's head is not text")?;
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let mut head = Self {
            status: status.with_context(|| format!("{status_line:?} is no status line of HTTP/1.1"))?,
            content_length: 0,
            backend: None,
            length: end + 4,
        };
        let mut sized = false;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.content_length =
                    value.parse().with_context(|| format!("content-length {value:?} is no number"))?;
                sized = true;
            } else if name.eq_ignore_ascii_case(BACKEND_HEADER) {
                head.backend = Some(value.into());
            }
        }
        ensure!(sized, "an answer of status {} says no content-length", head.status);
        Ok(Some(head))
    }
}

/// A whole answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Which backend answered; empty when it does not say.
    pub backend: String,
    /// What followed the head.
    pub body: Vec<u8>,
}

/// A connection that stays open between requests.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    early: Vec<u8>,
}

impl Connection {
    /// Connects from a namespace.
    pub fn open(namespace: &str, target: SocketAddr) -> Result<Self> {
        let stream = netns::run(namespace, || TcpStream::connect_timeout(&target, SILENCE))?
            .with_context(|| format!("no connection from {namespace} to {target}"))?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, early: Vec::new() })
    }

    /// Our end of it.
    pub fn local_address(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends a GET and reads the whole answer.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask("GET", path, &[])
    }

    /// Sends a POST and reads the whole answer.
    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Answer> {
        self.ask("POST", path, body)
    }

    /// Sends a GET and reads the answer's head alone; [`Self::body`] has the rest.
    pub fn begin(&mut self, path: &str) -> Result<Head> {
        self.send("GET", path, &[])?;
        self.head()
    }

    /// Hands the bytes that follow a head to `sink` as they arrive.
    pub fn body(&mut self, head: &Head, mut sink: impl FnMut(&[u8])) -> Result<()> {
        let mut left = head.content_length;
        let mut buffer = vec![0; 64 * 1_024];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            if self.early.is_empty() {
                let room = buffer.len().min(most);
                let count =
                    self.stream.read(&mut buffer[..room]).with_context(|| format!("{left} bytes were missing"))?;
                ensure!(count > 0, "the answer ended {left} bytes too early");
                sink(&buffer[..count]);
                left -= count as u64;
            } else {
                let here: Vec<u8> = self.early.drain(..self.early.len().min(most)).collect();
                sink(&here);
                left -= here.len() as u64;
            }
        }
        Ok(())
    }

    /// Reads the bytes that follow a head of `/bytes` or `/slow`, every one of which must be the stream's.
    pub fn stream_body(&mut self, head: &Head) -> Result<()> {
        let mut position = 0;
        let mut wrong = None;
        self.body(head, |chunk| {
            wrong = wrong.or_else(|| bytes::first_difference(position, chunk));
            position += chunk.len() as u64;
        })?;
        match wrong {
            Some(at) => bail!("byte {at} of {} is wrong", head.content_length),
            None => Ok(()),
        }
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        self.send(method, path, body)?;
        let head = self.head()?;
        let mut received = Vec::new();
        self.body(&head, |chunk| received.extend_from_slice(chunk))?;
        Ok(Answer { status: head.status, backend: head.backend.unwrap_or_default(), body: received })
    }

    fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<()> {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: lab\r\nContent-Length: {}\r\n\r\n", body.len());
        self.stream.write_all(head.as_bytes()).with_context(|| format!("{method} {path} cannot be sent"))?;
        self.stream.write_all(body).with_context(|| format!("the body of {method} {path} cannot be sent"))
    }

    /// A signal ends a read that has a time limit; it is no fault of the connection's.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn head(&mut self) -> Result<Head> {
        let mut buffer = [0; 4 * 1_024];
        loop {
            if let Some(head) = Head::parse(&self.early)? {
                self.early.drain(..head.length);
                return Ok(head);
            }
            let count = self.read(&mut buffer).context("no answer")?;
            ensure!(count > 0, "the connection was closed without an answer");
            self.early.extend_from_slice(&buffer[..count]);
        }
    }
}

/// One GET over a connection of its own.
pub fn get(namespace: &str, target: SocketAddr, path: &str) -> Result<Answer> {
    Connection::open(namespace, target)?.get(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 503 Service Unavailable\r\nX-Backend: backend2\r\nContent-Length: 7\r\n\r\nsevenmo";
        let head = Head::parse(whole).unwrap().unwrap();
        assert_eq!((head.status, head.content_length, head.backend.as_deref()), (503, 7, Some("backend2")));
        assert_eq!(&whole[head.length..], b"sevenmo");
        assert_eq!(Head::parse(&whole[..head.length - 1]).unwrap(), None);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bad in ["SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
            assert!(Head::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Head::parse(&vec![b'x'; HEAD_MAX]).is_err());
    }
}
