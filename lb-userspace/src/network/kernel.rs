//! Questions to the kernel over netlink, and its notifications.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::{MulticastGroup, RouteMessageBuilder};
use tokio::task::JoinSet;

use super::message::{self, Event, Lookup, Neighbour, NeighbourKey};
use super::{Link, NetworkError};

/// The kernel answers within microseconds; an answer that takes longer was lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A socket for questions.
pub(super) struct Kernel {
    handle: rtnetlink::Handle,
    /// Ends the socket's task together with this value.
    _socket: JoinSet<()>,
}

impl Kernel {
    pub fn open() -> Result<Self, NetworkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Open)?;
        Ok(Self { handle, _socket: spawn(connection) })
    }

    /// Every interface.
    pub async fn links(&self) -> Result<BTreeMap<u32, Link>, NetworkError> {
        let links = self.handle.link().get().execute().map_ok(|m| (m.header.index, message::link(&m))).try_collect();
        ask("listing the interfaces", links).await
    }

    /// Every IPv4 neighbour entry.
    pub async fn neighbours(&self) -> Result<BTreeMap<NeighbourKey, Neighbour>, NetworkError> {
        let request = self.handle.neighbours().get().set_address_family(AddressFamily::Inet);
        let neighbours = request.execute().try_filter_map(async |m| Ok(message::neighbour(&m))).try_collect();
        ask("listing the neighbours", neighbours).await
    }

    /// How the kernel would send to `target`.
    pub async fn route(&self, target: Ipv4Addr) -> Result<Lookup, NetworkError> {
        let what = "looking up a route";
        let request = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(target, 32).build();
        let mut answers = Box::pin(self.handle.route().get(request).execute());
        let answer = ask(what, answers.try_next()).await;
        match answer {
            Ok(Some(route)) => Ok(message::lookup(target, &route)),
            Ok(None) => Err(NetworkError::Request { what, cause: io::ErrorKind::UnexpectedEof.into() }),
            Err(NetworkError::Request { what, cause }) => {
                message::refused_lookup(target, cause).map_err(|cause| NetworkError::Request { what, cause })
            }
            Err(other) => Err(other),
        }
    }

    /// Makes the kernel find out whether a neighbour is still there, as traffic to it would. Not for permanent
    /// entries: they would lose their permanence.
    pub async fn use_neighbour(&self, (ifindex, address): NeighbourKey) -> Result<(), NetworkError> {
        let request = self
            .handle
            .neighbours()
            .add(ifindex, IpAddr::V4(address))
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        ask("asking for a neighbour", request.execute()).await
    }
}

/// A socket for the kernel's notifications, from its opening on.
pub(super) struct Events {
    events: Box<dyn Stream<Item = Event> + Send + Unpin>,
    _socket: JoinSet<()>,
}

impl Events {
    pub fn open() -> Result<Self, NetworkError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv4Rule,
        ];
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&groups).map_err(NetworkError::Open)?;
        let events = messages.filter_map(|(m, _)| std::future::ready(message::event(&m)));
        Ok(Self { events: Box::new(events), _socket: spawn(connection) })
    }

    /// The next notification that concerns us; `None` when there will be no more.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.next().await
    }

    /// The next notification that has already come.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.next().now_or_never().flatten()
    }
}

fn spawn(connection: impl Future<Output = ()> + Send + 'static) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    tasks
}

async fn ask<T>(
    what: &'static str,
    answer: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, NetworkError> {
    let cause = match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(rtnetlink::Error::NetlinkError(refusal))) => refusal.to_io(),
        Ok(Err(other)) => io::Error::other(other),
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    Err(NetworkError::Request { what, cause })
}
