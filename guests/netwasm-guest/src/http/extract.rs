//! Arguments of handlers.

use std::str::FromStr;

use super::percent::{Pairs, decode};
use super::{Cookies, Method, Request, Response};
use crate::{Info, log};

/// An argument of a handler, made of the request.
///
/// ```
/// use netwasm_guest::http::{FromRequest, Request, Response};
///
/// struct User(String);
///
/// impl FromRequest for User {
///     fn from_request(request: &Request<'_>) -> Result<Self, Response> {
///         let name = request.cookies().get("user").map(str::to_owned);
///         name.map(Self).ok_or_else(|| Response::error(401))
///     }
/// }
///
/// async fn home(User(name): User) -> String {
///     format!("Welcome back, {name}!")
/// }
/// # let router = netwasm_guest::http::Router::new().get("/", home);
/// # let client = netwasm_guest::testing::Client::new(router);
/// # assert_eq!(client.get("/").send().status(), 401);
/// # let answer = client.get("/").header("cookie", "user=Ada").send();
/// # assert_eq!(answer.text(), "Welcome back, Ada!");
/// ```
pub trait FromRequest: Sized {
    /// True if it takes the body piece by piece, or not at all, so that the
    /// request need not have arrived whole: [`Upload`](super::Upload),
    /// [`Unread`](super::Unread).
    #[doc(hidden)]
    const READS_PIECES: bool = false;

    /// Makes it of the request.
    ///
    /// # Errors
    /// The response if that is not possible. The handler is not called then.
    fn from_request(request: &Request<'_>) -> Result<Self, Response>;
}

/// A whole request of its own, which may outlive the handler: for a task, say.
#[derive(Clone, Debug)]
pub struct OwnedRequest {
    /// The method.
    pub method: Method,
    /// The path and the query as the client sent them.
    pub target: String,
    /// All headers, in the order in which they were sent.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl FromRequest for OwnedRequest {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        Ok(Self {
            method: request.method().clone(),
            target: request.target().to_owned(),
            headers: request.headers(),
            body: request.body(),
        })
    }
}

/// A parameter of the path, decoded: the first `Path` of a handler is the first
/// parameter, and so on. One that `T` cannot be parsed from is answered by 404.
pub struct Path<T>(pub T);

impl<T: FromStr> FromRequest for Path<T> {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        let Some((name, value)) = request.next_parameter() else {
            return Err(request.refuse(404, ""));
        };
        let Some(value) = decode(value) else {
            return Err(request.refuse(400, &format!("the {name} is not UTF-8")));
        };
        let value = value.parse().map_err(|_| request.refuse(404, ""))?;
        Ok(Self(value))
    }
}

/// The text that a `{*name}` at the end of a pattern stands for, as it was sent, not
/// decoded: slashes separate segments.
pub struct Remainder(pub String);

impl FromRequest for Remainder {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        Ok(Self(
            request.last_parameter().unwrap_or_default().to_owned(),
        ))
    }
}

/// Checks the type of the body. Another one is answered by 415, with the header that
/// is wanted (RFC 9110, section 15.5.16), and told in the log, at the level `debug`:
/// clients seldom show the body of an error.
///
/// # Errors
/// That response.
fn check_type(request: &Request<'_>, wanted: &str) -> Result<(), Response> {
    if request.has_type(wanted) {
        return Ok(());
    }
    let sent = match request.header("content-type") {
        None => ", which is missing",
        Some(_) => ", not another one",
    };
    let reason = ["send the header Content-Type: ", wanted, sent].concat();
    let (method, path) = (request.method().as_str(), request.path());
    let entry = [method, " ", path, " is answered by 415: ", &reason].concat();
    log::write(log::Level::Debug, &entry);
    Err(request.refuse(415, &reason).header("accept", wanted))
}

/// Types made of the names and values of a query or a form: [`Pairs`],
/// and with the feature `json` everything that serde deserializes.
pub trait FromPairs: Sized {
    /// Makes it.
    ///
    /// # Errors
    /// The fault, for the client.
    fn from_pairs(pairs: Pairs) -> Result<Self, String>;
}

impl FromPairs for Pairs {
    fn from_pairs(pairs: Pairs) -> Result<Self, String> {
        Ok(pairs)
    }
}

#[cfg(feature = "json")]
impl<T: serde::de::DeserializeOwned> FromPairs for T {
    fn from_pairs(pairs: Pairs) -> Result<Self, String> {
        super::form::read(pairs).map_err(|error| error.to_string())
    }
}

/// The query. One that `T` cannot be made of is answered by 400.
pub struct Query<T>(pub T);

impl<T: FromPairs> FromRequest for Query<T> {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        T::from_pairs(request.pairs())
            .map(Self)
            .map_err(|reason| request.refuse(400, &reason))
    }
}

/// The fields of a form in the body (`application/x-www-form-urlencoded`).
/// Another type is answered by 415, and one that `T` cannot be made of by 400.
pub struct Form<T>(pub T);

impl<T: FromPairs> FromRequest for Form<T> {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        check_type(request, "application/x-www-form-urlencoded")?;
        let body = request.body();
        let text =
            str::from_utf8(&body).map_err(|_| request.refuse(400, "the form is not UTF-8"))?;
        T::from_pairs(Pairs::parse(text))
            .map(Self)
            .map_err(|reason| request.refuse(400, &reason))
    }
}

/// JSON in the body of a request or a response. In a request, another
/// `Content-Type` than `application/json` is answered by 415, and what `T` cannot be
/// made of by 400.
///
/// ```
/// use netwasm_guest::http::{Json, Response, Router};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize, Serialize)]
/// struct Item {
///     name: String,
///     #[serde(default)]
///     count: u32,
/// }
///
/// async fn add(Json(item): Json<Item>) -> Response {
///     Response::json(&item).status(201).header("location", "/items/1")
/// }
///
/// let router = Router::new().post("/items", add);
/// # let client = netwasm_guest::testing::Client::new(router);
/// # let answer = client.post_json("/items", &serde_json::json!({ "name": "tea" })).send();
/// # assert_eq!((answer.status(), answer.json::<Item>().count), (201, 0));
/// # assert_eq!(client.post("/items", "{}").send().status(), 415);
/// ```
#[cfg(feature = "json")]
pub struct Json<T>(pub T);

#[cfg(feature = "json")]
impl<T: serde::de::DeserializeOwned> FromRequest for Json<T> {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        check_type(request, "application/json")?;
        serde_json::from_slice(&request.body())
            .map(Self)
            .map_err(|error| request.refuse(400, &error.to_string()))
    }
}

#[cfg(feature = "json")]
impl<T: serde::Serialize> From<Json<T>> for Response {
    fn from(Json(value): Json<T>) -> Self {
        Self::json(&value)
    }
}

/// The bytes of the body.
pub struct Body(pub Vec<u8>);

impl FromRequest for Body {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        Ok(Self(request.body()))
    }
}

/// The body as text. One that is not UTF-8 is answered by 400.
impl FromRequest for String {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        Self::from_utf8(request.body()).map_err(|_| request.refuse(400, "the body is not UTF-8"))
    }
}

/// A header that has a type of its own.
///
/// ```
/// use netwasm_guest::http::{Header, HeaderField, Router};
///
/// struct ApiKey(String);
///
/// impl HeaderField for ApiKey {
///     const NAME: &'static str = "x-api-key";
///     type Value = String;
///     fn from_value(value: String) -> Self {
///         Self(value)
///     }
/// }
///
/// async fn secret(Header(ApiKey(key)): Header<ApiKey>) -> Option<&'static str> {
///     (key == "open sesame").then_some("42")
/// }
/// # let client = netwasm_guest::testing::Client::new(Router::new().get("/", secret));
/// # assert_eq!(client.get("/").send().status(), 400);
/// # let answer = client.get("/").header("X-API-Key", "open sesame").send();
/// # assert_eq!(answer.text(), "42");
/// ```
pub trait HeaderField: Sized {
    /// The name of the header.
    const NAME: &'static str;
    /// Type that the value is parsed as.
    type Value: FromStr;
    /// Makes it of the parsed value.
    fn from_value(value: Self::Value) -> Self;
}

/// A header. One that is missing or cannot be parsed is answered by 400. Take
/// `Option<Header<T>>` for one that may be missing.
pub struct Header<T>(pub T);

impl<T: HeaderField> FromRequest for Header<T> {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        let value = request.header(T::NAME).map(|value| value.trim().parse());
        match value {
            Some(Ok(value)) => Ok(Self(T::from_value(value))),
            Some(Err(_)) => Err(request.refuse(400, &format!("the header {} is invalid", T::NAME))),
            None => Err(request.refuse(400, &format!("the header {} is missing", T::NAME))),
        }
    }
}

impl FromRequest for Cookies {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        Ok(request.cookies())
    }
}

impl FromRequest for Method {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        Ok(request.method().clone())
    }
}

impl FromRequest for Info {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        Ok(request.info())
    }
}

/// `None` where it cannot be made.
impl<T: FromRequest> FromRequest for Option<T> {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        Ok(T::from_request(request).ok())
    }
}

/// The response where it cannot be made: for a handler that answers in its own
/// words.
impl<T: FromRequest> FromRequest for Result<T, Response> {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        Ok(T::from_request(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Router, escape};
    use crate::testing::{Client, take_log};

    #[test]
    fn each_path_argument_is_the_next_parameter() {
        async fn pair(Path(a): Path<u32>, Path(b): Path<String>) -> String {
            format!("{a} {b}")
        }
        let client = Client::new(Router::new().get("/{a}/x/{b}", pair));
        assert_eq!(client.get("/7/x/a%2Fb%20c").send().text(), "7 a/b c");
        assert_eq!(client.get("/seven/x/y").send().status(), 404);
        let answer = client.get("/7/x/%ff").send();
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.text(), "400 Bad Request: the b is not UTF-8\n");
    }

    #[test]
    fn forms_need_their_type() {
        async fn show(Form(form): Form<Pairs>) -> String {
            form.get("a").unwrap_or("none").to_owned()
        }
        let client = Client::new(Router::new().post("/", show));
        let form = "application/x-www-form-urlencoded";
        let post = |media_type| client.post("/", "a=1+2").header("content-type", media_type);
        assert_eq!(post(form).send().text(), "1 2");
        assert_eq!(
            post("Application/X-WWW-Form-Urlencoded; a=b").send().text(),
            "1 2"
        );
        assert_eq!(post("application/json").send().status(), 415);
        let answer = client.post("/", "a=1").send();
        assert_eq!(answer.header("accept").as_deref(), Some(form));
        let reason = format!("send the header Content-Type: {form}, which is missing");
        assert!(
            answer.text().ends_with(&(reason.clone() + "\n")),
            "{}",
            answer.text()
        );
        let (level, entry) = take_log().pop().expect("an entry");
        assert_eq!(level, log::Level::Debug);
        assert_eq!(entry, format!("POST / is answered by 415: {reason}"));
    }

    #[test]
    fn bodies_are_bytes_or_text() {
        async fn count(Body(body): Body) -> String {
            body.len().to_string()
        }
        let router = Router::new()
            .post("/count", count)
            .post("/text", async |text: String| escape(&text).into_owned());
        let client = Client::new(router);
        assert_eq!(client.post("/count", [0xff, 0]).send().text(), "2");
        assert_eq!(client.post("/text", "<é>").send().text(), "&lt;é&gt;");
        assert_eq!(client.post("/text", [0xff]).send().status(), 400);
    }

    #[test]
    fn what_may_be_missing_is_optional() {
        struct Length(usize);
        impl HeaderField for Length {
            const NAME: &'static str = "x-length";
            type Value = usize;
            fn from_value(value: usize) -> Self {
                Self(value)
            }
        }
        async fn handler(length: Option<Header<Length>>) -> String {
            length.map_or_else(|| "none".to_owned(), |Header(length)| length.0.to_string())
        }
        let client = Client::new(Router::new().get("/", handler));
        assert_eq!(client.get("/").send().text(), "none");
        assert_eq!(
            client.get("/").header("x-length", "x").send().text(),
            "none"
        );
        assert_eq!(
            client.get("/").header("X-Length", " 12 ").send().text(),
            "12"
        );
    }

    #[cfg(feature = "json")]
    mod json {
        use serde::{Deserialize, Serialize};

        use super::*;

        #[derive(Serialize, Deserialize)]
        struct Item {
            name: String,
            #[serde(default)]
            count: u8,
        }

        #[test]
        fn json_goes_both_ways() {
            async fn twice(Json(mut item): Json<Item>) -> Json<Item> {
                item.count *= 2;
                Json(item)
            }
            let client = Client::new(Router::new().post("/", twice));
            let post = |body| {
                let request = client.post("/", body);
                request.header("content-type", "application/json; charset=utf-8")
            };
            let answer = post(r#"{"name": "a", "count": 2}"#).send();
            assert_eq!(answer.text(), r#"{"name":"a","count":4}"#);
            assert_eq!(
                answer.header("content-type").as_deref(),
                Some("application/json")
            );
            let answer = post("{").send();
            assert_eq!(answer.status(), 400);
            assert!(answer.text().contains("EOF"), "{}", answer.text());
            assert_eq!(client.post("/", "{}").send().status(), 415);
        }

        #[test]
        fn queries_become_structs() {
            async fn show(Query(item): Query<Item>) -> Json<Item> {
                Json(item)
            }
            let client = Client::new(Router::new().get("/", show));
            let answer = client.get("/?count=3&name=a+b&more=x").send();
            assert_eq!(answer.text(), r#"{"name":"a b","count":3}"#);
            assert_eq!(
                client.get("/?name=").send().text(),
                r#"{"name":"","count":0}"#
            );
            for query in ["", "?count=3", "?name=x&count=300", "?name=x&count="] {
                let answer = client.get(&format!("/{query}")).send();
                assert_eq!(answer.status(), 400, "{query}");
            }
        }
    }
}
