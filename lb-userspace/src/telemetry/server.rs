//! The metrics endpoint: HTTP for everybody who can reach it, so it shows and never changes anything.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::metrics;
use crate::agent::handle::Handle;

/// Connections at once; more wait, so that strangers cannot use up the agent's file descriptors.
pub const CONNECTIONS_MAX: usize = 64;
/// How long a connection may take to send a request, or stay without one.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long to wait when the system gives no more connections.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The endpoint cannot be had.
#[derive(thiserror::Error, Debug)]
#[error("metrics endpoint {address}: cannot listen: {cause}; free the port, or choose another with \"metrics\"")]
pub struct ListenError {
    /// Where it should have been.
    address: SocketAddr,
    /// What the system said.
    cause: io::Error,
}

/// Listens on `address`.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|cause| ListenError { address, cause })
}

/// Answers on `listener` until `shutdown`: `GET /metrics`, `GET /healthz`, and nothing else.
pub async fn serve(listener: TcpListener, handle: Handle, shutdown: impl Future<Output = ()> + Send) {
    tokio::select! {
        () = accept(listener, handle) => {}
        () = shutdown => {}
    }
}

async fn accept(listener: TcpListener, handle: Handle) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = connections.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let handle = handle.clone();
                tokio::spawn(async move {
                    converse(stream, handle).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "metrics endpoint: cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, handle: Handle) {
    let service = service_fn(move |request: Request<Incoming>| {
        let handle = handle.clone();
        async move { Ok::<_, Infallible>(answer(&request, &handle).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(IDLE_MAX);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "metrics endpoint: a connection broke");
    }
}

async fn answer(request: &Request<Incoming>, handle: &Handle) -> Response<Full<Bytes>> {
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    match request.uri().path() {
        "/metrics" if get => scrape(handle).await,
        "/healthz" if get => plain(StatusCode::OK, "ok\n".into()),
        _ => plain(StatusCode::NOT_FOUND, "there is only GET /metrics and GET /healthz\n".into()),
    }
}

async fn scrape(handle: &Handle) -> Response<Full<Bytes>> {
    let rendered = match handle.snapshot().await {
        Ok(snapshot) => metrics::render(&snapshot).map_err(|error| error.to_string()),
        Err(refusal) => Err(refusal.message),
    };
    match rendered {
        Ok(text) => {
            let mut response = plain(StatusCode::OK, text);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
            response
        }
        Err(message) => plain(StatusCode::INTERNAL_SERVER_ERROR, message + "\n"),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
