//! What `parse` learnt about a frame: no bytes, only meaning.

use lb_common::addr::Hop;
use lb_common::hash::FlowKey;

use crate::headers::TcpFlags;

/// An IPv4 packet with TCP or UDP, not a fragment, without options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Its 5-tuple.
    pub flow: FlowKey,
    /// Flags, if it is TCP.
    pub tcp_flags: TcpFlags,
    /// Time to live.
    pub ttl: u8,
    /// Bytes of the IP packet, as its header says.
    pub length: u16,
    /// Whether the lengths in the headers contradict each other or the frame.
    pub is_damaged: bool,
    /// The Ethernet header's receiver, with device 0.
    pub to: Hop,
    /// The Ethernet header's sender, with device 0.
    pub from: Hop,
}
