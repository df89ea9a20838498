//! Dates in headers (RFC 9110, section 5.6.7).

use std::time::{SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// The last second that a date in a header can name, since 1970: the end of 9999.
pub(crate) const LAST_SECOND: u64 = 253_402_300_799;

/// Average calendar year in seconds.
const YEAR: u64 = 31_556_952;

const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// Parses a date in any of the three forms. Returns seconds since 1970.
pub(crate) fn read(text: &[u8], now: SystemTime) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    match text.split_once(", ") {
        Some((day, rest)) if DAYS.contains(&day) => read_short(day.get(..3)?, rest, seconds(now)),
        _ => read_full(text),
    }
}

/// Parses the two forms other than that of RFC 850.
fn read_full(text: &str) -> Option<u64> {
    let date: HttpDate = text.parse().ok()?;
    Some(seconds(date.into()))
}

/// Parses the form of RFC 850, without its day. Its two-digit year is the
/// latest that is not more than 50 years ahead.
fn read_short(day: &str, text: &str, now: u64) -> Option<u64> {
    let (date, rest) = text.split_once('-')?;
    let (month, rest) = rest.split_once('-')?;
    let (digits, time) = rest.split_once(' ')?;
    let latest = 1970 + now / YEAR + 50;
    let year = match digits.as_bytes() {
        [b'0'..=b'9', b'0'..=b'9'] => digits.parse::<u64>().ok()?,
        _ => return None,
    };
    let year = latest - (latest + 100 - year) % 100;
    [year, year - 100].into_iter().find_map(|year| {
        let date = read_full(&format!("{day}, {date} {month} {year:04} {time}"))?;
        (date <= now.saturating_add(50 * YEAR)).then_some(date)
    })
}

pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(now: u64, text: &str) -> Option<u64> {
        read(text.as_bytes(), UNIX_EPOCH + Duration::from_secs(now))
    }

    #[test]
    fn all_three_forms_of_a_date_are_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(at(1_000_000_000, text), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn two_digits_are_a_year_of_no_more_than_fifty_years_ahead() {
        // 28 November 2026.
        let now = 1_795_824_000;
        for (short, full) in [
            (
                "Saturday, 28-Nov-26 00:00:00 GMT",
                "Sat, 28 Nov 2026 00:00:00 GMT",
            ),
            (
                "Sunday, 09-Nov-70 08:49:37 GMT",
                "Sun, 09 Nov 2070 08:49:37 GMT",
            ),
            (
                "Friday, 27-Nov-76 00:00:00 GMT",
                "Fri, 27 Nov 2076 00:00:00 GMT",
            ),
            (
                "Wednesday, 29-Dec-76 00:00:00 GMT",
                "Wed, 29 Dec 1976 00:00:00 GMT",
            ),
            (
                "Friday, 01-Jan-77 00:00:00 GMT",
                "Fri, 01 Jan 1977 00:00:00 GMT",
            ),
            (
                "Saturday, 01-Jan-77 00:00:00 GMT",
                "Sat, 01 Jan 1977 00:00:00 GMT",
            ),
            (
                "Sunday, 06-Nov-94 08:49:37 GMT",
                "Sun, 06 Nov 1994 08:49:37 GMT",
            ),
        ] {
            assert_eq!(at(now, short), at(now, full), "{short}");
        }
        // In 1998, 01 was ahead.
        let short = at(900_000_000, "Saturday, 01-Dec-01 00:00:00 GMT");
        assert_eq!(short, at(900_000_000, "Sat, 01 Dec 2001 00:00:00 GMT"));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "Sunday, ",
            "Sunday, 06-Nov",
            "Sunday, 06-Nov-+4 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunny, 06-Nov-94 08:49:37 GMT",
            "Sunday, 31-Feb-94 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sunday, \u{6}-Nov-94 08:49:37 GMT",
        ] {
            assert_eq!(at(1_000_000_000, text), None, "{text}");
        }
    }
}
