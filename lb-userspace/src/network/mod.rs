//! What the kernel knows about the network: links, next hops, source addresses. Followed over netlink, never typed in.

use std::net::Ipv4Addr;

use lb_common::addr::Hop;

/// How a backend's address is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Next hop's MAC and our device; unknown until the kernel has resolved it, or when it leaves through an
    /// interface that we are not attached to.
    pub hop: Hop,
    /// The address that the kernel would use as source.
    pub source: Option<Ipv4Addr>,
}
