//! Sends back what it receives, over TCP and UDP.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:echo;
        world echo {
            include netwasm:net/tcp-server@0.2.0;
            include netwasm:net/udp-server@0.2.0;
        }
    ",
    world: "netwasm:echo/echo",
    generate_all,
});

use exports::netwasm::net::{tcp_handler, udp_handler};
use netwasm::net::types::{ConnectionId, Error, IpSocketAddress, SocketId, TlsInfo};
use netwasm::net::{datagrams, transports};

struct Echo;
export!(Echo);

/// Nothing is kept of a connection, so its own number is the token with which
/// its events come.
impl tcp_handler::Guest for Echo {
    fn connection_made(connection: ConnectionId) -> u64 {
        connection.number
    }
    fn data_received(number: u64, data: Vec<u8>) {
        let connection = ConnectionId { number };
        if transports::write(connection, &data) == 0 {
            // The client does not read: take no more from it until it does.
            transports::pause_reading(connection);
        }
    }
    fn writable(number: u64) {
        transports::resume_reading(ConnectionId { number });
    }
    /// False: the host sends what is still queued, then closes.
    fn eof_received(_number: u64) -> bool {
        false
    }
    fn tls_started(_number: u64, _info: TlsInfo) {}
    fn connection_lost(_number: u64, _reason: Option<Error>) {}
}

impl udp_handler::Guest for Echo {
    fn connection_made(socket: SocketId) -> u64 {
        socket.number
    }
    fn datagram_received(number: u64, data: Vec<u8>, peer: IpSocketAddress) {
        // A datagram that cannot be sent back is lost, as datagrams may be.
        let _ = datagrams::send_to(SocketId { number }, &data, peer);
    }
    fn error_received(_number: u64, _error: Error, _peer: Option<IpSocketAddress>) {}
    fn connection_lost(_number: u64, _reason: Option<Error>) {}
}
