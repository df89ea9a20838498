//! Outgoing datagrams, grouped by peer: bursts by segmentation offload
//! (UDP_SEGMENT, udp(7)) if several have one size.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use netwasm_base::error::ConnectionError;
use quinn_udp::{Transmit, UdpSocketState};
use rustix::io::Errno;

use crate::turns::Turn;

/// Maximum length of a datagram over IPv4, in bytes: what the length fields of
/// UDP and IPv4 leave.
pub(super) const LONGEST_V4: usize = 65_507;
/// Maximum length over IPv6, in bytes; its length field does not count its own
/// header.
pub(super) const LONGEST_V6: usize = 65_527;

/// Maximum size of datagrams sent as segments, in bytes. Every link carries
/// them whole (RFC 8200, section 5: 1,280 with headers).
const SEGMENT: usize = 1232;

/// Number of latest bursts that a datagram may join.
const OPEN_BURSTS: usize = 16;

/// Maximum that may wait for the kernel, in bytes; beyond it datagrams are
/// dropped.
const MOST_QUEUED: usize = 4 << 20;

/// Datagrams to send, in order for each peer.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) bursts: VecDeque<Burst>,
    pub(super) queued: usize,
    pub(super) dropped: u64,
    /// Bytes sent that were not counted yet.
    pub(super) sent: usize,
    /// A buffer to reuse.
    pub(super) spare: Vec<u8>,
}

/// Datagrams to one peer, all of one size except the last, which may be
/// shorter.
#[derive(Debug)]
pub(super) struct Burst {
    to: SocketAddr,
    from: Option<IpAddr>,
    size: usize,
    count: usize,
    data: Vec<u8>,
    /// Datagrams that the kernel has already taken one by one.
    sent: usize,
}

impl Burst {
    fn takes(&self, data: &[u8], from: Option<IpAddr>) -> bool {
        self.from == from
            && (1..=self.size.min(SEGMENT)).contains(&data.len())
            && self.size <= SEGMENT
            && self.data.len() == self.size * self.count
            && self.count < 64
            && self.data.len() + data.len() <= LONGEST_V4
    }
}

impl Outgoing {
    pub(super) fn push(&mut self, data: &[u8], to: SocketAddr, from: Option<IpAddr>) {
        // An empty datagram takes room too.
        let size = data.len() + size_of::<Burst>();
        if self.queued + size > MOST_QUEUED {
            self.dropped += 1;
            return;
        }
        let last = self
            .bursts
            .iter_mut()
            .rev()
            .take(OPEN_BURSTS)
            .find(|burst| burst.to == to);
        if let Some(burst) = last
            && burst.takes(data, from)
        {
            burst.data.extend_from_slice(data);
            burst.count += 1;
            self.queued += data.len();
            return;
        }
        self.queued += size;
        let mut buffer = std::mem::take(&mut self.spare);
        buffer.clear();
        buffer.extend_from_slice(data);
        self.bursts.push_back(Burst {
            to,
            from,
            size: data.len(),
            count: 1,
            data: buffer,
            sent: 0,
        });
    }

    /// Sends until the kernel takes no more, or others have their turn.
    ///
    /// # Errors
    /// `WouldBlock`: the kernel takes no more at present. Other errors concern
    /// one burst, and are added to `errors`.
    pub(super) fn send(
        &mut self,
        socket: &OwnedFd,
        state: &UdpSocketState,
        turn: &Turn,
        errors: &mut Vec<(ConnectionError, SocketAddr)>,
    ) -> io::Result<()> {
        while let Some(burst) = self.bursts.front_mut() {
            let size = burst.data.len() + size_of::<Burst>();
            match burst.send(socket, state) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Ok(()) => self.sent += burst.data.len(),
                Err(error) => errors.push((error.into(), burst.to)),
            }
            if let Some(burst) = self.bursts.pop_front() {
                self.queued = self.queued.saturating_sub(size);
                self.spare = burst.data;
            }
            if turn.is_over(size) {
                break;
            }
        }
        if self.spare.capacity() > LONGEST_V6 {
            self.spare = Vec::new();
        }
        Ok(())
    }
}

impl Burst {
    /// Sends the rest of the burst: as segments of one call if possible,
    /// otherwise one by one.
    fn send(&mut self, socket: &OwnedFd, state: &UdpSocketState) -> io::Result<()> {
        if (2..=state.max_gso_segments()).contains(&(self.count - self.sent)) {
            match self.transmit(socket, state, self.left(), Some(self.size)) {
                // The device cannot segment: send one by one.
                Err(error)
                    if matches!(
                        Errno::from_io_error(&error),
                        Some(Errno::IO | Errno::INVAL | Errno::MSGSIZE)
                    ) => {}
                result => return result,
            }
        }
        while self.sent < self.count {
            let left = self.left();
            let datagram = left.get(..self.size).unwrap_or(left);
            self.transmit(socket, state, datagram, None)?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Returns the datagrams that are yet to be sent.
    fn left(&self) -> &[u8] {
        self.data.get(self.sent * self.size..).unwrap_or_default()
    }

    fn transmit(
        &self,
        socket: &OwnedFd,
        state: &UdpSocketState,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.to,
            ecn: None,
            contents,
            segment_size,
            src_ip: self.from,
        };
        match state.try_send(socket.into(), &transmit) {
            // This may be the error of an earlier datagram, by ICMP, which the
            // error queue reports too. This datagram was not sent. Its own
            // error would come again.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                state.try_send(socket.into(), &transmit)
            }
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn bursts(outgoing: &Outgoing) -> Vec<(u16, usize, usize)> {
        outgoing
            .bursts
            .iter()
            .map(|burst| (burst.to.port(), burst.size, burst.count))
            .collect()
    }

    #[test]
    fn datagrams_of_one_size_to_one_peer_go_together() {
        let mut outgoing = Outgoing::default();
        for _ in 0..3 {
            outgoing.push(&[0; 64], peer(1), None);
            outgoing.push(&[0; 64], peer(2), None);
        }
        assert_eq!(bursts(&outgoing), [(1, 64, 3), (2, 64, 3)]);
    }

    #[test]
    fn a_shorter_one_ends_a_burst_and_a_longer_one_begins_another() {
        let mut outgoing = Outgoing::default();
        for size in [64, 10, 10, 64, 100] {
            outgoing.push(&vec![0; size], peer(1), None);
        }
        assert_eq!(
            bursts(&outgoing),
            [(1, 64, 2), (1, 10, 1), (1, 64, 1), (1, 100, 1)]
        );
    }

    #[test]
    fn empty_and_large_datagrams_go_alone() {
        let mut outgoing = Outgoing::default();
        for size in [0, 0, 2000, 2000, 64, 0] {
            outgoing.push(&vec![0; size], peer(1), None);
        }
        let counts: Vec<_> = outgoing.bursts.iter().map(|burst| burst.count).collect();
        assert_eq!(counts, [1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn what_the_kernel_does_not_take_is_bounded() {
        let mut outgoing = Outgoing::default();
        for _ in 0..100 {
            outgoing.push(&[0; LONGEST_V4], peer(1), None);
        }
        assert!(outgoing.queued <= MOST_QUEUED);
        assert!(outgoing.dropped > 0);
        let sent = outgoing.bursts.len() as u64;
        assert_eq!(outgoing.dropped + sent, 100);
        for _ in 0..MOST_QUEUED {
            outgoing.push(&[], peer(1), None);
        }
        assert!(outgoing.queued <= MOST_QUEUED, "empty ones count as well");
    }
}
