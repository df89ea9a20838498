//! Masking of payloads: RFC 6455, section 5.3.

/// Bytes that are masked at once. The compiler makes vector instructions of it.
const BLOCK: usize = 32;

/// Appends `data` without its mask. `done` is the number of bytes of the frame's
/// payload that came before.
pub(super) fn append_unmasked(out: &mut Vec<u8>, data: &[u8], key: [u8; 4], done: u64) {
    let begin = out.len();
    out.extend_from_slice(data);
    apply(out.get_mut(begin..).unwrap_or_default(), key, done);
}

/// Masks or unmasks bytes in place.
fn apply(data: &mut [u8], mut key: [u8; 4], done: u64) {
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
}
