//! Datagrams that have been received together, until each is delivered.

use std::net::SocketAddr;
use std::ops::Range;

use quinn_udp::{BATCH_SIZE, RecvMeta};

use super::BUFFER;

/// Datagrams received at once.
#[derive(Default)]
pub(super) struct ReceivedBurst {
    pub(super) metas: [RecvMeta; BATCH_SIZE],
    /// Number of filled buffers.
    pub(super) count: usize,
    /// True if all are from one peer or two.
    pub(super) few_peers: bool,
    /// Next buffer, and the number of its bytes already handed over.
    pub(super) next: usize,
    pub(super) offset: usize,
}

impl ReceivedBurst {
    pub(super) fn is_empty(&self) -> bool {
        self.next >= self.count
    }

    /// Returns the next datagram: its metadata, and its range in the buffers.
    pub(super) fn next(&mut self) -> Option<(RecvMeta, Range<usize>)> {
        if self.is_empty() {
            return None;
        }
        let meta = *self.metas.get(self.next)?;
        let begin = self.next * BUFFER;
        let end = self.offset.saturating_add(meta.stride.max(1)).min(meta.len);
        let datagram = begin + self.offset..begin + end;
        if end >= meta.len {
            self.next += 1;
            self.offset = 0;
        } else {
            self.offset = end;
        }
        Some((meta, datagram))
    }
}

/// True if there are at most two different addresses.
pub(super) fn are_few(mut peers: impl Iterator<Item = SocketAddr>) -> bool {
    let Some(first) = peers.next() else {
        return true;
    };
    let mut second = None;
    peers.all(|peer| peer == first || *second.get_or_insert(peer) == peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_two_peers_are_few() {
        let few = |ports: &[u16]| {
            are_few(
                ports
                    .iter()
                    .map(|port| SocketAddr::from(([127, 0, 0, 1], *port))),
            )
        };
        for ports in [&[][..], &[1], &[1, 1, 1], &[1, 2, 1, 2, 2]] {
            assert!(few(ports), "{ports:?}");
        }
        for ports in [&[1, 2, 3][..], &[1, 1, 2, 1, 3]] {
            assert!(!few(ports), "{ports:?}");
        }
    }
}
