//! The byte stream that the test server sends: every byte follows from its position alone.

/// Fills a buffer with the stream's bytes from a position on.
pub fn fill(position: u64, buffer: &mut [u8]) {
    let mut at = position;
    let mut rest = buffer;
    while !rest.is_empty() {
        let bytes = word(at / 8).to_le_bytes();
        let from = usize::try_from(at % 8).unwrap_or_default();
        let (now, later) = rest.split_at_mut(rest.len().min(bytes.len() - from));
        now.copy_from_slice(&bytes[from..from + now.len()]);
        at += now.len() as u64;
        rest = later;
    }
}

/// The stream's first `size` bytes.
pub fn prefix(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fill(0, &mut bytes);
    bytes
}

/// Where bytes first differ from the stream's, when they do.
pub fn first_difference(position: u64, bytes: &[u8]) -> Option<u64> {
    let mut expected = vec![0; bytes.len()];
    fill(position, &mut expected);
    if expected == bytes {
        return None;
    }
    (position..).zip(expected.iter().zip(bytes)).find(|(_, (expected, is))| expected != is).map(|(at, _)| at)
}

/// `SplitMix64`'s output function: neighbouring words have nothing in common, so no shifted or repeated block passes.
fn word(index: u64) -> u64 {
    let mut word = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_of_the_stream_is_the_same_stream() {
        let whole = prefix(1_000);
        for (from, size) in [(0, 1), (3, 8), (8, 8), (13, 987), (999, 1), (1_000, 0)] {
            let mut cut = vec![0; size];
            fill(from as u64, &mut cut);
            assert_eq!(cut, whole[from..from + size], "{size} bytes from {from}");
        }
    }

    #[test]
    fn one_wrong_byte_is_found() {
        let mut bytes = prefix(100);
        assert_eq!(first_difference(0, &bytes), None);
        bytes[42] ^= 1;
        assert_eq!(first_difference(0, &bytes), Some(42));
        assert_eq!(first_difference(1, &bytes), Some(1), "a shifted stream is another stream");
    }
}
