//! Tests the handler in the real host.

use netwasm_test::Component;

#[test]
fn each_path_has_its_page() {
    let server = Component::of_this_crate().http().start();
    let mut client = server.http();
    assert_eq!(client.get("/").text(), "<h1>Home</h1>");
    assert_eq!(client.get("/hello/you").text(), "Hello, you!\n");
    assert_eq!(client.get("/nowhere").status, 404);
    server.stop();
}
