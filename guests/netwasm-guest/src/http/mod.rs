//! Handlers of HTTP requests.
//!
//! A handler is an async function. The host speaks HTTP/1.1 and HTTP/2 with the
//! client, checks what it sends, and frames the response.
//!
//! ```
//! use netwasm_guest::http::{Request, Response};
//!
//! # #[cfg(not(doctest))]
//! netwasm_guest::export!(http: site);
//!
//! async fn site(request: Request<'_>) -> Response {
//!     match request.path() {
//!         "/" => Response::html("<h1>Home</h1>"),
//!         "/old" => Response::redirect("/"),
//!         _ => Response::error(404),
//!     }
//! }
//! # let client = netwasm_guest::testing::Client::new(site);
//! # assert_eq!(client.get("/").send().text(), "<h1>Home</h1>");
//! # assert_eq!(client.get("/x").send().status(), 404);
//! ```
//!
//! Or a function that makes a [`Router`], called once in each instance. What
//! its handlers take as arguments is taken from the request:
//!
//! ```
//! use netwasm_guest::http::{Path, Query, Router, Pairs};
//!
//! # #[cfg(not(doctest))]
//! netwasm_guest::export!(http: site);
//!
//! fn site() -> Router {
//!     Router::new()
//!         .get("/hello/{name}", hello)
//!         .get("/add", add)
//!         .files("/static", "/public")
//! }
//!
//! async fn hello(Path(name): Path<String>) -> String {
//!     format!("Hello, {name}!")
//! }
//!
//! async fn add(Query(query): Query<Pairs>) -> Option<String> {
//!     let number = |name| query.get(name)?.parse::<u32>().ok();
//!     Some((number("a")? + number("b")?).to_string())
//! }
//! # let client = netwasm_guest::testing::Client::new(site);
//! # assert_eq!(client.get("/hello/Ada%20Lovelace").send().text(), "Hello, Ada Lovelace!");
//! # assert_eq!(client.get("/add?a=1&b=2").send().text(), "3");
//! # assert_eq!(client.get("/add").send().status(), 404);
//! ```
//!
//! A handler may wait, for a timer, a name or a connection: the host then sends
//! the response later. (For connections, export `connect` as well.) The
//! request of a handler that waits and takes a [`Request`] is kept in memory,
//! with its whole body, until it answers. One that takes what it needs as
//! arguments keeps no more than that.
//!
//! # State
//!
//! State that requests share is a `thread_local!` of the component:
//!
//! ```
//! use std::cell::RefCell;
//!
//! use netwasm_guest::http::{Path, Response, Router};
//!
//! # #[cfg(not(doctest))]
//! netwasm_guest::export!(http: shop);
//!
//! thread_local! {
//!     static ITEMS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
//! }
//!
//! fn shop() -> Router {
//!     Router::new().get("/items", list).post("/items/{name}", add)
//! }
//!
//! async fn list() -> String {
//!     ITEMS.with_borrow(|items| items.join("\n"))
//! }
//!
//! async fn add(Path(name): Path<String>) -> Response {
//!     ITEMS.with_borrow_mut(|items| items.push(name));
//!     Response::new(201)
//! }
//! # let client = netwasm_guest::testing::Client::new(shop);
//! # assert_eq!(client.post("/items/tea", "").send().status(), 201);
//! # assert_eq!(client.get("/items").send().text(), "tea");
//! ```
//!
//! **Each connection has an instance of its own, and so its own `thread_local!`**:
//! the next client sees an empty list, unless netwasm is told otherwise:
//!
//! - `--isolation worker --workers 1`: one instance and one state for all clients.
//! - `--isolation worker`: one for each thread.
//!
//! Small values that all instances share, on all threads, are in
//! [`shared`](crate::shared), until the host ends:
//!
//! ```
//! use std::time::Duration;
//!
//! use netwasm_guest::http::{Path, Response, Router};
//! use netwasm_guest::{Result, shared};
//!
//! # #[cfg(not(doctest))]
//! netwasm_guest::export!(http: notes);
//!
//! const DAY: Duration = Duration::from_secs(86_400);
//!
//! fn notes() -> Router {
//!     Router::new().get("/notes/{name}", read).put("/notes/{name}", write)
//! }
//!
//! async fn read(Path(name): Path<String>) -> Option<String> {
//!     let value = shared::get(format!("note/{name}"))?;
//!     value.text().map(str::to_owned)
//! }
//!
//! async fn write(Path(name): Path<String>, text: String) -> Result<Response> {
//!     shared::set(format!("note/{name}"), &text, DAY)?;
//!     Ok(Response::text(text).status(201))
//! }
//! # let client = netwasm_guest::testing::Client::new(notes);
//! # assert_eq!(client.get("/notes/tea").send().status(), 404);
//! # assert_eq!(client.put("/notes/tea", "Assam").send().status(), 201);
//! # assert_eq!(client.get("/notes/tea").send().text(), "Assam");
//! ```
//!
//! State that must outlive the host belongs in a server that keeps it, by
//! [`connect`](crate::connect()).
//!
//! With the feature `http`, a handler may take `http::Request<Vec<u8>>`,
//! `http::Method`, `Uri` and `HeaderMap`, and return `http::Response` and
//! `http::StatusCode`, of the crate `http`.

mod answer;
mod cookie;
mod error_form;
mod extract;
mod files;
mod forward;
mod handler;
mod held;
mod method;
mod percent;
mod request;
mod response;
mod router;
mod stream;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod testing;
mod upload;
mod verdict;

#[cfg(feature = "http")]
mod convert;
#[cfg(feature = "json")]
mod form;

pub use answer::App;
pub use cookie::{Cookie, Cookies, SameSite};
#[cfg(feature = "json")]
pub use extract::Json;
pub use extract::{
    Body, Form, FromPairs, FromRequest, Header, HeaderField, OwnedRequest, Path, Query, Remainder,
};
pub use forward::{Forward, HttpVersion, Unread};
pub use handler::Handler;
pub use method::Method;
pub use percent::{Pairs, decode, encode, escape};
pub use request::Request;
pub use response::{Html, Response};
pub use router::{Next, Router};
pub use stream::{BodyWriter, Ended, Events, TopicEvents};
pub use upload::Upload;
pub use verdict::{Forwarded, Verdict};

#[doc(hidden)]
pub use answer::{Answered, Later, Prepared};
pub(crate) use error_form::Told;
pub(crate) use held::{accepted, within};
pub(crate) use stream::Maker as BodyMaker;
#[cfg(target_family = "wasm")]
pub(crate) use upload::{CREDIT, Pieces};
