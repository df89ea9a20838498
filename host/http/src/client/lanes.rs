//! Hyper's clients of a worker, side by side. By itself, each has one connection
//! to a server of HTTP/2, on which further requests wait without a limit once the
//! server takes no more streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::uri::Authority;

/// Maximum of exchanges with a server that a lane has at once. A server should take
/// 100 streams (RFC 9113, section 6.5.2), and most do. Of one that takes fewer, it is
/// their number.
pub(super) const STREAMS: usize = 64;

/// Maximum of lanes of a server. What finds no room then waits in the one with the
/// fewest exchanges.
const MOST: usize = 64;

/// Exchanges under way with servers that may speak HTTP/2.
#[derive(Clone, Debug, Default)]
pub(super) struct Lanes(Arc<Mutex<Busy>>);

type Busy = HashMap<Authority, BusyServer>;

/// A server with which there are exchanges.
#[derive(Debug, Default)]
struct BusyServer {
    /// Number of exchanges, by lane.
    counts: Vec<usize>,
    /// True if it speaks HTTP/1.1, by as many connections as are needed.
    is_http1: bool,
    /// Streams that it takes on a connection of HTTP/2, if it has told that.
    streams: Option<usize>,
}

impl BusyServer {
    /// Takes a place. A further lane is one more connection: `may_grow` says if that
    /// can be made. Returns the number of its lane.
    fn enter(&mut self, may_grow: impl Fn() -> bool) -> usize {
        let most = self.streams.map_or(STREAMS, |told| told.clamp(1, STREAMS));
        let has_room = |count: &usize| self.is_http1 || *count < most;
        let number = match self.counts.iter().position(has_room) {
            Some(number) => number,
            None if self.counts.is_empty() => 0,
            None if self.counts.len() < MOST && may_grow() => self.counts.len(),
            None => {
                let lanes = self.counts.iter().enumerate();
                let least = lanes.min_by_key(|(_, count)| **count);
                least.map_or(0, |(number, _)| number)
            }
        };
        self.take(number)
    }

    /// Takes a place in a lane. Returns the lane's number.
    fn take(&mut self, number: usize) -> usize {
        match self.counts.get_mut(number) {
            Some(count) => *count += 1,
            None => self.counts.push(1),
        }
        number
    }
}

/// Place of an exchange in a lane. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct LanePlace {
    lanes: Lanes,
    server: Authority,
    /// Number of the lane.
    pub(super) number: usize,
}

impl Lanes {
    /// Takes a place in the first lane that has one for this server, or in a further
    /// one if another connection can be made.
    pub(super) fn enter(&self, server: &Authority, may_grow: impl Fn() -> bool) -> LanePlace {
        let mut busy = self.busy();
        let number = busy.entry(server.clone()).or_default().enter(may_grow);
        self.place(server, number)
    }

    /// Takes a place in the first lane for this server, for what found no connection
    /// in its own.
    pub(super) fn enter_first(&self, server: &Authority) -> LanePlace {
        let mut busy = self.busy();
        let number = busy.entry(server.clone()).or_default().take(0);
        self.place(server, number)
    }

    fn place(&self, server: &Authority, number: usize) -> LanePlace {
        LanePlace {
            lanes: self.clone(),
            server: server.clone(),
            number,
        }
    }

    /// Notes how many streams a server takes on a connection, as long as there are
    /// exchanges with it.
    pub(super) fn note_streams(&self, server: &Authority, streams: usize) {
        if let Some(busy) = self.busy().get_mut(server) {
            busy.streams = Some(streams);
        }
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LanePlace {
    /// Notes that the server speaks HTTP/1.1, as long as there are exchanges.
    pub(super) fn speaks_http1(&self) {
        if let Some(server) = self.lanes.busy().get_mut(&self.server) {
            server.is_http1 = true;
        }
    }

    /// Notes how many streams the server takes on a connection, as long as there are
    /// exchanges.
    pub(super) fn has_streams(&self, streams: usize) {
        self.lanes.note_streams(&self.server, streams);
    }
}

impl Drop for LanePlace {
    fn drop(&mut self) {
        let mut busy = self.lanes.busy();
        let Some(BusyServer { counts, .. }) = busy.get_mut(&self.server) else {
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
        let mut first: Vec<_> = (0..STREAMS).map(|_| lanes.enter(&one, || true)).collect();
        assert!(first.iter().all(|place| place.number == 0));
        let more = [lanes.enter(&one, || true), lanes.enter(&one, || true)];
        assert_eq!(more.each_ref().map(|place| place.number), [1, 1]);
        assert_eq!(lanes.enter(&two, || true).number, 0);
        // The first one that has room is used.
        first.pop();
        assert_eq!(lanes.enter(&one, || true).number, 0);
        drop(first);
        assert_eq!(lanes.enter(&one, || true).number, 0);
        assert_eq!(lanes.busy().len(), 1);
        drop(more);
        assert!(lanes.busy().is_empty());
    }

    #[test]
    fn a_lane_has_no_more_exchanges_than_the_server_takes_streams() {
        let lanes = Lanes::default();
        let server = Authority::from_static("one.example");
        let first = lanes.enter(&server, || true);
        first.has_streams(2);
        let more: Vec<_> = (0..4).map(|_| lanes.enter(&server, || true)).collect();
        let numbers: Vec<_> = more.iter().map(|place| place.number).collect();
        assert_eq!(numbers, [0, 1, 1, 2]);
        // A server that takes none for now may take one later.
        first.has_streams(0);
        assert_eq!(lanes.enter(&server, || true).number, 3);
        // It is forgotten with the last exchange.
        drop((first, more));
        lanes.note_streams(&server, 1);
        let again = [lanes.enter(&server, || true), lanes.enter(&server, || true)];
        assert_eq!(again.each_ref().map(|place| place.number), [0, 0]);
    }

    #[test]
    fn without_room_for_a_connection_lanes_are_shared() {
        let lanes = Lanes::default();
        let server = Authority::from_static("one.example");
        let none = || false;
        let first = lanes.enter(&server, none);
        first.has_streams(1);
        let second = lanes.enter(&server, || true);
        let more = [lanes.enter(&server, none), lanes.enter(&server, none)];
        assert_eq!((first.number, second.number), (0, 1));
        assert_eq!(more.each_ref().map(|place| place.number), [0, 1]);
        assert_eq!(lanes.enter_first(&server).number, 0);
    }

    #[test]
    fn lanes_are_bounded_and_then_share() {
        let lanes = Lanes::default();
        let server = Authority::from_static("one.example");
        let first = lanes.enter(&server, || true);
        first.has_streams(1);
        let more: Vec<_> = (0..2 * MOST - 1)
            .map(|_| lanes.enter(&server, || true))
            .collect();
        assert!(more.iter().all(|place| place.number < MOST));
        assert_eq!(lanes.busy()[&server].counts, [2; MOST]);
    }

    #[test]
    fn a_server_of_http1_has_one_lane() {
        let lanes = Lanes::default();
        let server = Authority::from_static("one.example");
        let first = lanes.enter(&server, || true);
        first.speaks_http1();
        let more: Vec<_> = (0..2 * STREAMS)
            .map(|_| lanes.enter(&server, || true))
            .collect();
        assert!(more.iter().all(|place| place.number == 0));
    }
}
