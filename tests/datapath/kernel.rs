//! The kernel's side, where the machine lets us have one.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use harness::privilege::{Need, require};
use harness::world::World;
use lb_userspace::control::image::Image;
use lb_userspace::control::reconcile::Reconciler;
use lb_userspace::datapath::bpf::BpfDatapath;
use lb_userspace::datapath::sweep::Sessions;
use lb_userspace::datapath::{Datapath, Traffic};

use crate::sides::Side;

/// The shortest frame that a test run takes: an Ethernet header.
const SHORTEST: usize = 14;

/// The programs in the kernel.
pub struct Kernel(Reconciler<BpfDatapath>);

/// With room for so many sessions; `None`, and a word about it, if we lack the privilege.
pub fn kernel(sessions: u32) -> Option<Kernel> {
    static MAY_LOAD: OnceLock<bool> = OnceLock::new();
    let needs = [Need::Bpf, Need::Perfmon, Need::NetAdmin];
    if !*MAY_LOAD.get_or_init(|| require("the kernel's half of the datapath's tests", &needs)) {
        return None;
    }
    let datapath = BpfDatapath::load_for_tests(sessions).unwrap_or_else(|error| panic!("{error}"));
    Some(Kernel(Reconciler::new(datapath).expect("new maps can be read")))
}

/// Runs something with a kernel's side whose maps hold nothing but statistics and cursors: a program takes the verifier
/// seconds, so those with room for so many sessions share one. Nothing if we lack the privilege.
pub fn with_shared_kernel(sessions: u32, run: impl FnOnce(&mut Kernel)) {
    static LOADED: Mutex<BTreeMap<u32, Kernel>> = Mutex::new(BTreeMap::new());
    // A test that failed leaves nothing behind that emptying would not remove.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if !loaded.contains_key(&sessions) {
        loaded.extend(kernel(sessions).map(|kernel| (sessions, kernel)));
    }
    if let Some(kernel) = loaded.get_mut(&sessions) {
        kernel.empty();
        run(kernel);
    }
}

impl Kernel {
    fn empty(&mut self) {
        self.publish(&World::new().no_device().image());
        let Sessions { flows, returns, sessions } = self.sessions();
        for word in [flows, returns, sessions].into_iter().flatten().flatten() {
            word.store(0);
        }
    }
}

impl Side for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn publish(&mut self, image: &Image) {
        self.0.publish(image).unwrap_or_else(|error| panic!("{error}"));
    }

    fn set_inputs(&mut self, now: u32, random: u32) {
        self.0.datapath_mut().set_inputs(now, random).unwrap_or_else(|error| panic!("{error}"));
    }

    fn takes(&self, frame: &[u8]) -> bool {
        frame.len() >= SHORTEST
    }

    fn run(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        self.0.datapath().test_run(frame).unwrap_or_else(|error| panic!("{error}"))
    }

    fn counters(&self) -> Vec<u64> {
        self.0.datapath().counters().unwrap_or_else(|error| panic!("{error}")).to_vec()
    }

    fn traffic(&self, services: &[u16], backends: &[u16]) -> Traffic {
        self.0.datapath().traffic(services, backends).unwrap_or_else(|error| panic!("{error}"))
    }

    fn sessions(&self) -> Sessions<'_> {
        self.0.datapath().sessions()
    }
}
