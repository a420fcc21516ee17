//! What the agent remembers from one compilation to the next, and the maps do not hold.
//!
//! All of it may be lost: an agent that starts with an empty ledger waits longer before it lets a backend go, builds
//! its tables once, and calls a service that is not in the config any more by its address.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lb_common::abi::{BACKEND_LEAVING, ServiceKey};
use lb_common::hash::HashKey;

use super::image::Image;
use super::maglev::Member;
use crate::config::{Service, ServiceName};
use crate::datapath::{SessionCount, Sweep};

/// How long the backends of a service may drain whose config the agent has never seen.
const DRAIN_TIMEOUT_UNKNOWN: Duration = Duration::from_mins(10);

/// See the module. Times are those of `Observed::now`: since any fixed moment, by a clock that never goes back.
#[derive(Default, Debug)]
pub struct Ledger {
    /// Services by id, those that are being removed too, and those that could not be published yet.
    services: BTreeMap<u16, Known>,
    /// Since when backends have been leaving, by id.
    leaving: BTreeMap<u16, Duration>,
    /// Backends in the last applied image, and of those the ones that may have had sessions. `None` before the first:
    /// then an earlier agent may have used all of them.
    seen: Option<Seen>,
    /// Backend ids that were freed, and when, until a sweep that began later.
    freed: BTreeMap<u16, Duration>,
    /// What the last sweep found, and when it began.
    sessions: BTreeMap<u16, SessionCount>,
    swept: Option<Duration>,
    pub(super) tables: Built<(HashKey, Vec<Member>)>,
    pub(super) rings: Built<Vec<(u16, u16)>>,
}

#[derive(Debug)]
struct Known {
    key: ServiceKey,
    name: ServiceName,
    drain_timeout: Duration,
}

#[derive(Default, Debug)]
struct Seen {
    present: BTreeSet<u16>,
    used: BTreeSet<u16>,
}

impl Ledger {
    /// Takes note of a sweep over the sessions that began at `began`.
    ///
    /// After a start, note a sweep before the first compilation, so that no id is given away that sessions name.
    pub fn note_sweep(&mut self, sweep: &Sweep, began: Duration) {
        self.freed.retain(|_, at| *at >= began);
        self.sessions.clone_from(&sweep.sessions);
        self.swept = Some(began);
    }

    /// Backends that sessions may name although `applied` does not hold them: what the next sweep should purge.
    pub fn purge(&self, applied: &Image) -> BTreeSet<u16> {
        let seen = self.seen.iter().flat_map(|seen| &seen.present).copied();
        self.quarantine().chain(seen).filter(|id| !applied.backends.contains_key(id)).collect()
    }

    /// Takes note of what the maps hold.
    pub(super) fn note_image(&mut self, applied: &Image, now: Duration) {
        let present: BTreeSet<u16> = applied.backends.keys().copied().collect();
        let used = match self.seen.take() {
            None => present.clone(),
            Some(seen) => {
                self.freed.extend(seen.present.difference(&present).map(|id| (*id, now)));
                let eligible = applied.backends.iter().filter(|(_, record)| record.is_eligible()).map(|(id, _)| *id);
                seen.used.intersection(&present).copied().chain(eligible).collect()
            }
        };
        self.leaving.retain(|id, _| present.contains(id));
        self.seen = Some(Seen { present, used });
    }

    /// Takes note of a desired service.
    pub(super) fn note_service(&mut self, id: u16, service: &Service) {
        let Service { name, drain_timeout, .. } = service;
        let known = Known { key: service.key(), name: name.clone(), drain_timeout: *drain_timeout };
        self.services.insert(id, known);
    }

    /// Ids that earlier compilations gave to services.
    pub(super) fn service_ids(&self) -> impl Iterator<Item = (ServiceKey, u16)> {
        self.services.iter().map(|(id, known)| (known.key, *id))
    }

    /// Backend ids that sessions may name.
    pub(super) fn quarantine(&self) -> impl Iterator<Item = u16> {
        self.freed.keys().chain(self.sessions.keys()).copied()
    }

    /// The service's name; made of its key when the agent never knew it.
    pub(super) fn service_name(&self, id: u16, key: &ServiceKey) -> ServiceName {
        self.services.get(&id).map_or_else(
            || ServiceName(format!("{:?}-{}-{}", key.vip, key.port.number(), key.protocol.name())),
            |known| known.name.clone(),
        )
    }

    /// Whether a backend that takes no new flows any more may go: it never took one, nobody uses it any more, or it has
    /// had its time. `began_before` says whether it was leaving already.
    ///
    /// A sweep counts only if it began after the backend began to leave, since a flow may have been placed just before.
    pub(super) fn may_go(&mut self, id: u16, service: u16, began_before: bool, now: Duration) -> bool {
        if self.seen.as_ref().is_some_and(|seen| !seen.used.contains(&id)) {
            return true;
        }
        if !began_before {
            self.leaving.insert(id, now);
            return false;
        }
        let since = *self.leaving.entry(id).or_insert(now);
        let drain_timeout = self.services.get(&service).map_or(DRAIN_TIMEOUT_UNKNOWN, |known| known.drain_timeout);
        let unused = self.sessions.get(&id).is_none_or(|sessions| sessions.open == 0);
        now.saturating_sub(since) >= drain_timeout || (unused && self.swept.is_some_and(|began| began > since))
    }

    /// Forgets services that `image` does not hold, and backends that are not leaving in it.
    pub(super) fn forget(&mut self, image: &Image) {
        let services: BTreeSet<u16> = image.services.values().map(|record| record.id).collect();
        self.services.retain(|id, _| services.contains(id));
        self.leaving.retain(|id, _| image.backends.get(id).is_some_and(|record| record.flags & BACKEND_LEAVING != 0));
        self.tables.0.retain(|id, _| image.tables.contains_key(id));
        self.rings.0.retain(|id, _| image.rings.contains_key(id));
    }
}

/// Tables or rings by service id, with what they were built from: building all of them takes seconds on a large
/// instance, and few change at a time.
#[derive(Debug)]
pub(super) struct Built<K>(BTreeMap<u16, (K, Arc<[u16]>)>);

impl<K> Default for Built<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: PartialEq> Built<K> {
    /// What `build` makes of `from`; the applied one where it is the same, so that it is kept in memory once.
    pub fn get(
        &mut self,
        id: u16,
        from: K,
        applied: Option<&Arc<[u16]>>,
        build: impl FnOnce(&K) -> Vec<u16>,
    ) -> Arc<[u16]> {
        if let Some((known, entries)) = self.0.get(&id)
            && *known == from
        {
            return entries.clone();
        }
        let fresh = build(&from);
        let entries = applied.filter(|applied| ***applied == *fresh).cloned().unwrap_or_else(|| fresh.into());
        self.0.insert(id, (from, entries.clone()));
        entries
    }
}
