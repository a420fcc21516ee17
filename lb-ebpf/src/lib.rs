//! The datapath of Weir: everything that happens to one packet, as a library that runs in the kernel and on the host.
//!
//! [`forward::forward`] is the whole story: parse, find the service, select a backend, rewrite, count the verdict. It
//! is generic over [`frame::Frame`] (the bytes) and [`tables::Tables`] (the maps, the clock, the dice), and knows
//! nothing of aya. The kernel's side of both is in the binary (`context.rs`, `maps.rs`), the tests' and the agent's is
//! in memory. Both must agree byte for byte, and a test holds them to it.
//!
//! *Decide, then write*: [`rewrite`] is the only module that changes a frame, and nothing passes after it began.
//!
//! Every function on the packet's way is `#[inline(always)]`, so that the verifier and the 512-byte stack see one.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics),
    expect(internal_features, reason = "BPF has no other way to an atomic operation: see word.rs")
)]

pub mod checksum;
pub mod forward;
pub mod frame;
pub mod headers;
pub mod index;
pub mod packet;
pub mod parse;
pub mod phase;
pub mod place;
pub mod ports;
pub mod rewrite;
pub mod select;
pub mod session;
pub mod tables;
pub mod word;
