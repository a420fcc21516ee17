//! Gives services and backends their ids: the ones they have, else the lowest that nobody could still mean.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::{BackendRecord, ServiceKey};
use lb_common::addr::{Address, Port};
use lb_common::limits::{BACKENDS_MAX, SERVICES_MAX};

use super::image::Image;

/// What makes a backend the same backend. A session's addresses are read from its backend's record, so a backend that
/// is to be reached from another source is another one, with an id of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BackendKey {
    /// The id of its service.
    pub service: u16,
    /// Its address.
    pub address: Address,
    /// Its port.
    pub port: Port,
    /// The balancer's address towards it; unspecified where the client's own is preserved.
    pub source: Address,
}

impl From<&BackendRecord> for BackendKey {
    fn from(record: &BackendRecord) -> Self {
        Self { service: record.service, address: record.address, port: record.port, source: record.source }
    }
}

/// Who has which id, and which are free.
#[derive(Debug)]
pub struct Ids {
    services: BTreeMap<ServiceKey, u16>,
    backends: BTreeMap<BackendKey, u16>,
    free_services: Pool,
    free_backends: Pool,
}

impl Ids {
    /// What `applied` says, and for services that could not be published yet what was `promised`: else each try would
    /// take another id. Backend ids in `quarantine` are given to nobody new, since sessions may name them.
    ///
    /// An id that is freed now is free in the next compilation, not in this one.
    pub fn restore(
        applied: &Image,
        promised: impl IntoIterator<Item = (ServiceKey, u16)>,
        quarantine: impl IntoIterator<Item = u16>,
    ) -> Self {
        let published: BTreeSet<u16> = applied.services.values().map(|record| record.id).collect();
        let mut services: BTreeMap<ServiceKey, u16> =
            promised.into_iter().filter(|(_, id)| !published.contains(id)).collect();
        services.extend(applied.services.iter().map(|(key, record)| (*key, record.id)));
        // Also what a crash in the middle of a plan left behind: nobody may come into a stranger's table.
        let taken_services = (services.values().copied())
            .chain(applied.tables.keys().copied())
            .chain(applied.rings.keys().copied())
            .chain(applied.backends.values().map(|record| record.service))
            .collect();
        let taken_backends = applied.backends.keys().copied().chain(quarantine).collect();
        Self {
            services,
            backends: applied.backends.iter().map(|(id, record)| (record.into(), *id)).collect(),
            free_services: Pool::new(taken_services, SERVICES_MAX),
            free_backends: Pool::new(taken_backends, BACKENDS_MAX),
        }
    }

    /// The service's id, a new one if it has none yet; `None` when all are taken.
    pub fn service(&mut self, key: ServiceKey) -> Option<u16> {
        if let Some(id) = self.services.get(&key) {
            return Some(*id);
        }
        let id = self.free_services.take()?;
        self.services.insert(key, id);
        Some(id)
    }

    /// The backend's id, a new one if it has none yet; `None` when all are taken.
    pub fn backend(&mut self, key: BackendKey) -> Option<u16> {
        if let Some(id) = self.backends.get(&key) {
            return Some(*id);
        }
        let id = self.free_backends.take()?;
        self.backends.insert(key, id);
        Some(id)
    }

    /// The id that the backend has already.
    pub fn known_backend(&self, key: &BackendKey) -> Option<u16> {
        self.backends.get(key).copied()
    }

    /// Lets the backend that was `from` keep its id as `to`.
    pub fn rename_backend(&mut self, from: &BackendKey, to: BackendKey) {
        if let Some(id) = self.backends.remove(from) {
            self.backends.insert(to, id);
        }
    }
}

/// Free ids, lowest first.
#[derive(Debug)]
struct Pool {
    taken: BTreeSet<u16>,
    next: u32,
    last: u32,
}

impl Pool {
    fn new(taken: BTreeSet<u16>, last: u32) -> Self {
        Self { taken, next: 1, last }
    }

    fn take(&mut self) -> Option<u16> {
        while self.next <= self.last {
            let id = u16::try_from(self.next).ok()?;
            self.next += 1;
            if !self.taken.contains(&id) {
                return Some(id);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use lb_common::abi::ServiceRecord;
    use lb_common::addr::Protocol;

    use super::*;

    fn service(port: u16) -> ServiceKey {
        ServiceKey { vip: Ipv4Addr::new(192, 0, 2, 1).into(), port: Port::new(port), protocol: Protocol::Tcp }
    }

    fn backend(service: u16, last: u8) -> BackendKey {
        let address = Ipv4Addr::new(10, 0, 0, last).into();
        BackendKey { service, address, port: Port::new(80), source: Ipv4Addr::new(10, 0, 0, 254).into() }
    }

    fn applied() -> Image {
        let key = service(80);
        let record = ServiceRecord { vip: key.vip, port: key.port, protocol: 6, id: 2, ..ServiceRecord::default() };
        let backends = [(1, backend(2, 1)), (3, backend(2, 3))].map(|(id, key)| {
            let BackendKey { service, address, port, source } = key;
            (id, BackendRecord { service, address, port, source, ..BackendRecord::default() })
        });
        Image { services: [(key, record)].into(), backends: backends.into(), ..Image::default() }
    }

    #[test]
    fn who_has_an_id_keeps_it() {
        let mut ids = Ids::restore(&applied(), [], []);
        assert_eq!(ids.service(service(80)), Some(2));
        assert_eq!(ids.backend(backend(2, 3)), Some(3));
        assert_eq!(ids.known_backend(&backend(2, 9)), None);
    }

    #[test]
    fn newcomers_get_the_lowest_free_id_and_keep_it() {
        let mut ids = Ids::restore(&applied(), [], []);
        assert_eq!(
            [ids.service(service(81)), ids.service(service(82)), ids.service(service(81))],
            [Some(1), Some(3), Some(1)]
        );
        assert_eq!([ids.backend(backend(2, 7)), ids.backend(backend(1, 7))], [Some(2), Some(4)]);
    }

    #[test]
    fn an_id_that_sessions_may_name_is_not_reused() {
        let mut ids = Ids::restore(&applied(), [], [2, 4, 5]);
        assert_eq!(ids.backend(backend(2, 7)), Some(6));
    }

    #[test]
    fn another_source_makes_another_backend() {
        let mut ids = Ids::restore(&applied(), [], []);
        let moved = BackendKey { source: Ipv4Addr::new(10, 0, 0, 253).into(), ..backend(2, 3) };
        assert_eq!(ids.backend(moved), Some(2));
    }

    #[test]
    fn a_promised_id_is_kept_unless_another_service_has_it_by_now() {
        let promised = [(service(81), 7), (service(82), 2), (service(80), 9)];
        let mut ids = Ids::restore(&applied(), promised, []);
        assert_eq!([80, 81, 82].map(|port| ids.service(service(port))), [Some(2), Some(7), Some(1)]);
    }

    #[test]
    fn leftovers_of_a_crash_keep_their_service_id_taken() {
        let mut image = applied();
        image.services.clear();
        image.tables.insert(1, vec![1].into());
        assert_eq!(Ids::restore(&image, [], []).service(service(81)), Some(3));
    }

    #[test]
    fn the_last_id_is_given_and_none_after_it() {
        let mut ids = Ids::restore(&Image::default(), [], []);
        let given: Vec<u16> = (0..).map_while(|port| ids.service(service(port))).collect();
        assert_eq!((given.len(), given.last()), (1_023, Some(&1_023)));
        let mut ids = Ids::restore(&Image::default(), [], 1..=16_382);
        assert_eq!([ids.backend(backend(1, 1)), ids.backend(backend(1, 2))], [Some(16_383), None]);
    }
}
