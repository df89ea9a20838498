//! Asks servers in their order, as in resolv.conf(5).
//!
//! The first server is asked for both families at once. The next is asked if it
//! is silent, or if its answer decides nothing (SERVFAIL, REFUSED, NOTIMP and
//! so on). The server that decides one family (addresses, no data, no such
//! name) decides the other too: servers that know different names are not
//! mixed. A late answer of a server that was given up still counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_proto::rr::{Name, RecordType};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cache::Cache;
use super::exchange::{self, Verdict, Way};
use super::files::{Conf, Switch};
use super::{Answer, Missing};

/// The families, the one preferred by RFC 8305 first.
const FAMILIES: [RecordType; 2] = [RecordType::AAAA, RecordType::A];

/// State of each family.
pub(super) type Found = [Option<Answer>; 2];

/// The servers, and the cache of their answers.
#[derive(Debug)]
pub(super) struct Servers {
    conf: Conf,
    /// Time that a server may be silent before the next is asked.
    patience: Duration,
    /// Index of the server that begins the next look-up (`rotate`).
    first: AtomicUsize,
    cache: Cache,
}

impl Servers {
    /// Creates the list of servers. `timeout` limits a whole look-up.
    pub(super) fn new(conf: Conf, timeout: Duration) -> Self {
        let turns = conf.attempts * u32::try_from(conf.servers.len()).unwrap_or(u32::MAX);
        Self {
            // Each server has all its turns within `timeout`.
            patience: conf.timeout.min(timeout / turns.max(1)),
            conf,
            first: AtomicUsize::new(0),
            cache: Cache::default(),
        }
    }

    /// Returns the names to ask for in turn: see [`Conf::candidates`].
    pub(super) fn candidates(&self, name: &str, ends: bool) -> Vec<String> {
        self.conf.candidates(name, ends)
    }

    /// Returns the answers that need no server.
    pub(super) fn known(&self, name: &Name) -> Found {
        FAMILIES.map(|family| match family {
            RecordType::AAAA if self.conf.has(Switch::NoIpv6) => Some(Err(Missing::NoAddress)),
            family => self.cache.get(name, family),
        })
    }

    /// Asks for the unknown families of a name, and reports answers as they
    /// arrive.
    pub(super) async fn ask(self: Arc<Self>, name: Name, found: watch::Sender<Found>) {
        let mut turns = self.turns().into_iter();
        let mut asked = FuturesUnordered::new();
        let mut turn = 0_usize;
        // Unanswered questions of this turn, and the servers of all unanswered ones.
        let mut open = 0_usize;
        let mut waiting = Vec::new();
        let mut due = Instant::now();
        let mut decided = None;
        while found.borrow().iter().any(Option::is_none) {
            tokio::select! {
                biased;
                Some((server, of_turn, place, outcome)) = asked.next() => {
                    if let Some(index) = waiting.iter().position(|it| *it == server) {
                        waiting.swap_remove(index);
                    }
                    match outcome {
                        Ok(verdict) if decided.is_none_or(|it| it == server) => {
                            decided = Some(server);
                            self.tell(&name, place, verdict, &found);
                        }
                        Ok(_) => {}
                        Err(reason) => {
                            tracing::debug!(%name, %server, %reason, "a DNS server is of no help");
                        }
                    }
                    if of_turn == turn {
                        open -= 1;
                    }
                    match decided {
                        None if open == 0 => due = Instant::now(),
                        // It may have been asked in an earlier turn.
                        Some(server) if open == 0 && !waiting.contains(&server) => {
                            fill(&found, Missing::Failed);
                        }
                        _ => {}
                    }
                }
                () = tokio::time::sleep_until(due) => {
                    let next = turns.find(|&server| decided.is_none_or(|it| it == server));
                    let Some(server) = next else {
                        fill(&found, match asked.is_empty() {
                            true => Missing::Failed,
                            false => Missing::TimedOut,
                        });
                        return;
                    };
                    turn += 1;
                    let unknown = (0..FAMILIES.len()).filter(|&it| found.borrow()[it].is_none());
                    let unknown: Vec<_> = unknown.collect();
                    open = unknown.len();
                    for place in unknown {
                        let (way, name) = (self.way(server), &name);
                        waiting.push(server);
                        asked.push(async move {
                            let outcome = exchange::ask(way, name, FAMILIES[place]).await;
                            (server, turn, place, outcome)
                        });
                    }
                    due = Instant::now() + self.patience;
                }
            }
        }
    }

    /// Returns the servers in the order of asking.
    fn turns(&self) -> Vec<SocketAddr> {
        let mut servers = self.conf.servers.clone();
        if self.conf.has(Switch::Rotate) {
            let first = self.first.fetch_add(1, Ordering::Relaxed) % servers.len().max(1);
            servers.rotate_left(first);
        }
        servers.repeat(self.conf.attempts as usize)
    }

    fn way(&self, server: SocketAddr) -> Way {
        Way {
            server,
            edns: self.conf.has(Switch::Edns),
            tcp: self.conf.has(Switch::Tcp),
        }
    }

    fn tell(
        &self,
        name: &Name,
        place: usize,
        (answer, time): Verdict,
        found: &watch::Sender<Found>,
    ) {
        self.cache.put(name, FAMILIES[place], &answer, time);
        // A server that was asked twice may answer twice.
        found.send_modify(|found| {
            found[place].get_or_insert(answer);
        });
    }
}

/// Sets each family that is still unknown to `missing`.
fn fill(found: &watch::Sender<Found>, missing: Missing) {
    found.send_modify(|found| {
        for answer in found {
            answer.get_or_insert(Err(missing));
        }
    });
}
