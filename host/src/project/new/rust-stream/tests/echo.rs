//! Tests the handler in the real host.

use netwasm_test::Component;

#[test]
fn what_is_sent_comes_back() {
    let server = Component::of_this_crate().tcp().start();
    let mut client = server.connect_tcp();
    client.send("hello\n");
    client.expect("hello\n");
    client.finish();
    client.expect_end();
    server.stop();
}
