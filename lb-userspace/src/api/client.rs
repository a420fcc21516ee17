//! The API's client: one connection for each request, and errors that say why nobody answers.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::instance_of;
use super::types::{Change, Changed, Detached, Refusal, Snapshot};

/// How long the agent may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer: 65,535 backends of 1 KiB each.
const ANSWER_MAX: usize = 64 << 20;

/// Asks the agent behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer, or a negative one.
#[derive(thiserror::Error, Debug)]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error("cannot reach the agent on {}: {cause}", .socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        cause: Unreachable,
    },
    /// The agent said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The agent said something that this version does not understand.
    #[error("the agent on {} answered something else than this weir expects: {cause}", .socket.display())]
    Answer {
        /// The socket.
        socket: PathBuf,
        /// What was wrong with it.
        cause: String,
    },
}

/// Why a socket could not be spoken to.
#[derive(thiserror::Error, Debug)]
pub enum Unreachable {
    /// There is no socket.
    #[error("no such file")]
    Missing,
    /// It is not ours to use.
    #[error("permission denied")]
    Denied,
    /// There is a socket, and no agent behind it.
    #[error("connection refused, no agent listens on it")]
    Dead,
    /// It was asked, and did not answer in time: whether it did what it was asked is not known.
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// Something else, such as a connection that broke.
    #[error("{0}")]
    Other(String),
}

impl ClientError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { socket, cause: Unreachable::Missing | Unreachable::Dead } => {
                Some(format!("start it with: weir run --config FILE --instance {}", instance_of(socket)))
            }
            Self::Unreachable { cause: Unreachable::Denied, .. } => {
                Some("run this as root, or as a member of the socket's group".into())
            }
            Self::Unreachable { .. } => Some("look at the agent's log, then at: weir status".into()),
            Self::Refused(refusal) => refusal.hint.clone(),
            Self::Answer { .. } => Some("run the agent and this command in the same version; see: weir version".into()),
        }
    }
}

impl Client {
    /// A client of the agent behind `socket`. Nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Everything that can be shown.
    pub async fn snapshot(&self) -> Result<Snapshot, ClientError> {
        self.ask_json(Method::GET, "/v1/snapshot", Bytes::new()).await
    }

    /// Makes a change; it is in the datapath when this returns.
    pub async fn change(&self, change: &Change) -> Result<Changed, ClientError> {
        let body = serde_json::to_vec(change).map_err(|error| self.answer_error(&error))?;
        self.ask_json(Method::POST, "/v1/changes", body.into()).await
    }

    /// Takes the datapath off the interfaces and ends the agent.
    pub async fn detach(&self) -> Result<Detached, ClientError> {
        self.ask_json(Method::POST, "/v1/detach", Bytes::new()).await
    }

    /// The metrics, as Prometheus reads them.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let body = self.ask(Method::GET, "/v1/metrics", Bytes::new()).await?;
        String::from_utf8(body.into()).map_err(|error| self.answer_error(&error))
    }

    async fn ask_json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ClientError> {
        let answer = self.ask(method, path, body).await?;
        serde_json::from_slice(&answer).map_err(|error| self.answer_error(&error))
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let exchange = self.exchange(method, path, body);
        tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(self.unreachable(Unreachable::Silent)))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error.into()))?;
        let broken = |error: hyper::Error| self.unreachable(Unreachable::Other(error.to_string()));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "weir")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.answer_error(&error))?;
        let answered = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            let body = body.map_err(|error| self.unreachable(Unreachable::Other(error.to_string())))?.to_bytes();
            if head.status.is_success() {
                return Ok(body);
            }
            let refusal: Refusal = serde_json::from_slice(&body)
                .map_err(|error| self.answer_error(&format_args!("status {}: {error}", head.status)))?;
            Err(refusal.into())
        };
        drive(connection, answered).await
    }

    fn unreachable(&self, cause: Unreachable) -> ClientError {
        ClientError::Unreachable { socket: self.socket.clone(), cause }
    }

    fn answer_error(&self, cause: &dyn std::fmt::Display) -> ClientError {
        ClientError::Answer { socket: self.socket.clone(), cause: cause.to_string() }
    }
}

impl From<io::Error> for Unreachable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::PermissionDenied => Self::Denied,
            ErrorKind::ConnectionRefused => Self::Dead,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Moves the connection's bytes until `answered` ends, in the caller's task. `answered` learns of a broken connection by itself.
async fn drive<T>(connection: impl Future<Output = Result<(), hyper::Error>>, answered: impl Future<Output = T>) -> T {
    let mut connection = std::pin::pin!(connection);
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        biased;
        answer = &mut answered => answer,
        _ = &mut connection => answered.await,
    }
}
