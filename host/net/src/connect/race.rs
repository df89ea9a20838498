//! Connecting to a name: a race of its addresses (RFC 8305).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use netwasm_base::config::TcpOptions;
use netwasm_base::error::ConnectionError;
use netwasm_base::policy::Denied;

use super::dial::{Reach, connect_address};
use crate::destinations::Destinations;
use crate::io::Watched;
use crate::worker::Worker;

/// Head start of an address before the next is tried beside it: RFC 8305,
/// section 5.
const HEAD_START: Duration = Duration::from_millis(250);

/// Time that IPv4 addresses wait for IPv6 ones: RFC 8305, section 3.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Connects to a name as in RFC 8305: waits neither for the family whose
/// addresses come late, nor for an address that does not answer.
pub(super) async fn connect_name(
    worker: &Worker,
    host: &str,
    port: u16,
    reach: Reach,
) -> Result<Watched, ConnectionError> {
    let mut answers = worker.resolver.answers(host);
    let mut race = Race {
        local: reach.local(),
        first: reach.first(),
        options: worker.env().limits.tcp,
        ..Race::default()
    };
    let mut asking = true;
    let mut failure = None;
    let mut denied = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = race.attempts.join_next() => match ended {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => {
                    failure = Some(error.into());
                    // A failed attempt gives way to the next at once.
                    race.due = Instant::now();
                }
                // Attempts neither panic nor are aborted.
                Err(_) => failure = Some(ConnectionError::Aborted),
            },
            answer = answers.next(), if asking => match answer {
                Some(Ok(addresses)) => {
                    let allowed = match reach {
                        Reach::Named(_) => addresses,
                        Reach::ByPolicy(_) => {
                            worker.resolver.remember(host, &addresses);
                            allowed(worker, host, port, addresses, &mut denied)
                        }
                    };
                    if !allowed.is_empty() {
                        race.add(allowed, worker.resolver.destinations());
                    }
                }
                Some(Err(error)) => failure = Some(error),
                None => {
                    asking = false;
                    race.complete();
                }
            },
            () = tokio::time::sleep_until(race.due), if race.has_more() => race.attempt(port),
            else => {
                worker.env().deny_all(&denied);
                return Err(failure.unwrap_or(ConnectionError::AccessDenied));
            }
        }
    }
}

/// Returns the addresses of a name that the policy allows. The denied ones are
/// worth a warning only if none of these answers.
fn allowed(
    worker: &Worker,
    host: &str,
    port: u16,
    mut addresses: Vec<IpAddr>,
    denied: &mut Vec<Denied>,
) -> Vec<IpAddr> {
    let policy = &worker.env().policy;
    addresses.retain(|&ip| {
        let judged = policy.resolved_address(host, SocketAddr::new(ip, port));
        let judged = judged.inspect_err(|denied| tracing::debug!("{denied}"));
        judged.map_err(|error| denied.push(error)).is_ok()
    });
    addresses
}

/// Parallel attempts to connect to several addresses, each with a head start.
#[derive(Debug)]
struct Race {
    /// Addresses not tried yet, the best first.
    untried: Vec<IpAddr>,
    attempts: JoinSet<io::Result<Watched>>,
    /// Earliest time of the next attempt.
    due: Instant,
    /// Address tried last.
    last: Option<IpAddr>,
    /// Local address to connect from.
    local: Option<IpAddr>,
    /// Address to try first, if it is among them.
    first: Option<IpAddr>,
    /// Options of the sockets.
    options: TcpOptions,
}

impl Default for Race {
    fn default() -> Self {
        Self {
            untried: Vec::new(),
            attempts: JoinSet::new(),
            due: Instant::now(),
            last: None,
            local: None,
            first: None,
            options: TcpOptions::default(),
        }
    }
}

impl Race {
    fn has_more(&self) -> bool {
        !self.untried.is_empty()
    }

    /// Adds addresses of one family.
    fn add(&mut self, addresses: Vec<IpAddr>, destinations: &Destinations) {
        let wanted = self.first;
        let first = |ip: &IpAddr| wanted == Some(*ip);
        let preferred = addresses.iter().any(|ip| ip.is_ipv6() || first(ip));
        self.untried.extend(addresses);
        destinations.sort(&mut self.untried);
        if let Some(place) = self.untried.iter().position(first) {
            let ip = self.untried.remove(place);
            self.untried.insert(0, ip);
        }
        if self.last.is_none() {
            // Section 3: addresses of the preferred family may be about to
            // come.
            self.due = Instant::now();
            if !preferred {
                self.due += RESOLUTION_DELAY;
            }
        }
    }

    /// Notes that no addresses will follow.
    fn complete(&mut self) {
        if self.last.is_none() {
            self.due = Instant::now();
        }
    }

    /// Tries the next address.
    fn attempt(&mut self, port: u16) {
        let Some(ip) = take_next(&mut self.untried, self.last) else {
            return;
        };
        self.last = Some(ip);
        self.due = Instant::now() + HEAD_START;
        self.attempts.spawn(connect_address(
            SocketAddr::new(ip, port),
            self.local,
            self.options,
        ));
    }
}

/// Takes the best address of the family that was not tried last, so that
/// families take turns (section 4), or else the best of all.
fn take_next(untried: &mut Vec<IpAddr>, last: Option<IpAddr>) -> Option<IpAddr> {
    let other = |ip: &IpAddr| last.is_none_or(|last| last.is_ipv4() != ip.is_ipv4());
    let place = untried.iter().position(other).unwrap_or(0);
    (place < untried.len()).then(|| untried.remove(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_beginning_with_the_first() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut untried: Vec<_> = ["::1", "::2", "::3", "1.1.1.1"].map(parse).into();
        let mut last = None;
        let order: Vec<_> = std::iter::from_fn(|| {
            last = take_next(&mut untried, last);
            last
        })
        .collect();
        assert_eq!(order, ["::1", "1.1.1.1", "::2", "::3"].map(parse));
    }

    #[test]
    fn the_address_whose_turn_it_is_comes_first() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut race = Race {
            first: Some(parse("127.0.0.3")),
            ..Race::default()
        };
        let loopback = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
        race.add(loopback.map(parse).into(), &Destinations::default());
        let order = ["127.0.0.3", "127.0.0.1", "127.0.0.2", "127.0.0.4"];
        assert_eq!(race.untried, order.map(parse));
        assert!(race.due <= Instant::now(), "it waits for no other family");
    }

    #[tokio::test]
    async fn only_the_second_family_waits_a_moment_for_the_first() {
        let parse = |text: &str| vec![text.parse::<IpAddr>().expect("an address")];
        let order = Destinations::default();
        let delayed = |race: &Race| race.due > Instant::now() + RESOLUTION_DELAY / 2;
        let mut race = Race::default();
        race.add(parse("192.0.2.1"), &order);
        assert!(delayed(&race));
        race.add(parse("2001:db8::1"), &order);
        assert!(!delayed(&race));
        let mut race = Race::default();
        race.add(parse("192.0.2.1"), &order);
        race.complete();
        assert!(!delayed(&race));
    }
}
