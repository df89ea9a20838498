//! Hyper's clients of a worker, side by side. By itself, each has one connection
//! to a server of HTTP/2, on which further requests wait without a limit once the
//! server takes no more streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::uri::Authority;

/// Exchanges with a server that a lane has at once: a server should take as many
/// streams (RFC 9113, section 6.5.2), and most do.
const STREAMS: usize = 100;

/// Exchanges under way, by server and lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Lanes(Arc<Mutex<Busy>>);

type Busy = HashMap<Authority, Vec<usize>>;

/// Place of an exchange in a lane. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct LanePlace {
    lanes: Lanes,
    server: Authority,
    /// Number of the lane.
    pub(super) number: usize,
}

impl Lanes {
    /// Takes a place in the first lane that has one for this server.
    pub(super) fn enter(&self, server: &Authority) -> LanePlace {
        let mut busy = self.busy();
        let counts = busy.entry(server.clone()).or_default();
        let free = counts.iter().position(|count| *count < STREAMS);
        let number = free.unwrap_or(counts.len());
        match counts.get_mut(number) {
            Some(count) => *count += 1,
            None => counts.push(1),
        }
        LanePlace {
            lanes: self.clone(),
            server: server.clone(),
            number,
        }
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LanePlace {
    fn drop(&mut self) {
        let mut busy = self.lanes.busy();
        let Some(counts) = busy.get_mut(&self.server) else {
            return;
        };
        if let Some(count) = counts.get_mut(self.number) {
            *count = count.saturating_sub(1);
        }
        while counts.last() == Some(&0) {
            counts.pop();
        }
        if counts.is_empty() {
            busy.remove(&self.server);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_gets_another_lane_where_one_is_full() {
        let lanes = Lanes::default();
        let [one, two] = ["one.example", "two.example:8443"].map(Authority::from_static);
        let mut first: Vec<_> = (0..STREAMS).map(|_| lanes.enter(&one)).collect();
        assert!(first.iter().all(|place| place.number == 0));
        let more = [lanes.enter(&one), lanes.enter(&one)];
        assert_eq!(more.each_ref().map(|place| place.number), [1, 1]);
        assert_eq!(lanes.enter(&two).number, 0);
        // The first one that has room is used.
        first.pop();
        assert_eq!(lanes.enter(&one).number, 0);
        drop(first);
        assert_eq!(lanes.enter(&one).number, 0);
        assert_eq!(lanes.busy().len(), 1);
        drop(more);
        assert!(lanes.busy().is_empty());
    }
}
