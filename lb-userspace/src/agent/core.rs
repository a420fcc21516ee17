//! The one task that owns the datapath: takes events in, keeps the maps at what is desired.
//!
//! Every event leads to the same thing: compile the desired image from config, probes and next hops, plan the steps
//! from what the maps hold, apply them. Nothing else writes maps.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::abi::{BACKEND_UNHEALTHY, DeviceRecord};
use lb_common::addr::Hop;
use lb_common::hash::HashKey;
use nix::time::{ClockId, clock_getres};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::AgentError;
use super::files::Files;
use super::handle::Request;
use super::host::Device;
use super::options::RunOptions;
use crate::api::types::{Change, Changed, Refusal, RefusalCode, Snapshot};
use crate::config::{self, Config, Overrides, ServiceName};
use crate::control::compile::{Names, Observed, compile};
use crate::control::ledger::Ledger;
use crate::control::reconcile::{PublishError, Reconciler};
use crate::datapath::bpf::BpfDatapath;
use crate::datapath::load::{LoadError, Pins};
use crate::datapath::{Datapath, DatapathError, Sweep};
use crate::health::{Health, HealthView, Prober, Target};
use crate::network::{self, Link, Network, NetworkView};

/// How often dead sessions are freed and live ones counted.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often the maps are read back and compared with what they should hold.
const DRIFT_INTERVAL: Duration = Duration::from_secs(30);

/// The agent's state.
pub(super) struct Core {
    pub(super) instance: String,
    config_path: PathBuf,
    files: Files,
    pins: Pins,
    file: Config,
    pub(super) effective: Config,
    pub(super) overrides: Overrides,
    hash_key: HashKey,
    hz: u32,
    pub(super) devices: BTreeMap<u16, Device>,
    pub(super) reconciler: Reconciler<BpfDatapath>,
    ledger: Ledger,
    pub(super) names: Names,
    network: Network,
    pub(super) network_view: watch::Receiver<Arc<NetworkView>>,
    prober: Prober,
    pub(super) health_view: watch::Receiver<Arc<HealthView>>,
    pub(super) sweep: Sweep,
    /// Interfaces and the programs on them, as of the last look.
    pub(super) links: BTreeMap<u32, Link>,
    /// Ids of removed backends whose connections are to be cut.
    cut: BTreeSet<u16>,
    /// What the last compilation could not do.
    pub(super) problems: Vec<String>,
    /// What was found at the start and holds until the end.
    pub(super) notes: Vec<String>,
    /// Why the maps are not what they should be.
    pub(super) failure: Option<String>,
    pub(super) revision: u64,
    pub(super) started: Instant,
}

impl Core {
    /// Publishes what is desired, then puts the program on the interfaces.
    pub fn start(
        options: &RunOptions,
        mut file: Config,
        files: Files,
        pins: Pins,
        datapath: BpfDatapath,
        devices: BTreeMap<u16, Device>,
    ) -> Result<Self, AgentError> {
        let mut notes = Vec::new();
        let capacity = datapath.capacity();
        let reconciler = Reconciler::new(datapath)?;
        keep_what_is_in_use(&mut file, capacity, &reconciler, &mut notes);
        let (effective, stale) = files.effective(&file)?;
        notes.extend(stale);
        let overrides = Overrides::between(&file, &effective);
        let network = Network::start(devices.iter().map(|(index, device)| (*index, device.link.ifindex)).collect())?;
        let prober = Prober::start();
        let mut core = Self {
            instance: options.instance.to_string(),
            config_path: options.config.clone(),
            hash_key: files.hash_key()?,
            hz: hz()?,
            network_view: network.subscribe(),
            health_view: prober.subscribe(),
            started: Instant::now(),
            revision: 1,
            ledger: Ledger::default(),
            names: Names::default(),
            sweep: Sweep::default(),
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            problems: Vec::new(),
            failure: None,
            files,
            pins,
            file,
            effective,
            overrides,
            devices,
            reconciler,
            network,
            prober,
            notes,
        };
        core.sweep_sessions()?;
        core.retarget();
        core.refresh().map_err(|error| AgentError::Host(error.to_string()))?;
        core.attach()?;
        Ok(core)
    }

    fn attach(&mut self) -> Result<(), LoadError> {
        for device in self.devices.values() {
            self.reconciler.datapath_mut().attach(&self.pins, &device.link, device.mode)?;
            tracing::info!(interface = device.link.name, "forwarding");
        }
        let names: Vec<&str> = self.devices.values().map(|device| device.link.name.as_str()).collect();
        self.reconciler.datapath_mut().settle(&self.pins, &names)
    }

    /// Answers events until told to stop. The datapath goes on forwarding, unless it was to be detached.
    pub async fn run(
        &mut self,
        mut requests: mpsc::Receiver<Request>,
        stop: impl Future<Output = &'static str>,
    ) -> Result<(), AgentError> {
        let mut reload = signal(SignalKind::hangup())
            .map_err(|cause| AgentError::System { what: "listening for signals", cause })?;
        let (mut sweeps, mut drifts) = (interval(SWEEP_INTERVAL), interval(DRIFT_INTERVAL));
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        drifts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        drifts.reset();
        let (mut network_view, mut health_view) = (self.network_view.clone(), self.health_view.clone());
        tokio::pin!(stop);
        loop {
            tokio::select! {
                signal = &mut stop => {
                    tracing::info!(signal, "stopping; the datapath goes on forwarding (weir detach takes it off)");
                    return Ok(());
                }
                request = requests.recv() => match request {
                    Some(Request::Detach(answer)) => {
                        let outcome = self.pins.remove();
                        let is_off = outcome.is_ok();
                        let _asker_gone = answer.send(outcome.map(drop).map_err(|error| failed(&error)));
                        if is_off {
                            tracing::info!("the datapath is off; stopping");
                            return Ok(());
                        }
                    }
                    Some(Request::Change(change, answer)) => {
                        let _asker_gone = answer.send(self.change(&change));
                    }
                    Some(Request::Snapshot(answer)) => {
                        self.look().await;
                        let _asker_gone = answer.send(self.snapshot().map(Arc::new).map_err(|error| failed(&error)));
                    }
                    // The API's task holds the other end for as long as this runs.
                    None => return Ok(()),
                },
                Ok(()) = network_view.changed() => self.settle(),
                Ok(()) = health_view.changed() => self.settle(),
                _ = sweeps.tick() => {
                    if let Err(error) = self.sweep_sessions() {
                        tracing::error!(%error, "sweeping the sessions failed");
                    }
                    self.settle();
                }
                _ = drifts.tick() => self.mend_drift(),
                _ = reload.recv() => self.reload(),
            }
        }
    }

    /// Brings the maps to what is desired; a failure is told, and tried again with the next event or sweep.
    fn settle(&mut self) {
        match self.refresh() {
            Ok(_) => self.failure = None,
            Err(error) => {
                let sentence = format!("the datapath is not what it should be: {error}");
                if self.failure.as_ref() != Some(&sentence) {
                    tracing::error!("{sentence}");
                }
                self.failure = Some(sentence);
            }
        }
    }

    fn refresh(&mut self) -> Result<usize, PublishError> {
        let network = self.network_view.borrow().clone();
        let observed = Observed {
            now: self.started.elapsed(),
            hash_key: self.hash_key,
            hz: self.hz,
            devices: self.device_records(&network),
            routes: network.routes.clone(),
            health: self.health_view.borrow().iter().map(|(key, status)| (key.clone(), status.health)).collect(),
            cut: self.cut.clone(),
        };
        let compiled = compile(&self.effective, &observed, self.reconciler.image(), &mut self.ledger);
        for problem in &compiled.problems {
            if !self.problems.contains(problem) {
                tracing::warn!("{problem}");
            }
        }
        self.names = compiled.names;
        self.problems = compiled.problems;
        let steps = self.reconciler.publish(&compiled.image)?;
        self.cut.retain(|id| compiled.image.backends.contains_key(id));
        Ok(steps)
    }

    /// Our devices as they are now: an interface may be given another MAC.
    fn device_records(&self, network: &NetworkView) -> BTreeMap<u16, DeviceRecord> {
        let record = |(index, device): (&u16, &Device)| {
            let mac = network.links.get(&device.link.ifindex).map_or(device.link.mac, |link| link.mac);
            (*index, DeviceRecord { ifindex: device.link.ifindex, reserved: 0, mac: Hop::new(mac, *index) })
        };
        self.devices.iter().map(record).collect()
    }

    /// Tells the network's watcher and the prober whom they are to look at.
    fn retarget(&mut self) {
        let image = self.reconciler.image();
        let mut targets = Vec::new();
        // Leaving backends need their next hop too.
        let mut addresses: BTreeSet<Ipv4Addr> =
            self.names.backends.values().map(|(_, address)| *address.ip()).collect();
        for service in &self.effective.services {
            addresses.extend(service.backends.iter().map(|backend| *backend.address.ip()));
            let Some(check) = service.health else { continue };
            let id = image.services.get(&service.key()).map(|record| record.id);
            for backend in &service.backends {
                let applied = image.backends.values().find(|record| {
                    Some(record.service) == id
                        && record.address == (*backend.address.ip()).into()
                        && record.port.number() == backend.address.port()
                });
                // What an earlier agent knew holds until a probe says otherwise.
                let is_well = applied.is_some_and(|record| record.flags & BACKEND_UNHEALTHY == 0);
                let port = check.port.unwrap_or(backend.address.port());
                targets.push(Target {
                    service: service.name.clone(),
                    address: backend.address,
                    probe_address: SocketAddrV4::new(*backend.address.ip(), port),
                    check,
                    initial: if is_well { Health::Healthy } else { Health::Unknown },
                });
            }
        }
        self.network.set_targets(addresses);
        self.prober.set_targets(targets);
    }

    fn sweep_sessions(&mut self) -> Result<(), DatapathError> {
        let began = self.started.elapsed();
        let purge = self.ledger.purge(self.reconciler.image());
        self.sweep = self.reconciler.datapath_mut().sweep(&purge)?;
        self.ledger.note_sweep(&self.sweep, began);
        Ok(())
    }

    fn mend_drift(&mut self) {
        match self.reconciler.drift() {
            Ok(0) => {}
            Ok(count) => {
                tracing::warn!(
                    count,
                    "entries of the maps were not what they should be: somebody else wrote them; mending"
                );
                self.settle();
            }
            Err(error) => tracing::error!(%error, "reading the maps back failed"),
        }
    }

    /// Makes a change, or leaves everything as it was.
    fn change(&mut self, change: &Change) -> Result<Changed, Refusal> {
        let effective = self.effective.changed(change)?;
        if let Change::BackendRemove { service, address, now: true } = change {
            self.cut.extend(self.ids_of(service, *address));
        }
        let before = std::mem::replace(&mut self.effective, effective);
        self.retarget();
        let outcome = self.refresh().map_err(|error| failed(&error)).and_then(|steps| {
            let overrides = self.files.keep(&self.file, &self.effective).map_err(|error| failed(&error))?;
            Ok((steps, overrides))
        });
        match outcome {
            Ok((steps, overrides)) => {
                self.overrides = overrides;
                self.revision += 1;
                Ok(Changed { revision: self.revision, steps })
            }
            Err(refusal) => {
                self.effective = before;
                self.cut.clear();
                self.retarget();
                self.settle();
                Err(refusal)
            }
        }
    }

    fn ids_of(&self, service: &ServiceName, address: SocketAddrV4) -> Vec<u16> {
        let is_it = |named: &(ServiceName, SocketAddrV4)| named.0 == *service && named.1 == address;
        self.names.backends.iter().filter(|(_, named)| is_it(named)).map(|(id, _)| *id).collect()
    }

    /// Reads the config file again. One that is wrong changes nothing.
    fn reload(&mut self) {
        let loaded = config::load(&self.config_path).map_err(|error| error.to_string()).and_then(|mut file| {
            if file.interfaces != self.file.interfaces || file.metrics != self.file.metrics {
                tracing::warn!("other interfaces or metrics take effect when the agent is started again");
                file.interfaces.clone_from(&self.file.interfaces);
                file.metrics = self.file.metrics;
            }
            if (file.sessions, file.nat) != (self.file.sessions, self.file.nat) {
                tracing::warn!("other sessions or nat settings take effect when the agent is started again");
                (file.sessions, file.nat) = (self.file.sessions, self.file.nat);
            }
            let (effective, stale) = self.files.effective(&file).map_err(|error| error.to_string())?;
            Ok((file, effective, stale))
        });
        match loaded {
            Ok((file, effective, stale)) => {
                for sentence in &stale {
                    tracing::warn!("{sentence}");
                }
                self.overrides = Overrides::between(&file, &effective);
                (self.file, self.effective) = (file, effective);
                self.revision += 1;
                self.retarget();
                self.settle();
                tracing::info!(revision = self.revision, "config reloaded");
            }
            Err(error) => tracing::error!("config not reloaded, the former one holds: {error}"),
        }
    }

    /// Looks at the interfaces. A look that fails leaves what was seen before.
    async fn look(&mut self) {
        match network::link::all().await {
            Ok(links) => self.links = links,
            Err(error) => tracing::warn!(%error, "looking at the interfaces failed"),
        }
    }

    fn snapshot(&mut self) -> Result<Snapshot, DatapathError> {
        self.sweep_sessions()?;
        super::view::snapshot(self)
    }
}

/// What the pinned maps and the sessions in them do not let us change is left as it is, and said.
fn keep_what_is_in_use(
    file: &mut Config,
    capacity: u32,
    reconciler: &Reconciler<BpfDatapath>,
    notes: &mut Vec<String>,
) {
    const HOW: &str = "to change it, run weir detach first, which breaks the connections that there are";
    if file.sessions != capacity {
        notes.push(format!("sessions = {} has no effect: the datapath was made for {capacity}; {HOW}", file.sessions));
        file.sessions = capacity;
    }
    let Some(settings) = reconciler.image().settings else { return };
    if settings.nat_port_count == 0 {
        return;
    }
    let last = settings.nat_port_first.saturating_add(settings.nat_port_count - 1);
    let (first, asked) = (settings.nat_port_first, (file.nat.port_first, file.nat.port_last));
    if asked != (first, last) {
        notes
            .push(format!("nat.ports = \"{}-{}\" has no effect: sessions use {first}-{last}; {HOW}", asked.0, asked.1));
        (file.nat.port_first, file.nat.port_last) = (first, last);
    }
}

/// Jiffies in a second: the coarse clock's resolution is one of them.
fn hz() -> Result<u32, AgentError> {
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
        .map_err(|cause| AgentError::System { what: "asking for the length of a jiffy", cause: cause.into() })?;
    let nanos = Duration::from(resolution).as_nanos().max(1);
    Ok(u32::try_from((1_000_000_000 + nanos / 2) / nanos).unwrap_or(u32::MAX).max(1))
}

fn failed(error: &impl ToString) -> Refusal {
    Refusal {
        code: RefusalCode::Failed,
        message: error.to_string(),
        hint: Some("nothing was changed; the agent's log has more".into()),
    }
}
