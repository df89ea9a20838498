//! Content codings (RFC 9110, section 8.4), and which of them a client accepts.

use std::cmp::Reverse;

/// A coding of precompressed siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Zstandard,
    Gzip,
}

impl Coding {
    /// All codings in the host's order of preference: the smallest result
    /// first.
    const ALL: [Self; 3] = [Self::Brotli, Self::Zstandard, Self::Gzip];

    /// Returns the name in `Content-Encoding`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstandard => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Returns the suffix of a file's name.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstandard => ".zst",
            Self::Gzip => ".gz",
        }
    }

    fn is_named(self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.name().as_bytes())
            // RFC 9110, section 8.4.1.3.
            || self == Self::Gzip && name.eq_ignore_ascii_case(b"x-gzip")
    }
}

/// Returns the codings that the lines of `Accept-Encoding` allow, the most
/// welcome first (RFC 9110, section 12.5.3). None of them if the client prefers
/// the plain file.
pub(crate) fn accepted(lines: &[&[u8]]) -> impl Iterator<Item = Coding> + use<> {
    let mut named = [None; 3];
    let mut any = 0;
    let mut identity = 0;
    let members = lines
        .iter()
        .flat_map(|line| line.split(|byte| *byte == b','));
    for (name, weight) in members.map(member) {
        if name == b"*" {
            any = weight;
        } else if name.eq_ignore_ascii_case(b"identity") {
            identity = weight;
        }
        for (coding, slot) in Coding::ALL.iter().zip(&mut named) {
            if coding.is_named(name) {
                *slot = Some(weight);
            }
        }
    }
    let mut weighed = [0, 1, 2].map(|index: usize| {
        let weight = named.get(index).copied().flatten().unwrap_or(any);
        (Coding::ALL.get(index).copied(), weight)
    });
    // The sort is stable, so the host's preference decides among equals.
    weighed.sort_by_key(|(_, weight)| Reverse(*weight));
    weighed
        .into_iter()
        .filter(move |(_, weight)| *weight > 0 && *weight >= identity)
        .filter_map(|(coding, _)| coding)
}

/// Parses a coding's name and its weight in thousandths; 0 if the weight is
/// malformed.
fn member(text: &[u8]) -> (&[u8], u16) {
    let mut parts = text.splitn(2, |byte| *byte == b';');
    let name = parts.next().unwrap_or_default().trim_ascii();
    let weight = match parts.next().map(<[u8]>::trim_ascii) {
        None => Some(1000),
        Some([b'q' | b'Q', b'=', weight @ ..]) => thousandths(weight),
        Some(_) => None,
    };
    (name, weight.unwrap_or(0))
}

/// Parses a `qvalue` (RFC 9110, section 12.4.2).
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] => (whole, fraction),
        _ => return None,
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().chain(b"000").take(3);
    let fraction = digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let value = u16::from(whole - b'0') * 1000 + fraction;
    (value <= 1000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names of the accepted codings.
    fn names(lines: &[&str]) -> Vec<&'static str> {
        let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        accepted(&lines).map(Coding::name).collect()
    }

    #[test]
    fn the_host_prefers_what_is_smallest_among_equals() {
        assert_eq!(names(&["gzip, deflate, br, zstd"]), ["br", "zstd", "gzip"]);
        assert_eq!(names(&["gzip", "deflate", "ZSTD"]), ["zstd", "gzip"]);
        assert_eq!(names(&["x-gzip"]), ["gzip"]);
        assert_eq!(names(&["*"]), ["br", "zstd", "gzip"]);
    }

    #[test]
    fn the_client_decides_by_weights() {
        assert_eq!(
            names(&["br;q=0.5, gzip ; q=0.8, zstd;Q=0.801"]),
            ["zstd", "gzip", "br"]
        );
        assert_eq!(names(&["gzip;q=1.000, *;q=0.5"]), ["gzip", "br", "zstd"]);
        assert_eq!(names(&["gzip;q=0.5, identity;q=0.5"]), ["gzip"]);
        assert_eq!(names(&["br;q=0.4, gzip;q=0.5, identity;q=0.5"]), ["gzip"]);
    }

    #[test]
    fn a_weight_of_zero_excludes() {
        assert_eq!(names(&["br;q=0, gzip"]), ["gzip"]);
        assert_eq!(names(&["br;q=0.000, *"]), ["zstd", "gzip"]);
        assert_eq!(names(&["gzip, *;q=0"]), ["gzip"]);
        assert_eq!(names(&["*;q=0"]), [""; 0]);
        assert_eq!(names(&["identity;q=0, gzip"]), ["gzip"]);
    }

    #[test]
    fn nothing_is_accepted_that_is_not_named() {
        for line in [
            "",
            " , ,",
            "identity",
            "deflate, compress",
            "gzipped",
            "br0",
        ] {
            assert_eq!(names(&[line]), [""; 0], "{line}");
        }
        assert_eq!(names(&[]), [""; 0]);
        assert_eq!(names(&["identity, gzip;q=0.9"]), [""; 0]);
    }

    #[test]
    fn a_weight_that_cannot_be_understood_accepts_nothing() {
        for weight in [
            "", "1.1", "2", "0.1234", "-1", "0,5", ".5", "01", "0.x", "nan",
        ] {
            assert_eq!(names(&[&format!("gzip;q={weight}")]), [""; 0], "{weight}");
        }
        assert_eq!(names(&["gzip;level=9", "br"]), ["br"]);
    }
}
