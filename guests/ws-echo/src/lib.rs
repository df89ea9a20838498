//! Sends every WebSocket message back.
//!
//! ```sh
//! netwasm run guests/ws-echo.wasm --http 8080
//! python3 -m websockets ws://localhost:8080
//! ```

use netwasm_guest::Result;
use netwasm_guest::websocket::WebSocket;

netwasm_guest::export!(websocket: echo);

async fn echo(mut socket: WebSocket) -> Result<()> {
    while let Some(message) = socket.receive().await {
        socket.send(message).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use netwasm_guest::testing;

    #[test]
    fn messages_come_back() {
        let mut client = testing::websocket(echo, "/");
        client.send("hello");
        client.expect("hello");
        client.send(vec![1, 2, 3]);
        client.expect(vec![1, 2, 3]);
        client.close(1001, "");
        client.expect_nothing();
    }
}
