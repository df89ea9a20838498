//! Tests the handler in the real host.

use netwasm_test::Component;

#[test]
fn a_datagram_comes_back() {
    let server = Component::of_this_crate().udp().start();
    let client = server.udp();
    client.send("hello");
    client.expect("hello");
    server.stop();
}
