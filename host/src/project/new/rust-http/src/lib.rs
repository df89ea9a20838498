//! An HTTP server: a page, and one with a parameter.

use netwasm_guest::http::{Path, Response, Router};

netwasm_guest::export!(http: site);

fn site() -> Router {
    Router::new().get("/", home).get("/hello/{name}", hello)
}

async fn home() -> Response {
    Response::html("<h1>Home</h1>")
}

async fn hello(Path(name): Path<String>) -> String {
    format!("Hello, {name}!\n")
}
