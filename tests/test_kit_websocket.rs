//! Tests of the WebSocket client of `netwasm-test`.

use netwasm_test::{Component, WebSocketMessage};

use crate::harness::{guest, pattern};
use crate::test_kit::{by_this_host, failure};

fn echo() -> Component {
    by_this_host(Component::file(guest("ws-echo")))
}

#[test]
fn messages_of_any_size_come_back() {
    let server = echo().http().https().start();
    for mut client in [server.websocket("/"), server.secure_websocket("/")] {
        assert_eq!(client.protocol(), None);
        client.send("hello");
        client.expect("hello");
        for size in [0, 125, 126, 0xffff, 0x1_0000, 100_000] {
            let bytes = pattern(size);
            client.send(bytes.clone());
            assert!(
                client.receive() == WebSocketMessage::Binary(bytes),
                "{size}"
            );
        }
        client.close(1000);
    }
    server.stop();
}

#[test]
fn another_message_and_a_refusal_are_failures() {
    let server = echo().http().start();
    let mut client = server.websocket("/");
    client.send("hello");
    let told = failure(|| client.expect("goodbye"));
    assert!(told.contains("expected: Text(\"goodbye\")"), "{told}");
    assert!(told.contains("received: Text(\"hello\")"), "{told}");
    let origin = [("Origin", "https://elsewhere.example")];
    let told = failure(|| server.websocket_with("/", &origin));
    assert!(told.contains("HTTP/1.1 403"), "{told}");
    client.close(1000);
    server.stop();
}
