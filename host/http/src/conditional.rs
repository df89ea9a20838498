//! Conditional requests (RFC 9110, section 13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

use netwasm_net::files::Metadata;

use crate::asked::Asked;

/// A file that was changed more recently than this may change again without
/// its time showing it, as clocks and file systems have it (RFC 9110, section
/// 8.8.1 and 8.8.2.2).
const SETTLED: Duration = Duration::from_secs(2);

/// The last second that a date in a header can name.
const LAST_SECOND: u64 = 253_402_300_799;

/// An entity tag (RFC 9110, section 8.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag<'a> {
    weak: bool,
    /// With its quotes.
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// A header's value that is one tag.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::parse_front(text.trim_ascii())?;
        rest.is_empty().then_some(tag)
    }

    /// The tag that a text begins with, and what follows it.
    fn parse_front(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, rest) = match text {
            [b'W', b'/', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let inside = rest.strip_prefix(b"\"")?;
        let length = inside.iter().position(|byte| *byte == b'"')?;
        let (opaque, rest) = rest.split_at_checked(length + 2)?;
        // RFC 9110 allows what is visible, and bytes above ASCII.
        let allowed = |byte: &u8| *byte > b' ' && *byte != 0x7f;
        opaque
            .iter()
            .all(allowed)
            .then_some((Self { weak, opaque }, rest))
    }

    fn equals(self, other: EntityTag<'_>, comparison: Comparison) -> bool {
        let allowed = comparison == Comparison::Weak || !self.weak && !other.weak;
        allowed && self.opaque == other.opaque
    }
}

/// How entity tags are compared (RFC 9110, section 8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    /// A weak tag equals none.
    Strong,
    /// Weakness does not matter.
    Weak,
}

/// A file's own entity tag: of its time, its length and its coding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileTag {
    bytes: [u8; 48],
    length: usize,
}

impl FileTag {
    /// `coding` is that of a file that is sent in place of another.
    pub(crate) fn new(metadata: Metadata, coding: Option<&str>, now: SystemTime) -> Self {
        let (seconds, nanoseconds) = metadata.modified;
        let nanoseconds = seconds
            .wrapping_mul(1_000_000_000)
            .wrapping_add(i64::from(nanoseconds));
        let mut tag = Self {
            bytes: [0; 48],
            length: 0,
        };
        tag.push(if is_settled(metadata, now) {
            b"\""
        } else {
            b"W/\""
        });
        tag.push_hexadecimal(nanoseconds.cast_unsigned());
        tag.push(b"-");
        tag.push_hexadecimal(metadata.length);
        if let Some(coding) = coding {
            tag.push(b"-");
            tag.push(coding.as_bytes());
        }
        tag.push(b"\"");
        tag
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        // The longest needs 42: two numbers of 16 digits, `W/`, the quotes,
        // and a coding of 4 letters, with two dashes.
        if let Some(free) = self.bytes.get_mut(self.length..end) {
            free.copy_from_slice(bytes);
            self.length = end;
        }
    }

    fn push_hexadecimal(&mut self, number: u64) {
        let digits = (64 - (number | 1).leading_zeros()).div_ceil(4);
        for place in (0..digits).rev() {
            let digit = (number >> (4 * place)) as u8 & 0xf;
            self.push(&[digit + if digit < 10 { b'0' } else { b'a' - 10 }]);
        }
    }
}

/// A date, in seconds since 1970, and whether it tells versions of a file
/// apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Modified {
    seconds: u64,
    strong: bool,
}

impl Modified {
    /// When a file was changed: never later than now (RFC 9110, section
    /// 8.8.2.1), nor before what a date can say.
    pub(crate) fn of(metadata: Metadata, now: SystemTime) -> Self {
        let now_seconds = seconds(now).min(LAST_SECOND);
        let modified = u64::try_from(metadata.modified.0).unwrap_or_default();
        Self {
            seconds: modified.min(now_seconds),
            strong: is_settled(metadata, now),
        }
    }

    /// What a `Last-Modified` header says.
    pub(crate) fn parse(text: &[u8], now: SystemTime) -> Option<Self> {
        let date = date(text)?;
        Some(Self {
            seconds: date,
            strong: date.saturating_add(SETTLED.as_secs()) <= seconds(now),
        })
    }

    pub(crate) fn date(self) -> HttpDate {
        HttpDate::from(UNIX_EPOCH + Duration::from_secs(self.seconds.min(LAST_SECOND)))
    }
}

/// What the response says by which a client can recognise the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validators<'a> {
    pub(crate) tag: Option<EntityTag<'a>>,
    pub(crate) modified: Option<Modified>,
}

/// What comes of the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The request is to be answered.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

impl Validators<'_> {
    /// Evaluates the conditions of a GET or HEAD in the order of RFC 9110,
    /// section 13.2.2. `If-Range` is not among them: [`Self::allow_range`].
    pub(crate) fn evaluate(&self, asked: &impl Asked) -> Verdict {
        if let Some(matches) = self.listed(asked, "if-match", Comparison::Strong) {
            if !matches {
                return Verdict::Failed;
            }
        } else if self.is_newer_than(asked, "if-unmodified-since") == Some(true) {
            return Verdict::Failed;
        }
        if let Some(matches) = self.listed(asked, "if-none-match", Comparison::Weak) {
            if matches {
                return Verdict::NotModified;
            }
        } else if self.is_newer_than(asked, "if-modified-since") == Some(false) {
            return Verdict::NotModified;
        }
        Verdict::Proceed
    }

    /// Whether `If-Range` lets a `Range` be answered (section 13.1.5).
    pub(crate) fn allow_range(&self, asked: &impl Asked) -> bool {
        if asked.first("if-range").is_none() {
            return true;
        }
        let lines = asked.all("if-range");
        let [line] = lines.as_slice() else {
            return false;
        };
        if let Some(wanted) = EntityTag::parse(line) {
            return self
                .tag
                .is_some_and(|tag| tag.equals(wanted, Comparison::Strong));
        }
        match (date(line), self.modified) {
            (Some(wanted), Some(modified)) => modified.strong && modified.seconds == wanted,
            _ => false,
        }
    }

    /// Whether the tag is in a list of tags; `None` where there is no list.
    fn listed(&self, asked: &impl Asked, name: &str, comparison: Comparison) -> Option<bool> {
        asked.first(name)?;
        let lines = asked.all(name);
        let is_listed = |line: &&[u8]| {
            line.trim_ascii() == b"*"
                || self
                    .tag
                    .is_some_and(|tag| tags(line).any(|listed| tag.equals(listed, comparison)))
        };
        Some(lines.iter().any(is_listed))
    }

    /// Whether the file was changed after a date; `None` where there is no
    /// date, more than one, or one that cannot be read.
    fn is_newer_than(&self, asked: &impl Asked, name: &str) -> Option<bool> {
        asked.first(name)?;
        let lines = asked.all(name);
        let [line] = lines.as_slice() else {
            return None;
        };
        Some(self.modified?.seconds > date(line)?)
    }
}

/// The tags of a list. What is none is passed over to the next comma.
fn tags(mut text: &[u8]) -> impl Iterator<Item = EntityTag<'_>> {
    std::iter::from_fn(move || {
        loop {
            text = text.trim_ascii_start();
            if text.is_empty() {
                return None;
            }
            let parsed = EntityTag::parse_front(text);
            let rest = parsed.map_or(text, |(_, rest)| rest).trim_ascii_start();
            let comma = rest.iter().position(|byte| *byte == b',');
            text = comma
                .and_then(|comma| rest.get(comma + 1..))
                .unwrap_or_default();
            match parsed {
                Some((tag, _)) if comma.unwrap_or(rest.len()) == 0 => return Some(tag),
                _ => {}
            }
        }
    })
}

/// A date in any of the three forms (RFC 9110, section 5.6.7), in seconds
/// since 1970.
fn date(text: &[u8]) -> Option<u64> {
    let date: HttpDate = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(seconds(date.into()))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Whether a file was last changed long enough ago. One from the future is
/// not, for then one of the clocks is wrong.
fn is_settled(metadata: Metadata, now: SystemTime) -> bool {
    let (seconds, nanoseconds) = metadata.modified;
    let Ok(seconds) = u64::try_from(seconds) else {
        return true;
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    now.checked_sub(Duration::new(seconds, nanoseconds))
        .is_some_and(|age| age >= SETTLED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_body::HeadLines;

    const TAG: &str = "\"1\"";
    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn validators(tag: &str) -> Validators<'_> {
        Validators {
            tag: EntityTag::parse(tag.as_bytes()),
            modified: Modified::parse(MODIFIED.as_bytes(), at(1_000_000_000)),
        }
    }

    /// What comes of the headers for a file with a tag.
    fn evaluated(tag: &str, lines: &[(&str, &str)]) -> Verdict {
        validators(tag).evaluate(&HeadLines(lines))
    }

    fn ranged(tag: &str, lines: &[(&str, &str)]) -> bool {
        validators(tag).allow_range(&HeadLines(lines))
    }

    fn metadata(modified: (i64, u32), length: u64) -> Metadata {
        Metadata { length, modified }
    }

    fn own(modified: (i64, u32), length: u64, now: SystemTime) -> String {
        let tag = FileTag::new(metadata(modified, length), None, now);
        String::from_utf8(tag.as_bytes().to_vec()).expect("text")
    }

    #[test]
    fn without_conditions_a_request_proceeds() {
        assert_eq!(evaluated(TAG, &[]), Verdict::Proceed);
        assert!(ranged(TAG, &[]));
    }

    #[test]
    fn if_match_compares_strongly() {
        let check = |tag, value| evaluated(tag, &[("if-match", value)]);
        for value in [
            "\"1\"",
            "*",
            " * ",
            "\"0\", \"1\"",
            "W/\"0\",\"1\"",
            ", \"1\" ,",
        ] {
            assert_eq!(check(TAG, value), Verdict::Proceed, "{value}");
        }
        for value in ["\"0\"", "W/\"1\"", "1", "", "\"1", "\"1\" \"1\"", "x\"1\""] {
            assert_eq!(check(TAG, value), Verdict::Failed, "{value}");
        }
        assert_eq!(check("W/\"1\"", "\"1\""), Verdict::Failed);
        assert_eq!(check("W/\"1\"", "W/\"1\""), Verdict::Failed);
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let check = |tag, value| evaluated(tag, &[("if-none-match", value)]);
        for value in [
            "\"1\"",
            "*",
            "W/\"1\"",
            "\"0\" , W/\"1\"",
            "junk, \"1\"",
            "\"a,b\", \"1\"",
        ] {
            assert_eq!(check(TAG, value), Verdict::NotModified, "{value}");
            assert_eq!(check("W/\"1\"", value), Verdict::NotModified, "{value}");
        }
        for value in ["\"0\"", "1", "", "\"0,\"1\"", "w/\"1\"", "\" 1\""] {
            assert_eq!(check(TAG, value), Verdict::Proceed, "{value}");
        }
    }

    #[test]
    fn a_list_of_tags_may_stand_in_several_lines() {
        let lines = [
            ("if-none-match", "\"0\""),
            ("if-none-match", "\"2\", \"1\""),
        ];
        assert_eq!(evaluated(TAG, &lines), Verdict::NotModified);
    }

    #[test]
    fn a_comma_in_a_tag_does_not_end_it() {
        let lines = [("if-match", "\"0\", \"a,b\"")];
        assert_eq!(evaluated("\"a,b\"", &lines), Verdict::Proceed);
        assert_eq!(evaluated("\"b\"", &lines), Verdict::Failed);
    }

    #[test]
    fn without_a_tag_none_matches() {
        for (name, value, verdict) in [
            ("if-match", "\"1\"", Verdict::Failed),
            ("if-match", "*", Verdict::Proceed),
            ("if-none-match", "\"1\"", Verdict::Proceed),
            ("if-none-match", "*", Verdict::NotModified),
        ] {
            assert_eq!(
                evaluated("junk", &[(name, value)]),
                verdict,
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn if_modified_since_is_answered_by_the_second() {
        let check = |value| evaluated(TAG, &[("if-modified-since", value)]);
        assert_eq!(check(BEFORE), Verdict::Proceed);
        assert_eq!(check(MODIFIED), Verdict::NotModified);
        assert_eq!(check(AFTER), Verdict::NotModified);
    }

    #[test]
    fn if_unmodified_since_is_answered_by_the_second() {
        let check = |value| evaluated(TAG, &[("if-unmodified-since", value)]);
        assert_eq!(check(BEFORE), Verdict::Failed);
        assert_eq!(check(MODIFIED), Verdict::Proceed);
        assert_eq!(check(AFTER), Verdict::Proceed);
    }

    #[test]
    fn all_three_forms_of_a_date_are_read() {
        for value in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            let verdict = evaluated(TAG, &[("if-modified-since", value)]);
            assert_eq!(verdict, Verdict::NotModified, "{value}");
        }
    }

    #[test]
    fn a_date_that_cannot_be_read_is_ignored() {
        for value in [
            "",
            "now",
            "784111777",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "S\u{fc}n, 06 Nov 1994 08:49:37 GMT",
        ] {
            for name in ["if-modified-since", "if-unmodified-since"] {
                assert_eq!(
                    evaluated(TAG, &[(name, value)]),
                    Verdict::Proceed,
                    "{name}: {value}"
                );
            }
        }
        let twice = [("if-modified-since", AFTER), ("if-modified-since", AFTER)];
        assert_eq!(evaluated(TAG, &twice), Verdict::Proceed);
    }

    #[test]
    fn conditions_are_evaluated_in_order() {
        // If-Match goes before If-Unmodified-Since, which is then ignored.
        let lines = [("if-match", TAG), ("if-unmodified-since", BEFORE)];
        assert_eq!(evaluated(TAG, &lines), Verdict::Proceed);
        // Either of them goes before If-None-Match.
        let lines = [("if-none-match", TAG), ("if-match", "\"0\"")];
        assert_eq!(evaluated(TAG, &lines), Verdict::Failed);
        let lines = [("if-none-match", TAG), ("if-unmodified-since", BEFORE)];
        assert_eq!(evaluated(TAG, &lines), Verdict::Failed);
        let lines = [("if-none-match", TAG), ("if-match", TAG)];
        assert_eq!(evaluated(TAG, &lines), Verdict::NotModified);
        // If-None-Match goes before If-Modified-Since, which is then ignored.
        let lines = [("if-none-match", "\"0\""), ("if-modified-since", AFTER)];
        assert_eq!(evaluated(TAG, &lines), Verdict::Proceed);
        let lines = [("if-none-match", TAG), ("if-modified-since", BEFORE)];
        assert_eq!(evaluated(TAG, &lines), Verdict::NotModified);
    }

    #[test]
    fn if_range_needs_the_very_tag_or_the_very_date() {
        let check = |tag, value| ranged(tag, &[("if-range", value)]);
        assert!(check(TAG, TAG));
        assert!(check(TAG, MODIFIED));
        for value in [
            "\"0\"",
            "W/\"1\"",
            "\"1\", \"2\"",
            "*",
            BEFORE,
            AFTER,
            "",
            "junk",
        ] {
            assert!(!check(TAG, value), "{value}");
        }
        assert!(!check("W/\"1\"", "W/\"1\""));
        assert!(!ranged(TAG, &[("if-range", TAG), ("if-range", TAG)]));
    }

    #[test]
    fn a_date_that_is_too_recent_lets_no_range_be_sent() {
        let file = metadata((784_111_777, 0), 1);
        for (now, allowed) in [(784_111_778, false), (784_111_779, true)] {
            let validators = Validators {
                tag: None,
                modified: Some(Modified::of(file, at(now))),
            };
            let allows = validators.allow_range(&HeadLines(&[("if-range", MODIFIED)]));
            assert_eq!(allows, allowed, "{now}");
        }
    }

    #[test]
    fn a_tag_tells_apart_times_lengths_and_codings() {
        let now = at(2_000_000_000);
        let tag = own((1_000_000_000, 1), 0x400, now);
        assert_eq!(tag, "\"de0b6b3a7640001-400\"");
        assert_ne!(tag, own((1_000_000_000, 2), 0x400, now));
        assert_ne!(tag, own((1_000_000_001, 1), 0x400, now));
        assert_ne!(tag, own((1_000_000_000, 1), 0x401, now));
        assert_eq!(own((0, 0), 0, now), "\"0-0\"");
        let coded = FileTag::new(metadata((0, 0), 0), Some("gzip"), now);
        assert_eq!(coded.as_bytes(), b"\"0-0-gzip\"");
    }

    #[test]
    fn the_longest_tag_is_whole() {
        let tag = FileTag::new(metadata((-1, 0), u64::MAX), Some("zstd"), UNIX_EPOCH);
        let text = String::from_utf8_lossy(tag.as_bytes());
        assert_eq!(text, "\"ffffffffc4653600-ffffffffffffffff-zstd\"");
        let tag = FileTag::new(metadata((i64::MAX, 0), u64::MAX), Some("zstd"), UNIX_EPOCH);
        let parsed = EntityTag::parse(tag.as_bytes()).expect("a tag");
        assert!(parsed.weak && parsed.opaque.ends_with(b"-zstd\""));
    }

    #[test]
    fn the_tag_of_a_file_that_may_change_again_is_weak() {
        for (modified, weak) in [
            ((998, 0), false),
            ((998, 1), true),
            ((1000, 0), true),
            ((5000, 0), true),
            ((-5, 0), false),
        ] {
            let tag = own(modified, 1, at(1000));
            assert_eq!(tag.starts_with("W/\""), weak, "{modified:?}");
        }
    }

    #[test]
    fn last_modified_is_never_in_the_future() {
        let date = |modified, now| {
            let modified = Modified::of(metadata((modified, 999_999_999), 1), now);
            modified.date().to_string()
        };
        let now = at(784_111_777);
        assert_eq!(date(784_111_778, now), MODIFIED);
        assert_eq!(date(i64::MAX, now), MODIFIED);
        assert_eq!(date(784_111_776, now), BEFORE);
        assert_eq!(date(i64::MIN, now), "Thu, 01 Jan 1970 00:00:00 GMT");
        let now = at(LAST_SECOND + 1);
        assert_eq!(date(i64::MAX, now), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
