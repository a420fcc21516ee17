//! The task that follows the kernel's routes, neighbours and links for a set of target addresses.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};

use super::asks::Asks;
use super::kernel::{Events, Kernel};
use super::message::{Event, NeighbourKey};
use super::mirror::Mirror;
use super::{NetworkError, NetworkView};

/// How long changes are gathered: the kernel tells one change in several messages, some before its tables have it.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// How often everything is read anew, in case a change was not told, and stale neighbours are confirmed.
const REFRESH: Duration = Duration::from_secs(30);
/// How long to wait before opening new sockets after one has failed.
const REOPEN: Duration = Duration::from_secs(1);

/// A view of the network that keeps itself up to date, for as long as this value lives.
pub struct Network {
    targets: watch::Sender<BTreeSet<Ipv4Addr>>,
    view: watch::Receiver<Arc<NetworkView>>,
}

impl Network {
    /// Starts to follow the network namespace of the calling thread. `devices` are what the program is attached to:
    /// index in the device table, and the kernel's index of the interface.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(devices: Vec<(u16, u32)>) -> Result<Self, NetworkError> {
        // Events first: what changes after that is either told or read.
        let events = Events::open()?;
        let kernel = Kernel::open()?;
        let (targets, targets_of_watcher) = watch::channel(BTreeSet::new());
        let (view_of_watcher, view) = watch::channel(Arc::default());
        let watcher = Watcher {
            mirror: Mirror::new(devices),
            asks: Asks::default(),
            unresolved: BTreeSet::new(),
            targets: targets_of_watcher,
            view: view_of_watcher,
        };
        tokio::spawn(watcher.run(kernel, events));
        Ok(Self { targets, view })
    }

    /// Replaces the addresses that are followed. Those that stay keep their routes; a new one is in the view once it
    /// has been looked up.
    pub fn set_targets(&self, targets: BTreeSet<Ipv4Addr>) {
        self.targets.send_if_modified(|current| {
            let modified = *current != targets;
            *current = targets;
            modified
        });
    }

    /// The view, and word of every change of it.
    pub fn subscribe(&self) -> watch::Receiver<Arc<NetworkView>> {
        self.view.clone()
    }
}

struct Watcher {
    mirror: Mirror,
    asks: Asks,
    unresolved: BTreeSet<NeighbourKey>,
    targets: watch::Receiver<BTreeSet<Ipv4Addr>>,
    view: watch::Sender<Arc<NetworkView>>,
}

impl Watcher {
    /// Follows until the [`Network`] is dropped.
    async fn run(mut self, mut kernel: Kernel, mut events: Events) {
        while let Err(error) = self.follow(&kernel, &mut events).await {
            tracing::warn!(%error, "lost sight of the network; next hops are kept as they were, trying again");
            (kernel, events) = loop {
                tokio::select! {
                    () = sleep(REOPEN) => {}
                    () = closed(&mut self.targets) => return,
                }
                match Events::open().and_then(|events| Ok((Kernel::open()?, events))) {
                    Ok(sockets) => break sockets,
                    Err(error) => tracing::warn!(%error, "cannot follow the network yet; trying again"),
                }
            };
        }
    }

    async fn follow(&mut self, kernel: &Kernel, events: &mut Events) -> Result<(), NetworkError> {
        self.read_all(kernel).await?;
        let mut refresh = interval_at(Instant::now() + REFRESH, REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.targets.mark_changed();
        loop {
            let next_ask = self.asks.next();
            tokio::select! {
                changed = self.targets.changed() => match changed {
                    Ok(()) => self.mirror.set_targets(&self.targets.borrow_and_update()),
                    Err(_) => return Ok(()),
                },
                event = events.next() => {
                    let first = event.ok_or(NetworkError::EventsEnded)?;
                    if self.gather(first, events).await {
                        self.read_all(kernel).await?;
                    }
                }
                _ = refresh.tick() => {
                    self.read_all(kernel).await?;
                    self.ask_for(kernel, self.mirror.stale()).await;
                }
                () = sleep_until(next_ask.unwrap_or_else(Instant::now)), if next_ask.is_some() => {}
            }
            for target in self.mirror.outdated() {
                let lookup = kernel.route(target).await?;
                self.mirror.looked_up(target, lookup);
            }
            self.publish();
            let due = self.asks.due(&self.unresolved, Instant::now());
            self.ask_for(kernel, due).await;
        }
    }

    /// Takes in a burst of events. Whether some were lost.
    async fn gather(&mut self, first: Event, events: &mut Events) -> bool {
        sleep(DEBOUNCE).await;
        let mut lost = false;
        let mut next = Some(first);
        while let Some(event) = next {
            lost |= event == Event::Overrun;
            self.mirror.apply(event);
            next = events.try_next();
        }
        lost
    }

    async fn read_all(&mut self, kernel: &Kernel) -> Result<(), NetworkError> {
        let links = kernel.links().await?;
        let neighbours = kernel.neighbours().await?;
        self.mirror.replace(links, neighbours);
        Ok(())
    }

    fn publish(&mut self) {
        let Some(view) = self.mirror.take_view() else { return };
        self.unresolved = self.mirror.unresolved();
        self.view.send_if_modified(|current| {
            let modified = **current != view;
            if modified {
                *current = Arc::new(view);
            }
            modified
        });
    }

    async fn ask_for(&self, kernel: &Kernel, neighbours: impl IntoIterator<Item = NeighbourKey>) {
        for (ifindex, address) in neighbours {
            // Not fatal: an interface may go down at any moment, and the next look at it will tell.
            if let Err(error) = kernel.use_neighbour((ifindex, address)).await {
                tracing::debug!(%address, ifindex, %error, "cannot ask for a neighbour");
            }
        }
    }
}

/// Ends when the [`Network`] is dropped.
async fn closed(targets: &mut watch::Receiver<BTreeSet<Ipv4Addr>>) {
    while targets.changed().await.is_ok() {}
}
