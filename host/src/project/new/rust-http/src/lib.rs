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

/// In memory, without a host; tests/ has the same in the real one.
#[cfg(test)]
mod tests {
    use netwasm_guest::testing::Client;

    #[test]
    fn each_path_has_its_page() {
        let client = Client::new(super::site);
        assert_eq!(client.get("/").send().text(), "<h1>Home</h1>");
        assert_eq!(client.get("/hello/you").send().text(), "Hello, you!\n");
        assert_eq!(client.get("/nowhere").send().status(), 404);
    }
}
