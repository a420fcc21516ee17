//! How the API reaches the agent: one queue of requests, answered in order by the one task that owns the datapath.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::api::types::{Change, Changed, Refusal, RefusalCode, Snapshot};

/// What can be asked of the agent.
pub enum Request {
    /// Everything that can be shown, read from the datapath now.
    Snapshot(oneshot::Sender<Result<Arc<Snapshot>, Refusal>>),
    /// A change of the desired state, answered once the datapath has it.
    Change(Change, oneshot::Sender<Result<Changed, Refusal>>),
    /// Takes the datapath off the interfaces and ends the agent.
    Detach(oneshot::Sender<Result<(), Refusal>>),
}

/// The asking end. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
}

impl Handle {
    /// A handle, and the queue that the agent answers.
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, queue) = mpsc::channel(64);
        (Self { requests }, queue)
    }

    /// Everything that can be shown, as of now.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, Refusal> {
        self.ask(Request::Snapshot).await
    }

    /// Makes a change; returns once it is in the datapath, or refused whole.
    pub async fn change(&self, change: Change) -> Result<Changed, Refusal> {
        self.ask(|answer| Request::Change(change, answer)).await
    }

    /// Takes the datapath off.
    pub async fn detach(&self) -> Result<(), Refusal> {
        self.ask(Request::Detach).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Request) -> Result<T, Refusal> {
        let gone = || Refusal {
            code: RefusalCode::Failed,
            message: "the agent is shutting down".into(),
            hint: Some("start it again with weir run".into()),
        };
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}
