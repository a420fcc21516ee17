//! The contract between Weir's datapath and its agent: map keys and values, ids, reasons, limits, names, the flow hash.
//!
//! Both sides include this crate, so a fact stands here once or it drifts. It is `no_std`, has no dependency (aya's
//! `Pod` markers are behind `user`) and no behaviour beyond conversion and hashing.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod addr;
pub mod hash;
pub mod limits;
pub mod names;
pub mod reason;
pub mod session;

/// Version of everything in [`abi`], [`session`], [`names`] and [`limits`] that a pinned map or program of an earlier agent relies on.
///
/// An agent that finds pins of another version refuses to adopt them. Raise it with every change of layout or meaning.
pub const ABI_VERSION: u32 = 1;
