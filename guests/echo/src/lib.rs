//! Sends back what it receives, over TCP and UDP.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:echo;
        world echo {
            include netwasm:net/tcp-server@0.1.0;
            include netwasm:net/udp-server@0.1.0;
        }
    ",
    world: "netwasm:echo/echo",
    generate_all,
});

use exports::netwasm::net::{tcp_handler, udp_handler};
use netwasm::net::transports::{DatagramTransport, Transport};
use netwasm::net::types::{ErrorCode, IpSocketAddress};

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
        self.transport.write(&data);
    }
    /// False: the host sends what is still queued, then closes.
    fn eof_received(&self) -> bool {
        false
    }
    /// The client does not read: take no more from it until it does.
    fn pause_writing(&self) {
        self.transport.pause_reading();
    }
    fn resume_writing(&self) {
        self.transport.resume_reading();
    }
    fn connection_lost(&self, _reason: Option<ErrorCode>) {}
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
    fn error_received(&self, _error: ErrorCode, _peer: Option<IpSocketAddress>) {}
    fn connection_lost(&self, _reason: Option<ErrorCode>) {}
}
