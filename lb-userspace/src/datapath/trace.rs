//! Prints the log records of a datapath that was built with `trace`: one for each packet, so never in production.

use std::time::Duration;

use aya::Ebpf;
use aya_log::EbpfLogger;

/// How often they are read; more than fit between two looks are lost.
const INTERVAL: Duration = Duration::from_millis(50);

/// Starts the task that reads them.
pub(super) fn start(object: &mut Ebpf) {
    match EbpfLogger::init(object) {
        Ok(mut logger) => {
            tokio::spawn(async move {
                let mut looks = tokio::time::interval(INTERVAL);
                loop {
                    looks.tick().await;
                    logger.flush();
                }
            });
        }
        Err(error) => tracing::warn!(%error, "the datapath's log records cannot be read"),
    }
}
