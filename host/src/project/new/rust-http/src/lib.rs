//! An HTTP server: a page, one with a parameter, and notes as JSON.

use std::time::Duration;

use netwasm_guest::http::{Json, Path, Response, Router};
use netwasm_guest::{Result, shared};
use serde::{Deserialize, Serialize};

netwasm_guest::export!(http: site);

/// Time that a note is kept.
const KEPT: Duration = Duration::from_secs(3600);

#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Note {
    text: String,
}

fn site() -> Router {
    Router::new()
        .get("/", home)
        .get("/hello/{name}", hello)
        .post("/notes", add)
        .get("/notes/{number}", read)
}

async fn home() -> Response {
    Response::html("<h1>Home</h1>")
}

async fn hello(Path(name): Path<String>) -> String {
    format!("Hello, {name}!\n")
}

/// Keeps a note where all connections see it, and tells where it is.
async fn add(Json(note): Json<Note>) -> Result<Response> {
    let number = shared::add("notes", 1, None)?;
    shared::set(format!("note/{number}"), &note.text, KEPT)?;
    let path = format!("/notes/{number}");
    Ok(Response::json(&note).status(201).header("location", path))
}

/// `None` is answered by 404.
async fn read(Path(number): Path<u64>) -> Option<Json<Note>> {
    let note = shared::get(format!("note/{number}"))?;
    let text = note.text()?.to_owned();
    Some(Json(Note { text }))
}

/// In memory, without a host; tests/ has the same in the real one.
#[cfg(test)]
mod tests {
    use netwasm_guest::testing::Client;

    use super::*;

    #[test]
    fn each_path_has_its_page() {
        let client = Client::new(site);
        assert_eq!(client.get("/").send().text(), "<h1>Home</h1>");
        assert_eq!(client.get("/hello/you").send().text(), "Hello, you!\n");
        assert_eq!(client.get("/nowhere").send().status(), 404);
    }

    #[test]
    fn a_note_is_kept_for_its_time() {
        let client = Client::new(site);
        let note = Note {
            text: "tea".to_owned(),
        };
        let made = client.post_json("/notes", &note).send();
        assert_eq!(made.status(), 201);
        let path = made.header("location").expect("where it is");
        assert_eq!(client.get(&path).send().json::<Note>(), note);
        netwasm_guest::testing::advance(KEPT);
        assert_eq!(client.get(&path).send().status(), 404);
    }
}
