//! The metrics endpoint: HTTP for everybody who can reach it, so it shows and never changes anything.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::metrics;
use crate::agent::handle::Handle;

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
pub async fn serve(listener: TcpListener, handle: Handle, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(nothing)
        .method_not_allowed_fallback(nothing)
        .with_state(handle);
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served,
        () = shutdown => Ok(()),
    }
}

async fn scrape(State(handle): State<Handle>) -> Response {
    let rendered = match handle.snapshot().await {
        Ok(snapshot) => metrics::render(&snapshot).map_err(|error| error.to_string()),
        Err(refusal) => Err(refusal.message),
    };
    match rendered {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(message) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{message}\n")).into_response(),
    }
}

async fn nothing() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "there is only GET /metrics and GET /healthz\n")
}
