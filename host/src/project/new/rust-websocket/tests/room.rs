//! Tests the handler in the real host.

use netwasm_test::Component;

#[test]
fn what_one_says_all_hear() {
    let server = Component::of_this_crate().http().start();
    let mut ann = server.websocket("/");
    ann.expect("welcome, 1 are here");
    let mut bob = server.websocket("/");
    bob.expect("welcome, 2 are here");
    ann.send("hello");
    ann.expect("hello");
    bob.expect("hello");
    ann.close(1000);
    bob.close(1000);
    server.stop();
}
