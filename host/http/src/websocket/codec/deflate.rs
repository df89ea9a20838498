//! Compression of messages: permessage-deflate, RFC 7692.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::websocket::codec::agreed::{Agreed, BITS};
use crate::websocket::codec::fault::Fault;

/// End of each flushed block, which is not sent: RFC 7692, section 7.2.1.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Smallest message that is compressed, in bytes.
pub(in crate::websocket) const LEAST: usize = 64;

/// Least and largest growth of a buffer for decompressed bytes, in bytes.
const GROWTH: std::ops::RangeInclusive<usize> = 4 << 10..=256 << 10;

/// Message after decompression exceeds the limit.
pub(in crate::websocket) const TOO_LARGE: Fault = Fault::too_big("the message is too large");

/// Compressors of a thread, for connections that keep nothing of a message for the
/// next.
#[derive(Default)]
pub(in crate::websocket) struct SharedDeflate {
    /// By window.
    compress: [Option<Box<Compress>>; 7],
    decompress: Option<Box<Decompress>>,
}

impl std::fmt::Debug for SharedDeflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedDeflate").finish_non_exhaustive()
    }
}

/// Compressors of a thread and a buffer for their output, empty between messages.
#[derive(Debug, Default)]
pub(crate) struct Packing {
    pub(in crate::websocket) deflate: SharedDeflate,
    pub(in crate::websocket) packed: Vec<u8>,
}

/// Compresses the messages of a connection.
#[derive(Debug)]
pub(in crate::websocket) struct Deflater {
    agreed: Agreed,
    /// Made for the first message, and kept if its window is.
    own: Option<Box<Compress>>,
}

impl Deflater {
    pub(in crate::websocket) fn new(agreed: Agreed) -> Self {
        Self { agreed, own: None }
    }

    /// Appends a message, compressed.
    pub(in crate::websocket) fn compress(
        &mut self,
        data: &[u8],
        shared: &mut SharedDeflate,
        out: &mut Vec<u8>,
    ) {
        if data.is_empty() {
            // RFC 7692, section 7.2.3.6.
            return out.push(0);
        }
        let bits = self.agreed.bits;
        let make = || {
            Box::new(Compress::new_with_window_bits(
                Compression::fast(),
                false,
                bits,
            ))
        };
        let compress = match self.agreed.own_is_fresh {
            true => {
                let place = usize::from(bits.saturating_sub(*BITS.start()));
                let Some(kept) = shared.compress.get_mut(place) else {
                    return;
                };
                let kept = kept.get_or_insert_with(make);
                kept.reset();
                kept
            }
            false => self.own.get_or_insert_with(make),
        };
        compress_all(compress, data, out);
    }
}

fn compress_all(compress: &mut Compress, mut data: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.reserve(data.len() / 2 + LEAST);
    loop {
        let before = compress.total_in();
        // It fails only if called in a wrong state.
        let _ = compress.compress_vec(data, out, FlushCompress::Sync);
        let used = usize::try_from(compress.total_in() - before).unwrap_or(usize::MAX);
        data = data.get(used..).unwrap_or_default();
        if data.is_empty() && out.len() < out.capacity() {
            break;
        }
        out.reserve(*GROWTH.start());
    }
    let tail = out.get(begin..).is_some_and(|it| it.ends_with(&TAIL));
    if tail {
        out.truncate(out.len() - TAIL.len());
    }
}

/// Decompresses the messages of a connection.
#[derive(Debug)]
pub(in crate::websocket) struct Inflater {
    agreed: Agreed,
    /// Made for the first message, and kept if its window is.
    own: Option<Box<Decompress>>,
}

impl Inflater {
    pub(in crate::websocket) fn new(agreed: Agreed) -> Self {
        Self { agreed, own: None }
    }

    /// Decompresses a message of up to `most` bytes into an empty buffer.
    ///
    /// # Errors
    /// Fails if the message is larger, or is not compressed data.
    pub(in crate::websocket) fn decompress(
        &mut self,
        data: &[u8],
        most: usize,
        shared: &mut SharedDeflate,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if data.is_empty() {
            // The tail alone is no block.
            return Ok(());
        }
        let make = || Box::new(Decompress::new(false));
        let decompress = match self.agreed.their_is_fresh {
            true => {
                let kept = shared.decompress.get_or_insert_with(make);
                kept.reset(false);
                kept
            }
            false => self.own.get_or_insert_with(make),
        };
        decompress_all(decompress, data, most, out)?;
        decompress_all(decompress, &TAIL, most, out)
    }
}

fn decompress_all(
    decompress: &mut Decompress,
    mut data: &[u8],
    most: usize,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    const INVALID: Fault = Fault::invalid("the message is not compressed data");
    loop {
        if out.len() == out.capacity() {
            let growth = out.len().clamp(*GROWTH.start(), *GROWTH.end());
            out.reserve_exact(growth.min(most.saturating_add(1)));
        }
        let (read, written) = (decompress.total_in(), out.len());
        let status = decompress.decompress_vec(data, out, FlushDecompress::Sync);
        let status = status.map_err(|_| INVALID)?;
        let used = usize::try_from(decompress.total_in() - read).unwrap_or(usize::MAX);
        data = data.get(used..).unwrap_or_default();
        if out.len() > most {
            return Err(TOO_LARGE);
        }
        match status {
            // A last block may be followed by others: RFC 7692, section 7.2.3.5.
            Status::StreamEnd => {
                decompress.reset(false);
                if data.is_empty() {
                    return Ok(());
                }
            }
            Status::Ok | Status::BufError if out.len() == out.capacity() => {}
            Status::Ok | Status::BufError if data.is_empty() => return Ok(()),
            Status::Ok | Status::BufError if used == 0 && out.len() == written => {
                return Err(INVALID);
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::codec::agreed::MOST_BITS;

    fn agreed(fresh: bool, bits: u8) -> Agreed {
        Agreed {
            own_is_fresh: fresh,
            their_is_fresh: fresh,
            bits,
            tells_bits: bits < MOST_BITS,
        }
    }

    #[test]
    fn messages_come_back_as_they_were_with_and_without_a_window_that_is_kept() {
        for agreed in [agreed(true, 15), agreed(false, 15), agreed(false, 9)] {
            let mut shared = SharedDeflate::default();
            let (mut deflater, mut inflater) = (Deflater::new(agreed), Inflater::new(agreed));
            let mut sizes = Vec::new();
            let long = b"what is said twice takes less room the second time; ".repeat(3000);
            for message in [&long[..500], &long[..500], &[], &long[..], &[7; 70_000]] {
                let (mut packed, mut back) = (Vec::new(), Vec::new());
                deflater.compress(message, &mut shared, &mut packed);
                sizes.push(packed.len());
                let result = inflater.decompress(&packed, 1 << 20, &mut shared, &mut back);
                assert_eq!(result, Ok(()), "{agreed:?}");
                assert!(back == message, "{agreed:?}: {} bytes", message.len());
            }
            // A window that is kept makes the second one shorter.
            assert_eq!(sizes[1] < sizes[0], !agreed.own_is_fresh, "{sizes:?}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let mut shared = SharedDeflate::default();
        let agreed = agreed(true, 15);
        let mut bomb = Vec::new();
        Deflater::new(agreed).compress(&vec![0; 8 << 20], &mut shared, &mut bomb);
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        let (mut inflater, mut out) = (Inflater::new(agreed), Vec::new());
        let most = 1 << 20;
        let result = inflater.decompress(&bomb, most, &mut shared, &mut out);
        assert_eq!(result, Err(TOO_LARGE));
        assert!(out.capacity() <= 2 * most, "{}", out.capacity());
    }

    #[test]
    fn what_is_no_compressed_data_is_refused_and_a_last_block_is_taken() {
        let mut shared = SharedDeflate::default();
        let mut inflater = Inflater::new(agreed(true, 15));
        let mut out = Vec::new();
        let wrong = inflater.decompress(&[0xff; 20], 1000, &mut shared, &mut out);
        assert_eq!(wrong.expect_err("no data").code, 1007);
        // RFC 7692, section 7.2.3.4: a last block, and an empty one after it.
        let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        out.clear();
        let result = inflater.decompress(&last, 1000, &mut shared, &mut out);
        assert_eq!((result, &out[..]), (Ok(()), &b"Hello"[..]));
        // RFC 7692, section 7.2.3.2: two blocks.
        let two = [
            0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
        ];
        out.clear();
        let result = inflater.decompress(&two, 1000, &mut shared, &mut out);
        assert_eq!((result, &out[..]), (Ok(()), &b"Hello"[..]));
    }
}
