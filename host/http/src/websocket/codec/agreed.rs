//! Agreement of client and server on permessage-deflate: RFC 7692, section 7.1.

use netwasm_base::config::MessageCompression;

/// Windows that flate2 can compress with, as logarithms.
pub(super) const BITS: std::ops::RangeInclusive<u8> = 9..=15;

/// The largest window, in which anything can be decompressed.
pub(super) const MOST_BITS: u8 = 15;

/// Parameters that client and server have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// True if this host keeps nothing of a message for the next.
    pub(super) own_is_fresh: bool,
    /// True if the peer keeps nothing of a message for the next.
    pub(super) their_is_fresh: bool,
    /// Logarithm of this host's window. With one of 8, which flate2 does not have,
    /// nothing is compressed.
    pub(super) bits: u8,
    /// True if the client has asked for that window, and is to be told.
    pub(super) tells_bits: bool,
}

impl Agreed {
    /// Returns what to agree on: the first offer of the `Sec-WebSocket-Extensions`
    /// fields that can be accepted.
    pub(in crate::websocket) fn on<'a>(
        fields: impl Iterator<Item = &'a [u8]>,
        mode: MessageCompression,
    ) -> Option<Self> {
        if mode == MessageCompression::Off {
            return None;
        }
        let fields = fields.filter_map(|field| std::str::from_utf8(field).ok());
        let mut offers = fields.flat_map(|field| field.split(','));
        offers.find_map(|offer| Self::accept(offer, mode))
    }

    fn accept(offer: &str, mode: MessageCompression) -> Option<Self> {
        let fresh = mode == MessageCompression::Shared;
        let mut agreed = Self {
            own_is_fresh: fresh,
            their_is_fresh: fresh,
            bits: MOST_BITS,
            tells_bits: false,
        };
        for (name, value) in parameters(offer)? {
            let bits = value.and_then(window);
            match (name, value) {
                ("server_no_context_takeover", None) => agreed.own_is_fresh = true,
                ("client_no_context_takeover", None) => agreed.their_is_fresh = true,
                ("server_max_window_bits", Some(_)) => {
                    agreed.bits = bits.filter(|bits| BITS.contains(bits))?;
                    agreed.tells_bits = true;
                }
                // Whatever the client's window is, it is within the largest.
                ("client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(_)) => drop(bits?),
                _ => return None,
            }
        }
        Some(agreed)
    }

    /// Returns what a client offers; `None` if it offers nothing.
    pub(crate) fn offer(mode: MessageCompression) -> Option<&'static str> {
        match mode {
            MessageCompression::Off => None,
            MessageCompression::Shared => Some(
                "permessage-deflate; client_no_context_takeover; server_no_context_takeover; \
                 client_max_window_bits",
            ),
            MessageCompression::Dedicated => Some("permessage-deflate; client_max_window_bits"),
        }
    }

    /// Returns what a server has accepted of the offer of this mode, by the
    /// `Sec-WebSocket-Extensions` fields of its answer.
    ///
    /// # Errors
    /// Fails if that was not offered.
    pub(crate) fn granted<'a>(
        fields: impl Iterator<Item = &'a [u8]>,
        mode: MessageCompression,
    ) -> Result<Option<Self>, &'static str> {
        const OTHER: &str = "an extension that was not offered (Sec-WebSocket-Extensions)";
        let mut granted = None;
        for field in fields {
            let field = std::str::from_utf8(field).map_err(|_| OTHER)?;
            for accepted in field.split(',').map(str::trim) {
                if accepted.is_empty() {
                    continue;
                }
                let agreed = Self::read_granted(accepted, mode).ok_or(OTHER)?;
                if granted.replace(agreed).is_some() {
                    return Err(OTHER);
                }
            }
        }
        Ok(granted)
    }

    fn read_granted(accepted: &str, mode: MessageCompression) -> Option<Self> {
        if mode == MessageCompression::Off {
            return None;
        }
        let mut agreed = Self {
            // A client may do so whatever the server says.
            own_is_fresh: mode == MessageCompression::Shared,
            their_is_fresh: false,
            bits: MOST_BITS,
            tells_bits: false,
        };
        for (name, value) in parameters(accepted)? {
            let bits = value.and_then(window);
            match (name, value) {
                ("server_no_context_takeover", None) => agreed.their_is_fresh = true,
                ("client_no_context_takeover", None) => agreed.own_is_fresh = true,
                // Whatever the server's window is, it is within the largest.
                ("server_max_window_bits", Some(_)) => drop(bits?),
                ("client_max_window_bits", Some(_)) => agreed.bits = bits?,
                _ => return None,
            }
        }
        Some(agreed)
    }

    /// True if this host's messages are compressed, which it is free to do.
    pub(in crate::websocket) fn packs(self) -> bool {
        BITS.contains(&self.bits)
    }

    /// True if the server's messages are compressed as those of all others are that
    /// keep nothing of one for the next.
    pub(in crate::websocket) fn packs_alone(self) -> bool {
        self.own_is_fresh && self.bits == MOST_BITS
    }

    /// Returns the field of the response.
    pub(in crate::websocket) fn field(self) -> String {
        let mut field = String::from("permessage-deflate");
        if self.own_is_fresh {
            field.push_str("; server_no_context_takeover");
        }
        if self.their_is_fresh {
            field.push_str("; client_no_context_takeover");
        }
        if self.tells_bits {
            field.push_str(&format!("; server_max_window_bits={}", self.bits));
        }
        field
    }
}

/// Number of parameters that `permessage-deflate` has: RFC 7692, section 7.1.
const PARAMETERS: usize = 4;

/// Returns the parameters of `permessage-deflate` by their names; `None` if this
/// is another extension, or has more of them than there are, or one twice.
fn parameters(text: &str) -> Option<Vec<(&str, Option<&str>)>> {
    let mut parts = text.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let mut found: Vec<(&str, Option<&str>)> = Vec::new();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(unquoted(value.trim()))),
            None => (part, None),
        };
        if found.len() == PARAMETERS || found.iter().any(|(other, _)| *other == name) {
            return None;
        }
        found.push((name, value));
    }
    Some(found)
}

fn unquoted(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    inner.unwrap_or(value)
}

/// Returns the logarithm of a window: RFC 7692, section 7.1.2.
fn window(value: &str) -> Option<u8> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let bits = value.parse().ok().filter(|bits| (8..=15).contains(bits))?;
    (digits && !value.starts_with('0')).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(offer: &str, mode: MessageCompression) -> Option<String> {
        Agreed::on([offer.as_bytes()].into_iter(), mode).map(Agreed::field)
    }

    #[test]
    fn the_first_offer_that_can_be_kept_is_accepted() {
        use MessageCompression::{Dedicated, Off, Shared};
        let plain = "permessage-deflate";
        assert_eq!(agree(plain, Off), None);
        assert_eq!(agree(plain, Dedicated).as_deref(), Some(plain));
        let fresh = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(agree(plain, Shared).as_deref(), Some(fresh));
        for (offer, agreed) in [
            ("permessage-deflate; client_max_window_bits", Some(plain)),
            (
                "x-webkit-deflate-frame, Permessage-Deflate; client_max_window_bits=\"9\"",
                Some(plain),
            ),
            (
                "permessage-deflate; server_max_window_bits=8, permessage-deflate; \
                 server_max_window_bits=10; server_no_context_takeover",
                Some("permessage-deflate; server_no_context_takeover; server_max_window_bits=10"),
            ),
            (
                "permessage-deflate; server_max_window_bits=15",
                Some("permessage-deflate; server_max_window_bits=15"),
            ),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; server_max_window_bits=16", None),
            ("permessage-deflate; server_max_window_bits=09", None),
            ("permessage-deflate; client_max_window_bits=7", None),
            ("permessage-deflate; unknown", None),
            (
                "permessage-deflate; client_max_window_bits; client_max_window_bits",
                None,
            ),
            ("permessage-deflate; server_no_context_takeover=1", None),
            ("permessage-bzip2", None),
        ] {
            assert_eq!(agree(offer, Dedicated).as_deref(), agreed, "{offer}");
        }
    }

    #[test]
    fn a_server_grants_what_was_offered_and_nothing_else() {
        use MessageCompression::{Dedicated, Off, Shared};
        let granted = |fields: &[&str], mode| {
            let fields = fields.iter().map(|it| it.as_bytes());
            Agreed::granted(fields, mode)
        };
        assert_eq!(granted(&[], Off), Ok(None));
        assert_eq!(granted(&[], Shared), Ok(None));
        let kept = Agreed {
            own_is_fresh: false,
            their_is_fresh: false,
            bits: 15,
            tells_bits: false,
        };
        let plain = "permessage-deflate";
        assert_eq!(granted(&[plain], Dedicated), Ok(Some(kept)));
        let own = Agreed {
            own_is_fresh: true,
            ..kept
        };
        assert_eq!(granted(&[plain], Shared), Ok(Some(own)));
        let all = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                   client_max_window_bits=10; server_max_window_bits=8";
        let both = Agreed {
            own_is_fresh: true,
            their_is_fresh: true,
            bits: 10,
            tells_bits: false,
        };
        assert_eq!(granted(&[all], Dedicated), Ok(Some(both)));
        let least = granted(&["permessage-deflate; client_max_window_bits=8"], Dedicated);
        assert!(least.is_ok_and(|it| it.is_some_and(|it| !it.packs())));
        assert!(both.packs() && granted(&[plain], Off).is_err());
        for wrong in [
            &["permessage-bzip2"][..],
            &[plain, plain],
            &["permessage-deflate, permessage-deflate"],
            &["permessage-deflate; client_max_window_bits"],
            &["permessage-deflate; client_max_window_bits=7"],
            &["permessage-deflate; server_no_context_takeover=1"],
            &["permessage-deflate; client_max_window_bits=9; client_max_window_bits=9"],
            &["permessage-deflate; unknown"],
        ] {
            assert!(granted(wrong, Dedicated).is_err(), "{wrong:?}");
        }
        // A server like the host accepts its offers.
        for mode in [Shared, Dedicated] {
            let offer = Agreed::offer(mode).expect("an offer");
            let accepted = Agreed::on([offer.as_bytes()].into_iter(), mode).expect("accepted");
            assert!(granted(&[&*accepted.field()], mode).is_ok_and(|it| it.is_some()));
        }
    }
}
