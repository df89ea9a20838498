//! Sends back what it receives, as a task for each connection.
wit_bindgen::generate!({ path: "../../wit", world: "netwasm:net/stream-server", generate_all });

use exports::netwasm::net::stream_handler::Guest;
use netwasm::net::streams::Connection;
use wit_bindgen::StreamResult;

/// Read buffer size in bytes.
const CHUNK: usize = 64 << 10;

struct Echo;
export!(Echo);

impl Guest for Echo {
    async fn handle(connection: Connection) {
        let (mut reader, _) = connection.receive();
        let (mut writer, data) = wit_stream::new();
        let sent = connection.send(data);
        let mut buffer = Vec::with_capacity(CHUNK);
        loop {
            let (result, chunk) = reader.read(buffer).await;
            if !chunk.is_empty() {
                // The rest was not taken, since the client has gone.
                buffer = writer.write_all(chunk).await;
                if !buffer.is_empty() {
                    return;
                }
            } else if result == StreamResult::Dropped {
                break;
            } else {
                buffer = chunk;
            }
        }
        // The end of the stream closes the sending side.
        drop(writer);
        let _ = sent.await;
    }
}
