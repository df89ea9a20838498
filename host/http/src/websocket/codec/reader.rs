//! Messages in what a peer sends: frames, their masks and fragments, without
//! I/O.
//!
//! A message that arrives in one piece is unmasked into a buffer of the thread,
//! so that an idle connection holds none. Pieces of a message are collected, up to
//! the limit. What a connection needs within a message and a frame is the thread's,
//! too, and is the connection's own only while it waits for more of them.

use netwasm_base::config::WebSocketLimits;
use netwasm_exchange::websocket::may_be_sent;

use crate::websocket::codec::agreed::Agreed;
use crate::websocket::codec::deflate::{Inflater, SharedDeflate, TOO_LARGE};
use crate::websocket::codec::fault::Fault;
use crate::websocket::codec::frame::{FrameHead, MOST_CONTROL, MOST_HEAD, Opcode, Side};
use crate::websocket::codec::mask::append_unmasked;
use crate::websocket::codec::utf8::TextCheck;

/// Maximum capacity that a thread's buffer keeps, in bytes.
const KEEP: usize = 256 << 10;

/// Bytes by which a compressed message may be longer than the limit, besides an
/// eighth of it: what cannot be compressed takes a little more room.
const COMPRESSED_MORE: usize = 1 << 10;

/// Text that is no UTF-8.
const NO_TEXT: Fault = Fault::invalid("the text is not UTF-8");

/// Buffers of a thread, empty between messages.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    plain: Vec<u8>,
    inflated: Vec<u8>,
    /// Bytes that have arrived for the connection that is being read.
    partial: Partial,
    pub(in crate::websocket) deflate: SharedDeflate,
}

/// Empties a buffer. Keeps some of its capacity.
fn clear(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEEP);
}

/// Message or control frame of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::websocket) enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// A close frame: its code, if it has one, and the reason.
    Close(Option<u16>, &'a str),
}

/// Reads the frames of a peer.
#[derive(Debug)]
pub(in crate::websocket) struct FrameReader {
    /// Side of the peer.
    from: Side,
    max_message: usize,
    max_frame: u64,
    inflater: Option<Box<Inflater>>,
    /// Bytes that have arrived, while the connection waits for more.
    kept: Option<Box<Partial>>,
    /// Grows with what arrives. See [`Self::progress`].
    progress: u64,
}

/// Parts of a message and of a frame.
#[derive(Debug, Default)]
struct Partial {
    /// Head of a frame that has not arrived whole.
    head: [u8; MOST_HEAD],
    head_length: usize,
    /// Frame whose payload is arriving, and the bytes of it that have arrived.
    frame: Option<(FrameHead, u64)>,
    /// Message of which a frame has begun.
    message: Option<Begun>,
    /// The message as far as it has arrived, without masks.
    collected: Vec<u8>,
    /// Payload of a control frame.
    control: Vec<u8>,
}

/// A message that has begun.
#[derive(Debug)]
struct Begun {
    is_text: bool,
    is_compressed: bool,
    text: TextCheck,
}

impl FrameReader {
    pub(in crate::websocket) fn new(limits: &WebSocketLimits, agreed: Option<Agreed>) -> Self {
        Self {
            from: Side::Client,
            max_message: limits.max_message,
            max_frame: limits.max_frame as u64,
            inflater: agreed.map(|agreed| Box::new(Inflater::new(agreed))),
            kept: None,
            progress: 0,
        }
    }

    /// Reads the frames of the peer on this side. It is the client otherwise.
    pub(in crate::websocket) fn of(self, from: Side) -> Self {
        Self { from, ..self }
    }

    /// Returns the side whose frames are read.
    pub(in crate::websocket) fn peer(&self) -> Side {
        self.from
    }

    /// Returns a number that grows with the payload of the message or frame under
    /// way, of which more must arrive; `None` if none is. Control frames within a
    /// message do not count.
    pub(in crate::websocket) fn progress(&self) -> Option<u64> {
        self.kept.is_some().then_some(self.progress)
    }

    /// Begins to read with the thread's buffers. [`Self::rest`] gives them back.
    pub(in crate::websocket) fn resume(&mut self, buffers: &mut Buffers) {
        if let Some(kept) = self.kept.take() {
            buffers.partial = *kept;
        }
    }

    /// Keeps what is under way, and leaves the thread's buffers to others.
    pub(in crate::websocket) fn rest(&mut self, buffers: &mut Buffers) {
        clear(&mut buffers.plain);
        clear(&mut buffers.inflated);
        if buffers.partial.is_under_way() {
            self.kept = Some(Box::new(std::mem::take(&mut buffers.partial)));
        }
    }

    /// Reads on in the input, and takes what it uses. Returns the next message or
    /// control frame that is whole, or `None` if more must arrive.
    ///
    /// # Errors
    /// Fails if the peer breaks a rule or exceeds a limit. Nothing more may be
    /// read then.
    pub(in crate::websocket) fn read<'a>(
        &'a mut self,
        input: &mut &[u8],
        buffers: &'a mut Buffers,
    ) -> Result<Option<Incoming<'a>>, Fault> {
        let Buffers {
            plain,
            inflated,
            partial,
            deflate,
        } = buffers;
        loop {
            let (head, arrived) = match partial.frame.take() {
                Some(frame) => frame,
                None => match partial.read_head(input, self.from, self.inflater.is_some())? {
                    Some(head) => {
                        self.begin(partial, &head)?;
                        (head, 0)
                    }
                    None => return Ok(None),
                },
            };
            let left = usize::try_from(head.length - arrived).unwrap_or(usize::MAX);
            let (piece, rest) = input.split_at(left.min(input.len()));
            *input = rest;
            let is_whole = piece.len() == left;
            let at_once = is_whole && arrived == 0;
            if partial.message.is_none() {
                self.progress += piece.len() as u64 + u64::from(is_whole);
            } else if !head.opcode.is_control() {
                // The end of a message is progress, even if its last frame is empty.
                self.progress += piece.len() as u64 + u64::from(is_whole && head.is_final);
            }
            if head.opcode.is_control() {
                append_unmasked(&mut partial.control, piece, head.key, arrived);
                if is_whole {
                    return control(head.opcode, &partial.control).map(Some);
                }
            } else if at_once
                && head.is_final
                && partial.collected.is_empty()
                && let Some(begun) = partial.message.take()
            {
                clear(plain);
                append_unmasked(plain, piece, head.key, 0);
                let message = self.unpack(&begun, plain, deflate, inflated)?;
                return begun.deliver(message).map(Some);
            } else {
                partial.collect(&head, arrived, piece)?;
                if is_whole
                    && head.is_final
                    && let Some(begun) = partial.message.take()
                {
                    *plain = std::mem::take(&mut partial.collected);
                    let message = self.unpack(&begun, plain, deflate, inflated)?;
                    return begun.deliver(message).map(Some);
                }
            }
            if !is_whole {
                partial.frame = Some((head, arrived + piece.len() as u64));
                return Ok(None);
            }
        }
    }

    /// Checks a frame whose head has arrived, and begins its message if it is the
    /// first.
    fn begin(&mut self, partial: &mut Partial, head: &FrameHead) -> Result<(), Fault> {
        if head.opcode.is_control() {
            partial.control.clear();
            return Ok(());
        }
        if head.length > self.max_frame {
            return Err(Fault::too_big("the frame is too large"));
        }
        let begins = head.opcode != Opcode::Continuation;
        match (&partial.message, begins) {
            (Some(_), true) => return Err(Fault::protocol("a message within another")),
            (None, false) => return Err(Fault::protocol("a fragment of no message")),
            (None, true) => {
                self.progress += 1;
                partial.message = Some(Begun {
                    is_text: head.opcode == Opcode::Text,
                    is_compressed: head.is_compressed,
                    text: TextCheck::default(),
                });
            }
            (Some(_), false) => {}
        }
        let compressed = partial.message.as_ref().is_some_and(|it| it.is_compressed);
        let most = match compressed {
            true => self
                .max_message
                .saturating_add(self.max_message / 8 + COMPRESSED_MORE),
            false => self.max_message,
        };
        let length = (partial.collected.len() as u64).saturating_add(head.length);
        if length > most as u64 {
            return Err(TOO_LARGE);
        }
        Ok(())
    }

    /// Returns a message without compression, from one of the thread's buffers.
    fn unpack<'a>(
        &mut self,
        begun: &Begun,
        plain: &'a [u8],
        deflate: &mut SharedDeflate,
        inflated: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], Fault> {
        match &mut self.inflater {
            Some(inflater) if begun.is_compressed => {
                clear(inflated);
                inflater.decompress(plain, self.max_message, deflate, inflated)?;
                Ok(inflated)
            }
            _ => Ok(plain),
        }
    }
}

impl Begun {
    /// Returns a message that is whole.
    fn deliver<'a>(&self, message: &'a [u8]) -> Result<Incoming<'a>, Fault> {
        if !self.is_text {
            return Ok(Incoming::Binary(message));
        }
        let text = simdutf8::basic::from_utf8(message).map_err(|_| NO_TEXT)?;
        Ok(Incoming::Text(text))
    }
}

impl Partial {
    /// True if more must arrive of a message or a frame.
    fn is_under_way(&self) -> bool {
        self.message.is_some() || self.frame.is_some() || self.head_length > 0
    }

    /// Reads the head of a frame; `None` if more must arrive.
    fn read_head(
        &mut self,
        input: &mut &[u8],
        from: Side,
        compresses: bool,
    ) -> Result<Option<FrameHead>, Fault> {
        if self.head_length == 0 {
            match FrameHead::parse(input, from, compresses)? {
                Some((head, length)) => {
                    *input = input.get(length..).unwrap_or_default();
                    return Ok(Some(head));
                }
                None if input.is_empty() => return Ok(None),
                None => {}
            }
        }
        // It arrives in pieces, byte by byte at worst.
        while let Some((&byte, rest)) = input.split_first() {
            if let Some(place) = self.head.get_mut(self.head_length) {
                *place = byte;
            }
            self.head_length += 1;
            *input = rest;
            let head = self.head.get(..self.head_length).unwrap_or_default();
            if let Some((head, _)) = FrameHead::parse(head, from, compresses)? {
                self.head_length = 0;
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    /// Adds a piece of a frame to its message. An invalid text fails at once.
    fn collect(&mut self, head: &FrameHead, arrived: u64, piece: &[u8]) -> Result<(), Fault> {
        let before = self.collected.len();
        append_unmasked(&mut self.collected, piece, head.key, arrived);
        let added = self.collected.get(before..).unwrap_or_default();
        match &mut self.message {
            Some(begun) if begun.is_text && !begun.is_compressed => match begun.text.goes_on(added)
            {
                true => Ok(()),
                false => Err(NO_TEXT),
            },
            _ => Ok(()),
        }
    }
}

/// Returns a control frame that is whole.
fn control(opcode: Opcode, payload: &[u8]) -> Result<Incoming<'_>, Fault> {
    debug_assert!(payload.len() <= MOST_CONTROL);
    match opcode {
        Opcode::Ping => Ok(Incoming::Ping(payload)),
        Opcode::Close => match payload {
            [] => Ok(Incoming::Close(None, "")),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !may_be_sent(code) {
                    return Err(Fault::protocol("code that no close frame has"));
                }
                let reason = std::str::from_utf8(reason);
                let reason = reason.map_err(|_| Fault::invalid("the reason is not UTF-8"))?;
                Ok(Incoming::Close(Some(code), reason))
            }
            [_] => Err(Fault::protocol("a close frame of one byte")),
        },
        _ => Ok(Incoming::Pong),
    }
}

#[cfg(test)]
mod tests;
