use super::*;
use crate::host::Body;
use crate::http::{OwnedRequest, Path, Remainder, Upload};
use crate::testing::Client;
use crate::{sleep, spawn, testing};

async fn ok() -> &'static str {
    "ok"
}

fn client() -> Client {
    Client::new(
        Router::new()
            .get("/", async || "home")
            .get("/about", async || "about")
            .get("/users/me", async || "me")
            .get("/users/{id}", async |Path(id): Path<u64>| {
                format!("user {id}")
            })
            .post("/users/{name}", async |Path(name): Path<String>| {
                format!("new {name}")
            })
            .get("/users/{id}/posts", async |request: Request<'_>| {
                format!("posts of {}", request.parameter("id").unwrap_or_default())
            })
            .get("/rest/{*all}", async |Remainder(all): Remainder| {
                format!("[{all}]")
            })
            .get("/rest/fixed", async || "fixed")
            .route("PROPFIND".into(), "/dav", ok),
    )
}

#[test]
fn paths_find_their_handlers() {
    let client = client();
    for (path, text) in [
        ("/", "home"),
        ("/?x=/about", "home"),
        ("/about", "about"),
        ("/%61bout", "about"),
        ("/users/me", "me"),
        ("/users/7?a=b", "user 7"),
        ("/users/me/posts", "posts of me"),
        ("/users/a%2Fb/posts", "posts of a/b"),
        ("/rest/", "[]"),
        ("/rest/a//b%2F", "[a//b%2F]"),
        ("/rest/fixed", "fixed"),
        ("/rest/fixed/x", "[fixed/x]"),
    ] {
        assert_eq!(client.get(path).send().text(), text, "{path}");
    }
    for path in [
        "",
        "//",
        "/About",
        "/about/",
        "/users/",
        "/users//posts",
        "/rest",
        "/%ff",
    ] {
        assert_eq!(client.get(path).send().status(), 404, "{path}");
    }
}

#[test]
fn methods_find_their_handlers() {
    let client = client();
    let send = |method: &str, path| client.request(method, path).send();
    assert_eq!(send("POST", "/users/ada").text(), "new ada");
    assert_eq!(send("PROPFIND", "/dav").text(), "ok");
    let head = send("HEAD", "/about");
    assert_eq!((head.status(), head.body()), (200, &b""[..]));
    let refused = send("POST", "/about");
    assert_eq!(refused.status(), 405);
    assert_eq!(
        refused.header("allow").as_deref(),
        Some("OPTIONS, GET, HEAD")
    );
    assert_eq!(send("propfind", "/dav").status(), 405);
    assert_eq!(send("HEAD", "/dav").status(), 405);
    for (path, allow) in [
        ("/users/ada", "OPTIONS, GET, HEAD, POST"),
        ("/dav", "OPTIONS, PROPFIND"),
        ("*", "OPTIONS, GET, HEAD, POST, PROPFIND"),
    ] {
        let answer = send("OPTIONS", path);
        assert_eq!(answer.status(), 204, "{path}");
        assert_eq!(answer.header("allow").as_deref(), Some(allow), "{path}");
    }
    assert_eq!(send("OPTIONS", "/none").status(), 404);
}

#[test]
fn a_fallback_answers_the_rest() {
    let router = Router::new()
        .get("/", ok)
        .fallback(async |request: Request<'_>| (404, format!("no {}", request.path())));
    let client = Client::new(router);
    let answer = client.post("/x", "").send();
    assert_eq!((answer.status(), &*answer.text()), (404, "no /x"));
    assert_eq!(client.post("/", "").send().status(), 405);
}

#[test]
fn files_are_found_below_their_prefix_only() {
    testing::add_file("/public/index.html", "index");
    testing::add_file("/public/a b/c.txt", "c");
    testing::add_file("/public/.well-known/x", "x");
    testing::add_file("/public/.env", "secret");
    testing::add_file("/secret", "secret");
    let client = Client::new(Router::new().files("/static", "/public/"));
    for (path, text) in [
        ("/static/", "index"),
        ("/static/index.html", "index"),
        ("/static/a%20b/c.txt?x", "c"),
        ("/static//a%20b//c.txt", "c"),
        ("/static/.well-known/x", "x"),
    ] {
        assert_eq!(client.get(path).send().text(), text, "{path}");
    }
    for path in [
        "/static/../secret",
        "/static/%2e%2e/secret",
        "/static/..%2fsecret",
        "/static/..%5csecret",
        "/static/a%00",
        "/static/%",
        "/static/.env",
        "/static/%2Eenv",
        "/static/a%20b/.x",
        "/static/none",
        "/secret",
    ] {
        let status = client.get(path).send().status();
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    let answer = client.get("/static?a=b").send();
    assert_eq!(answer.status(), 301);
    assert_eq!(answer.header("location").as_deref(), Some("/static/?a=b"));
    assert_eq!(client.post("/static/index.html", "").send().status(), 405);
}

#[test]
fn files_of_the_root() {
    testing::add_file("/index.html", "index");
    testing::add_file("/a/b", "b");
    let client = Client::new(Router::new().files("/", "/").get("/a", async || "a"));
    assert_eq!(client.get("/").send().text(), "index");
    assert_eq!(client.get("/a/b").send().text(), "b");
    assert_eq!(client.get("/a").send().text(), "a");
}

#[test]
fn a_handler_may_wait() {
    const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
    let router = Router::new()
        .get("/task", async |_: Request<'_>| {
            spawn(async { "done" }).await
        })
        .get("/late", async || {
            sleep(SECOND).await;
            "late"
        })
        .post("/late", async |request: OwnedRequest| {
            sleep(SECOND).await;
            (201, request.body)
        });
    let client = Client::new(router);
    assert_eq!(client.get("/task").send().text(), "done");
    assert_eq!(client.get("/late").send().text(), "late");
    assert_eq!(client.post("/late", "kept").send().text(), "kept");
}

#[test]
fn a_request_is_whole_after_its_handler_has_waited() {
    const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
    fn tell(request: &Request<'_>) -> String {
        format!(
            "{} {} of {}: {:?} {:?} {:?} {} {:?} {:?} {} {:?}",
            request.method(),
            request.target(),
            request.parameter("id").unwrap_or_default(),
            request.header("X-a"),
            request.header_values("x-A"),
            request.headers(),
            String::from_utf8_lossy(&request.body()),
            request.trailers(),
            request.authority(),
            request.scheme(),
            request.peer(),
        )
    }
    let router = Router::new().post("/{id}/x", async |request: Request<'_>, query: Method| {
        assert_eq!(query, Method::Post);
        let before = tell(&request);
        sleep(SECOND).await;
        let after = tell(&request);
        assert_eq!(before, after);
        after
    });
    let client = Client::new(router);
    let request = client.post("/7/x?q", "body").header("x-a", "1");
    let answer = request.header("X-A", "2").send();
    assert!(answer.text().starts_with("POST /7/x?q of 7: Some(\"1\")"));
    assert!(answer.text().contains("body"));
}

#[test]
fn handlers_are_plain_functions_too() {
    async fn both(request: Request<'_>, Path(a): Path<u8>) -> Result<String, u16> {
        if a == 0 {
            Err(418)
        } else {
            Ok(format!("{} {a}", request.method()))
        }
    }
    let client = Client::new(Router::new().put("/{a}", both));
    assert_eq!(client.request("PUT", "/1").send().text(), "PUT 1");
    assert_eq!(client.request("PUT", "/0").send().status(), 418);
    let client = Client::new(async |request: Request<'_>| request.path().to_owned());
    assert_eq!(client.get("/x?y").send().text(), "/x");
}

#[test]
#[should_panic(expected = "GET / has two handlers")]
fn two_handlers_contradict_each_other() {
    let _ = Router::new().get("/", ok).get("/", ok);
}

#[test]
#[should_panic(expected = "is not the last segment")]
fn a_remainder_comes_last() {
    let _ = Router::new().get("/{*a}/b", ok);
}

#[test]
fn a_program_is_refused_in_json_and_a_person_by_a_page() {
    async fn number(Path(number): Path<u8>) -> String {
        number.to_string()
    }
    let client = Client::new(Router::new().get("/{number}", number));
    let json = client.get("/x\"y").header("accept", "application/json");
    let answer = json.send();
    assert_eq!(answer.status(), 404);
    let media = answer.header("content-type");
    assert_eq!(media.as_deref(), Some("application/problem+json"));
    assert_eq!(&*answer.text(), r#"{"title":"Not Found","status":404}"#);
    let post = client.post("/1", "{}").header("accept", "*/*");
    let answer = post.send();
    assert_eq!(
        (answer.status(), answer.header("allow").as_deref()),
        (405, Some("OPTIONS, GET, HEAD"))
    );
    assert!(answer.text().starts_with('{'));
    let page = client
        .get("/x")
        .header("accept", "text/html, application/json");
    assert!(page.send().text().starts_with("<h1>404"));
    assert_eq!(client.get("/x").send().text(), "404 Not Found\n");
    let problem = Response::problem(400, "a \"b\"\n\u{7}\\");
    let Body::Bytes(body) = problem.into_raw().body else {
        panic!("it has a body");
    };
    assert!(body.ends_with(br#""detail":"a \"b\"\n \\"}"#));
}

/// A router whose handlers tell their parameters.
fn users() -> Router {
    Router::new()
        .get("/", async || "all")
        .post("/", async |body: String| format!("new {body}"))
        .get("/{name}", async |request: Request<'_>| {
            let name = request.parameter("name").unwrap_or_default();
            format!("{name} at {}", request.path())
        })
        .get(
            "/{name}/{*rest}",
            async |Path(name): Path<String>, Remainder(rest): Remainder| format!("{name}: {rest}"),
        )
}

#[test]
fn routers_are_merged() {
    let router = Router::new()
        .put("/", ok)
        .merge(users())
        .merge(Router::new().get("/other/", ok).fallback(async || "else"));
    let client = Client::new(router);
    assert_eq!(client.get("/").send().text(), "all");
    assert_eq!(client.put("/", "").send().text(), "ok");
    assert_eq!(client.get("/ada").send().text(), "ada at /ada");
    assert_eq!(client.get("/ada/a/b").send().text(), "ada: a/b");
    assert_eq!(client.get("/other/").send().text(), "ok");
    assert_eq!(client.get("//").send().text(), "else");
}

#[test]
fn routers_are_nested_below_a_prefix() {
    let router = Router::new()
        .nest("/users", users())
        .nest("/slash/", users())
        .nest(
            "/of/{group}",
            Router::new().get(
                "/{name}",
                async |Path(group): Path<u8>, Path(name): Path<String>| {
                    format!("{name} of {group}")
                },
            ),
        );
    let client = Client::new(Router::new().nest("/v1", router));
    for (path, text) in [
        ("/v1/users", "all"),
        ("/v1/users/ada", "ada at /v1/users/ada"),
        ("/v1/users/ada/a/b", "ada: a/b"),
        ("/v1/slash/", "all"),
        ("/v1/slash/ada", "ada at /v1/slash/ada"),
        ("/v1/of/7/ada", "ada of 7"),
    ] {
        assert_eq!(client.get(path).send().text(), text, "{path}");
    }
    assert_eq!(client.post("/v1/users", "ada").send().text(), "new ada");
    for path in ["/", "/users", "/v1", "/v1/users/", "/v1/slash"] {
        assert_eq!(client.get(path).send().status(), 404, "{path}");
    }
    assert_eq!(client.request("PUT", "/v1/users").send().status(), 405);
}

#[test]
fn files_are_found_below_a_prefix_with_parameters() {
    testing::add_file("/site/a.txt", "a");
    let router = Router::new().nest("/{lang}", Router::new().files("/static", "/site"));
    let client = Client::new(router);
    assert_eq!(client.get("/en/static/a.txt").send().text(), "a");
    let moved = client.get("/en/static").send();
    assert_eq!(moved.header("location").as_deref(), Some("/en/static/"));
}

#[test]
fn layers_are_around_what_was_added_before() {
    async fn outer(request: Request<'_>, next: Next<'_>) -> Response {
        match request.header("x-key") {
            Some(_) => next.run(request).await.header("x-by", "outer"),
            None => Response::error(401),
        }
    }
    let router = Router::new()
        .get("/in", ok)
        .post(
            "/{name}",
            async |request: Request<'_>, Path(name): Path<String>| {
                format!("{name}: {}", String::from_utf8_lossy(&request.body()))
            },
        )
        .post("/pieces", async |mut upload: Upload| {
            let piece = upload.read().await.ok().flatten().unwrap_or_default();
            String::from_utf8_lossy(&piece).into_owned()
        })
        .layer(async |request: Request<'_>, next: Next<'_>| {
            let path = request.path().to_owned();
            next.run(request).await.header("x-path", path)
        })
        .fallback(async || (404, "none"))
        .layer(outer)
        .get("/out", ok);
    let client = Client::new(router);
    let answer = client.get("/in").header("x-key", "1").send();
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.header("x-path").as_deref(), Some("/in"));
    assert_eq!(answer.header("x-by").as_deref(), Some("outer"));
    assert_eq!(client.get("/in").send().status(), 401);
    let none = client.get("/none/of/it").header("x-key", "1").send();
    assert_eq!((none.status(), none.header("x-path")), (404, None));
    assert_eq!(none.header("x-by").as_deref(), Some("outer"));
    for (path, text) in [("/ada", "ada: body"), ("/pieces", "body")] {
        let answer = client.post(path, "body").header("x-key", "1").send();
        assert_eq!(answer.text(), text);
        assert_eq!(answer.header("x-path").as_deref(), Some(path));
    }
    // Not around what was added after it, nor around the router's own answers.
    let out = client.get("/out").send();
    assert_eq!((out.status(), out.header("x-by")), (200, None));
    assert_eq!(client.request("PUT", "/in").send().status(), 405);
}

#[test]
fn a_request_is_whole_after_its_layer_has_waited() {
    const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
    let router = Router::new()
        .post("/{id}", async |request: Request<'_>, Path(id): Path<u8>| {
            sleep(SECOND).await;
            let body = String::from_utf8_lossy(&request.body()).into_owned();
            format!("{id} {body} {:?}", request.header("x-a"))
        })
        .post("/text", async |text: String| text)
        .layer(async |request: Request<'_>, next: Next<'_>| {
            sleep(SECOND).await;
            let answer = next.run(request).await;
            sleep(SECOND).await;
            answer
        });
    let client = Client::new(router);
    let answer = client.post("/7", "body").header("x-a", "1").send();
    assert_eq!(answer.text(), "7 body Some(\"1\")");
    assert_eq!(client.post("/text", "kept").send().text(), "kept");
}

#[test]
#[should_panic(expected = "GET /users/{name} has two handlers")]
fn merged_handlers_contradict_each_other() {
    let one = Router::new().nest("/users", users());
    let other = Router::new().get("/users/{name}", ok);
    let _ = other.merge(one);
}

#[test]
#[should_panic(expected = "merge() adds one without")]
fn a_router_is_nested_below_a_prefix() {
    let _ = Router::new().nest("//", users());
}

#[test]
#[should_panic(expected = "does not begin with a slash")]
fn a_prefix_begins_with_a_slash() {
    let _ = Router::new().nest("users", Router::new());
}

#[test]
#[should_panic(expected = "only the outermost one has")]
fn a_nested_router_has_no_fallback() {
    let _ = Router::new().nest("/a", Router::new().fallback(ok));
}

#[test]
#[should_panic(expected = "leaves nothing to the router below it")]
fn a_prefix_ends_before_the_rest() {
    let _ = Router::new().nest("/a/{*rest}", users());
}
