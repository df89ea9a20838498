//! Ranges of bytes (RFC 9110, section 14).

/// Maximum of ranges in a request. Each costs a part of its own with some
/// hundred bytes around it, so a flood of them asks for much more than it gets.
/// Document viewers ask for a handful. Apache allows 200, of which 20 may overlap;
/// nginx has no limit unless configured.
const MOST: usize = 16;

/// A part of a file, never empty and never beyond its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    /// Inclusive.
    pub(crate) last: u64,
}

/// Result of a `Range` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    /// The whole file: the header is ignored.
    Whole,
    One(Range),
    /// At least two, in the order of the request.
    Several(Vec<Range>),
    /// Nothing that exists: 416.
    Unsatisfiable,
}

impl Range {
    /// Returns the length in bytes.
    pub(crate) fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

impl Selected {
    /// Applies a `Range` header to a file of `size` bytes.
    pub(crate) fn of(header: &[u8], size: u64) -> Self {
        let Some((unit, set)) = header.split_at_checked(6) else {
            return Self::Whole;
        };
        if !unit.eq_ignore_ascii_case(b"bytes=") {
            return Self::Whole;
        }
        let mut specifiers = 0;
        let mut ranges = Vec::new();
        let members = set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        // A list may have empty members (RFC 9110, section 5.6.1.2).
        for member in members.filter(|member| !member.is_empty()) {
            specifiers += 1;
            match Specifier::parse(member) {
                Some(specifier) if specifiers <= MOST => ranges.extend(specifier.resolve(size)),
                _ => return Self::Whole,
            }
        }
        if specifiers == 0 {
            return Self::Whole;
        }
        // Ranges that overlap to more than the whole file are an attack.
        let left = ranges
            .iter()
            .try_fold(size, |left, range| left.checked_sub(range.length()));
        if left.is_none() {
            return Self::Whole;
        }
        match ranges.as_slice() {
            [] => Self::Unsatisfiable,
            [range] => Self::One(*range),
            _ => Self::Several(ranges),
        }
    }
}

/// A `range-spec`.
#[derive(Clone, Copy, Debug)]
enum Specifier {
    From(u64),
    Between(u64, u64),
    /// The last so many bytes.
    Suffix(u64),
}

impl Specifier {
    /// Parses a `range-spec`; `None` if it is invalid.
    fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|byte| *byte == b'-')?;
        let (first, last) = text.split_at_checked(dash)?;
        match (first, last.get(1..)?) {
            (b"", length) => Some(Self::Suffix(number(length)?)),
            (first, b"") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// Returns its range in a file of `size` bytes; `None` if that is empty.
    fn resolve(self, size: u64) -> Option<Range> {
        let end = size.checked_sub(1)?;
        let (first, last) = match self {
            Self::From(first) => (first, end),
            Self::Between(first, last) => (first, last.min(end)),
            Self::Suffix(0) => return None,
            Self::Suffix(length) => (size.saturating_sub(length), end),
        };
        (first <= end).then_some(Range { first, last })
    }
}

/// Parses digits, however many: a number beyond the largest file is as good as
/// the maximum.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        let value = digit.is_ascii_digit().then(|| digit - b'0')?;
        Some(sum.saturating_mul(10).saturating_add(u64::from(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &str, size: u64) -> Selected {
        Selected::of(header.as_bytes(), size)
    }

    fn one(first: u64, last: u64) -> Selected {
        Selected::One(Range { first, last })
    }

    fn several(ranges: &[(u64, u64)]) -> Selected {
        let ranges = ranges.iter();
        Selected::Several(ranges.map(|&(first, last)| Range { first, last }).collect())
    }

    #[test]
    fn the_examples_of_the_rfc_are_understood() {
        // RFC 9110, section 14.1.2, of 10,000 bytes.
        for (header, expected) in [
            ("bytes=0-499", one(0, 499)),
            ("bytes=500-999", one(500, 999)),
            ("bytes=-500", one(9500, 9999)),
            ("bytes=9500-", one(9500, 9999)),
            ("bytes=0-0,-1", several(&[(0, 0), (9999, 9999)])),
            (
                "bytes= 0-999, 4500-5499, -1000",
                several(&[(0, 999), (4500, 5499), (9000, 9999)]),
            ),
            ("bytes=500-600,601-999", several(&[(500, 600), (601, 999)])),
            ("bytes=500-700,601-999", several(&[(500, 700), (601, 999)])),
        ] {
            assert_eq!(of(header, 10_000), expected, "{header}");
        }
    }

    #[test]
    fn the_end_is_clamped() {
        assert_eq!(of("bytes=2-100", 5), one(2, 4));
        assert_eq!(of("bytes=4-4", 5), one(4, 4));
        assert_eq!(of("bytes=-100", 5), one(0, 4));
        assert_eq!(of("bytes=0-", 5), one(0, 4));
        assert_eq!(of("bytes=1-99999999999999999999999999", 5), one(1, 4));
        assert_eq!(of("bytes=-99999999999999999999999999", 5), one(0, 4));
    }

    #[test]
    fn nothing_that_is_there_is_unsatisfiable() {
        for header in [
            "bytes=-0",
            "bytes=5-",
            "bytes=5-9",
            "bytes=99999999999999999999999999-",
            "bytes=-0,5-6",
        ] {
            assert_eq!(of(header, 5), Selected::Unsatisfiable, "{header}");
        }
    }

    #[test]
    fn of_an_empty_file_there_is_no_range() {
        for header in [
            "bytes=0-",
            "bytes=0-0",
            "bytes=-0",
            "bytes=-1",
            "bytes=1-,-2",
        ] {
            assert_eq!(of(header, 0), Selected::Unsatisfiable, "{header}");
        }
        assert_eq!(of("bytes=x", 0), Selected::Whole);
    }

    #[test]
    fn of_several_those_that_are_there_are_sent() {
        assert_eq!(of("bytes=9-,1-1", 5), one(1, 1));
        assert_eq!(of("bytes=3-3,-0,1-1", 5), several(&[(3, 3), (1, 1)]));
        assert_eq!(of("bytes=, 3-3 ,\t,1-1,", 5), several(&[(3, 3), (1, 1)]));
    }

    #[test]
    fn what_is_malformed_or_of_another_unit_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes:0-1",
            "bytes 0-1",
            "bytes =0-1",
            "items=0-1",
            "0-1",
            "bytes=-",
            "bytes=--1",
            "bytes=1",
            "bytes=1-0",
            "bytes=a-b",
            "bytes=0x0-1",
            "bytes=+0-1",
            "bytes=0- 1",
            "bytes=0 -1",
            "bytes=0-1-2",
            "bytes=0-1;2-3",
            "bytes=0-1,x",
            "bytes=0-1,3-2",
            "bytes=1_0-",
            "bytes=*",
            "bytes=\u{0661}-",
        ] {
            assert_eq!(of(header, 100), Selected::Whole, "{header}");
        }
    }

    #[test]
    fn the_unit_has_no_case() {
        assert_eq!(of("Bytes=1-2", 100), one(1, 2));
    }

    #[test]
    fn a_flood_of_ranges_is_ignored() {
        let flood = |count: usize| {
            let ranges: Vec<_> = (0..count).map(|index| format!("{index}-{index}")).collect();
            of(&format!("bytes={}", ranges.join(",")), 1 << 20)
        };
        assert!(matches!(flood(MOST), Selected::Several(ranges) if ranges.len() == MOST));
        assert_eq!(flood(MOST + 1), Selected::Whole);
        assert_eq!(flood(5000), Selected::Whole);
    }

    #[test]
    fn ranges_that_are_more_than_the_file_are_ignored() {
        assert_eq!(of("bytes=0-,0-", 100), Selected::Whole);
        assert_eq!(of("bytes=0-59,40-80", 100), Selected::Whole);
        assert_eq!(of("bytes=0-,0-,0-", u64::MAX), Selected::Whole);
        assert_eq!(of("bytes=0-49,50-", 100), several(&[(0, 49), (50, 99)]));
    }

    #[test]
    fn ranges_reach_across_four_gibibytes() {
        assert_eq!(
            of("bytes=4294967290-4294967300", 5 << 30),
            one(4_294_967_290, 4_294_967_300)
        );
        assert_eq!(of("bytes=-1", 5 << 30), one(5_368_709_119, 5_368_709_119));
        assert_eq!(of("bytes=0-", u64::MAX), one(0, u64::MAX - 1));
    }
}
