//! Hyper's clients of a worker, side by side. By itself, each has one connection
//! to a server of HTTP/2, on which further requests wait without a limit once the
//! server takes no more streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::uri::Authority;

/// Maximum of exchanges with a server that a lane has at once. A server should take
/// 100 streams (RFC 9113, section 6.5.2), and most do.
pub(super) const STREAMS: usize = 64;

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
    /// Takes a place in the first lane that has one for this server.
    pub(super) fn enter(&self, server: &Authority) -> LanePlace {
        let mut busy = self.busy();
        let BusyServer { counts, is_http1 } = busy.entry(server.clone()).or_default();
        let free = counts
            .iter()
            .position(|count| *is_http1 || *count < STREAMS);
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

impl LanePlace {
    /// Notes that the server speaks HTTP/1.1, as long as there are exchanges.
    pub(super) fn speaks_http1(&self) {
        if let Some(server) = self.lanes.busy().get_mut(&self.server) {
            server.is_http1 = true;
        }
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

    #[test]
    fn a_server_of_http1_has_one_lane() {
        let lanes = Lanes::default();
        let server = Authority::from_static("one.example");
        let first = lanes.enter(&server);
        first.speaks_http1();
        let more: Vec<_> = (0..2 * STREAMS).map(|_| lanes.enter(&server)).collect();
        assert!(more.iter().all(|place| place.number == 0));
    }
}
