//! One command's talk with the agent, and how it shows the answers.

use std::path::PathBuf;

use serde::Serialize;
use tokio::runtime::Runtime;

use super::args::Output;
use super::error::CliError;
use super::{Io, text};
use crate::agent::{self, options::InstanceName};
use crate::api::client::{Client, ClientError, Unreachable};
use crate::api::types::{Change, Changed, Detached, Snapshot};

/// A command's means.
pub(super) struct Session<'a, 'io> {
    client: Client,
    runtime: Runtime,
    output: Output,
    io: &'a mut Io<'io>,
}

impl<'a, 'io> Session<'a, 'io> {
    /// Nothing is asked yet.
    pub(super) fn new(socket: PathBuf, output: Output, io: &'a mut Io<'io>) -> Result<Self, CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CliError::failed(format!("cannot start: {error}"), None))?;
        Ok(Self { client: Client::new(socket), runtime, output, io })
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot, CliError> {
        Ok(self.runtime.block_on(self.client.snapshot())?)
    }

    /// Makes a change and says so: `done` is the sentence's subject and verb.
    pub(super) fn change(&mut self, change: &Change, done: &str) -> Result<(), CliError> {
        let changed = self.runtime.block_on(self.client.change(change))?;
        self.show(&changed, |Changed { revision, steps }, _| match steps {
            0 => format!("{done}: it was so already, revision {revision}\n"),
            _ => format!("{done}: revision {revision}, {}\n", text::count(*steps as u64, "step")),
        })
    }

    /// Takes the datapath off: through the agent, or, when none is there any more, by hand.
    pub(super) fn detach(&mut self, instance: &InstanceName) -> Result<(), CliError> {
        match self.runtime.block_on(self.client.detach()) {
            Ok(detached) => {
                self.show(&detached, |_, _| "detached: the datapath is off the interfaces, and the agent ends\n".into())
            }
            Err(unreachable @ ClientError::Unreachable { cause: Unreachable::Missing | Unreachable::Dead, .. }) => {
                if agent::detach(instance.as_str()).map_err(|error| CliError::host(error.to_string()))? {
                    let text = "detached: no agent was running; the datapath that one had left is off the interfaces\n";
                    return self.show(&Detached { detached: true }, |_, _| text.into());
                }
                Err(unreachable.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn metrics(&mut self) -> Result<(), CliError> {
        if self.output == Output::Json {
            let message = "metrics come in one form only, Prometheus' text";
            return Err(CliError::usage(message, "leave -o json out, or take: weir status -o json"));
        }
        let text = self.runtime.block_on(self.client.metrics())?;
        Ok(self.io.out.write_all(text.as_bytes())?)
    }

    /// Writes an answer: as JSON, or as the text that `render` makes of it (told whether it may have colours).
    pub(super) fn show<T: Serialize + ?Sized>(
        &mut self,
        answer: &T,
        render: impl FnOnce(&T, bool) -> String,
    ) -> Result<(), CliError> {
        let text = match self.output {
            Output::Table => render(answer, self.io.colour),
            Output::Json => super::output::pretty(answer)?,
        };
        Ok(self.io.out.write_all(text.as_bytes())?)
    }
}
