//! Sends ICMP echo requests itself, so that the tests need no `ping` command.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, Ipv4HeaderSlice};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv, sendto, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::netns;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
const PAYLOAD: &[u8] = b"is anybody there";

/// Sends one echo request from a namespace and waits for the answer to it.
///
/// `interface`: where a link-local IPv6 address is meant to be.
pub fn ping(namespace: &str, target: IpAddr, interface: &str, sequence: u16) -> Result<()> {
    netns::run(namespace, || ping_from_here(target, interface, sequence))?
        .with_context(|| format!("no echo of {target} in {namespace}"))
}

fn ping_from_here(target: IpAddr, interface: &str, sequence: u16) -> Result<()> {
    let echo = IcmpEchoHeader { id: std::process::id().to_le_bytes().map(u16::from).iter().sum(), seq: sequence };
    let (family, protocol) = match target {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).context("no raw socket")?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
    match target {
        IpAddr::V4(address) => {
            let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), PAYLOAD);
            let to = SockaddrIn::from(SocketAddrV4::new(address, 0));
            sendto(socket.as_raw_fd(), &[&header.to_bytes()[..], PAYLOAD].concat(), &to, MsgFlags::empty())?;
        }
        IpAddr::V6(address) => {
            // The kernel fills in the checksum of ICMPv6.
            let header = etherparse::Icmpv6Header::new(Icmpv6Type::EchoRequest(echo));
            let scope = if address.is_unicast_link_local() { if_nametoindex(interface)? } else { 0 };
            let to = SockaddrIn6::from(SocketAddrV6::new(address, 0, 0, scope));
            sendto(socket.as_raw_fd(), &[&header.to_bytes()[..], PAYLOAD].concat(), &to, MsgFlags::empty())?;
        }
    }
    let start = Instant::now();
    let mut buffer = [0; 2_048];
    while start.elapsed() < PATIENCE {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(count) if is_answer(target, &buffer[..count], echo) => return Ok(()),
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("nothing within {PATIENCE:?}")
}

fn is_answer(target: IpAddr, received: &[u8], echo: IcmpEchoHeader) -> bool {
    match target {
        IpAddr::V4(address) => {
            let Ok(ip) = Ipv4HeaderSlice::from_slice(received) else { return false };
            let Ok(icmp) = Icmpv4Slice::from_slice(&received[ip.slice().len()..]) else { return false };
            ip.source_addr() == address && icmp.icmp_type() == Icmpv4Type::EchoReply(echo) && icmp.payload() == PAYLOAD
        }
        // A raw IPv6 socket hands over no IPv6 header.
        IpAddr::V6(_) => Icmpv6Slice::from_slice(received)
            .is_ok_and(|icmp| icmp.icmp_type() == Icmpv6Type::EchoReply(echo) && icmp.payload() == PAYLOAD),
    }
}
