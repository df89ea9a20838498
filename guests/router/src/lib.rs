//! Answers HTTP requests by their paths: pages, a path parameter, a query, JSON
//! and a redirect.
//!
//! ```sh
//! netwasm run guests/router.wasm --http 8080
//! curl http://localhost:8080/
//! curl http://localhost:8080/hello/Ada%20Lovelace
//! curl 'http://localhost:8080/search?q=tea+%26+cake'
//! curl http://localhost:8080/echo -H 'content-type: application/json' -d '{"a": [1, 2]}'
//! ```
//!
//! HEAD is answered wherever GET is, and OPTIONS everywhere.
use netwasm_guest::http::{Html, Json, Pairs, Path, Query, Response, Router, escape};
use serde_json::value::RawValue;

netwasm_guest::export!(http: routes);

/// All paths there are. An instance builds this once, at its first request.
fn routes() -> Router {
    Router::new()
        .get("/", async || Html("<h1>Home</h1>"))
        .get("/about", async || Html("<h1>About</h1>"))
        .get("/home", async || Response::redirect("/"))
        .get("/hello/{name}", hello)
        .get("/search", search)
        .post("/echo", echo)
}

/// Greets whom the path names.
async fn hello(Path(name): Path<String>) -> Html<String> {
    Html(format!("<h1>Hello, {}!</h1>", escape(&name)))
}

/// Shows what the query asks for, or a form that asks.
async fn search(Query(query): Query<Pairs>) -> Html<String> {
    Html(match query.get("q") {
        Some(wanted) => format!("<h1>Search</h1><p>{}</p>", escape(wanted)),
        None => r#"<h1>Search</h1><form><input name="q"></form>"#.to_owned(),
    })
}

/// Sends JSON back, every byte as it came.
async fn echo(json: Json<Box<RawValue>>) -> Json<Box<RawValue>> {
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use netwasm_guest::testing::Client;

    fn get(target: &str) -> String {
        let client = Client::new(routes);
        client.get(target).send().text().into_owned()
    }

    #[test]
    fn a_path_allows_what_it_has_handlers_for() {
        let client = Client::new(routes);
        for (path, allow) in [
            ("/hello/x", "OPTIONS, GET, HEAD"),
            ("/search", "OPTIONS, GET, HEAD"),
            ("/echo", "OPTIONS, POST"),
            ("*", "OPTIONS, GET, HEAD, POST"),
        ] {
            let answer = client.request("OPTIONS", path).send();
            assert_eq!(answer.header("allow").as_deref(), Some(allow), "{path}");
        }
        for path in ["//", "/About", "/about/", "/hello/", "/hello/x/y"] {
            assert_eq!(get(path), "404 Not Found\n", "{path}");
        }
    }

    #[test]
    fn a_name_is_decoded_once_and_escaped() {
        assert_eq!(get("/hello/Zo%C3%AB"), "<h1>Hello, Zoë!</h1>");
        assert_eq!(get("/hello/a%2Fb+c%2525"), "<h1>Hello, a/b+c%25!</h1>");
        assert_eq!(
            get("/hello/%3Cscript%3E&"),
            "<h1>Hello, &lt;script&gt;&amp;!</h1>"
        );
        // Overlong UTF-8 is none.
        assert_eq!(
            get("/hello/%C0%AF"),
            "400 Bad Request: the name is not UTF-8\n"
        );
    }

    #[test]
    fn a_query_is_decoded_as_browsers_encode_forms() {
        let page = |text| format!("<h1>Search</h1><p>{text}</p>");
        assert_eq!(
            get("/search?x=1&q=tea+%26+cake&q=no"),
            page("tea &amp; cake")
        );
        assert_eq!(get("/search?q=%3Cb%3E"), page("&lt;b&gt;"));
        assert_eq!(get("/search?q="), page(""));
        for query in ["", "?Q=1", "?qq=1"] {
            let target = format!("/search{query}");
            assert!(get(&target).contains("<form>"), "{query}");
        }
    }

    #[test]
    fn json_comes_back_byte_for_byte() {
        let client = Client::new(routes);
        let post = |body: &str| {
            let request = client.post("/echo", body);
            request.header("content-type", "Application/JSON ; charset=utf-8")
        };
        assert_eq!(
            post(r#"{"a": [1,  2.50]}"#).send().text(),
            r#"{"a": [1,  2.50]}"#
        );
        assert_eq!(post("{").send().status(), 400);
        assert_eq!(client.post("/echo", "{}").send().status(), 415);
    }
}
