//! Active health checks of a group's servers. Words and defaults are HAProxy's
//! (`inter`, `rise`, `fall`, `http-check expect status`).

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::UpstreamError;
use super::settings::duration;

/// Default of `check-interval`.
const INTERVAL: Duration = Duration::from_secs(2);

/// Largest `rise` and `fall`.
const MOST_IN_A_ROW: u32 = 1000;

/// Maximum of ranges of a `check-status`.
const MOST_RANGES: usize = 16;

/// Active health checks of the servers of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `check`: what is asked of a server.
    pub kind: CheckKind,
    /// `check-interval`: time from the beginning of a check to that of the next.
    pub interval: Duration,
    /// `check-timeout`: time limit of a check.
    pub timeout: Duration,
    /// `rise`: successes in a row after which a server is up.
    pub rise: NonZeroU32,
    /// `fall`: failures in a row after which a server is down.
    pub fall: NonZeroU32,
}

/// Kind of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A connection, with a TLS session if the server has it.
    Connect,
    /// A GET request.
    Get {
        /// Path and query.
        path: String,
        /// `check-host`: the value of `Host`; `None` is the server's own.
        host: Option<String>,
        /// `check-status`: the statuses of a healthy server.
        statuses: Statuses,
    },
}

/// Ranges of statuses, such as `200-299,304`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

impl Statuses {
    /// True if a status is in one of the ranges.
    #[must_use]
    pub fn include(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, range) in self.0.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            match range.start() == range.end() {
                true => write!(f, "{comma}{}", range.start())?,
                false => write!(f, "{comma}{}-{}", range.start(), range.end())?,
            }
        }
        Ok(())
    }
}

impl FromStr for Statuses {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let status = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            let status = text.parse::<u16>().ok().filter(|_| digits);
            status
                .filter(|status| (100..600).contains(status))
                .ok_or(())
        };
        let range = |text: &str| {
            let text = text.trim();
            let (from, to) = text.split_once('-').unwrap_or((text, text));
            let (from, to) = (status(from.trim())?, status(to.trim())?);
            match from <= to {
                true => Ok(from..=to),
                false => Err(()),
            }
        };
        let ranges: Result<Vec<_>, ()> = text.split(',').map(range).collect();
        let ranges = ranges.ok().filter(|ranges| ranges.len() <= MOST_RANGES);
        ranges.map(Self).ok_or(())
    }
}

/// Settings of checks, as they are read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    check: Option<String>,
    host: Option<String>,
    statuses: Option<Statuses>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    rise: Option<NonZeroU32>,
    fall: Option<NonZeroU32>,
    /// One of the settings that need `check`.
    needs_check: Option<&'static str>,
    /// One of the settings that need a path.
    needs_path: Option<&'static str>,
}

impl Draft {
    /// Takes a setting. Returns false if it is none of a check.
    ///
    /// # Errors
    /// Fails if its value is none.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<bool, UpstreamError> {
        match name {
            "check" => self.check = Some(question(value)?),
            "check-host" => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
                if value.is_empty() || !value.bytes().all(plain) {
                    let form = "a host name, with a port if it has one";
                    return Err(wrong("check-host", value, form));
                }
                self.host = Some(value.to_owned());
                self.needs_path = Some("check-host");
            }
            "check-status" => {
                let form = "statuses and ranges of them, such as 200-299,304";
                let statuses = value.parse();
                let statuses = statuses.map_err(|()| wrong("check-status", value, form))?;
                self.statuses = Some(statuses);
                self.needs_path = Some("check-status");
            }
            "check-interval" => {
                self.interval = Some(duration("check-interval", value)?);
                self.needs_check = Some("check-interval");
            }
            "check-timeout" => {
                self.timeout = Some(duration("check-timeout", value)?);
                self.needs_check = Some("check-timeout");
            }
            "rise" => {
                self.rise = Some(in_a_row("rise", value)?);
                self.needs_check = Some("rise");
            }
            "fall" => {
                self.fall = Some(in_a_row("fall", value)?);
                self.needs_check = Some("fall");
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the checks, if there are any.
    ///
    /// # Errors
    /// Fails if settings have no effect without others that are missing.
    pub(super) fn finish(self) -> Result<Option<Check>, UpstreamError> {
        let Some(check) = self.check else {
            return match self.needs_check.or(self.needs_path) {
                Some(setting) => Err(UpstreamError::Without {
                    setting,
                    needed: "check=/PATH or check=connect",
                }),
                None => Ok(None),
            };
        };
        let kind = match (check.starts_with('/'), self.needs_path) {
            (true, _) => CheckKind::Get {
                path: check,
                host: self.host,
                statuses: self.statuses.unwrap_or_default(),
            },
            (false, None) => CheckKind::Connect,
            (false, Some(setting)) => {
                return Err(UpstreamError::Without {
                    setting,
                    needed: "check=/PATH",
                });
            }
        };
        let interval = self.interval.unwrap_or(INTERVAL);
        Ok(Some(Check {
            kind,
            interval,
            timeout: self.timeout.unwrap_or(interval),
            rise: self.rise.unwrap_or(NonZeroU32::MIN.saturating_add(1)),
            fall: self.fall.unwrap_or(NonZeroU32::MIN.saturating_add(2)),
        }))
    }
}

/// Checks the value of `check`.
fn question(value: &str) -> Result<String, UpstreamError> {
    let is_path = value.starts_with('/') && value.bytes().all(|byte| byte.is_ascii_graphic());
    match is_path || value == "connect" {
        true => Ok(value.to_owned()),
        false => {
            let form = "a path, such as /health, or connect";
            Err(wrong("check", value, form))
        }
    }
}

fn in_a_row(setting: &'static str, value: &str) -> Result<NonZeroU32, UpstreamError> {
    let count = value.parse::<u32>().ok();
    let count = count.filter(|count| *count <= MOST_IN_A_ROW);
    let count = count.and_then(NonZeroU32::new);
    count.ok_or_else(|| wrong(setting, value, "a whole number from 1 to 1000"))
}

fn wrong(setting: &'static str, value: &str, form: &'static str) -> UpstreamError {
    UpstreamError::Value {
        setting,
        value: value.to_owned(),
        form,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UpstreamGroup;

    fn check(settings: &str) -> Option<Check> {
        let group: UpstreamGroup = format!("g=a:1;{settings}").parse().expect(settings);
        group.settings.check
    }

    #[test]
    fn checks_have_haproxys_defaults() {
        assert_eq!(check(""), None);
        let connects = check("check=connect").expect("a check");
        assert_eq!(connects.kind, CheckKind::Connect);
        assert_eq!(connects.interval, Duration::from_secs(2));
        assert_eq!(connects.timeout, connects.interval);
        assert_eq!((connects.rise.get(), connects.fall.get()), (2, 3));
        let asks = check("rise=1;check=/up?x=1;check-status=204,300-302;check-host=a.example");
        let Some(CheckKind::Get {
            path,
            host,
            statuses,
        }) = asks.map(|check| check.kind)
        else {
            panic!("a path");
        };
        assert_eq!((&*path, host.as_deref()), ("/up?x=1", Some("a.example")));
        assert_eq!(statuses.to_string(), "204,300-302");
        let included = [204, 300, 302].map(|status| statuses.include(status));
        assert_eq!(included, [true; 3]);
        assert!(!statuses.include(200));
    }

    #[test]
    fn what_is_wrong_with_a_check_is_told() {
        for (settings, told) in [
            ("check", "or connect"),
            ("check=x", "or connect"),
            ("check=/a b", "or connect"),
            ("rise=2", "'rise' has no effect without check=/PATH or"),
            ("check-status=200", "without check="),
            ("check=connect;check-status=200", "without check=/PATH"),
            (
                "check=/;check-status=99",
                "'99' is not a valid check-status",
            ),
            (
                "check=/;check-status=300-200",
                "is not a valid check-status",
            ),
            ("check=/;check-host=a b", "is not a valid check-host"),
            ("check=/;rise=0", "from 1 to 1000"),
            ("check=/;fall=1001", "from 1 to 1000"),
            ("check=/;check-interval=1", "with a unit"),
        ] {
            let parsed = format!("g=a:1;{settings}").parse::<UpstreamGroup>();
            let error = parsed.expect_err(settings);
            assert!(error.to_string().contains(told), "{settings}: {error}");
        }
    }
}
