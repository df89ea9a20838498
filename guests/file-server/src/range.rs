//! Parts of a file (RFC 9110, section 14).

/// Part of a file that a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Selected {
    /// All of it: a server may ignore what it does not understand, or several
    /// ranges.
    Whole,
    /// So many bytes from an offset on, at least one.
    Part { first: u64, length: u64 },
    /// Nothing that is there.
    Nothing,
}

/// Reads `bytes=FIRST-LAST`, `bytes=FIRST-` or, for the end of a file,
/// `bytes=-LENGTH`.
pub fn select(header: &str, size: u64) -> Selected {
    let range = match header.trim().split_once('=') {
        Some((unit, range)) if unit.eq_ignore_ascii_case("bytes") => range.trim(),
        _ => return Selected::Whole,
    };
    let Some((from, to)) = range.split_once('-') else {
        return Selected::Whole;
    };
    let (first, end) = match (number(from), number(to)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(size)),
        (Some(first), None) if to.is_empty() => (first, size),
        (None, Some(length)) if from.is_empty() => (size.saturating_sub(length), size),
        _ => return Selected::Whole,
    };
    if first >= end {
        return Selected::Nothing;
    }
    Selected::Part {
        first,
        length: end - first,
    }
}

/// Digits alone; a number that is too large is beyond every file.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_to_the_file() {
        for (header, first, length) in [
            ("bytes=0-0", 0, 1),
            ("bytes=2-5", 2, 4),
            ("Bytes= 2-5", 2, 4),
            ("bytes=5-99999999999999999999999", 5, 5),
            ("bytes=3-", 3, 7),
            ("bytes=-3", 7, 3),
            ("bytes=-30", 0, 10),
        ] {
            let part = Selected::Part { first, length };
            assert_eq!(select(header, 10), part, "{header}");
        }
    }

    #[test]
    fn what_is_beyond_the_end_is_nothing() {
        for header in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(select(header, 10), Selected::Nothing, "{header}");
        }
        for header in ["bytes=0-", "bytes=0-0", "bytes=-5"] {
            assert_eq!(select(header, 0), Selected::Nothing, "{header}");
        }
    }

    #[test]
    fn what_is_no_single_range_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1-2,4-5",
            "lines=1-2",
        ] {
            assert_eq!(select(header, 10), Selected::Whole, "{header}");
        }
    }
}
