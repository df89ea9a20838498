//! Datagrams, some of which are always under way.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use super::{Load, PATIENCE, Poll, pattern};

/// Sockets that each keep a window of datagrams under way. An operation is a
/// datagram that came back.
///
/// A batch goes out with one sendmmsg(2), as separate datagrams, because that
/// is how they arrive from a network. What has come back is received with one
/// recvmmsg(2), where a batch that the server sent with UDP_SEGMENT is still in
/// one piece.
pub(crate) struct Datagrams {
    poll: Poll,
    ready: Vec<usize>,
    flows: Vec<Flow>,
    message: Vec<u8>,
    window: usize,
    buffers: Vec<Vec<u8>>,
}

struct Flow {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Datagrams that came back and whose successors are not sent yet.
    answered: usize,
}

/// Time without any answer after which what was under way is lost.
const LOST: Duration = Duration::from_millis(50);
const BUFFER: usize = 65_536;

impl Datagrams {
    /// Checks that the server answers, and sends the first windows.
    pub(crate) fn new(
        server: SocketAddr,
        sockets: usize,
        window: usize,
        size: usize,
    ) -> io::Result<Self> {
        let mut load = Self {
            poll: Poll::new(sockets)?,
            ready: Vec::new(),
            flows: Vec::new(),
            message: pattern(size),
            window,
            buffers: vec![vec![0; BUFFER]; BATCH_SIZE],
        };
        for number in 0..sockets {
            let flow = Flow::new(server, &load.message)?;
            load.poll.add(&flow.socket, number)?;
            load.flows.push(flow);
        }
        load.restart()?;
        Ok(load)
    }

    /// Fills all windows.
    fn restart(&mut self) -> io::Result<()> {
        for flow in &mut self.flows {
            flow.answered = self.window;
            flow.send(&self.message)?;
        }
        Ok(())
    }
}

impl Flow {
    fn new(server: SocketAddr, message: &[u8]) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(message)?;
        let mut answer = [0; BUFFER];
        let length = socket.recv(&mut answer)?;
        if &answer[..length] != message {
            return Err(io::Error::other(
                "the server sends back something else than it got",
            ));
        }
        // This makes the socket non-blocking.
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self {
            socket,
            state,
            answered: 0,
        })
    }

    /// Sends as many datagrams as were answered.
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let slices = [IoSlice::new(message)];
        let mut control: Vec<_> = (0..self.answered)
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let mut batch: Vec<_> = control
            .iter_mut()
            .map(|control| MMsgHdr::new(&slices, control))
            .collect();
        match sendmmsg(&self.socket, &mut batch, SendFlags::empty()) {
            Ok(sent) => self.answered -= sent,
            Err(rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Receives what is there, and returns the number of datagrams.
    fn receive(&mut self, buffers: &mut [Vec<u8>]) -> io::Result<usize> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<_> = buffers
            .iter_mut()
            .map(|buffer| IoSliceMut::new(buffer))
            .collect();
        let count = match self
            .state
            .recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas)
        {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let pieces = metas[..count]
            .iter()
            .map(|meta| meta.len.div_ceil(meta.stride.max(1)));
        Ok(pieces.sum())
    }
}

impl Load for Datagrams {
    fn drive(&mut self, deadline: Instant) -> io::Result<u64> {
        let mut operations = 0;
        let mut last_answer = Instant::now();
        while Instant::now() < deadline {
            self.poll.wait(LOST, &mut self.ready)?;
            if self.ready.is_empty() {
                if last_answer.elapsed() > PATIENCE {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                self.restart()?;
                continue;
            }
            last_answer = Instant::now();
            for &number in &self.ready {
                let flow = &mut self.flows[number];
                let count = flow.receive(&mut self.buffers)?;
                operations += count as u64;
                flow.answered = (flow.answered + count).min(self.window);
                flow.send(&self.message)?;
            }
        }
        Ok(operations)
    }
}
