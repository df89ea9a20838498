//! Conditional requests (RFC 9110, section 13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

use netwasm_net::files::Metadata;

use crate::asked::Asked;
use crate::date::{LAST_SECOND, read, seconds};
use crate::version::{self, SETTLED, Version};

/// An entity tag (RFC 9110, section 8.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag<'a> {
    weak: bool,
    /// With its quotes.
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Parses a header's value that is one tag.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::parse_front(text.trim_ascii())?;
        rest.is_empty().then_some(tag)
    }

    /// Parses the tag at the start of a text. Returns it and the rest.
    fn parse_front(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, rest) = match text {
            [b'W', b'/', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let inside = rest.strip_prefix(b"\"")?;
        let length = inside.iter().position(|byte| *byte == b'"')?;
        let (opaque, rest) = rest.split_at_checked(length + 2)?;
        // RFC 9110 allows visible characters and bytes above ASCII.
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

/// Comparison of entity tags (RFC 9110, section 8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    /// A weak tag equals none.
    Strong,
    /// Weakness is ignored.
    Weak,
}

/// A date in seconds since 1970. If `strong`, it tells versions of a file
/// apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Modified {
    seconds: u64,
    strong: bool,
}

impl Modified {
    /// Returns the time of a file's last change, never later than now (RFC
    /// 9110, section 8.8.2.1). `None` if it is unknown: caches would keep a
    /// file of 1970 for years (RFC 9111, section 4.2.2).
    pub(crate) fn of(metadata: Metadata, now: SystemTime) -> Option<Self> {
        let Version::Modified(time) = Version::of(metadata) else {
            return None;
        };
        let now_seconds = seconds(now).min(LAST_SECOND);
        let modified = u64::try_from(time.0).unwrap_or_default();
        Some(Self {
            seconds: modified.min(now_seconds),
            strong: version::is_settled(time, now),
        })
    }

    /// Parses a `Last-Modified` header.
    pub(crate) fn parse(text: &[u8], now: SystemTime) -> Option<Self> {
        let date = read(text, now)?;
        Some(Self {
            seconds: date,
            strong: date.saturating_add(SETTLED.as_secs()) <= seconds(now),
        })
    }

    pub(crate) fn date(self) -> HttpDate {
        HttpDate::from(UNIX_EPOCH + Duration::from_secs(self.seconds.min(LAST_SECOND)))
    }
}

/// Validators in the response, by which a client recognises the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validators<'a> {
    pub(crate) tag: Option<EntityTag<'a>>,
    pub(crate) modified: Option<Modified>,
    pub(crate) now: SystemTime,
}

/// Result of the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The request is answered.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

impl Validators<'_> {
    /// Evaluates the conditions of a GET or HEAD in the order of RFC 9110,
    /// section 13.2.2. [`Self::allow_range`] checks `If-Range`.
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

    /// True if `If-Range` allows a `Range` (section 13.1.5).
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
        match (read(line, self.now), self.modified) {
            (Some(wanted), Some(modified)) => modified.strong && modified.seconds == wanted,
            _ => false,
        }
    }

    /// True if the tag is in a list of tags; `None` if there is no list.
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

    /// True if the file was changed after a date; `None` if there is no date,
    /// more than one, or an invalid one.
    fn is_newer_than(&self, asked: &impl Asked, name: &str) -> Option<bool> {
        asked.first(name)?;
        let lines = asked.all(name);
        let [line] = lines.as_slice() else {
            return None;
        };
        Some(self.modified?.seconds > read(line, self.now)?)
    }
}

/// Returns the tags of a list. Skips malformed ones up to the next comma.
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
            now: at(1_000_000_000),
        }
    }

    /// Evaluates headers for a file with a tag.
    fn evaluated(tag: &str, lines: &[(&str, &str)]) -> Verdict {
        validators(tag).evaluate(&HeadLines(lines))
    }

    fn ranged(tag: &str, lines: &[(&str, &str)]) -> bool {
        validators(tag).allow_range(&HeadLines(lines))
    }

    fn metadata(modified: (i64, u32)) -> Metadata {
        Metadata {
            length: 1,
            modified,
            changed: modified,
            inode: 1,
        }
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
        let file = metadata((784_111_777, 0));
        for (now, allowed) in [(784_111_778, false), (784_111_779, true)] {
            let validators = Validators {
                tag: None,
                modified: Modified::of(file, at(now)),
                now: at(now),
            };
            let allows = validators.allow_range(&HeadLines(&[("if-range", MODIFIED)]));
            assert_eq!(allows, allowed, "{now}");
        }
    }

    #[test]
    fn last_modified_is_never_in_the_future() {
        let date = |modified, now| {
            let modified = Modified::of(metadata((modified, 999_999_999)), now);
            modified.map(|modified| modified.date().to_string())
        };
        let now = at(784_111_777);
        assert_eq!(date(784_111_778, now).as_deref(), Some(MODIFIED));
        assert_eq!(date(i64::MAX, now).as_deref(), Some(MODIFIED));
        assert_eq!(date(784_111_776, now).as_deref(), Some(BEFORE));
        let now = at(LAST_SECOND + 1);
        let last = "Fri, 31 Dec 9999 23:59:59 GMT";
        assert_eq!(date(i64::MAX, now).as_deref(), Some(last));
    }

    #[test]
    fn a_time_that_tools_set_is_no_last_modified() {
        let now = at(1_500_000_000);
        for time in [i64::MIN, 0, 1, 315_532_800, 946_684_800] {
            let modified = Modified::of(metadata((time, 0)), now);
            assert!(modified.is_none(), "{time}");
        }
    }
}
