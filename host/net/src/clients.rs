//! Clients by their addresses: who may connect, and how much each may ask for.
//!
//! A client is an IPv4 address or an IPv6 network of 64 bits, which one customer
//! mostly has for itself (RFC 6177). What is known of clients is bounded: those
//! that have nothing open, and have not asked for anything for a second, are
//! forgotten when room is needed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use netwasm_base::address::Address;
use netwasm_base::config::ClientRules;

/// Clients that are known at most, besides those with open connections.
const MOST: usize = 1 << 16;

/// The clients of a service.
#[derive(Debug)]
pub struct Clients {
    rules: ClientRules,
    known: Mutex<Table>,
}

/// Clients that are known.
#[derive(Debug)]
struct Table {
    clients: HashMap<IpAddr, Known>,
    /// Number of clients at which some are forgotten.
    most: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            clients: HashMap::new(),
            most: MOST,
        }
    }
}

/// A client that has asked for something.
#[derive(Debug)]
struct Known {
    /// Open connections.
    open: u32,
    connections: Bucket,
    requests: Bucket,
}

/// A token bucket that holds the tokens of a second.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// Reason why a client is turned away; its text names the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    /// Its network may not connect.
    #[error("clients of its network may not connect (--allow-from, --deny-from)")]
    Network,
    /// It has too many connections.
    #[error("it has too many connections (--max-client-connections)")]
    Connections,
    /// It connects too often.
    #[error("it connects too often (--max-client-rate)")]
    Rate,
}

/// Place of a connection among those of its client.
#[derive(Debug)]
pub struct ClientPlace {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Clients {
    /// Returns the clients of a service, of which none is known yet.
    pub fn new(rules: ClientRules) -> Arc<Self> {
        Arc::new(Self {
            rules,
            known: Mutex::default(),
        })
    }

    /// Returns the rules for them.
    pub fn rules(&self) -> &ClientRules {
        &self.rules
    }

    /// True if some may be turned away.
    pub fn turn_away(&self) -> bool {
        self.rules != ClientRules::default()
    }

    /// True if an address may connect or send.
    pub fn allow(&self, ip: IpAddr) -> bool {
        self.rules.allow(ip)
    }

    /// Takes a place for a connection of a client; `None` if its clients have
    /// no limits.
    ///
    /// # Errors
    /// Fails if the client is turned away.
    pub(crate) fn enter(
        self: &Arc<Self>,
        peer: &Address,
    ) -> Result<Option<ClientPlace>, TurnedAway> {
        let Address::Ip(address) = peer else {
            return Ok(None);
        };
        if !self.allow(address.ip()) {
            return Err(TurnedAway::Network);
        }
        if !self.rules.limit() {
            return Ok(None);
        }
        let client = client_of(address.ip());
        let now = Instant::now();
        let mut known = self.known();
        let entry = entry(&mut known, client, now, &self.rules);
        if let Some(most) = self.rules.connections
            && entry.open >= most.get()
        {
            return Err(TurnedAway::Connections);
        }
        if let Some(rate) = self.rules.rate
            && !entry.connections.take(rate, now)
        {
            return Err(TurnedAway::Rate);
        }
        entry.open += 1;
        Ok(Some(ClientPlace {
            clients: Arc::clone(self),
            client,
        }))
    }

    /// Takes a request of a client into account. Returns false if it has sent
    /// too many (`--max-client-requests`).
    pub fn may_request(&self, peer: &Address) -> bool {
        let (Some(rate), Address::Ip(address)) = (self.rules.requests, peer) else {
            return true;
        };
        let now = Instant::now();
        let mut known = self.known();
        let client = client_of(address.ip());
        entry(&mut known, client, now, &self.rules)
            .requests
            .take(rate, now)
    }

    fn known(&self) -> MutexGuard<'_, Table> {
        // No code panics while it holds the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        if let Some(known) = self.clients.known().clients.get_mut(&self.client) {
            known.open = known.open.saturating_sub(1);
        }
    }
}

/// Returns what is known of a client, and forgets others if there is no room.
fn entry<'k>(
    known: &'k mut Table,
    client: IpAddr,
    now: Instant,
    rules: &ClientRules,
) -> &'k mut Known {
    let Table { clients, most } = known;
    if clients.len() >= *most && !clients.contains_key(&client) {
        let idle = |it: &Known| {
            it.open == 0
                && it.connections.is_full(rules.rate, now)
                && it.requests.is_full(rules.requests, now)
        };
        clients.retain(|_, it| !idle(it));
        if clients.len() >= *most {
            // So many have come within a second: their rates are forgotten.
            clients.retain(|_, it| it.open > 0);
        }
        // Not again for each of those that come now.
        *most = MOST.max(2 * clients.len());
    }
    clients.entry(client).or_insert_with(|| Known {
        open: 0,
        connections: Bucket::full(rules.rate, now),
        requests: Bucket::full(rules.requests, now),
    })
}

impl Bucket {
    fn full(rate: Option<NonZeroU32>, now: Instant) -> Self {
        Self {
            tokens: rate.map_or(0.0, |rate| f64::from(rate.get())),
            filled: now,
        }
    }

    /// Returns the tokens that there are at a time.
    fn tokens(&self, rate: NonZeroU32, now: Instant) -> f64 {
        let rate = f64::from(rate.get());
        let more = now.saturating_duration_since(self.filled).as_secs_f64() * rate;
        (self.tokens + more).min(rate)
    }

    fn take(&mut self, rate: NonZeroU32, now: Instant) -> bool {
        let tokens = self.tokens(rate, now);
        self.filled = now;
        let is_enough = tokens >= 1.0;
        self.tokens = if is_enough { tokens - 1.0 } else { tokens };
        is_enough
    }

    fn is_full(&self, rate: Option<NonZeroU32>, now: Instant) -> bool {
        rate.is_none_or(|rate| self.tokens(rate, now) >= f64::from(rate.get()))
    }
}

/// Returns what stands for a client: its IPv4 address, or the first of its 2^64
/// IPv6 addresses.
fn client_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn clients(connections: u32, rate: u32, requests: u32) -> Arc<Clients> {
        Clients::new(ClientRules {
            connections: NonZeroU32::new(connections),
            rate: NonZeroU32::new(rate),
            requests: NonZeroU32::new(requests),
            ..ClientRules::default()
        })
    }

    fn address(text: &str) -> Address {
        Address::Ip(text.parse().expect("an address"))
    }

    #[test]
    fn a_client_has_so_many_connections_and_others_theirs() {
        let clients = clients(2, 0, 0);
        let one = address("[2001:db8:0:1::1]:1");
        let neighbour = address("[2001:db8:0:1:ffff::2]:2");
        let other = address("[2001:db8:0:2::1]:1");
        let first = clients.enter(&one).expect("a place");
        let _second = clients.enter(&neighbour).expect("a place");
        assert_eq!(clients.enter(&one).err(), Some(TurnedAway::Connections));
        assert!(clients.enter(&other).is_ok());
        drop(first);
        assert!(clients.enter(&one).is_ok());
        let unix = Address::Unix(None);
        assert!(clients.enter(&unix).expect("no limit").is_none());
    }

    #[test]
    fn a_rate_allows_as_many_at_once_as_a_second_has() {
        let clients = clients(0, 3, 2);
        let one = address("192.0.2.1:1");
        for _ in 0..3 {
            assert!(clients.enter(&one).is_ok());
        }
        assert_eq!(clients.enter(&one).err(), Some(TurnedAway::Rate));
        assert!(clients.may_request(&one) && clients.may_request(&one));
        assert!(!clients.may_request(&one));
        assert!(clients.may_request(&address("192.0.2.2:1")));

        let rate = NonZeroU32::new(4).expect("a rate");
        let begun = Instant::now();
        let mut bucket = Bucket::full(Some(rate), begun);
        let mut takes = |after: u64| bucket.take(rate, begun + Duration::from_millis(after));
        let taken: Vec<_> = [0, 0, 0, 0, 0, 249, 250, 251, 750, 750, 750]
            .into_iter()
            .map(&mut takes)
            .collect();
        let expected = [
            true, true, true, true, false, false, true, false, true, true, false,
        ];
        assert_eq!(taken, expected);
    }

    #[test]
    fn clients_that_ask_for_nothing_are_forgotten() {
        let clients = clients(1, 1, 0);
        let address = |number: u32| {
            let ip = std::net::Ipv4Addr::from_bits(number);
            Address::Ip((ip, 1).into())
        };
        let kept = clients.enter(&address(0)).expect("a place");
        // All at once, however long it takes: none has its tokens back.
        let (now, rate) = (Instant::now(), NonZeroU32::MIN);
        for number in 1..=2 * u32::try_from(MOST).expect("a number") {
            let mut known = clients.known();
            let client = std::net::Ipv4Addr::from_bits(number).into();
            let its = entry(&mut known, client, now, &clients.rules);
            assert!(its.connections.take(rate, now));
        }
        assert!(clients.known().clients.len() <= MOST);
        // Open connections are not.
        assert_eq!(
            clients.enter(&address(0)).err(),
            Some(TurnedAway::Connections)
        );
        drop(kept);
    }
}
