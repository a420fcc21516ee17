//! What the kernel knows about the network: links, next hops, source addresses. Followed over netlink, never typed in.
//!
//! `kernel` asks and listens, `message` reads what it says, `mirror` keeps it and derives the view (both pure), `asks`
//! paces address resolution, `watch` is the task that ties them together.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

use lb_common::addr::Hop;

mod asks;
mod kernel;
pub mod link;
mod message;
mod mirror;
pub mod watch;

pub use link::{Attachment, Link, find};
pub use watch::Network;

/// How a backend's address is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Next hop's MAC and our device; unknown until the kernel has resolved it, or when it leaves through an
    /// interface that we are not attached to.
    pub hop: Hop,
    /// The address that the kernel would use as source.
    pub source: Option<Ipv4Addr>,
    /// Why the hop is not known, as a sentence; `None` exactly when it is known.
    pub problem: Option<String>,
}

/// What is known at one moment.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct NetworkView {
    /// By target address; a target that has not been looked up yet is absent.
    pub routes: BTreeMap<Ipv4Addr, Route>,
    /// Every interface of the host, by the kernel's index.
    pub links: BTreeMap<u32, Link>,
}

/// Why the kernel could not be asked about the network.
#[derive(thiserror::Error, Debug)]
pub enum NetworkError {
    /// No netlink socket.
    #[error("netlink: opening a socket failed: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused a request.
    #[error("netlink: {what} failed: {cause}")]
    Request {
        /// What was asked.
        what: &'static str,
        /// What the kernel said.
        #[source]
        cause: io::Error,
    },
    /// The kernel's notifications ended.
    #[error("netlink: the socket that carries the kernel's notifications was closed")]
    EventsEnded,
    /// No such interface.
    #[error("interface {name:?}: there is none of that name; this host has {}", known.join(", "))]
    NoSuchInterface {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
}
