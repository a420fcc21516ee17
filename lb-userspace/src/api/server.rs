//! The API's server: one route for each thing that can be asked, and a [`Refusal`] for everything else.

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::socket::SocketFile;
use super::types::{BackendRow, Change, Changed, Detached, Refusal, RefusalCode, ServiceView};
use crate::agent::handle::Handle;
use crate::telemetry::metrics;

/// Largest body of a request, in bytes.
pub const BODY_MAX: usize = 1 << 20;
/// How long open requests may go on after the shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// Answers on `listener` until `shutdown`; then removes the socket's file and lets open requests end, for 5 s at most.
pub async fn serve(
    listener: UnixListener,
    handle: Handle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let file = SocketFile::of(&listener);
    let (stopping, stopped) = oneshot::channel::<()>();
    let signal = async move {
        shutdown.await;
        // Before the listener closes: as long as it is open no other agent takes the path.
        if let Some(file) = file {
            file.remove();
        }
        drop(stopping);
    };
    let app = router(handle).into_make_service_with_connect_info::<Peer>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(signal);
    let overdue = async {
        drop(stopped.await);
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = async { serving.await } => served,
        () = overdue => Ok(()),
    }
}

fn router(handle: Handle) -> Router {
    Router::new()
        .route("/v1/snapshot", get(snapshot))
        .route("/v1/services", get(services))
        .route("/v1/services/{name}", get(service))
        .route("/v1/services/{name}/backends", get(backends))
        .route("/v1/changes", post(change))
        .route("/v1/metrics", get(metrics_text))
        .route("/v1/detach", post(detach))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(handle)
}

async fn snapshot(State(handle): State<Handle>) -> Result<Response, Refusal> {
    let snapshot = handle.snapshot().await?;
    Ok(Json(&*snapshot).into_response())
}

async fn services(State(handle): State<Handle>) -> Result<Json<Vec<ServiceView>>, Refusal> {
    Ok(Json(handle.snapshot().await?.services.clone()))
}

type Name = Result<Path<String>, PathRejection>;

async fn service(State(handle): State<Handle>, uri: Uri, name: Name) -> Result<Json<ServiceView>, Refusal> {
    let Ok(Path(name)) = name else { return Err(unknown_path(uri).await) };
    Ok(Json(handle.snapshot().await?.service(&name)?.clone()))
}

async fn backends(State(handle): State<Handle>, uri: Uri, name: Name) -> Result<Json<Vec<BackendRow>>, Refusal> {
    let Ok(Path(name)) = name else { return Err(unknown_path(uri).await) };
    Ok(Json(handle.snapshot().await?.service(&name)?.rows().collect()))
}

async fn metrics_text(State(handle): State<Handle>) -> Result<Response, Refusal> {
    let snapshot = handle.snapshot().await?;
    let text = metrics::render(&snapshot).map_err(|error| Refusal {
        code: RefusalCode::Failed,
        message: format!("metrics: cannot write them: {error}"),
        hint: None,
    })?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn change(
    State(handle): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Changed>, Response> {
    let body = body.map_err(|rejection| (rejection.status(), refusal_of(&rejection.body_text())).into_response())?;
    let outcome = match serde_json::from_slice::<Change>(&body) {
        Ok(change) => {
            let outcome = handle.change(change.clone()).await;
            log_change(peer, &change, &outcome);
            outcome
        }
        Err(error) => {
            tracing::warn!(uid = peer.uid, pid = peer.pid, %error, "change refused: not understood");
            Err(refusal_of(&error.to_string()))
        }
    };
    outcome.map(Json).map_err(IntoResponse::into_response)
}

fn log_change(peer: Peer, change: &Change, outcome: &Result<Changed, Refusal>) {
    let change = serde_json::to_string(change).unwrap_or_else(|_| format!("{change:?}"));
    let Peer { uid, pid } = peer;
    match outcome {
        Ok(Changed { revision, steps }) => tracing::info!(uid, pid, %change, revision, steps, "change made"),
        Err(refusal) => tracing::warn!(uid, pid, %change, code = ?refusal.code, %refusal, "change refused"),
    }
}

async fn detach(
    State(handle): State<Handle>,
    ConnectInfo(Peer { uid, pid }): ConnectInfo<Peer>,
) -> Result<Json<Detached>, Refusal> {
    match handle.detach().await {
        Ok(()) => {
            tracing::info!(uid, pid, "detached");
            Ok(Json(Detached { detached: true }))
        }
        Err(refusal) => {
            tracing::warn!(uid, pid, code = ?refusal.code, %refusal, "detach refused");
            Err(refusal)
        }
    }
}

async fn unknown_path(uri: Uri) -> Refusal {
    Refusal {
        code: RefusalCode::NotFound,
        message: format!("path \"{}\": there is nothing here", uri.path()),
        hint: Some("GET /v1/snapshot has everything that can be shown".into()),
    }
}

async fn unknown_method(method: Method, uri: Uri) -> (StatusCode, Refusal) {
    let refusal = Refusal {
        code: RefusalCode::Invalid,
        message: format!("path \"{}\": it does not take {method}", uri.path()),
        hint: Some("what shows takes GET; /v1/changes and /v1/detach take POST".into()),
    };
    (StatusCode::METHOD_NOT_ALLOWED, refusal)
}

fn refusal_of(cause: &str) -> Refusal {
    Refusal {
        code: RefusalCode::Invalid,
        message: format!("request body: {cause}"),
        hint: Some(format!("send one change as JSON, at most {BODY_MAX} bytes")),
    }
}

impl RefusalCode {
    const fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.code.status(), Json(self)).into_response()
    }
}

/// Who is at the other end, as the kernel says.
#[derive(Clone, Copy)]
struct Peer {
    uid: Option<u32>,
    pid: Option<i32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        Self {
            uid: credentials.map(|credentials| credentials.uid()),
            pid: credentials.and_then(|credentials| credentials.pid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::agent::handle::Request;
    use crate::api::client::Client;
    use crate::config::ServiceName;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_change_is_logged_with_who_what_and_outcome() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("edge.sock");
        let (handle, mut queue) = Handle::new();
        let listener = crate::api::socket::bind(&socket).await.unwrap();
        tokio::spawn(serve(listener, handle, std::future::pending()));
        tokio::spawn(async move {
            let mut outcomes = vec![
                Err(Refusal { code: RefusalCode::NotFound, message: "not there".into(), hint: None }),
                Ok(Changed { revision: 7, steps: 2 }),
            ];
            while let Some(Request::Change(_, answer)) = queue.recv().await {
                drop(answer.send(outcomes.pop().unwrap()));
            }
        });
        let client = Client::new(&socket);
        let change = Change::ServiceRemove { name: ServiceName("web".into()) };
        client.change(&change).await.unwrap();
        client.change(&change).await.unwrap_err();
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        let who = format!("uid={} pid={}", nix::unistd::getuid(), std::process::id());
        for (line, outcome) in lines.into_iter().zip(["change made", "change refused"]) {
            for expected in [&who, outcome, r#"{"change":"service-remove","name":"web"}"#] {
                assert!(line.contains(expected), "no {expected} in {line}");
            }
        }
    }
}
