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
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:router;
        world router {
            include netwasm:net/http-server@0.2.0;
        }
    ",
    world: "netwasm:router/router",
    generate_all,
});

use std::sync::LazyLock;

use exports::netwasm::net::http_handler;
use html_escape::encode_text;
use matchit::Params;
use netwasm::net::http::{Answer, Body, Method, Request, Response};
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

/// All paths there are. An instance builds this once, at its first request.
static ROUTES: LazyLock<matchit::Router<Resource>> = LazyLock::new(|| {
    let mut routes = matchit::Router::new();
    for (path, resource) in [
        ("/", get(home)),
        ("/about", get(about)),
        ("/home", get(old_home)),
        ("/hello/{name}", get(hello)),
        ("/search", get(search)),
        ("/echo", post(echo)),
    ] {
        routes
            .insert(path, resource)
            .expect("two paths contradict each other");
    }
    routes
});

/// What all resources allow together, for `OPTIONS *`.
const METHODS: &str = "OPTIONS, GET, HEAD, POST";

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

struct Router;
export!(Router);

impl http_handler::Guest for Router {
    fn handle(method: Method, target: String, request: &Request) -> Answer {
        Answer::Respond(respond(method, &target, request))
    }
}

fn respond(method: Method, target: &str, request: &Request) -> Response {
    if target == "*" {
        return options(METHODS);
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let Ok(route) = ROUTES.at(path) else {
        return html(404, "<h1>404 Not Found</h1>");
    };
    let Some(handler) = route.value.handler(&method) else {
        let allow = route.value.allow();
        return match method {
            Method::Options => options(&allow),
            _ => not_allowed(&allow),
        };
    };
    handler(&Call {
        request,
        query,
        parameters: route.params,
    })
}

/// A request on its way to a handler.
struct Call<'a> {
    request: &'a Request,
    /// What follows the question mark, as it was sent.
    query: &'a str,
    /// The parts of the path that its pattern names, as they were sent.
    parameters: Params<'a, 'a>,
}

type Handler = fn(&Call<'_>) -> Response;

/// What answers the requests for a path.
#[derive(Default)]
struct Resource {
    get: Option<Handler>,
    post: Option<Handler>,
}

fn get(handler: Handler) -> Resource {
    Resource {
        get: Some(handler),
        ..Resource::default()
    }
}

fn post(handler: Handler) -> Resource {
    Resource {
        post: Some(handler),
        ..Resource::default()
    }
}

impl Resource {
    fn handler(&self, method: &Method) -> Option<Handler> {
        match method {
            // To HEAD the host sends the same without the body.
            Method::Get | Method::Head => self.get,
            Method::Post => self.post,
            _ => None,
        }
    }

    /// The methods that it answers (RFC 9110, section 10.2.1).
    fn allow(&self) -> String {
        let mut methods = vec!["OPTIONS"];
        if self.get.is_some() {
            methods.extend(["GET", "HEAD"]);
        }
        if self.post.is_some() {
            methods.push("POST");
        }
        methods.join(", ")
    }
}

fn home(_call: &Call<'_>) -> Response {
    html(200, "<h1>Home</h1>")
}

fn about(_call: &Call<'_>) -> Response {
    html(200, "<h1>About</h1>")
}

/// Where the home page once was.
fn old_home(_call: &Call<'_>) -> Response {
    response(308, &[("location", "/")], Body::Empty)
}

/// Greets whom the path names.
fn hello(call: &Call<'_>) -> Response {
    let name = call.parameters.get("name").unwrap_or_default();
    greeting(name).map_or_else(
        || bad_request("the name is not UTF-8"),
        |page| html(200, &page),
    )
}

fn greeting(name: &str) -> Option<String> {
    let name = percent_decode_str(name).decode_utf8().ok()?;
    Some(format!("<h1>Hello, {}!</h1>", encode_text(&name)))
}

/// Shows what the query asks for, or a form that asks.
fn search(call: &Call<'_>) -> Response {
    html(200, &results(call.query))
}

fn results(query: &str) -> String {
    let mut fields = form_urlencoded::parse(query.as_bytes());
    let Some((_, wanted)) = fields.find(|(name, _)| name == "q") else {
        return r#"<h1>Search</h1><form><input name="q"></form>"#.to_owned();
    };
    format!("<h1>Search</h1><p>{}</p>", encode_text(&wanted))
}

/// Sends JSON back, every byte as it came.
fn echo(call: &Call<'_>) -> Response {
    let media_type = call.request.header("content-type").unwrap_or_default();
    if !is_json(&media_type) {
        return error(415, "Unsupported Media Type", "send application/json");
    }
    let body = call.request.body();
    match serde_json::from_slice::<&RawValue>(&body) {
        Ok(value) => content(200, JSON, value.get()),
        Err(reason) => bad_request(&reason.to_string()),
    }
}

/// Whether a `Content-Type` is that of JSON, with parameters or without (RFC
/// 9110, section 8.3.1).
fn is_json(media_type: &[u8]) -> bool {
    let mut parts = media_type.split(|&byte| byte == b';');
    let essence = parts.next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(JSON.as_bytes())
}

fn options(allow: &str) -> Response {
    response(204, &[("allow", allow)], Body::Empty)
}

fn not_allowed(allow: &str) -> Response {
    let page = Body::Bytes("<h1>405 Method Not Allowed</h1>".into());
    response(405, &[("allow", allow), ("content-type", HTML)], page)
}

fn bad_request(reason: &str) -> Response {
    error(400, "Bad Request", reason)
}

fn error(status: u16, title: &str, reason: &str) -> Response {
    let reason = encode_text(reason);
    html(status, &format!("<h1>{status} {title}</h1><p>{reason}</p>"))
}

fn html(status: u16, page: &str) -> Response {
    content(status, HTML, page)
}

fn content(status: u16, media_type: &str, text: &str) -> Response {
    let body = Body::Bytes(text.into());
    response(status, &[("content-type", media_type)], body)
}

fn response(status: u16, headers: &[(&str, &str)], body: Body) -> Response {
    Response {
        status,
        headers: headers
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.into()))
            .collect(),
        body,
        trailers: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The methods of a path; `None` where there is none.
    fn allow(path: &str) -> Option<String> {
        ROUTES.at(path).ok().map(|route| route.value.allow())
    }

    #[test]
    fn a_path_allows_what_it_has_handlers_for() {
        for path in ["/", "/about", "/home", "/hello/x", "/search"] {
            assert_eq!(allow(path).as_deref(), Some("OPTIONS, GET, HEAD"), "{path}");
        }
        assert_eq!(allow("/echo").as_deref(), Some("OPTIONS, POST"));
        for path in ["", "*", "//", "/About", "/about/", "/hello/", "/hello/x/y"] {
            assert_eq!(allow(path), None, "{path}");
        }
    }

    #[test]
    fn head_is_handled_where_get_is_and_nothing_else() {
        let page = get(about);
        assert!(page.handler(&Method::Get).is_some());
        assert!(page.handler(&Method::Head).is_some());
        for method in [Method::Post, Method::Put, Method::Other("get".to_owned())] {
            assert!(page.handler(&method).is_none(), "{method:?}");
        }
    }

    #[test]
    fn a_name_is_decoded_once_and_escaped() {
        let greeted = |name| greeting(name).unwrap_or_default();
        assert_eq!(greeted("Zo%C3%AB"), "<h1>Hello, Zoë!</h1>");
        assert_eq!(greeted("a%2Fb+c%2525"), "<h1>Hello, a/b+c%25!</h1>");
        assert_eq!(
            greeted("%3Cscript%3E&"),
            "<h1>Hello, &lt;script&gt;&amp;!</h1>"
        );
        // Overlong UTF-8 is none.
        assert_eq!(greeting("%C0%AF"), None);
    }

    #[test]
    fn a_query_is_decoded_as_browsers_encode_forms() {
        let page = |text| format!("<h1>Search</h1><p>{text}</p>");
        assert_eq!(results("x=1&q=tea+%26+cake&q=no"), page("tea &amp; cake"));
        assert_eq!(results("q=%3Cb%3E"), page("&lt;b&gt;"));
        assert_eq!(results("q="), page(""));
        for query in ["", "Q=1", "qq=1"] {
            assert!(results(query).contains("<form>"), "{query}");
        }
    }

    #[test]
    fn the_type_of_json_may_have_parameters() {
        for media_type in ["application/json", "Application/JSON ; charset=utf-8"] {
            assert!(is_json(media_type.as_bytes()), "{media_type}");
        }
        for media_type in ["", "text/plain", "application/jsonp", "x;application/json"] {
            assert!(!is_json(media_type.as_bytes()), "{media_type}");
        }
    }
}
