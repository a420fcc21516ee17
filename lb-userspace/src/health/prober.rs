//! Probes of all backends, each at its own pace, and the view of what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;

use super::probe::{ProbeError, ProbeResult, probe};
use super::state::{Check, HealthState};
use super::{Health, HealthStatus};
use crate::config::{HealthCheck, ServiceName};

/// Probes under way at once; more wait for their turn.
const CONCURRENT: usize = 512;
/// First probes are spread over this time, or the interval if that is shorter.
const FIRST_SPREAD: Duration = Duration::from_millis(100);

/// What is probed, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Whose backend it is.
    pub service: ServiceName,
    /// The backend.
    pub address: SocketAddrV4,
    /// Where probes connect to.
    pub probe_address: SocketAddrV4,
    /// How often, and how many results in a row count.
    pub check: HealthCheck,
    /// What is known from before; stands until results in a row refute it.
    pub initial: Health,
}

/// The health of every target, by service and backend.
pub type HealthView = BTreeMap<Key, HealthStatus>;

type Key = (ServiceName, SocketAddrV4);

/// Probes its targets for as long as it lives.
pub struct Prober {
    shared: Arc<Shared>,
    runtime: Handle,
    _publisher: Task,
}

impl Prober {
    /// A prober without targets.
    ///
    /// Must be called within a tokio runtime, which then runs the probes.
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            book: Mutex::default(),
            changed: Notify::new(),
            permits: Semaphore::new(CONCURRENT),
            runs: AtomicU64::new(0),
            view: watch::Sender::default(),
        });
        let runtime = Handle::current();
        let publisher = Task(runtime.spawn(publish_changes(shared.clone())).abort_handle());
        Self { shared, runtime, _publisher: publisher }
    }

    /// Replaces the targets; the view has exactly these when this returns. Those that stay keep their health and the
    /// results so far, also when their check changes; a new or changed one is probed at once.
    pub fn set_targets(&self, targets: Vec<Target>) {
        let services: BTreeSet<_> = targets.iter().map(|target| target.service.clone()).collect();
        let targets: BTreeMap<_, _> =
            targets.into_iter().map(|target| ((target.service.clone(), target.address), target)).collect();

        let mut book = self.shared.book();
        book.entries.retain(|key, _| targets.contains_key(key));
        book.counts.retain(|service, _| services.contains(service));
        for service in services {
            book.counts.entry(service).or_default();
        }
        for (key, target) in targets {
            let numbers = Check { rise: target.check.rise, fall: target.check.fall };
            match book.entries.get_mut(&key) {
                Some(entry) if entry.probe_address == target.probe_address && entry.check == target.check => {}
                Some(entry) => {
                    entry.state.set_check(numbers);
                    (entry.probe_address, entry.check) = (target.probe_address, target.check);
                    entry.run = self.run(&target);
                }
                None => {
                    let state = HealthState::new(numbers, target.initial, Instant::now());
                    let run = self.run(&target);
                    let Target { probe_address, check, .. } = target;
                    book.entries.insert(key, Entry { state, probe_address, check, run });
                }
            }
        }
        self.shared.publish(&book);
    }

    /// Begins to probe `target`, until the result is dropped.
    fn run(&self, target: &Target) -> Run {
        let number = self.shared.runs.fetch_add(1, Ordering::Relaxed);
        let key = (target.service.clone(), target.address);
        let task = probe_on(self.shared.clone(), number, key, target.probe_address, target.check);
        Run { number, _task: Task(self.runtime.spawn(task).abort_handle()) }
    }

    /// The view, and word of every change of it.
    pub fn subscribe(&self) -> watch::Receiver<Arc<HealthView>> {
        self.shared.view.subscribe()
    }

    /// Probes that have ended, by service and result, zeros included; counted for as long as the service has targets.
    pub fn probes_total(&self) -> BTreeMap<(ServiceName, ProbeResult), u64> {
        let book = self.shared.book();
        let of_service = |(service, counts): (&ServiceName, &Counts)| {
            ProbeResult::ALL.map(|result| ((service.clone(), result), counts.get(&result).copied().unwrap_or(0)))
        };
        book.counts.iter().flat_map(of_service).collect()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.book().entries.clear();
    }
}

type Counts = BTreeMap<ProbeResult, u64>;

struct Shared {
    book: Mutex<Book>,
    /// Told when the view is no longer what the book says.
    changed: Notify,
    permits: Semaphore,
    /// Runs started so far.
    runs: AtomicU64,
    view: watch::Sender<Arc<HealthView>>,
}

#[derive(Default)]
struct Book {
    entries: BTreeMap<Key, Entry>,
    counts: BTreeMap<ServiceName, Counts>,
}

struct Entry {
    state: HealthState,
    probe_address: SocketAddrV4,
    check: HealthCheck,
    run: Run,
}

/// The probing of one target with one check.
struct Run {
    /// Tells its results from those of a run that it replaced.
    number: u64,
    _task: Task,
}

/// A task that ends together with this value.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Every change of the book is complete before anything that could panic.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the book locked, so that views are published in the order in which they came about.
    fn publish(&self, book: &Book) {
        let view = book.entries.iter().map(|(key, entry)| (key.clone(), entry.state.status().clone())).collect();
        self.view.send_if_modified(|current| {
            let modified = **current != view;
            if modified {
                *current = Arc::new(view);
            }
            modified
        });
    }

    fn report(&self, run: u64, key: &Key, result: Result<(), ProbeError>) {
        let mut book = self.book();
        let book = &mut *book;
        // An aborted run may still get here.
        let Some(entry) = book.entries.get_mut(key).filter(|entry| entry.run.number == run) else { return };
        let kind = result.as_ref().map_or_else(ProbeError::result, |()| ProbeResult::Success);
        *book.counts.entry(key.0.clone()).or_default().entry(kind).or_default() += 1;

        let before = entry.state.status().clone();
        match result {
            Err(error @ ProbeError::NotMade(_)) => entry.state.note(error.to_string()),
            result => {
                let changed = entry.state.observe(result.map_err(|error| error.to_string()), Instant::now());
                if let Some(health) = changed {
                    log_change(key, health, entry.state.status().detail.as_deref());
                }
            }
        }
        if *entry.state.status() != before {
            self.changed.notify_one();
        }
    }
}

fn log_change((service, backend): &Key, health: Health, detail: Option<&str>) {
    let health = health.name();
    if let Some(detail) = detail {
        tracing::warn!(%service, %backend, "backend is {health}: {detail}");
    } else {
        tracing::info!(%service, %backend, "backend is {health}");
    }
}

/// Publishes what probes changed. Changes that come while a view is being made go into the next one together.
async fn publish_changes(shared: Arc<Shared>) {
    loop {
        shared.changed.notified().await;
        shared.publish(&shared.book());
    }
}

/// Probes one target until the task is aborted.
async fn probe_on(shared: Arc<Shared>, run: u64, key: Key, address: SocketAddrV4, check: HealthCheck) {
    let mut jitter = Jitter(RandomState::new().hash_one(&key));
    tokio::time::sleep(jitter.up_to(check.interval.min(FIRST_SPREAD))).await;
    // The semaphore is never closed.
    while let Ok(permit) = shared.permits.acquire().await {
        let next = tokio::time::Instant::now() + check.interval * 9 / 10 + jitter.up_to(check.interval / 5);
        let result = probe(address, check.timeout).await;
        drop(permit);
        shared.report(run, &key, result);
        tokio::time::sleep_until(next).await;
    }
}

/// Random numbers that keep probes from falling into step (`SplitMix64`).
struct Jitter(u64);

impl Jitter {
    /// A random duration from zero to `most`.
    fn up_to(&mut self, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        most.mul_f64(f64::from((z >> 32) as u32) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests;
