//! Plans the steps from the applied image to the desired one, in an order in which every prefix forwards correctly.
//!
//! What a packet can reach is written before what leads to it, and taken away after: settings and devices, backends,
//! tables, rings, services; then services go, rings, tables, backends, devices. A service's record says how long its
//! ring is, and the two are different maps: a ring that grows is written before the record, one that shrinks after it,
//! so that nobody reads past its end. Settings that permit less than the applied ones come last of all; before that they
//! permit what both images need.
//!
//! It relies on what compilation promises: a service's id stays its own, and no id changes hands in one plan.

use std::collections::BTreeMap;

use lb_common::abi::Settings;

use super::image::{Image, Step};

/// The steps from `applied` to `desired`; none when they are equal. The same images make the same plan.
pub fn plan(applied: &Image, desired: &Image) -> Vec<Step> {
    let mut steps = Vec::new();
    let meanwhile = desired.settings.map(|desired| applied.settings.map_or(desired, |applied| both(&applied, desired)));
    steps.extend(meanwhile.filter(|_| meanwhile != applied.settings).map(Step::PutSettings));
    steps.extend(written(&applied.devices, &desired.devices).map(|(index, record)| Step::PutDevice(*index, *record)));
    steps.extend(written(&applied.backends, &desired.backends).map(|(id, record)| Step::PutBackend(*id, *record)));
    steps.extend(written(&applied.tables, &desired.tables).map(|(id, table)| Step::PutTable(*id, table.clone())));
    let (shrinking, growing): (Vec<_>, Vec<_>) = written(&applied.rings, &desired.rings)
        .partition(|(id, ring)| applied.rings.get(id).is_some_and(|applied| applied.len() > ring.len()));
    steps.extend(growing.into_iter().map(|(id, ring)| Step::PutRing(*id, ring.clone())));
    steps.extend(written(&applied.services, &desired.services).map(|(_, record)| Step::PutService(*record)));
    steps.extend(shrinking.into_iter().map(|(id, ring)| Step::PutRing(*id, ring.clone())));

    steps.extend(gone(&applied.services, &desired.services).map(|key| Step::RemoveService(*key)));
    steps.extend(gone(&applied.rings, &desired.rings).map(|id| Step::RemoveRing(*id)));
    steps.extend(gone(&applied.tables, &desired.tables).map(|id| Step::RemoveTable(*id)));
    steps.extend(gone(&applied.backends, &desired.backends).map(|id| Step::RemoveBackend(*id)));
    steps.extend(gone(&applied.devices, &desired.devices).map(|index| Step::RemoveDevice(*index)));
    steps.extend(desired.settings.filter(|_| desired.settings != meanwhile).map(Step::PutSettings));
    steps
}

/// The desired settings, with what services and backends that are about to go or to change rely on still.
fn both(applied: &Settings, mut desired: Settings) -> Settings {
    desired.flags |= applied.flags;
    if desired.nat_port_count == 0 {
        (desired.nat_port_first, desired.nat_port_count) = (applied.nat_port_first, applied.nat_port_count);
    }
    desired
}

/// Entries that are new or other than applied.
fn written<'a, K: Ord, V: PartialEq>(
    applied: &'a BTreeMap<K, V>,
    desired: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    desired.iter().filter(|(key, value)| applied.get(key) != Some(value))
}

/// Keys that are not desired any more.
fn gone<'a, K: Ord, V>(applied: &'a BTreeMap<K, V>, desired: &'a BTreeMap<K, V>) -> impl Iterator<Item = &'a K> {
    applied.keys().filter(|key| !desired.contains_key(key))
}
