//! Check of a text that arrives in pieces: RFC 3629.

/// Checks a text piece by piece. An invalid byte is found as soon as it has
/// arrived.
#[derive(Debug, Default)]
pub(super) struct TextCheck {
    /// The bytes of a character that was cut.
    cut: [u8; 4],
    length: usize,
}

impl TextCheck {
    /// Returns true if the text is valid so far.
    pub(super) fn goes_on(&mut self, mut piece: &[u8]) -> bool {
        while self.length > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return true;
            };
            let Some(place) = self.cut.get_mut(self.length) else {
                return false;
            };
            *place = byte;
            self.length += 1;
            piece = rest;
            match std::str::from_utf8(self.cut.get(..self.length).unwrap_or_default()) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return false,
            }
        }
        match simdutf8::compat::from_utf8(piece) {
            Ok(_) => true,
            Err(error) if error.error_len().is_none() => {
                let cut = piece.get(error.valid_up_to()..).unwrap_or_default();
                self.length = cut.len();
                for (place, byte) in self.cut.iter_mut().zip(cut) {
                    *place = *byte;
                }
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many of the bytes are taken before the text is found invalid.
    fn taken(bytes: &[u8]) -> usize {
        let mut check = TextCheck::default();
        bytes
            .iter()
            .take_while(|byte| check.goes_on(std::slice::from_ref(*byte)))
            .count()
    }

    #[test]
    fn a_text_may_be_cut_anywhere_and_an_invalid_byte_shows_at_once() {
        let text = "aé€😀".as_bytes();
        assert_eq!(taken(text), text.len());
        for cut in 0..=text.len() {
            let (first, second) = text.split_at(cut);
            let mut check = TextCheck::default();
            assert!(check.goes_on(first) && check.goes_on(second), "{cut}");
        }
        for (bytes, valid) in [
            (&b"a\xff"[..], 1),
            (b"\xc0\x80", 0),
            // A surrogate, and a number above U+10FFFF.
            (b"\xed\xa0\x80", 1),
            (b"\xf4\x90\x80\x80", 1),
            (b"\xe2\x82a", 2),
        ] {
            assert_eq!(taken(bytes), valid, "{bytes:?}");
        }
    }
}
