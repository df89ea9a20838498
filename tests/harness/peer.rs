//! Clients with blocking sockets. Every operation has a deadline.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::{DEADLINE, network};

/// One end of a byte stream, with operations for tests.
pub(crate) struct Peer<S: Read + Write> {
    stream: BufReader<S>,
}

/// A TCP client.
pub(crate) type TcpPeer = Peer<TcpStream>;

impl<S: Read + Write> Peer<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Returns the stream below.
    pub(crate) fn get(&mut self) -> &mut S {
        self.stream.get_mut()
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream.into_inner()
    }

    /// Returns the stream, and the bytes that were received but not yet taken.
    pub(crate) fn into_parts(self) -> (S, Vec<u8>) {
        let early = self.stream.buffer().to_vec();
        (self.stream.into_inner(), early)
    }

    /// Sends all bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let stream = self.stream.get_mut();
        stream
            .write_all(bytes)
            .expect("the server takes what is sent");
        stream.flush().expect("the server takes what is sent");
    }

    /// Receives exactly `count` bytes.
    #[track_caller]
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream
            .read_exact(&mut bytes)
            .expect("as many bytes as expected");
        bytes
    }

    /// Sends bytes, and receives their echo.
    #[track_caller]
    pub(crate) fn echoes(&mut self, bytes: &[u8]) {
        self.send(bytes);
        same(&self.take(bytes.len()), bytes);
    }

    /// Sends bytes in pieces of `length`, and receives the echo of each before
    /// the next.
    #[track_caller]
    pub(crate) fn echoes_by(&mut self, length: usize, bytes: &[u8]) {
        for piece in bytes.chunks(length) {
            self.echoes(piece);
        }
    }

    /// Receives the bytes that have come, at most a buffer full. 0 is the end.
    pub(crate) fn read_some(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }

    /// Receives a line, and returns it without its line end.
    pub(crate) fn line(&mut self) -> String {
        self.whole_line().trim_end().to_owned()
    }

    /// Receives a line, and returns it with its line end.
    #[track_caller]
    pub(crate) fn whole_line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        assert!(line.ends_with('\n'), "the stream ended at {line:?}");
        line
    }

    /// Receives a line of arbitrary bytes, and returns it with its line end.
    pub(crate) fn whole_bytes_line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("a line");
        assert!(line.ends_with(b"\n"), "the stream ended");
        line
    }

    /// Sends a line, and returns the line that answers it.
    pub(crate) fn ask(&mut self, question: &str) -> String {
        self.say(question);
        self.line()
    }

    /// Sends a line.
    pub(crate) fn say(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes());
    }

    /// Receives everything up to an orderly end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("an orderly end");
        rest
    }

    /// Waits for the end of the connection, orderly or not, and returns the
    /// bytes before it.
    pub(crate) fn lost(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert!(
                !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                "the connection does not end"
            ),
        }
        rest
    }

    /// Receives everything up to a reset.
    #[track_caller]
    pub(crate) fn cut(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let error = self.stream.read_to_end(&mut rest).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        rest
    }

    /// Checks that nothing arrives for 100 ms, not even the end.
    ///
    /// This cannot prove that nothing would come later. Use it only to show
    /// that a connection is held, never to order events.
    pub(crate) fn waits(&mut self, set_timeout: impl Fn(&S, Duration)) {
        set_timeout(self.stream.get_ref(), Duration::from_millis(100));
        let error = self
            .stream
            .fill_buf()
            .map(<[u8]>::len)
            .expect_err("nothing comes");
        assert!(
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{error}"
        );
        set_timeout(self.stream.get_ref(), DEADLINE);
    }
}

impl TcpPeer {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(connect(address))
    }

    /// Makes a peer of a connection that a listener of this process accepted.
    pub(crate) fn accepted(stream: TcpStream) -> Self {
        stream.set_nonblocking(false).expect("a socket that waits");
        set_timeouts(&stream);
        Self::new(stream)
    }

    /// Connects to a server that resets the connection at once.
    #[track_caller]
    pub(crate) fn connect_to_be_cut(address: SocketAddr) {
        if let Some(mut peer) = Self::connect_unless_reset(address) {
            peer.cut();
        }
    }

    /// Connects, half-closes, and waits until the server has ended the
    /// connection, which it may reset at once.
    #[track_caller]
    pub(crate) fn come_and_go(address: SocketAddr) {
        if let Some(peer) = Self::connect_unless_reset(address) {
            peer.finish_and_wait();
        }
    }

    /// Connects to a server that may reset the connection at once. If
    /// connect(2) returns late, it reports the reset itself, and there is no
    /// peer.
    #[track_caller]
    fn connect_unless_reset(address: SocketAddr) -> Option<Self> {
        match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(stream) => {
                set_timeouts(&stream);
                Some(Self::new(stream))
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                None
            }
        }
    }

    /// Connects with a small receive buffer, so that the server soon cannot
    /// send any more.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a receive buffer");
        socket
            .connect_timeout(&address.into(), DEADLINE)
            .expect("the server accepts");
        let stream = TcpStream::from(socket);
        set_timeouts(&stream);
        Self::new(stream)
    }

    /// Half-closes the connection.
    pub(crate) fn finish(&mut self) {
        self.get().shutdown(Shutdown::Write).expect("a half-close");
    }

    /// Waits until the server has read everything that was sent.
    pub(crate) fn taken(&mut self) {
        network::taken(self.get());
    }

    /// Waits until the server cannot send any more, because nothing is read
    /// here.
    pub(crate) fn stalled(&mut self) {
        network::stalled(self.get());
    }

    /// Sends until the server takes nothing for 300 ms.
    pub(crate) fn fill(&mut self) {
        let timeout = Some(Duration::from_millis(300));
        self.get().set_write_timeout(timeout).expect("a timeout");
        fill(self.get());
    }

    /// Half-closes the connection, and waits until the server has ended it,
    /// too.
    pub(crate) fn finish_and_wait(mut self) {
        // The server may have ended it first.
        let _ = self.get().shutdown(Shutdown::Write);
        self.lost();
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        let stream = self.into_inner();
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .expect("SO_LINGER");
    }

    /// Checks that the server sends nothing and keeps the connection.
    pub(crate) fn is_held(&mut self) {
        self.waits(|stream, timeout| {
            stream.set_read_timeout(Some(timeout)).expect("a timeout");
        });
    }

    /// Waits for longer from now on: for what takes time of the processor, which
    /// others use, too.
    pub(crate) fn is_patient(&mut self) {
        let stream = self.stream.get_ref();
        stream
            .set_read_timeout(Some(6 * DEADLINE))
            .expect("a timeout");
    }
}

impl Peer<UnixStream> {
    /// Connects to a path, or to `@NAME`.
    pub(crate) fn connect_unix(path: &Path) -> Self {
        let address = netwasm_base::unix::address(path).expect("an address");
        let stream = UnixStream::connect_addr(&address).expect("the server accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        Self::new(stream)
    }

    /// Half-closes the connection.
    pub(crate) fn finish(&mut self) {
        self.get().shutdown(Shutdown::Write).expect("a half-close");
    }
}

/// Opens a TCP connection under the deadline.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("the server accepts");
    set_timeouts(&stream);
    stream
}

pub(crate) fn set_timeouts(stream: &TcpStream) {
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
}

/// A UDP client.
pub(crate) struct UdpPeer {
    pub(crate) socket: UdpSocket,
}

impl UdpPeer {
    pub(crate) fn connect(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((server.ip(), 0)).expect("a socket");
        socket.connect(server).expect("an address");
        // This is short because a lost datagram is sent again.
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .expect("a timeout");
        Self { socket }
    }

    pub(crate) fn send(&self, datagram: &[u8]) {
        self.socket.send(datagram).expect("a datagram is sent");
    }

    /// Receives a datagram. Returns `None` if none comes within a second.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 1 << 16];
        let length = self.socket.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// Sends a datagram until an answer comes, and returns the answer. Late answers to
    /// what was asked before are dropped.
    pub(crate) fn ask(&self, datagram: &[u8]) -> Vec<u8> {
        let mut late = [0; 1];
        self.socket.set_nonblocking(true).expect("no wait");
        while self.socket.recv(&mut late).is_ok() {}
        self.socket.set_nonblocking(false).expect("a wait");
        super::eventually("an answer over UDP", || {
            self.send(datagram);
            // Loopback loses next to nothing: the server is slow, most likely.
            (0..5).find_map(|_| self.receive())
        })
    }
}

/// Returns bytes without a short period, so that a shifted or doubled part
/// shows.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Sends all bytes from one thread while another receives, half-closes the
/// connection, and checks that exactly these bytes come back.
pub(crate) fn echoes(peer: TcpPeer, bytes: &[u8]) {
    let mut receiver = peer.into_inner();
    let mut sender = receiver.try_clone().expect("a second handle");
    let received = std::thread::scope(|scope| {
        scope.spawn(move || {
            sender
                .write_all(bytes)
                .expect("the server takes what is sent");
            sender.shutdown(Shutdown::Write).expect("a half-close");
        });
        let mut received = Vec::with_capacity(bytes.len());
        receiver.read_to_end(&mut received).expect("an orderly end");
        received
    });
    same(&received, bytes);
}

/// Writes until an error, such as a time-out.
pub(crate) fn fill(stream: &mut impl Write) {
    let bytes = pattern(1 << 16);
    let mut sent = 0_usize;
    while let Ok(count) = stream.write(&bytes) {
        sent += count;
        assert!(sent < 1 << 30, "it takes without end");
    }
}

/// Checks that two long byte strings are equal, without printing them.
#[track_caller]
pub(crate) fn same(received: &[u8], expected: &[u8]) {
    if received == expected {
        return;
    }
    let equal = received
        .iter()
        .zip(expected)
        .take_while(|(a, b)| a == b)
        .count();
    panic!(
        "{} bytes instead of {}, equal up to {equal}",
        received.len(),
        expected.len(),
    );
}

/// Returns the address of a listener whose backlog is full, and the sockets
/// that keep it full.
pub(crate) fn full_backlog(ip: IpAddr) -> (SocketAddr, Vec<Socket>) {
    full_backlog_at(SocketAddr::new(ip, 0))
}

/// Like [`full_backlog`], at an address with a port.
pub(crate) fn full_backlog_at(local: SocketAddr) -> (SocketAddr, Vec<Socket>) {
    let stream = || Socket::new(Domain::for_address(local), Type::STREAM, None).expect("a socket");
    let listener = stream();
    listener.bind(&local.into()).expect("a port");
    listener.listen(0).expect("a listener");
    let address = listener.local_addr().expect("its address");
    let mut kept = vec![listener];
    for _ in 0..4 {
        let socket = stream();
        socket
            .set_nonblocking(true)
            .expect("a socket that does not wait");
        // The connection is in progress, or established but never accepted.
        let _ = socket.connect(&address);
        kept.push(socket);
    }
    (address.as_socket().expect("an IP address"), kept)
}
