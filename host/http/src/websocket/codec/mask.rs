//! Masking of payloads: RFC 6455, section 5.3.

use std::fmt;

use aws_lc_rs::rand;

/// Bytes that are masked at once. The compiler makes vector instructions of it.
const BLOCK: usize = 32;

/// Bytes of keys that are made at once.
const POOL: usize = 64;

/// Keys of a client, which nobody can foresee.
#[derive(Default)]
pub(in crate::websocket) struct MaskKeys {
    /// Random bytes that no key was made of.
    left: Vec<u8>,
}

impl fmt::Debug for MaskKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskKeys").finish_non_exhaustive()
    }
}

impl MaskKeys {
    /// Returns the next key; `None` if the system has no random numbers.
    pub(in crate::websocket) fn next(&mut self) -> Option<[u8; 4]> {
        if self.left.is_empty() {
            let mut fresh = [0; POOL];
            rand::fill(&mut fresh).ok()?;
            self.left.extend_from_slice(&fresh);
        }
        let rest = self.left.len().checked_sub(4)?;
        let key = self.left.get(rest..)?.first_chunk().copied();
        self.left.truncate(rest);
        key
    }
}

/// Appends `data` without its mask. `done` is the number of bytes of the frame's
/// payload that came before.
pub(super) fn append_unmasked(out: &mut Vec<u8>, data: &[u8], key: [u8; 4], done: u64) {
    let begin = out.len();
    out.extend_from_slice(data);
    apply(out.get_mut(begin..).unwrap_or_default(), key, done);
}

/// Masks or unmasks bytes in place, `done` bytes after the begin of the payload.
pub(in crate::websocket) fn apply(data: &mut [u8], mut key: [u8; 4], done: u64) {
    if key == [0; 4] {
        return;
    }
    // The rest of a division by 4 is small.
    key.rotate_left((done % 4) as usize);
    let mut pattern = [0; BLOCK];
    for (place, byte) in pattern.iter_mut().zip(key.iter().cycle()) {
        *place = *byte;
    }
    let (blocks, rest) = data.as_chunks_mut::<BLOCK>();
    for block in blocks {
        for (byte, mask) in block.iter_mut().zip(&pattern) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in rest.iter_mut().zip(&pattern) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_unmasked_alike_however_it_is_cut() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        // RFC 6455, section 5.7.
        let mut hello = Vec::new();
        append_unmasked(&mut hello, &[0x7f, 0x9f, 0x4d, 0x51, 0x58], key, 0);
        assert_eq!(hello, b"Hello");
        let data: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let expected: Vec<u8> = data
            .iter()
            .enumerate()
            .map(|(place, byte)| byte ^ key[place % 4])
            .collect();
        for cut in 0..100 {
            let (first, second) = data.split_at(cut);
            let mut out = Vec::new();
            append_unmasked(&mut out, first, key, 0);
            append_unmasked(&mut out, second, key, cut as u64);
            assert_eq!(out, expected, "cut at {cut}");
        }
    }

    #[test]
    fn each_frame_has_a_key_of_its_own() {
        let mut keys = MaskKeys::default();
        let made: Vec<_> = (0..40).map(|_| keys.next().expect("a key")).collect();
        let distinct: std::collections::BTreeSet<_> = made.iter().collect();
        // Two of them may be equal by chance, once in some millions of runs.
        assert!(distinct.len() > 37, "{made:?}");
    }
}
