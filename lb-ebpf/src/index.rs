//! The session indexes: where a tuple's word may stand, and the tag that tells it from its neighbours.

use lb_common::abi::Settings;
use lb_common::hash::FlowHash;
use lb_common::limits::INDEX_WAYS;

use crate::tables::Line;
use crate::word::Word;

/// Words in a bucket.
#[expect(clippy::cast_possible_truncation, reason = "eight")]
pub const WAYS: u32 = INDEX_WAYS as u32;
/// Places where a tuple's word may stand.
pub const PLACES: u32 = 2 * WAYS;

/// The two buckets where a tuple's word may stand, and its tag.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    /// The bucket that is filled first.
    pub first: u32,
    /// The bucket that takes what the first has no room for.
    pub second: u32,
    /// Bits of the hash that the buckets do not follow from; never 0.
    pub tag: u32,
}

/// The word at `position`, which stands in `line`.
#[inline(always)]
pub fn at(line: Option<&Line>, position: u32) -> Option<&Word> {
    line.map(|line| &line[(position % WAYS) as usize])
}

impl Home {
    /// Of a tuple with that hash.
    #[expect(clippy::cast_possible_truncation, reason = "different bits of the hash for bucket and tag")]
    #[inline(always)]
    pub const fn new(hash: FlowHash, settings: &Settings) -> Self {
        let mixed = hash.mixed();
        let tag = (mixed >> 32) as u32 | 1;
        let first = mixed as u32;
        let second = first ^ (tag.wrapping_mul(0x5bd1_e995) >> 8);
        Self { first: first & settings.bucket_mask, second: second & settings.bucket_mask, tag }
    }

    /// The `i`th of [`PLACES`] positions where the word may stand.
    #[inline(always)]
    pub const fn position(self, i: u32) -> u32 {
        let bucket = if i < WAYS { self.first } else { self.second };
        bucket * WAYS + i % WAYS
    }
}
