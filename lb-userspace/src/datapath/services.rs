//! Places service records in the buckets of the service table, and finds them there as the datapath does.
//!
//! A lookup starts at the key's home bucket and goes on to the next one (wrapping) only past a full bucket, over
//! [`SERVICE_PROBES`] buckets at most. Writes come as a list of whole buckets; after each of them every service that
//! stays can be found, and a record on the move stands in two buckets rather than in none.

use std::collections::BTreeMap;

use lb_common::abi::{ServiceBucket, ServiceKey, ServiceRecord};
use lb_common::hash::service_bucket;
use lb_common::limits::{SERVICE_BUCKETS, SERVICE_PROBES};

use super::DatapathError;

/// Buckets to write, in this order.
pub type Writes = Vec<(u32, ServiceBucket)>;

/// The record that a lookup of `key` finds.
pub fn find(read: impl Fn(u32) -> ServiceBucket, key: &ServiceKey) -> Option<ServiceRecord> {
    let view = View { read, written: BTreeMap::new() };
    view.find(key).map(|place| view.bucket(place.bucket).ways[place.way])
}

/// Every record that a lookup can find, by its key.
pub fn all(read: impl Fn(u32) -> ServiceBucket) -> BTreeMap<ServiceKey, ServiceRecord> {
    let keys = (0..SERVICE_BUCKETS).flat_map(|index| read(index).ways).filter_map(|record| record.key());
    keys.filter_map(|key| find(&read, &key).map(|record| (key, record))).collect()
}

/// The writes that put `record` in, in place of what stands under its key. None for an empty record.
pub fn put(read: impl Fn(u32) -> ServiceBucket, record: &ServiceRecord) -> Result<Writes, DatapathError> {
    let Some(key) = record.key() else { return Ok(Writes::new()) };
    let mut view = View { read, written: BTreeMap::new() };
    let free = || probes(&key).find_map(|bucket| view.empty_way(bucket).map(|way| Place { bucket, way }));
    let place = view.find(&key).or_else(free).ok_or(DatapathError::ServiceTableFull)?;
    Ok(vec![view.write(place, *record)])
}

/// The writes that take `key` out. What had spilled past its bucket moves up, so that lookups still come to it.
pub fn remove(read: impl Fn(u32) -> ServiceBucket, key: &ServiceKey) -> Writes {
    let mut view = View { read, written: BTreeMap::new() };
    let mut writes = Writes::new();
    // An agent that died between two writes leaves a second copy behind the one that counts. The last goes first, so
    // that it never comes to count.
    while let Some(place) = view.copies(key).last() {
        view.unlink(place, &mut writes);
    }
    writes
}

/// A record's place in the table.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    bucket: u32,
    way: usize,
}

/// The table with the writes so far.
struct View<R> {
    read: R,
    written: BTreeMap<u32, ServiceBucket>,
}

impl<R: Fn(u32) -> ServiceBucket> View<R> {
    fn bucket(&self, index: u32) -> ServiceBucket {
        self.written.get(&index).copied().unwrap_or_else(|| (self.read)(index))
    }

    fn empty_way(&self, bucket: u32) -> Option<usize> {
        self.bucket(bucket).ways.iter().position(|record| record.key().is_none())
    }

    /// Where a lookup of `key` ends.
    fn find(&self, key: &ServiceKey) -> Option<Place> {
        for bucket in probes(key) {
            if let Some(way) = self.bucket(bucket).ways.iter().position(|record| record.key() == Some(*key)) {
                return Some(Place { bucket, way });
            }
            if self.empty_way(bucket).is_some() {
                return None;
            }
        }
        None
    }

    /// Wherever `key` stands, whether lookups come to it or not.
    fn copies(&self, key: &ServiceKey) -> impl Iterator<Item = Place> {
        probes(key).flat_map(move |bucket| {
            let ways = self.bucket(bucket).ways;
            let key = *key;
            (0..ways.len()).filter(move |way| ways[*way].key() == Some(key)).map(move |way| Place { bucket, way })
        })
    }

    fn write(&mut self, place: Place, record: ServiceRecord) -> (u32, ServiceBucket) {
        let mut bucket = self.bucket(place.bucket);
        bucket.ways[place.way] = record;
        self.written.insert(place.bucket, bucket);
        (place.bucket, bucket)
    }

    /// Empties a place, or fills it with a record that had spilled past its bucket and goes on with that one's place.
    /// Each round brings a record nearer to its home, so the rounds end.
    fn unlink(&mut self, mut place: Place, writes: &mut Writes) {
        while let Some(spilled) = self.spilled_past(place.bucket) {
            let record = self.bucket(spilled.bucket).ways[spilled.way];
            writes.push(self.write(place, record));
            place = spilled;
        }
        writes.push(self.write(place, ServiceRecord::default()));
    }

    /// A record that lookups come to only because `bucket` is full.
    fn spilled_past(&self, bucket: u32) -> Option<Place> {
        if self.empty_way(bucket).is_some() {
            return None;
        }
        let later = (1..SERVICE_PROBES).map(|step| (bucket + step) % SERVICE_BUCKETS);
        let places = later.flat_map(|bucket| (0..self.bucket(bucket).ways.len()).map(move |way| Place { bucket, way }));
        places.into_iter().find(|place| {
            let Some(key) = self.bucket(place.bucket).ways[place.way].key() else { return false };
            let passes = probes(&key).take_while(|probe| *probe != place.bucket).any(|probe| probe == bucket);
            passes && self.find(&key) == Some(*place)
        })
    }
}

/// The buckets that a lookup visits, in order.
fn probes(key: &ServiceKey) -> impl Iterator<Item = u32> + use<> {
    let home = service_bucket(key.vip, key.port, key.protocol, SERVICE_BUCKETS);
    (0..SERVICE_PROBES).map(move |step| (home + step) % SERVICE_BUCKETS)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use lb_common::addr::{Port, Protocol};
    use lb_common::limits::SERVICE_WAYS;
    use proptest::prelude::*;

    use super::*;

    type Table = Vec<ServiceBucket>;

    /// Keys at home in five neighbouring buckets across the table's end, 40 in all, so that they spill and wrap.
    fn crowd() -> Vec<ServiceKey> {
        let last = SERVICE_BUCKETS - 1;
        let homes = [last - 1, last, 0, 1, 2];
        let mut room = homes.map(|home| (home, 8));
        let vips = (0..=255).map(|last| Ipv4Addr::new(192, 0, 2, last));
        let keys = vips.flat_map(|vip| (1..200).map(move |port| (vip, port))).map(|(vip, port)| ServiceKey {
            vip: vip.into(),
            port: Port::new(port),
            protocol: if port % 2 == 0 { Protocol::Tcp } else { Protocol::Udp },
        });
        let crowd: Vec<ServiceKey> = keys
            .filter(|key| {
                let home = service_bucket(key.vip, key.port, key.protocol, SERVICE_BUCKETS);
                let room = room.iter_mut().find(|(bucket, room)| *bucket == home && *room > 0);
                room.map(|(_, room)| *room -= 1).is_some()
            })
            .collect();
        assert_eq!(crowd.len(), 40);
        crowd
    }

    fn record(key: &ServiceKey, id: u16) -> ServiceRecord {
        ServiceRecord { vip: key.vip, port: key.port, protocol: key.protocol as u8, id, ..ServiceRecord::default() }
    }

    /// Written as the datapath does it, not as `View` does.
    fn lookup(table: &Table, key: &ServiceKey) -> Option<u16> {
        let mut bucket = service_bucket(key.vip, key.port, key.protocol, SERVICE_BUCKETS) as usize;
        for _ in 0..SERVICE_PROBES {
            let mut full = true;
            for way in &table[bucket].ways {
                if way.protocol == key.protocol as u8 && way.vip == key.vip && way.port == key.port {
                    return Some(way.id);
                }
                full &= way.protocol != 0;
            }
            if !full {
                return None;
            }
            bucket = (bucket + 1) % SERVICE_BUCKETS as usize;
        }
        None
    }

    fn empty() -> Table {
        vec![ServiceBucket::default(); SERVICE_BUCKETS as usize]
    }

    fn check(table: &Table, keys: &[ServiceKey], model: &BTreeMap<ServiceKey, u16>, but: Option<&ServiceKey>) {
        for key in keys.iter().filter(|key| Some(*key) != but) {
            assert_eq!(lookup(table, key), model.get(key).copied(), "{key:?}");
        }
    }

    #[test]
    fn a_bucket_and_its_neighbours_fill_up_and_then_refuse() {
        let crowd = crowd();
        let home = |key: &ServiceKey| service_bucket(key.vip, key.port, key.protocol, SERVICE_BUCKETS);
        let room = SERVICE_WAYS * SERVICE_PROBES as usize;
        let (mut table, mut placed) = (empty(), 0);
        // Everybody at home in the first three buckets wants in; the third bucket's last probe is two further on.
        for key in crowd.iter().filter(|key| home(key) >= SERVICE_BUCKETS - 2) {
            match put(|index| table[index as usize], &record(key, 1)) {
                Ok(writes) => {
                    placed += 1;
                    table[writes[0].0 as usize] = writes[0].1;
                }
                Err(error) => assert!(matches!(error, DatapathError::ServiceTableFull)),
            }
        }
        assert!((room..=16).contains(&placed), "{placed} placed");
        assert_eq!(all(|index| table[index as usize]).len(), placed);
    }

    #[test]
    fn an_update_stays_in_its_place() {
        let key = crowd()[0];
        let mut table = empty();
        for id in [1, 2] {
            let writes = put(|index| table[index as usize], &record(&key, id)).unwrap();
            assert_eq!(writes.len(), 1);
            table[writes[0].0 as usize] = writes[0].1;
        }
        assert_eq!(find(|index| table[index as usize], &key).unwrap().id, 2);
        assert_eq!(table.iter().flat_map(|bucket| bucket.ways).filter(|record| record.key().is_some()).count(), 1);
        assert!(remove(|index| table[index as usize], &crowd()[1]).is_empty());
        assert!(put(|index| table[index as usize], &ServiceRecord::default()).unwrap().is_empty());
    }

    #[derive(Clone, Debug)]
    enum Act {
        Put(usize, u16),
        Remove(usize),
        /// A removal whose agent dies after some of its writes.
        Interrupted(usize, usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            5 => (0usize..40, 1u16..1_000).prop_map(|(key, id)| Act::Put(key, id)),
            3 => (0usize..40).prop_map(Act::Remove),
            1 => (0usize..40, 0usize..3).prop_map(|(key, writes)| Act::Interrupted(key, writes)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn lookups_agree_with_a_model_after_every_single_write(acts in prop::collection::vec(act(), 1..120)) {
            let (keys, mut table, mut model) = (crowd(), empty(), BTreeMap::new());
            for act in acts {
                let (key, writes, id, kept) = match act {
                    Act::Put(key, id) => match put(|index| table[index as usize], &record(&keys[key], id)) {
                        Ok(writes) => (keys[key], writes, Some(id), usize::MAX),
                        Err(_) => continue,
                    },
                    Act::Remove(key) => (keys[key], remove(|index| table[index as usize], &keys[key]), None, usize::MAX),
                    Act::Interrupted(key, kept) => {
                        (keys[key], remove(|index| table[index as usize], &keys[key]), None, kept)
                    }
                };
                for (index, bucket) in writes.into_iter().take(kept) {
                    table[index as usize] = bucket;
                    check(&table, &keys, &model, Some(&key));
                }
                match id {
                    Some(id) => drop(model.insert(key, id)),
                    // After an interrupted removal the service may be there still, or gone.
                    None if lookup(&table, &key).is_none() => drop(model.remove(&key)),
                    None => prop_assert!(kept < usize::MAX),
                }
                check(&table, &keys, &model, None);
                let found: BTreeMap<ServiceKey, u16> =
                    all(|index| table[index as usize]).into_iter().map(|(key, record)| (key, record.id)).collect();
                prop_assert_eq!(&found, &model);
            }
        }
    }
}
