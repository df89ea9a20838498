//! Conditions of a client on the version of a file (RFC 9110, section 13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// Seconds after which a file's time tells its versions apart: what changes
/// twice within less may have one time.
const SETTLED: u64 = 2;

/// No file of the web is older: 1990. Tools that make builds reproducible give
/// all files one time, such as 0, 1 or 1980, which tells no versions apart.
const OLDEST: i64 = 631_152_000;

/// Such times of later, in whole seconds: 2000 and 2010 (Bazel's rules).
const CONSTANTS: [i64; 2] = [946_684_800, 1_262_304_000];

/// A year of the calendar in the long run, seconds.
const YEAR: u64 = 31_556_952;

/// The values of a header of the request, one a line.
pub type Asked<'a> = &'a dyn Fn(&str) -> Vec<String>;

/// Validators, which tell one version of a file from the next.
#[derive(Debug)]
pub struct Validators {
    /// An entity tag: `"TAG"`, or `W/"TAG"` of a file that may change unseen.
    pub tag: Option<String>,
    /// When it was changed, seconds since 1970; never later than now.
    pub modified: Option<u64>,
    now: u64,
}

/// Outcome of the conditions of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412: it is not the one that the client means.
    Failed,
}

impl Validators {
    /// Of a file that was changed then, in seconds and nanoseconds since 1970.
    pub fn of(changed: Option<(i64, u32)>, size: u64, now: u64) -> Self {
        let tells = |(seconds, nanoseconds): &(i64, u32)| {
            *seconds >= OLDEST && !(*nanoseconds == 0 && CONSTANTS.contains(seconds))
        };
        let known = changed.filter(tells);
        let tag = known.map(|(seconds, nanoseconds)| {
            let weak = match is_settled(seconds.unsigned_abs(), now) {
                true => "",
                false => "W/",
            };
            format!("{weak}\"{seconds:x}.{nanoseconds:x}-{size:x}\"")
        });
        Self {
            tag,
            modified: known.map(|(seconds, _)| seconds.unsigned_abs().min(now)),
            now,
        }
    }

    /// The conditions of GET and HEAD, in their order (section 13.2.2): those
    /// on dates are for clients that have no tag.
    pub fn evaluate(&self, asked: Asked<'_>) -> Verdict {
        let as_wanted = match &*asked("if-match") {
            [] => self.is_newer(asked("if-unmodified-since")) != Some(true),
            tags => self.is_in(tags, |tag| self.is_strongly(tag)),
        };
        if !as_wanted {
            return Verdict::Failed;
        }
        let is_known = match &*asked("if-none-match") {
            [] => self.is_newer(asked("if-modified-since")) == Some(false),
            tags => self.is_in(tags, |tag| self.is_weakly(tag)),
        };
        match is_known {
            true => Verdict::NotModified,
            false => Verdict::Proceed,
        }
    }

    /// True if a client that has a part of the file may get another: `If-Range`
    /// names the very version, or is not there.
    pub fn allow_range(&self, asked: Asked<'_>) -> bool {
        match &*asked("if-range") {
            [] => true,
            [tag] if tag.ends_with('"') => self.is_strongly(tag),
            [date] => self.modified.is_some_and(|modified| {
                is_settled(modified, self.now) && parse_date(date, self.now) == Some(modified)
            }),
            _ => false,
        }
    }

    /// True if a list names the file; `*` is any file that there is.
    fn is_in(&self, lines: &[String], is_it: impl Fn(&str) -> bool) -> bool {
        let mut tags = lines.iter().flat_map(|line| line.split(',')).map(str::trim);
        tags.any(|tag| tag == "*" || is_it(tag))
    }

    /// True if a tag stands for these very bytes.
    fn is_strongly(&self, tag: &str) -> bool {
        !tag.starts_with("W/") && self.tag.as_deref() == Some(tag)
    }

    /// True if a tag stands for an equivalent of these bytes.
    fn is_weakly(&self, tag: &str) -> bool {
        let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        self.tag.as_deref().map(opaque) == Some(opaque(tag))
    }

    /// True if the file was changed after a date; `None`, so that the condition
    /// is ignored, if there is not one date that can be read.
    fn is_newer(&self, lines: Vec<String>) -> Option<bool> {
        match &*lines {
            [line] => Some(self.modified? > parse_date(line, self.now)?),
            _ => None,
        }
    }
}

fn is_settled(changed: u64, now: u64) -> bool {
    changed.saturating_add(SETTLED) <= now
}

/// A date as headers have it, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn format_date(seconds: u64) -> String {
    const LAST: u64 = 253_402_300_799; // of the year 9999
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST)))
}

/// A date in any of its three forms (section 5.6.7), in seconds since 1970.
fn parse_date(text: &str, now: u64) -> Option<u64> {
    let parse = |text: &str| {
        let time = SystemTime::from(text.parse::<HttpDate>().ok()?);
        Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
    };
    let Some((day, date, month, year, time)) = parts_of_rfc850(text) else {
        return parse(text);
    };
    // Two digits are the latest such year that is not 50 years ahead.
    let latest = 1970 + now / YEAR + 50;
    let year = latest - (latest + 100 - year) % 100;
    [year, year - 100].into_iter().find_map(|year| {
        let date = parse(&format!("{day}, {date} {month} {year} {time}"))?;
        (date <= now + 50 * YEAR).then_some(date)
    })
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`, the day of the week as `Sun`.
fn parts_of_rfc850(text: &str) -> Option<(&str, &str, &str, u64, &str)> {
    const DAYS: [&str; 7] = [
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ];
    let (day, rest) = text.trim().split_once(", ")?;
    let (date, rest) = rest.split_once('-')?;
    let (month, rest) = rest.split_once('-')?;
    let (year, time) = rest.split_once(' ')?;
    let is_short = year.len() == 2 && year.bytes().all(|byte| byte.is_ascii_digit());
    (DAYS.contains(&day) && is_short).then_some((&day[..3], date, month, year.parse().ok()?, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 28 November 2026.
    const NOW: u64 = 1_795_824_000;
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const TAG: &str = "\"2ebc98a1.0-a\"";

    fn file() -> Validators {
        Validators::of(Some((784_111_777, 0)), 10, NOW)
    }

    fn asking<T>(lines: &[(&str, &str)], answer: impl FnOnce(Asked<'_>) -> T) -> T {
        answer(&|name| {
            let named = lines.iter().filter(|line| line.0 == name);
            named.map(|line| line.1.to_owned()).collect()
        })
    }

    fn evaluate(lines: &[(&str, &str)]) -> Verdict {
        asking(lines, |asked| file().evaluate(asked))
    }

    #[test]
    fn a_version_is_told_by_its_time_and_its_length() {
        let file = file();
        assert_eq!(file.tag.as_deref(), Some(TAG));
        assert_eq!(file.modified.map(format_date).as_deref(), Some(DATE));
        let other = Validators::of(Some((784_111_777, 1)), 10, NOW);
        assert_ne!(other.tag, file.tag);
    }

    #[test]
    fn a_file_may_change_within_two_seconds_of_its_time() {
        let now = i64::try_from(NOW).expect("a time");
        for (time, weak) in [(now - 2, false), (now - 1, true), (now + 1000, true)] {
            let file = Validators::of(Some((time, 5)), 10, NOW);
            let tag = file.tag.expect("a tag");
            assert_eq!(tag.starts_with("W/"), weak, "{tag}");
            assert!(file.modified <= Some(NOW), "it is of the future");
        }
    }

    #[test]
    fn a_time_that_tools_set_tells_nothing() {
        for time in [
            None,
            Some((0, 0)),
            Some((1, 0)),
            Some((315_532_800, 0)),
            Some((-9, 0)),
        ] {
            let file = Validators::of(time, 10, NOW);
            assert_eq!((file.tag.as_ref(), file.modified), (None, None));
            for (name, value, verdict) in [
                ("if-match", TAG, Verdict::Failed),
                ("if-match", "*", Verdict::Proceed),
                ("if-unmodified-since", BEFORE, Verdict::Proceed),
                ("if-none-match", TAG, Verdict::Proceed),
                ("if-none-match", "*", Verdict::NotModified),
                ("if-modified-since", DATE, Verdict::Proceed),
            ] {
                let evaluated = asking(&[(name, value)], |asked| file.evaluate(asked));
                assert_eq!(evaluated, verdict, "{name}: {value}");
            }
            assert!(!asking(&[("if-range", TAG)], |asked| file.allow_range(asked)));
        }
    }

    #[test]
    fn conditions_are_evaluated_in_their_order() {
        for (lines, verdict) in [
            (&[][..], Verdict::Proceed),
            (&[("if-match", TAG)], Verdict::Proceed),
            (&[("if-match", "\"x\"")], Verdict::Failed),
            // Weak tags stand for no bytes.
            (&[("if-match", "W/\"2ebc98a1.0-a\"")], Verdict::Failed),
            (&[("if-unmodified-since", DATE)], Verdict::Proceed),
            (&[("if-unmodified-since", BEFORE)], Verdict::Failed),
            (&[("if-unmodified-since", "some day")], Verdict::Proceed),
            (
                &[("if-match", TAG), ("if-unmodified-since", BEFORE)],
                Verdict::Proceed,
            ),
            (
                &[("if-none-match", "\"x\", W/\"2ebc98a1.0-a\"")],
                Verdict::NotModified,
            ),
            (
                &[("if-none-match", "\"x\""), ("if-none-match", TAG)],
                Verdict::NotModified,
            ),
            (&[("if-none-match", "\"x\"")], Verdict::Proceed),
            (&[("if-modified-since", DATE)], Verdict::NotModified),
            (&[("if-modified-since", BEFORE)], Verdict::Proceed),
            (
                &[("if-modified-since", DATE), ("if-modified-since", DATE)],
                Verdict::Proceed,
            ),
            (
                &[("if-none-match", "\"x\""), ("if-modified-since", DATE)],
                Verdict::Proceed,
            ),
            (
                &[("if-none-match", TAG), ("if-match", "\"x\"")],
                Verdict::Failed,
            ),
            (
                &[("if-none-match", TAG), ("if-unmodified-since", BEFORE)],
                Verdict::Failed,
            ),
        ] {
            assert_eq!(evaluate(lines), verdict, "{lines:?}");
        }
    }

    #[test]
    fn a_range_is_of_the_version_that_the_client_has() {
        let allows = |value| asking(&[("if-range", value)], |asked| file().allow_range(asked));
        assert!(asking(&[], |asked| file().allow_range(asked)));
        assert!(allows(TAG) && allows(DATE));
        let weak = format!("W/{TAG}");
        for value in [
            &*weak,
            "\"x\"",
            BEFORE,
            "Sun, 06 Nov 1994 08:49:38 GMT",
            "*",
            "",
        ] {
            assert!(!allows(value), "{value}");
        }
    }

    #[test]
    fn dates_are_read_in_all_three_forms() {
        for text in [
            DATE,
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse_date(text, NOW), Some(784_111_777), "{text}");
        }
        for (short, full) in [
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
        ] {
            let date = parse_date(short, NOW).expect(short);
            assert_eq!(format_date(date), full);
        }
        for text in [
            "",
            "some day",
            "Sunday, 06-Nov-+4 08:49:37 GMT",
            "Sunday, 31-Feb-94 08:49:37 GMT",
        ] {
            assert_eq!(parse_date(text, NOW), None, "{text}");
        }
    }
}
