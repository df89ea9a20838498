//! Frames that the host has to know besides `h2`: the server's first SETTINGS,
//! and the last stream that a GOAWAY names.

/// Length of a frame's header in bytes: RFC 9113, section 4.1.
const HEADER: usize = 9;

const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;

/// Watches the frames of a server. Malformed ones are for `h2` to refuse.
#[derive(Debug, Default)]
pub(super) struct FrameWatch {
    header: [u8; HEADER],
    /// Bytes of the header that have arrived.
    have: usize,
    /// Bytes of the payload that have yet to arrive.
    left: usize,
    /// The first bytes of a GOAWAY's payload, and their number.
    named: ([u8; 4], usize),
    has_settings: bool,
    last: Option<u32>,
}

impl FrameWatch {
    /// True if the server's SETTINGS have arrived.
    pub(super) fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// Returns the last stream that the server processes, once it has said
    /// GOAWAY.
    pub(super) fn last(&self) -> Option<u32> {
        self.last
    }

    /// Takes what has arrived.
    pub(super) fn feed(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            if self.have < HEADER {
                let (now, rest) = input.split_at(input.len().min(HEADER - self.have));
                for (place, byte) in self.header.iter_mut().skip(self.have).zip(now) {
                    *place = *byte;
                }
                self.have += now.len();
                input = rest;
                if self.have < HEADER {
                    return;
                }
                let [high, middle, low, ..] = self.header;
                self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.named = ([0; 4], 0);
            }
            let (now, rest) = input.split_at(input.len().min(self.left));
            if self.kind() == GOAWAY {
                let (bytes, count) = &mut self.named;
                for (place, byte) in bytes.iter_mut().skip(*count).zip(now) {
                    *place = *byte;
                    *count += 1;
                }
            }
            self.left -= now.len();
            input = rest;
            if self.left == 0 {
                self.end_frame();
            }
        }
    }

    fn kind(&self) -> u8 {
        let [_, _, _, kind, ..] = self.header;
        kind
    }

    fn end_frame(&mut self) {
        self.have = 0;
        match (self.kind(), self.named) {
            (SETTINGS, _) => self.has_settings = true,
            (GOAWAY, (bytes, 4)) => {
                let named = u32::from_be_bytes(bytes) & (u32::MAX >> 1);
                // A later one may name a lower stream.
                self.last = Some(self.last.map_or(named, |last| last.min(named)));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_in_pieces_of_any_size() {
        let input = [
            &b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"[..],
            b"\0\0\x02\0\0\0\0\0\x01ab",
            b"\0\0\x0a\x07\0\0\0\0\0\x80\0\0\x05\0\0\0\0no",
            b"\0\0\0\x04\x01\0\0\0\0",
            b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x03\0\0\0\0",
        ];
        let all = input.concat();
        for size in 1..all.len() {
            let mut watch = FrameWatch::default();
            for piece in all.chunks(size) {
                watch.feed(piece);
            }
            assert_eq!(
                (watch.has_settings(), watch.last()),
                (true, Some(3)),
                "{size}"
            );
        }
        let mut watch = FrameWatch::default();
        watch.feed(&all[..14]);
        assert!(!watch.has_settings());
        watch.feed(&all[14..15]);
        assert_eq!((watch.has_settings(), watch.last()), (true, None));
    }
}
