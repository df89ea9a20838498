//! Settings of a group, by the words of its text.

use std::path::PathBuf;
use std::time::Duration;

use super::{Check, UpstreamError};
use crate::config::proxy::ProxyProtocol;

/// Settings of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// `balance`: the way in which a server is chosen.
    pub balance: Balance,
    /// `http`: the version of HTTP that is spoken with the servers.
    pub http: HttpVersion,
    /// `max-connections`: exchanges with a server at once, of all workers.
    /// `None`: no limit.
    pub max_connections: Option<u32>,
    /// `max-queue`: requests that wait for a place, for each server.
    pub max_queue: u32,
    /// `queue-timeout`: time for which a request waits there.
    pub queue_timeout: Duration,
    /// `max-fails`: failures within `fail-timeout` after which a server gets no
    /// requests for as long again. 0: never.
    pub max_fails: u32,
    /// `fail-timeout`. See `max_fails`.
    pub fail_timeout: Duration,
    /// `max-requests`: requests to the group at once, of all workers, those that
    /// wait included. `None`: no limit.
    pub max_requests: Option<u32>,
    /// `slow-start`: time in which the share of a server that has come back
    /// grows to its weight. `None`: it has that at once.
    pub slow_start: Option<Duration>,
    /// `retry-after`: longest time for which a server gets no requests because
    /// its 503 or 429 says so. `None`: what it says is not looked at.
    pub retry_after: Option<Duration>,
    /// `check`: active health checks.
    pub check: Option<Check>,
    /// `sticky`: the cookie that keeps a client with its server.
    pub sticky: Option<Sticky>,
    /// `proxy-protocol`: the header that each connection begins with.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// TLS sessions with servers at `https://`.
    pub tls: UpstreamTls,
}

/// Settings of TLS sessions with the servers of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// `tls-name`: the name that certificates must carry, sent as SNI. `None`:
    /// the server's own.
    pub name: Option<String>,
    /// `tls-authority`: name of the authorities to verify servers by.
    pub authority: Option<String>,
    /// `tls-identity`: name of the certificate for servers that ask for one.
    pub identity: Option<String>,
}

/// A cookie that keeps a client with its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// `sticky`: the cookie's name.
    pub cookie: String,
    /// `sticky-key`: a file with the secret of the servers' names in the cookie.
    pub key: Option<PathBuf>,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            balance: Balance::RoundRobin,
            http: HttpVersion::Http1,
            max_connections: None,
            max_queue: 128,
            queue_timeout: Duration::from_secs(5),
            max_fails: 3,
            fail_timeout: Duration::from_secs(10),
            max_requests: None,
            slow_start: None,
            retry_after: None,
            check: None,
            sticky: None,
            tls: UpstreamTls::default(),
            proxy_protocol: None,
        }
    }
}

/// The way in which a server of a group is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn, each as often as its weight says.
    RoundRobin,
    /// The one with the fewest requests under way, in proportion to its weight.
    LeastRequests,
    /// By a key that the guest gives: a key stays with its server, and few keys
    /// move when servers come or go. Requests without a key take turns.
    Hash,
}

/// The version of HTTP that is spoken with a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN in TLS, and otherwise with prior knowledge.
    Http2,
    /// In TLS, HTTP/2 if the server agrees on it. Otherwise HTTP/1.1.
    Auto,
}

impl GroupSettings {
    /// Sets a setting by its name.
    ///
    /// # Errors
    /// Fails if there is no such setting, or with its value.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), UpstreamError> {
        let wrong = |setting, form| UpstreamError::Value {
            setting,
            value: value.to_owned(),
            form,
        };
        let number = |setting| {
            let form = "a whole number";
            value.parse::<u32>().map_err(|_| wrong(setting, form))
        };
        let time = |setting| duration(setting, value);
        let limit = |setting| match number(setting)? {
            0 => Err(wrong(setting, "a whole number, 1 or more")),
            most => Ok(Some(most)),
        };
        match name {
            "balance" => {
                self.balance = match value {
                    "round-robin" => Balance::RoundRobin,
                    "least-requests" => Balance::LeastRequests,
                    "hash" => Balance::Hash,
                    _ => {
                        let form = "round-robin, least-requests or hash";
                        return Err(wrong("balance", form));
                    }
                }
            }
            "http" => {
                self.http = match value {
                    "1.1" => HttpVersion::Http1,
                    "2" => HttpVersion::Http2,
                    "auto" => HttpVersion::Auto,
                    _ => return Err(wrong("http", "1.1, 2 or auto")),
                }
            }
            "max-requests" => self.max_requests = limit("max-requests")?,
            "max-connections" => self.max_connections = limit("max-connections")?,
            "max-queue" => self.max_queue = number("max-queue")?,
            "queue-timeout" => self.queue_timeout = time("queue-timeout")?,
            "max-fails" => self.max_fails = number("max-fails")?,
            "fail-timeout" => self.fail_timeout = time("fail-timeout")?,
            "slow-start" => self.slow_start = Some(time("slow-start")?),
            "retry-after" => self.retry_after = Some(time("retry-after")?),
            "sticky" => {
                if !is_cookie_name(value) {
                    let form = "the name of a cookie, of letters, digits, '-' and '_'";
                    return Err(wrong("sticky", form));
                }
                self.sticky = Some(Sticky {
                    cookie: value.to_owned(),
                    key: None,
                });
            }
            "tls-name" => {
                if !crate::policy::is_host_name(value) {
                    return Err(wrong("tls-name", "the name of a certificate"));
                }
                self.tls.name = Some(value.to_owned());
            }
            "tls-authority" => self.tls.authority = Some(value.to_owned()),
            "tls-identity" => self.tls.identity = Some(value.to_owned()),
            "proxy-protocol" => {
                self.proxy_protocol = match value {
                    "v1" => Some(ProxyProtocol::Version1),
                    "v2" => Some(ProxyProtocol::Version2),
                    _ => return Err(wrong("proxy-protocol", "v1 or v2")),
                }
            }
            // HAProxy's words.
            "send-proxy" if value.is_empty() => {
                self.proxy_protocol = Some(ProxyProtocol::Version1);
            }
            "send-proxy-v2" if value.is_empty() => {
                self.proxy_protocol = Some(ProxyProtocol::Version2);
            }
            _ => return Err(UpstreamError::Setting(name.to_owned())),
        }
        Ok(())
    }
}

/// True for a name of a cookie that needs no care anywhere: RFC 6265, section
/// 4.1.1, allows more.
fn is_cookie_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// Parses the time that a setting has.
pub(super) fn duration(setting: &'static str, value: &str) -> Result<Duration, UpstreamError> {
    time(value).ok_or_else(|| UpstreamError::Value {
        setting,
        value: value.to_owned(),
        form: "a number with a unit, ms, s, m or h, such as 500ms or 10s",
    })
}

/// Parses a time of at least a millisecond and at most a day.
fn time(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return None,
    };
    let time = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(unit)?);
    let range = Duration::from_millis(1)..=Duration::from_hours(24);
    range.contains(&time).then_some(time)
}
