//! Tests the handler in the real host.

use netwasm_test::{Component, json};

#[test]
fn each_path_has_its_page() {
    let server = Component::of_this_crate().http().start();
    let mut client = server.http();
    assert_eq!(client.get("/").text(), "<h1>Home</h1>");
    assert_eq!(client.get("/hello/you").text(), "Hello, you!\n");
    assert_eq!(client.get("/nowhere").status, 404);
    server.stop();
}

#[test]
fn a_note_is_there_for_other_connections() {
    let server = Component::of_this_crate().http().start();
    let mut client = server.http();
    let made = client.post_json("/notes", &json!({ "text": "tea" }));
    assert_eq!(made.status, 201);
    let path = made.header("location").expect("where it is");
    assert_eq!(server.http().get(path).json()["text"], "tea");
    assert_eq!(
        client.post_json("/notes", &json!({ "txt": "tea" })).status,
        400
    );
    server.stop();
}
