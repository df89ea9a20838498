//! `Retry-After`: RFC 9110, section 10.2.3.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// Returns the time that a message's `Retry-After` tells to wait. Without one, with one
/// that is malformed, and with a date that has passed, there is none.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    pause(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// Returns the time of a value: seconds, or a date.
fn pause(told: &str, now: SystemTime) -> Option<Duration> {
    if told.bytes().all(|byte| byte.is_ascii_digit()) && !told.is_empty() {
        // More digits than fit are a long time.
        return Some(Duration::from_secs(told.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(told).ok()?;
    date.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_told_in_seconds_or_by_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (told, seconds) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
        ] {
            let seconds = seconds.map(Duration::from_secs);
            assert_eq!(pause(told, now), seconds, "{told}");
        }
    }
}
