//! The choice of a server for a request.

use std::cmp::Ordering::{Greater, Less};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use netwasm_base::config::Balance;

use crate::upstream::clock::Clock;
use crate::upstream::hash::{lot, score};
use crate::upstream::server::{Fitness, Server};

/// Servers, and the way in which one is chosen.
#[derive(Debug)]
pub(super) struct ServerChoice {
    pub(super) servers: Vec<Arc<Server>>,
    balance: Balance,
    /// Numbers of the servers in the order of their turns, each as often as its
    /// weight says, evenly spread.
    turns: Vec<usize>,
    next: AtomicUsize,
}

/// Wishes of a request for the choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// The guest's key, for [`Balance::Hash`].
    pub key: Option<&'a [u8]>,
    /// Number of the server that the client's cookie names.
    pub stuck: Option<u64>,
}

impl ServerChoice {
    pub(super) fn new(servers: Vec<Arc<Server>>, balance: Balance) -> Self {
        let weights: Vec<_> = servers.iter().map(|server| server.weight()).collect();
        Self {
            servers,
            balance,
            turns: turns(&weights),
            next: AtomicUsize::new(0),
        }
    }

    /// Chooses a server that was not tried and is not down.
    pub(super) fn choose(
        &self,
        wish: Wish<'_>,
        tried: &[u64],
        clock: &Clock,
    ) -> Option<&Arc<Server>> {
        if let [only] = &*self.servers {
            return is_left(only, tried).then_some(only);
        }
        if let Some(stuck) = wish.stuck.and_then(|stuck| self.stuck_to(stuck, clock))
            && is_left(stuck, tried)
        {
            return Some(stuck);
        }
        match (self.balance, wish.key) {
            (Balance::Hash, Some(key)) => self.by_key(key, tried, clock),
            (Balance::LeastRequests, _) => self.least_busy(tried, clock),
            (Balance::RoundRobin | Balance::Hash, _) => self.next_in_turn(tried, clock),
        }
    }

    /// True if there is a server that was not tried and is not down.
    pub(super) fn has_another(&self, tried: &[u64]) -> bool {
        self.servers.iter().any(|server| is_left(server, tried))
    }

    /// Returns the server that a cookie names, if it is in order. If all its
    /// places are taken, the request waits for one.
    fn stuck_to(&self, number: u64, clock: &Clock) -> Option<&Arc<Server>> {
        let server = self.servers.iter().find(|it| it.number() == number)?;
        let fitness = server.fitness(0, clock)?;
        (fitness <= Fitness::Full).then_some(server)
    }

    /// Returns the server whose turn it is. One that gets no request gives its
    /// turn up, so that its share is spread over the others.
    fn next_in_turn(&self, tried: &[u64], clock: &Clock) -> Option<&Arc<Server>> {
        let mut best: Option<(Fitness, usize, &Arc<Server>)> = None;
        let (turn, servers) = self.in_turn();
        let lot = lot(turn);
        for (skipped, server) in servers.enumerate() {
            if !is_left(server, tried) {
                continue;
            }
            let Some(fitness) = server.fitness(lot, clock) else {
                continue;
            };
            if best.is_none_or(|(other, ..)| fitness < other) {
                best = Some((fitness, skipped, server));
                if fitness == Fitness::Ready {
                    break;
                }
            }
        }
        let (_, skipped, server) = best?;
        if skipped > 0 {
            self.next.fetch_add(skipped, Ordering::Relaxed);
        }
        Some(server)
    }

    /// Returns the servers, beginning with the one whose turn it is, and the
    /// number of the turn.
    fn in_turn(&self) -> (u64, impl Iterator<Item = &Arc<Server>>) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let (after, from) = self.turns.split_at(turn % self.turns.len().max(1));
        let numbers = from.iter().chain(after);
        let servers = numbers.filter_map(|&number| self.servers.get(number));
        (turn as u64, servers)
    }

    /// Returns the server with the fewest requests for its weight. Equally busy
    /// ones take turns.
    fn least_busy(&self, tried: &[u64], clock: &Clock) -> Option<&Arc<Server>> {
        let (_, servers) = self.in_turn();
        let untried = servers.filter(|it| is_left(it, tried));
        let judged = untried.filter_map(|server| {
            let fitness = server.fitness(0, clock)?;
            let busy = (server.active() + 1) as u64;
            Some((
                fitness,
                busy,
                u64::from(server.present_weight(clock)),
                server,
            ))
        });
        let best = judged.min_by(|(fitness, busy, weight, _), (others, theirs, its, _)| {
            let load = (busy * its).cmp(&(theirs * weight));
            fitness.cmp(others).then(load)
        });
        best.map(|(.., server)| server)
    }

    /// Returns the server with the highest score for a key (rendezvous hashing).
    /// A key stays with a server that is full: it waits for its place.
    fn by_key(&self, key: &[u8], tried: &[u64], clock: &Clock) -> Option<&Arc<Server>> {
        let untried = self.servers.iter().filter(|it| is_left(it, tried));
        let scored = untried.filter_map(|server| {
            let out = server.fitness(0, clock)?.max(Fitness::Full);
            let weight = server.present_weight(clock);
            Some((out, score(key, server.name_hash(), weight), server))
        });
        let best = scored.min_by(|(out, score, _), (other_out, other, _)| {
            let higher = if score > other { Less } else { Greater };
            out.cmp(other_out).then(higher)
        });
        best.map(|(_, _, server)| server)
    }
}

fn is_left(server: &Server, tried: &[u64]) -> bool {
    !server.is_down() && !tried.contains(&server.number())
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

    use netwasm_base::config::{UpstreamAddress, UpstreamGroup};

    use super::*;
    use crate::endpoint::Endpoint;

    fn group(text: &str) -> ServerChoice {
        let group: UpstreamGroup = text.parse().expect(text);
        let name = Arc::from(&*group.name);
        let servers = group.servers.iter().map(|server| {
            let UpstreamAddress::Socket(address) = server.address else {
                panic!("an address");
            };
            let endpoint = Endpoint::Address(address);
            let (weight, counters) = (server.weight, Arc::default());
            let settings = &group.settings;
            let server = Server::of_group(&name, endpoint, None, weight, settings, &counters);
            Arc::new(server)
        });
        ServerChoice::new(servers.collect(), group.settings.balance)
    }

    fn choose<'a>(group: &'a ServerChoice, key: &[u8], tried: &[u64]) -> Option<&'a Arc<Server>> {
        let wish = Wish {
            key: Some(key),
            stuck: None,
        };
        group.choose(wish, tried, &Clock::default())
    }

    /// Counts how often each port is chosen for these keys.
    fn count(group: &ServerChoice, keys: impl Iterator<Item = u32>) -> HashMap<String, u32> {
        let mut counts = HashMap::new();
        for key in keys {
            let chosen = choose(group, &key.to_le_bytes(), &[]);
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
            let first = choose(&group, b"k", &[]).expect("a server");
            let second = choose(&group, b"k", &[first.number()]);
            let second = second.expect("another");
            assert_ne!(first.number(), second.number());
            let both = [first.number(), second.number()];
            assert!(choose(&group, b"k", &both).is_none());
        }
    }

    #[test]
    fn the_least_busy_server_is_chosen_for_its_weight() {
        let group = group("g=127.0.0.1:1*2,127.0.0.1:2;balance=least-requests");
        let mut places = Vec::new();
        for _ in 0..6 {
            let server = choose(&group, b"k", &[]).expect("a server");
            places.push(server.try_enter(&mut None).expect("a place"));
        }
        let active: Vec<_> = group.servers.iter().map(|it| it.active()).collect();
        assert_eq!(active, [4, 2]);
        drop(places);
        assert!(group.servers.iter().all(|it| it.active() == 0));
    }

    #[test]
    fn a_server_without_a_free_place_is_passed_over() {
        let group = group("g=127.0.0.1:1,127.0.0.1:2;max-connections=1");
        let first = choose(&group, b"k", &[]).expect("a server");
        let _place = first.try_enter(&mut None).expect("a place");
        for _ in 0..4 {
            let other = choose(&group, b"k", &[]).expect("a server");
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
        let chosen = |group: &ServerChoice, key: u32| {
            let server = choose(group, &key.to_le_bytes(), &[]);
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
        assert!(one.is_up());
        one.has_failed();
        assert!(!one.is_up());
        for _ in 0..4 {
            let chosen = choose(&group, b"k", &[]).expect("a server");
            assert_eq!(chosen.number(), other.number());
        }
        other.has_failed();
        other.has_failed();
        assert!(choose(&group, b"k", &[]).is_some());
        one.has_succeeded();
        assert!(one.is_up());
    }

    /// Has a server fail its check, and come back at the time 1000.
    fn comes_back(group: &ServerChoice, place: usize) -> Arc<Server> {
        let server = Arc::clone(group.servers.get(place).expect("a server"));
        server.was_checked(Err("refused"));
        server.was_checked_at(Ok::<(), &str>(()), &Clock::at(1000));
        server
    }

    #[test]
    fn a_server_that_begins_slowly_gets_a_share_that_grows() {
        for balance in ["round-robin", "least-requests", "hash"] {
            let settings = "slow-start=10s;check=connect;rise=1";
            let group = group(&format!(
                "g=127.0.0.1:1,127.0.0.1:2;{settings};balance={balance}"
            ));
            let new = comes_back(&group, 1);
            let share = |at: u64| {
                let mut places = Vec::new();
                for key in 0..2000_u32 {
                    let key = key.to_le_bytes();
                    let wish = Wish {
                        key: Some(&key),
                        stuck: None,
                    };
                    let server = group.choose(wish, &[], &Clock::at(at));
                    places.push(server.expect("a server").try_enter(&mut None));
                }
                let places = places.iter().flatten();
                places
                    .filter(|it| it.server().number() == new.number())
                    .count()
            };
            let shares = [1000, 3000, 6000, 11_000].map(share);
            assert!(shares.is_sorted(), "{balance}: {shares:?}");
            let [first, second, _, whole] = shares;
            assert!(first < 40, "{balance}: {shares:?}");
            assert!((100..500).contains(&second), "{balance}: {shares:?}");
            assert!((900..1100).contains(&whole), "{balance}: {shares:?}");
        }
    }

    #[test]
    fn a_client_stays_with_the_server_of_its_cookie_while_that_is_in_order() {
        let group = group("g=127.0.0.1:1,127.0.0.1:2;max-fails=1;max-connections=1");
        let [one, other] = &*group.servers else {
            panic!("two servers");
        };
        let number = |tried: &[u64]| {
            let wish = Wish {
                key: None,
                stuck: Some(one.number()),
            };
            let server = group.choose(wish, tried, &Clock::default());
            server.expect("a server").number()
        };
        for _ in 0..4 {
            assert_eq!(number(&[]), one.number());
        }
        let place = one.try_enter(&mut None);
        assert_eq!(number(&[]), one.number(), "it waits for its place");
        drop(place);
        assert_eq!(number(&[one.number()]), other.number());
        one.has_failed();
        assert_eq!(number(&[]), other.number());
    }
}
