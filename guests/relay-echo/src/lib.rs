//! Sends back what it receives, and never sees a byte of it: the host copies
//! from the connection to itself, natively.
//!
//! ```sh
//! netwasm run guests/relay-echo.wasm --tcp 8888
//! ```
//!
//! Compare `echo`, which does the same by hand.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:relay-echo;
        world relay-echo {
            include netwasm:net/tcp-server@0.2.0;
        }
    ",
    world: "netwasm:relay-echo/relay-echo",
    generate_all,
});

use exports::netwasm::net::tcp_handler;
use netwasm::net::transports::Transport;
use netwasm::net::types::{Error, TlsInfo};

struct RelayEcho;
export!(RelayEcho);

impl tcp_handler::Guest for RelayEcho {
    type Connection = Connection;
}

struct Connection {
    /// Kept, since dropping a transport closes it.
    _transport: Transport,
}

impl tcp_handler::GuestConnection for Connection {
    fn new(transport: Transport) -> Self {
        // This fails where the connection has failed already; `connection_lost`
        // tells of that.
        let _ = transport.relay(&transport);
        Self {
            _transport: transport,
        }
    }

    // The host sees to all that follows: the bytes, the end of the client's
    // stream, a client that does not read.
    fn data_received(&self, _data: Vec<u8>) {}
    fn eof_received(&self) -> bool {
        false
    }
    fn writable(&self) {}
    fn tls_started(&self, _info: TlsInfo) {}
    fn connection_lost(&self, _reason: Option<Error>) {}
}
