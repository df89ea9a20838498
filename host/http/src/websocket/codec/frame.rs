//! Heads of frames: RFC 6455, section 5.2.

use crate::websocket::codec::fault::Fault;

/// Maximum length of a frame's head in bytes, with a mask.
pub(in crate::websocket) const MOST_HEAD: usize = 14;

/// Maximum payload of a control frame in bytes: RFC 6455, section 5.5.
pub(in crate::websocket) const MOST_CONTROL: usize = 125;

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::websocket) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// True if the frame may come between those of a message.
    pub(in crate::websocket) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Head of a peer's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::websocket) struct FrameHead {
    /// True for the last frame of a message.
    pub(in crate::websocket) is_final: bool,
    /// True if the message is compressed: RFC 7692, section 6.
    pub(in crate::websocket) is_compressed: bool,
    pub(in crate::websocket) opcode: Opcode,
    /// Key of the mask; zeros for a server's frame, which has none.
    pub(in crate::websocket) key: [u8; 4],
    /// Length of the payload in bytes.
    pub(in crate::websocket) length: u64,
}

impl FrameHead {
    /// Reads a head at the start of what a side has sent. Returns it with its own
    /// length, or `None` if more must arrive. `compresses` is true if messages may
    /// be compressed.
    ///
    /// # Errors
    /// Fails if that side must not send this.
    pub(in crate::websocket) fn parse(
        input: &[u8],
        from: Side,
        compresses: bool,
    ) -> Result<Option<(Self, usize)>, Fault> {
        let [first, second, rest @ ..] = input else {
            return Ok(None);
        };
        let (is_final, is_compressed) = (first & 0x80 != 0, first & 0x40 != 0);
        let opcode = Opcode::of(first & 0x0f).ok_or(Fault::protocol("unknown opcode"))?;
        let starts = matches!(opcode, Opcode::Text | Opcode::Binary);
        if first & 0x30 != 0 || (is_compressed && !(compresses && starts)) {
            return Err(Fault::protocol("reserved bit"));
        }
        match (from, second & 0x80 != 0) {
            (Side::Client, false) => {
                return Err(Fault::protocol("a client's frame without a mask"));
            }
            (Side::Server, true) => {
                return Err(Fault::protocol("a server's frame with a mask"));
            }
            _ => {}
        }
        let short = second & 0x7f;
        if opcode.is_control() && (!is_final || short as usize > MOST_CONTROL) {
            return Err(Fault::protocol("control frame that is long or cut"));
        }
        let (length, rest) = match short {
            126 => match rest.split_first_chunk() {
                Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((bytes, rest)) => (u64::from_be_bytes(*bytes), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        let least = match short {
            126 => 126,
            127 => 1 << 16,
            _ => 0,
        };
        if length < least || length > i64::MAX as u64 {
            return Err(Fault::protocol("length in a form that is too long"));
        }
        let (key, rest) = match from {
            Side::Client => match rest.split_first_chunk() {
                Some((key, rest)) => (*key, rest),
                None => return Ok(None),
            },
            Side::Server => ([0; 4], rest),
        };
        let head = Self {
            is_final,
            is_compressed,
            opcode,
            key,
            length,
        };
        Ok(Some((head, input.len() - rest.len())))
    }
}

/// Head of a frame that the host sends, which is final.
#[derive(Clone, Copy, Debug)]
pub(in crate::websocket) struct OwnHead {
    bytes: [u8; MOST_HEAD],
    length: usize,
}

impl OwnHead {
    /// Returns the head of a server's frame with a payload of so many bytes.
    pub(in crate::websocket) fn new(opcode: Opcode, is_compressed: bool, length: usize) -> Self {
        let mut bytes = [0; MOST_HEAD];
        let first = 0x80 | if is_compressed { 0x40 } else { 0 } | opcode.bits();
        let head = match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ ..=125), _) => {
                [bytes[0], bytes[1]] = [first, length];
                2
            }
            (_, Ok(length)) => {
                let [high, low] = length.to_be_bytes();
                [bytes[0], bytes[1], bytes[2], bytes[3]] = [first, 126, high, low];
                4
            }
            _ => {
                [bytes[0], bytes[1]] = [first, 127];
                for (place, byte) in bytes.iter_mut().skip(2).zip((length as u64).to_be_bytes()) {
                    *place = byte;
                }
                10
            }
        };
        Self {
            bytes,
            length: head,
        }
    }

    /// Returns the head of a client's frame, whose payload has this mask.
    pub(in crate::websocket) fn masked(mut self, key: [u8; 4]) -> Self {
        self.bytes[1] |= 0x80;
        for (place, byte) in self.bytes.iter_mut().skip(self.length).zip(key) {
            *place = byte;
        }
        self.length += key.len();
        self
    }

    /// Returns the bytes of the head.
    pub(in crate::websocket) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &[u8]) -> Result<Option<(FrameHead, usize)>, Fault> {
        FrameHead::parse(input, Side::Client, false)
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let key = [1, 2, 3, 4];
        for (length, mut form) in [
            (125, vec![0x82, 0x80 | 125]),
            (126, vec![0x82, 0xfe, 0, 126]),
            (1 << 16, vec![0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            form.extend(key);
            for end in 0..form.len() {
                assert_eq!(parse(&form[..end]), Ok(None), "{length}: {end} bytes");
            }
            let whole = form.len();
            form.push(0xff);
            let head = FrameHead {
                is_final: true,
                is_compressed: false,
                opcode: Opcode::Binary,
                key,
                length,
            };
            assert_eq!(parse(&form), Ok(Some((head, whole))));
        }
    }

    #[test]
    fn what_a_client_must_not_send_is_refused() {
        for wrong in [
            &[0x83, 0x80][..],
            &[0x8b, 0x80],
            &[0xa1, 0x80],
            &[0x91, 0x80],
            &[0xc1, 0x80],
            // No mask.
            &[0x81, 0x05],
            // A ping that is cut, and one that is long.
            &[0x09, 0x80],
            &[0x89, 0xfe],
            // Lengths that have a shorter form, and one with a sign.
            &[0x81, 0xfe, 0, 125],
            &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            &[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(parse(wrong).expect_err("wrong").code, 1002, "{wrong:x?}");
        }
        let compressed = [0xc1, 0x80, 0, 0, 0, 0];
        let parse = |input: &[u8]| FrameHead::parse(input, Side::Client, true);
        assert!(parse(&compressed).is_ok_and(|it| it.is_some()));
        assert!(parse(&[0xc0, 0x80]).is_err());
        assert!(parse(&[0xc9, 0x80]).is_err());
    }

    #[test]
    fn a_server_masks_nothing_and_a_client_masks_all() {
        let parse = |input: &[u8]| FrameHead::parse(input, Side::Server, false);
        let (head, length) = parse(&[0x81, 5, b'H']).expect("good").expect("whole");
        assert_eq!((head.length, head.key, length), (5, [0; 4], 2));
        let masked = [0x81, 0x85, 1, 2, 3, 4];
        assert_eq!(parse(&masked).expect_err("masked").code, 1002);
        let head = OwnHead::new(Opcode::Text, false, 5).masked([1, 2, 3, 4]);
        assert_eq!(head.bytes(), masked);
        let head = OwnHead::new(Opcode::Binary, true, 1 << 16).masked([1, 2, 3, 4]);
        assert_eq!(
            head.bytes(),
            [0xc2, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]
        );
    }

    #[test]
    fn a_servers_head_has_the_shortest_length() {
        let head = |length| OwnHead::new(Opcode::Text, false, length).bytes().to_vec();
        assert_eq!(head(5), [0x81, 5]);
        assert_eq!(head(126), [0x81, 126, 0, 126]);
        assert_eq!(head(65535), [0x81, 126, 0xff, 0xff]);
        assert_eq!(head(65536), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(OwnHead::new(Opcode::Ping, false, 0).bytes(), [0x89, 0]);
        assert_eq!(OwnHead::new(Opcode::Binary, true, 1).bytes(), [0xc2, 1]);
    }
}
