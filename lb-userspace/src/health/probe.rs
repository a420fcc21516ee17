//! One probe: a TCP connection, made and reset.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use tokio::net::TcpSocket;

/// Why a probe failed, as a sentence.
#[derive(thiserror::Error, Debug)]
pub enum ProbeError {
    /// The backend's host answered that nobody listens.
    #[error("connection refused")]
    Refused,
    /// Nobody answered in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The network does not lead there.
    #[error("{0}")]
    Unreachable(&'static str),
    /// The connection failed in another way.
    #[error("connecting failed: {0}")]
    Other(#[source] io::Error),
    /// This host could not make the probe, which says nothing about the backend.
    #[error("the probe could not be made: {0}")]
    NotMade(#[source] io::Error),
}

impl ProbeError {
    fn new(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(libc::EHOSTUNREACH) => Self::Unreachable("no route to host"),
            Some(libc::ENETUNREACH) => Self::Unreachable("network is unreachable"),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Self::NotMade(error),
            _ => Self::Other(error),
        }
    }

    /// The result in metrics.
    pub fn result(&self) -> ProbeResult {
        match self {
            Self::Refused => ProbeResult::Refused,
            Self::Timeout(_) => ProbeResult::Timeout,
            Self::Unreachable(_) => ProbeResult::Unreachable,
            Self::Other(_) => ProbeResult::Error,
            Self::NotMade(_) => ProbeResult::NotMade,
        }
    }
}

/// How a probe ended, in metrics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ProbeResult {
    /// The connection was made.
    Success,
    /// Nobody listens.
    Refused,
    /// No answer in time.
    Timeout,
    /// No route.
    Unreachable,
    /// Another failure.
    Error,
    /// This host could not make the probe; counts neither for nor against the backend.
    NotMade,
}

impl ProbeResult {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Refused, Self::Timeout, Self::Unreachable, Self::Error, Self::NotMade];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Error => "error",
            Self::NotMade => "not-made",
        }
    }
}

/// Connects to `address` within `timeout`, and resets the connection, so that it leaves no TIME-WAIT on this host.
pub async fn probe(address: SocketAddrV4, timeout: Duration) -> Result<(), ProbeError> {
    let socket = TcpSocket::new_v4().map_err(ProbeError::new)?;
    socket.set_zero_linger().map_err(ProbeError::new)?;
    let target = SocketAddr::V4(address);
    match tokio::time::timeout(timeout, socket.connect(target)).await {
        // A port of this host that nobody listens on may be picked as the socket's own: TCP then connects it to itself.
        Ok(Ok(stream)) if stream.local_addr().ok() == Some(target) => Err(ProbeError::Refused),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(ProbeError::new(error)),
        Err(_) => Err(ProbeError::Timeout(timeout)),
    }
}
