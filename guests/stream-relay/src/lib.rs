//! Sends back what it receives without seeing it: the host copies.
wit_bindgen::generate!({ path: "../../wit", world: "netwasm:net/stream-server", generate_all });

use exports::netwasm::net::stream_handler::Guest;
use netwasm::net::streams::Connection;

struct Relay;
export!(Relay);

impl Guest for Relay {
    /// The connection goes on after the return, until its client ends it.
    async fn handle(connection: Connection) {
        let (data, _) = connection.receive();
        connection.send(data);
    }
}
