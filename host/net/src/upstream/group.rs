//! A group of servers, and the choice of one for a request.

use std::cmp::Ordering::{Greater, Less};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use netwasm_base::config::{Balance, GroupSettings, UpstreamAddress, UpstreamGroup};
use netwasm_base::counters::Counters;
use netwasm_base::error::ConnectionError;

use crate::endpoint::Endpoint;
use crate::tls::ClientTls;
use crate::upstream::hash::score;
use crate::upstream::server::Server;

/// Servers that take the same requests.
#[derive(Debug)]
pub struct Group {
    /// Name, for the log.
    name: String,
    servers: Vec<Arc<Server>>,
    balance: Balance,
    /// Numbers of the servers in the order of their turns, each as often as its
    /// weight says, evenly spread.
    turns: Vec<usize>,
    next: AtomicUsize,
}

/// Fitness of a server for a request; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    Ready,
    /// It is in order, and all its places are taken.
    Full,
    /// It has failed of late. If all have, one of them is better than none.
    LeftOut,
}

impl Group {
    /// Makes a group that `--upstream` names.
    ///
    /// # Errors
    /// Fails if a server's name cannot be one of a certificate.
    pub fn new(group: &UpstreamGroup, counters: &Arc<Counters>) -> Result<Self, ConnectionError> {
        let servers = group.servers.iter().map(|server| {
            let endpoint = match &server.address {
                UpstreamAddress::Socket(address) => Endpoint::Address(*address),
                UpstreamAddress::Name(host, port) => Endpoint::named(host.clone(), *port),
                UpstreamAddress::Unix(path) => Endpoint::Unix(path.clone()),
            };
            let tls = match server.secure {
                true => Some(tls_of(&endpoint)?),
                false => None,
            };
            let settings = &group.settings;
            let server = Server::of_group(endpoint, tls, server.weight, settings, counters);
            Ok(Arc::new(server))
        });
        let servers: Result<Vec<_>, ConnectionError> = servers.collect();
        Ok(Self::of(group.name.clone(), servers?, &group.settings))
    }

    /// Makes a group of one server, to which the policy lets the guest connect.
    pub fn alone(endpoint: Endpoint, tls: Option<ClientTls>, counters: &Arc<Counters>) -> Self {
        let server = Server::by_policy(endpoint, tls, counters);
        let name = server.to_string();
        Self::of(name, vec![Arc::new(server)], &GroupSettings::default())
    }

    fn of(name: String, servers: Vec<Arc<Server>>, settings: &GroupSettings) -> Self {
        let weights: Vec<_> = servers.iter().map(|server| server.weight()).collect();
        Self {
            name,
            servers,
            balance: settings.balance,
            turns: turns(&weights),
            next: AtomicUsize::new(0),
        }
    }

    /// Returns the name, for the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of servers.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Always false.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Chooses a server that was not tried. `key` is the guest's, for
    /// [`Balance::Hash`]. Returns `None` if all were tried.
    pub fn choose(&self, key: Option<&[u8]>, tried: &[u64]) -> Option<&Arc<Server>> {
        if let [only] = &*self.servers {
            return (!tried.contains(&only.number())).then_some(only);
        }
        match (self.balance, key) {
            (Balance::Hash, Some(key)) => self.by_key(key, tried),
            (Balance::LeastRequests, _) => self.least_busy(tried),
            (Balance::RoundRobin | Balance::Hash, _) => self.next_in_turn(tried),
        }
    }

    /// Returns the server whose turn it is. One that gets no request gives its
    /// turn up, so that its share is spread over the others.
    fn next_in_turn(&self, tried: &[u64]) -> Option<&Arc<Server>> {
        let mut best: Option<(Fitness, &Arc<Server>)> = None;
        for _ in &self.turns {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.turns.len();
            let number = self.turns.get(turn).copied().unwrap_or_default();
            let Some(server) = self.servers.get(number) else {
                continue;
            };
            let fitness = fitness(server);
            let better = best.is_none_or(|(other, _)| fitness < other);
            if better && !tried.contains(&server.number()) {
                best = Some((fitness, server));
                if fitness == Fitness::Ready {
                    break;
                }
            }
        }
        best.map(|(_, server)| server)
    }

    /// Returns the servers, beginning with the one whose turn it is.
    fn in_turn(&self) -> impl Iterator<Item = &Arc<Server>> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.turns.len().max(1);
        let (after, from) = self.turns.split_at(next);
        let numbers = from.iter().chain(after);
        numbers.filter_map(|&number| self.servers.get(number))
    }

    /// Returns the server with the fewest requests for its weight. Equally busy
    /// ones take turns.
    fn least_busy(&self, tried: &[u64]) -> Option<&Arc<Server>> {
        let untried = self.in_turn().filter(|it| !tried.contains(&it.number()));
        let busy = |server: &Server| (server.active() + 1) as u64;
        untried.min_by(|one, other| {
            let load = busy(one) * u64::from(other.weight());
            let others = busy(other) * u64::from(one.weight());
            let fitness = fitness(one).cmp(&fitness(other));
            fitness.then(load.cmp(&others))
        })
    }

    /// Returns the server with the highest score for a key (rendezvous hashing).
    /// A key stays with a server that is full: it waits for its place.
    fn by_key(&self, key: &[u8], tried: &[u64]) -> Option<&Arc<Server>> {
        let untried = self
            .servers
            .iter()
            .filter(|it| !tried.contains(&it.number()));
        let scored = untried.map(|server| {
            let left_out = fitness(server) == Fitness::LeftOut;
            (
                left_out,
                score(key, server.name_hash(), server.weight()),
                server,
            )
        });
        let best = scored.min_by(|(out, score, _), (other_out, other, _)| {
            let higher = if score > other { Less } else { Greater };
            out.cmp(other_out).then(higher)
        });
        best.map(|(_, _, server)| server)
    }
}

/// Returns a client's TLS settings for a server that speaks HTTP/1.1.
fn tls_of(endpoint: &Endpoint) -> Result<ClientTls, ConnectionError> {
    let name = endpoint.server_name();
    let name = name.ok_or(ConnectionError::InvalidArgument)?;
    ClientTls::new(name, vec!["http/1.1".to_owned()])
}

fn fitness(server: &Server) -> Fitness {
    match (server.is_left_out(), server.is_full()) {
        (true, _) => Fitness::LeftOut,
        (false, true) => Fitness::Full,
        (false, false) => Fitness::Ready,
    }
}

/// Returns the order of turns of servers with these weights: smooth weighted
/// round robin, as nginx has it, for a whole cycle.
fn turns(weights: &[u32]) -> Vec<usize> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let weights: Vec<i64> = weights
        .iter()
        .map(|weight| i64::from(weight / divisor))
        .collect();
    let total: i64 = weights.iter().sum();
    let mut current = vec![0; weights.len()];
    (0..total)
        .map(|_| {
            for (current, weight) in current.iter_mut().zip(&weights) {
                *current += weight;
            }
            // The first of several that are equal.
            let best = current.iter().enumerate().rev().max_by_key(|(_, it)| **it);
            let best = best.map_or(0, |(number, _)| number);
            if let Some(current) = current.get_mut(best) {
                *current -= total;
            }
            best
        })
        .collect()
}

fn gcd(one: u32, other: u32) -> u32 {
    match other {
        0 => one,
        other => gcd(other, one % other),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn group(text: &str) -> Group {
        let group = text.parse().expect(text);
        Group::new(&group, &Arc::default()).expect("a group")
    }

    /// Counts how often each port is chosen for these keys.
    fn count(group: &Group, keys: impl Iterator<Item = u32>) -> HashMap<String, u32> {
        let mut counts = HashMap::new();
        for key in keys {
            let chosen = group.choose(Some(&key.to_le_bytes()), &[]);
            let name = chosen.expect("a server").to_string();
            *counts.entry(name).or_default() += 1;
        }
        counts
    }

    #[test]
    fn servers_take_turns_by_their_weights() {
        assert_eq!(turns(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(turns(&[10, 10]), [0, 1]);
        assert_eq!(turns(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        let group = group("g=127.0.0.1:1*3,127.0.0.1:2");
        let counts = count(&group, 0..400);
        assert_eq!(counts["127.0.0.1:1"], 300);
        assert_eq!(counts["127.0.0.1:2"], 100);
    }

    #[test]
    fn a_server_that_was_tried_is_not_chosen_again() {
        for settings in ["", ";balance=least-requests", ";balance=hash"] {
            let group = group(&format!("g=127.0.0.1:1,127.0.0.1:2{settings}"));
            let first = group.choose(Some(b"k"), &[]).expect("a server");
            let second = group.choose(Some(b"k"), &[first.number()]);
            let second = second.expect("another");
            assert_ne!(first.number(), second.number());
            let both = [first.number(), second.number()];
            assert!(group.choose(Some(b"k"), &both).is_none());
        }
    }

    #[test]
    fn the_least_busy_server_is_chosen_for_its_weight() {
        let group = group("g=127.0.0.1:1*2,127.0.0.1:2;balance=least-requests");
        let mut places = Vec::new();
        for _ in 0..6 {
            let server = group.choose(None, &[]).expect("a server");
            places.push(server.try_enter().expect("a place"));
        }
        let active: Vec<_> = group.servers.iter().map(|it| it.active()).collect();
        assert_eq!(active, [4, 2]);
        drop(places);
        assert!(group.servers.iter().all(|it| it.active() == 0));
    }

    #[test]
    fn a_server_without_a_free_place_is_passed_over() {
        let group = group("g=127.0.0.1:1,127.0.0.1:2;max-connections=1");
        let first = group.choose(None, &[]).expect("a server");
        let _place = first.try_enter().expect("a place");
        for _ in 0..4 {
            let other = group.choose(None, &[]).expect("a server");
            assert_ne!(other.number(), first.number());
        }
    }

    #[test]
    fn the_share_of_a_server_that_is_left_out_is_spread() {
        let group = group("g=127.0.0.1:1,127.0.0.1:2,127.0.0.1:3;max-fails=1");
        group.servers[2].has_failed();
        let counts = count(&group, 0..100);
        assert_eq!((counts["127.0.0.1:1"], counts["127.0.0.1:2"]), (50, 50));
    }

    #[test]
    fn keys_stay_with_their_servers_when_one_leaves() {
        let all = group("g=127.0.0.1:1,127.0.0.1:2,127.0.0.1:3*2;balance=hash");
        let fewer = group("g=127.0.0.1:1,127.0.0.1:3*2;balance=hash");
        let chosen = |group: &Group, key: u32| {
            let server = group.choose(Some(&key.to_le_bytes()), &[]);
            server.expect("a server").to_string()
        };
        for key in 0..1000 {
            let before = chosen(&all, key);
            assert_eq!(before, chosen(&all, key));
            if before != "127.0.0.1:2" {
                assert_eq!(before, chosen(&fewer, key));
            }
        }
        let counts = count(&all, 0..4000);
        assert!((1800..2200).contains(&counts["127.0.0.1:3"]), "{counts:?}");
        assert!((850..1150).contains(&counts["127.0.0.1:1"]), "{counts:?}");
    }

    #[test]
    fn a_server_that_fails_is_left_out_unless_all_fail() {
        let group = group("g=127.0.0.1:1,127.0.0.1:2;max-fails=2");
        let [one, other] = &*group.servers else {
            panic!("two servers");
        };
        one.has_failed();
        assert!(!one.is_left_out());
        one.has_failed();
        assert!(one.is_left_out());
        for _ in 0..4 {
            let chosen = group.choose(None, &[]).expect("a server");
            assert_eq!(chosen.number(), other.number());
        }
        other.has_failed();
        other.has_failed();
        assert!(group.choose(None, &[]).is_some());
        one.has_succeeded();
        assert!(!one.is_left_out());
    }
}
