//! Identities of traces and spans: W3C Trace Context.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

/// Identity of a span: `traceparent` of W3C Trace Context, section 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace; not all zero.
    pub trace: [u8; 16],
    /// The span; not all zero.
    pub span: [u8; 8],
    /// True if the trace is recorded.
    pub sampled: bool,
}

impl Context {
    /// Reads a `traceparent`; `None` if it is malformed (section 3.2.2). Of
    /// later versions, the parts of version 00 are read, as section 3.2.4 wants
    /// it.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = text.splitn(5, |byte| *byte == b'-');
        let [version] = hexadecimal(parts.next()?)?;
        let trace: [u8; 16] = hexadecimal(parts.next()?)?;
        let span: [u8; 8] = hexadecimal(parts.next()?)?;
        let [flags] = hexadecimal(parts.next()?)?;
        let known = version < 0xff && (version > 0 || parts.next().is_none());
        let valid = known && trace != [0; 16] && span != [0; 8];
        valid.then_some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }

    /// Returns the identity of a span within this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span: random().to_be_bytes(),
            ..*self
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{}-{}-{flags:02x}", Hex(&self.trace), Hex(&self.span))
    }
}

/// Bytes as hexadecimal digits in lower case.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Reads so many bytes of two hexadecimal digits each, in lower case.
fn hexadecimal<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Returns a random number that is not zero. Traces need numbers that nobody
/// else picks, not ones that nobody can guess.
pub(super) fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish());
    }
    STATE.with(|state| {
        loop {
            // SplitMix64, by Sebastiano Vigna.
            let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            state.set(next);
            let mut mixed = next;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            if mixed != 0 {
                return mixed;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let context = Context::parse(PARENT.as_bytes()).expect("a parent");
        assert!(context.sampled);
        assert_eq!(context.to_string(), PARENT);
        let later = PARENT.replace("00-", "cc-") + "-what-the-future-brings";
        assert_eq!(Context::parse(later.as_bytes()), Some(context));
        for wrong in [
            String::new(),
            PARENT.to_uppercase(),
            PARENT.replace("00-", "ff-"),
            PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            PARENT.replace("b7ad6b7169203331", "b7ad6b716920333"),
            PARENT.replace("-01", "-1"),
            PARENT.replace("-01", ""),
            PARENT.to_owned() + "-00",
            PARENT.replace('a', "g"),
        ] {
            assert_eq!(Context::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
