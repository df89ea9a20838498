//! Conditions of requests, and their outcome: RFC 9110, section 13.2.

use super::LONG_AGO;

/// A day before [`LONG_AGO`].
pub(crate) const EARLIER: &str = "Sat, 05 Nov 1994 08:49:37 GMT";

/// A day after it.
pub(crate) const LATER: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

/// [`LONG_AGO`] in the form of RFC 850. A two-digit year is at most 50 years ahead.
pub(crate) const IN_DASHES: &str = "Sunday, 06-Nov-94 08:49:37 GMT";

/// [`LONG_AGO`] in the form of asctime(3).
const IN_SPACES: &str = "Sun Nov  6 08:49:37 1994";

/// Headers of a request, and the status of its response.
type Condition<'a> = (Vec<(&'static str, &'a str)>, u16);

/// Returns conditions on a file of ten bytes that was changed [`LONG_AGO`] and has this
/// entity tag. `weak` is the tag as a weak one, `listed` a list that has it.
pub(crate) fn conditions<'a>(tag: &'a str, weak: &'a str, listed: &'a str) -> Vec<Condition<'a>> {
    vec![
        (vec![("If-None-Match", tag)], 304),
        (vec![("If-None-Match", weak)], 304),
        (vec![("If-None-Match", listed)], 304),
        (vec![("If-None-Match", "*")], 304),
        (
            vec![("If-None-Match", "\"a\""), ("If-None-Match", tag)],
            304,
        ),
        (vec![("If-None-Match", "\"a\", W/\"b\"")], 200),
        (vec![("If-None-Match", "nonsense")], 200),
        (vec![("If-Modified-Since", LONG_AGO)], 304),
        (vec![("If-Modified-Since", LATER)], 304),
        (vec![("If-Modified-Since", IN_DASHES)], 304),
        (vec![("If-Modified-Since", IN_SPACES)], 304),
        (vec![("If-Modified-Since", EARLIER)], 200),
        (vec![("If-Modified-Since", "yesterday")], 200),
        (
            vec![("If-None-Match", tag), ("If-Modified-Since", EARLIER)],
            304,
        ),
        (vec![("If-Match", tag)], 200),
        (vec![("If-Match", listed)], 200),
        (vec![("If-Match", "*")], 200),
        (vec![("If-Match", weak)], 412),
        (vec![("If-Match", "\"a\"")], 412),
        (vec![("If-Unmodified-Since", LONG_AGO)], 200),
        (vec![("If-Unmodified-Since", LATER)], 200),
        (vec![("If-Unmodified-Since", EARLIER)], 412),
        (vec![("If-Unmodified-Since", "yesterday")], 200),
        (
            vec![("If-Match", tag), ("If-Unmodified-Since", EARLIER)],
            200,
        ),
        (vec![("If-Match", "\"a\""), ("If-None-Match", tag)], 412),
        (vec![("If-Match", tag), ("If-None-Match", tag)], 304),
        (vec![("If-None-Match", tag), ("Range", "bytes=99-")], 304),
        (vec![("If-Match", "\"a\""), ("Range", "bytes=0-0")], 412),
        (vec![("If-Match", tag), ("Range", "bytes=0-0")], 206),
    ]
}
