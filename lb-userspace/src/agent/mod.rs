//! The agent: loads the datapath, keeps its maps true, answers the socket.
//!
//! One task owns the datapath and everything that is desired of it (`core`). What the world says (next hops, probes,
//! requests, time) reaches it as events; it compiles, plans and applies. Files and the host's own settings are looked
//! at once, when it starts (`files`, `host`).

mod core;
mod files;
pub mod handle;
mod host;
pub mod options;
mod view;

use std::future::Future;
use std::io;

use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::socket::BindError;
use crate::api::{self};
use crate::config::{self, Config, ConfigError, OverridesError};
use crate::datapath::load::{LoadError, Pins};
use crate::datapath::{DatapathError, bpf::BpfDatapath};
use crate::network::NetworkError;
use crate::telemetry;
use core::Core;
use handle::Handle;
use options::RunOptions;

/// Why the agent could not start, or had to end.
#[derive(thiserror::Error, Debug)]
pub enum AgentError {
    /// The config cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The config contradicts what the host has set.
    #[error("{0}")]
    Conflict(String),
    /// Another agent, or something else, stands in the way.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The changes made at run time cannot be read or written.
    #[error(transparent)]
    Overrides(#[from] OverridesError),
    /// A file of ours cannot be used.
    #[error("{what}: {cause}; {hint}")]
    File {
        /// The file, and what was tried.
        what: String,
        /// What the system said.
        cause: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The host cannot do it.
    #[error("{0}")]
    Host(String),
    /// The datapath could not be loaded or attached.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The network could not be looked at.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The datapath failed.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] telemetry::server::ListenError),
    /// The system refused something that it usually grants.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

/// Runs the agent until it is told to stop or to detach.
pub fn run(options: &RunOptions) -> Result<(), AgentError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|cause| AgentError::System { what: "starting the runtime", cause })?;
    runtime.block_on(serve(options))
}

async fn serve(options: &RunOptions) -> Result<(), AgentError> {
    let file = config::load(&options.config)?;
    host::check_ports(&file.nat)?;
    let listener = api::socket::bind(&options.socket).await?;
    let outcome = serve_on(listener, options, file).await;
    if outcome.is_err() {
        // The API's server removes its socket when it ends; one that never began has left it.
        let _gone_already = std::fs::remove_file(&options.socket);
    }
    outcome
}

async fn serve_on(listener: UnixListener, options: &RunOptions, file: Config) -> Result<(), AgentError> {
    let files = files::Files::open(&options.state_dir, options.instance.as_str())?;
    let metrics = match file.metrics {
        Some(address) => Some(telemetry::server::listen(address).await?),
        None => None,
    };
    let devices = host::devices(&file.interfaces).await?;
    let pins = Pins::of(options.instance.as_str());
    let was_there = pins.exist();
    let started = BpfDatapath::load(&pins, file.sessions)
        .map_err(AgentError::from)
        .and_then(|datapath| Core::start(options, file, files, pins.clone(), datapath, devices));
    let mut core = match started {
        Ok(core) => core,
        Err(error) => {
            // What an earlier agent left goes on; what this one made is of no use to anybody.
            if !was_there && let Err(left) = pins.remove() {
                tracing::error!(%left, "cleaning up after the failed start failed too");
            }
            return Err(error);
        }
    };

    let (handle, requests) = Handle::new();
    let (ended, end) = tokio::sync::watch::channel(false);
    let until_end = || {
        let mut end = end.clone();
        async move {
            // An error means that the sender is gone, which is the end too.
            let _ended = end.wait_for(|ended| *ended).await;
        }
    };
    let api = tokio::spawn(api::server::serve(listener, handle.clone(), until_end()));
    let exporter =
        metrics.map(|listener| tokio::spawn(telemetry::server::serve(listener, handle.clone(), until_end())));
    drop(handle);
    let outcome = core.run(requests, stop_signal()?).await;
    let _nobody_waits = ended.send(true);
    if let Err(error) = api.await {
        tracing::error!(%error, "the API's task ended badly");
    }
    if let Some(exporter) = exporter
        && let Err(error) = exporter.await
    {
        tracing::error!(%error, "the metrics' task ended badly");
    }
    outcome
}

/// Ends when SIGTERM or SIGINT arrives.
fn stop_signal() -> Result<impl Future<Output = &'static str>, AgentError> {
    let listen = |kind| signal(kind).map_err(|cause| AgentError::System { what: "listening for signals", cause });
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Takes an instance's datapath off without its agent. Says whether there was anything.
pub fn detach(instance: &str) -> Result<bool, LoadError> {
    Pins::of(instance).remove()
}
