//! The addresses of a server that has a name, over which its requests spread.
//! Plain state, told by those who resolve and connect.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::upstream::clock::Clock;

/// Time in milliseconds for which an address that could not be connected to is
/// not preferred.
const AVOIDED: u64 = 10_000;

/// ServerAddresses of a server; none are known at first.
#[derive(Debug, Default)]
pub(super) struct ServerAddresses(Mutex<KnownAddresses>);

#[derive(Debug, Default)]
struct KnownAddresses {
    /// ServerAddresses, and the time up to which each is not preferred.
    all: Vec<(IpAddr, u64)>,
    /// Place of the address whose turn it is.
    turn: usize,
}

impl ServerAddresses {
    /// Takes the addresses that the name has now.
    pub(super) fn set(&self, found: &[IpAddr]) {
        let mut known = self.known();
        if known.all.len() == found.len() && found.iter().all(|ip| known.position(*ip).is_some()) {
            return;
        }
        let next = found.iter().map(|ip| {
            let avoided = known.position(*ip).and_then(|place| known.all.get(place));
            (*ip, avoided.map_or(0, |(_, until)| *until))
        });
        known.all = next.collect();
    }

    /// Moves on to the next address, and returns it; `None` if the name has
    /// only one that can be preferred, so that there is no choice.
    pub(super) fn next(&self, clock: &Clock) -> Option<IpAddr> {
        let mut known = self.known();
        let count = known.all.len();
        if count < 2 {
            return None;
        }
        let usable = |known: &KnownAddresses, place: usize| match known.all.get(place % count) {
            Some((_, 0)) => true,
            Some((_, until)) => *until <= clock.now(),
            None => false,
        };
        let turn = known.turn.wrapping_add(1);
        let mut places = (0..count).map(|more| turn.wrapping_add(more));
        known.turn = places.find(|place| usable(&known, *place))? % count;
        known.all.get(known.turn).map(|(ip, _)| *ip)
    }

    /// Returns the address whose turn it is, if there are several.
    pub(super) fn present(&self) -> Option<IpAddr> {
        let known = self.known();
        let several = known.all.len() > 1;
        let present = known.all.get(known.turn).filter(|_| several);
        present.map(|(ip, _)| *ip)
    }

    /// Notes that an address cannot be connected to, while another can.
    pub(super) fn is_unreachable(&self, ip: IpAddr, clock: &Clock) {
        let mut known = self.known();
        let place = known.position(ip);
        if let Some((_, until)) = place.and_then(|place| known.all.get_mut(place)) {
            *until = clock.now().saturating_add(AVOIDED);
        }
    }

    /// True if an address is one of the name's, as far as that is known.
    pub(super) fn include(&self, ip: IpAddr) -> bool {
        let known = self.known();
        known.all.is_empty() || known.position(ip).is_some()
    }

    fn known(&self) -> MutexGuard<'_, KnownAddresses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KnownAddresses {
    fn position(&self, ip: IpAddr) -> Option<usize> {
        self.all.iter().position(|(other, _)| *other == ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn addresses_take_turns() {
        let (addresses, clock) = (ServerAddresses::default(), Clock::at(1));
        assert_eq!(
            (addresses.next(&clock), addresses.include(ip(9))),
            (None, true)
        );
        addresses.set(&[ip(1)]);
        assert_eq!((addresses.next(&clock), addresses.present()), (None, None));
        addresses.set(&[ip(1), ip(2), ip(3)]);
        let turns: Vec<_> = (0..6).filter_map(|_| addresses.next(&clock)).collect();
        assert_eq!(turns, [2, 3, 1, 2, 3, 1].map(ip));
        assert_eq!(addresses.present(), Some(ip(1)));
        assert!(!addresses.include(ip(9)));
        // The last has gone in the middle of its turn.
        addresses.next(&clock);
        addresses.next(&clock);
        addresses.set(&[ip(1), ip(4)]);
        assert_eq!(addresses.present(), None);
        let turns: Vec<_> = (0..3).filter_map(|_| addresses.next(&clock)).collect();
        assert_eq!(turns, [4, 1, 4].map(ip));
        assert!(!addresses.include(ip(3)));
    }

    #[test]
    fn an_address_that_cannot_be_reached_is_passed_over_for_a_time() {
        let addresses = ServerAddresses::default();
        addresses.set(&[ip(1), ip(2)]);
        addresses.is_unreachable(ip(2), &Clock::at(1000));
        let next = |at| addresses.next(&Clock::at(at));
        assert_eq!([next(1001), next(1002)], [Some(ip(1)); 2]);
        // Another look at the name is no reason to try it.
        addresses.set(&[ip(2), ip(1), ip(3)]);
        let turns = [next(5000), next(5000), next(5000), next(5000)];
        assert!(!turns.contains(&Some(ip(2))), "{turns:?}");
        let turns = [next(11_000), next(11_000), next(11_000)];
        assert!(turns.contains(&Some(ip(2))), "{turns:?}");
        // If none can be, none is preferred.
        addresses.set(&[ip(1), ip(2)]);
        addresses.is_unreachable(ip(1), &Clock::at(20_000));
        addresses.is_unreachable(ip(2), &Clock::at(20_000));
        assert_eq!(next(20_001), None);
    }
}
