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
use netwasm::net::transports::{DatagramTransport, Transport};
use netwasm::net::types::{Error, IpSocketAddress, TlsInfo};

struct Echo;
export!(Echo);

impl tcp_handler::Guest for Echo {
    type Connection = Connection;
}
impl udp_handler::Guest for Echo {
    type Endpoint = Endpoint;
}

struct Connection {
    transport: Transport,
}

impl tcp_handler::GuestConnection for Connection {
    fn new(transport: Transport) -> Self {
        Self { transport }
    }
    fn data_received(&self, data: Vec<u8>) {
        // The client does not read: take no more from it until it does.
        if self.transport.write(&data) == 0 {
            self.transport.pause_reading();
        }
    }
    /// False: the host sends what is still queued, then closes.
    fn eof_received(&self) -> bool {
        false
    }
    fn writable(&self) {
        self.transport.resume_reading();
    }
    fn tls_started(&self, _info: TlsInfo) {}
    fn connection_lost(&self, _reason: Option<Error>) {}
}

struct Endpoint {
    transport: DatagramTransport,
}

impl udp_handler::GuestEndpoint for Endpoint {
    fn new(transport: DatagramTransport) -> Self {
        Self { transport }
    }
    fn datagram_received(&self, data: Vec<u8>, peer: IpSocketAddress) {
        // A datagram that cannot be sent back is lost, as datagrams may be.
        let _ = self.transport.send_to(&data, peer);
    }
    fn error_received(&self, _error: Error, _peer: Option<IpSocketAddress>) {}
    fn connection_lost(&self, _reason: Option<Error>) {}
}
