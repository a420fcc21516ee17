//! `serve`: the backend of the tests over HTTP/1.1, which says who answered and can be slow, failing and silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use harness::http::BACKEND_HEADER;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::durations;
use crate::serve_body::StreamBody;
use crate::{serve_plain, signals};

/// How to serve.
#[derive(Args, Clone)]
pub struct Serve {
    /// Address and port
    #[arg(long)]
    listen: SocketAddr,
    /// Who answers, as every answer says
    #[arg(long)]
    name: String,
    /// Wait this long before each answer
    #[arg(long, value_parser = durations::parse)]
    delay: Option<Duration>,
    /// Answer every Nth request with status 500
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    fail_every: Option<u64>,
    /// Close the connection without an answer at every Nth request
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    close_every: Option<u64>,
    /// Answer datagrams to the same port too: NAME:, then what came
    #[arg(long)]
    udp: bool,
    /// Answer lines on the next port too: "hello X" with "NAME X"
    #[arg(long)]
    hold: bool,
}

/// What all connections share.
struct Server {
    options: Serve,
    name: HeaderValue,
    requests: AtomicU64,
}

/// Why a connection ends without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed without an answer, as asked for")
    }
}

impl std::error::Error for Closed {}

type Body = Either<Full<Bytes>, StreamBody>;
type Answer = Result<Response<Body>, Closed>;

impl Serve {
    /// Serves until SIGTERM or SIGINT.
    pub async fn run(self) -> Result<()> {
        let (listen, name) = (self.listen, self.name.clone());
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        if self.udp {
            serve_plain::datagrams(listen, name.clone()).await?;
        }
        if self.hold {
            let port = listen.port().checked_add(1).context("no port is left for lines above 65535")?;
            serve_plain::lines(SocketAddr::new(listen.ip(), port), name.clone()).await?;
        }
        let name = HeaderValue::from_str(&name).context("the name does not fit into a header")?;
        let server = Arc::new(Server { options: self, name, requests: AtomicU64::new(0) });
        println!("listening on {listen}");
        let accepting = async {
            loop {
                let (stream, peer) = serve_plain::accept(&listener).await;
                tokio::spawn(Arc::clone(&server).connection(stream, peer));
            }
        };
        tokio::select! {
            ended = signals::asked_to_end() => ended,
            () = accepting => Ok(()),
        }
    }
}

impl Server {
    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        // Fails only on a connection that is gone already.
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request| self.answer(request, peer));
        // The peer's end, or ours: the tests see it from the other side.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let hit = |every: Option<u64>| every.is_some_and(|every| number.is_multiple_of(every));
        if let Some(delay) = self.options.delay {
            tokio::time::sleep(delay).await;
        }
        if hit(self.options.close_every) {
            return Err(Closed);
        }
        let mut response = if hit(self.options.fail_every) {
            self.say(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": "failing, as asked for" }))
        } else {
            self.route(request, peer).await
        };
        response.headers_mut().insert(BACKEND_HEADER, self.name.clone());
        Ok(response)
    }

    async fn route(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let path = request.uri().path().to_owned();
        let words: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (request.method(), words.as_slice()) {
            (&Method::GET, [""]) => self.say(StatusCode::OK, &json!({})),
            (&Method::GET, ["peer"]) => {
                self.say(StatusCode::OK, &json!({ "address": peer.ip().to_string(), "port": peer.port() }))
            }
            (&Method::GET, ["bytes", size]) => self.stream(size, Some(0)),
            (&Method::GET, ["slow", size]) => {
                let rate = query.split('&').find_map(|pair| pair.strip_prefix("rate="));
                self.stream(size, rate.and_then(|rate| rate.parse().ok()).filter(|&rate| rate > 0))
            }
            (&Method::POST, ["echo"]) => match request.into_body().collect().await {
                Ok(body) => Response::new(Either::Left(Full::new(body.to_bytes()))),
                Err(error) => self.say(StatusCode::BAD_REQUEST, &json!({ "error": error.to_string() })),
            },
            _ => self.say(
                StatusCode::NOT_FOUND,
                &json!({ "error": "GET /, /peer, /bytes/SIZE, /slow/SIZE?rate=N; POST /echo" }),
            ),
        }
    }

    /// The byte stream at `rate` bytes per second, 0 for all at once.
    fn stream(&self, size: &str, rate: Option<u64>) -> Response<Body> {
        match (size.parse(), rate) {
            (Ok(size), Some(rate)) => Response::new(Either::Right(StreamBody::new(size, rate))),
            _ => self.say(StatusCode::BAD_REQUEST, &json!({ "error": "sizes and rates are whole numbers of bytes" })),
        }
    }

    fn say(&self, status: StatusCode, what: &serde_json::Value) -> Response<Body> {
        let mut what = what.clone();
        what["backend"] = json!(self.options.name);
        let mut response = Response::new(Either::Left(Full::from(what.to_string() + "\n")));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
