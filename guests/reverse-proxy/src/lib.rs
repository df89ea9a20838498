//! Passes every request on to another HTTP server, and the response back. It
//! is a component for any host of `wasi:http@0.3`:
//!
//!     netwasm run reverse-proxy --http 8080 --allow-connect 127.0.0.1:9000 -- http://127.0.0.1:9000
//!
//! Bodies are passed on as the streams that they come as: the component never
//! sees their bytes. A call of the interface costs more than what it does, so there
//! are few, and a head is changed when the message that it came with is gone: then
//! the host need not copy it.
//!
//! TRACE and OPTIONS go as far as `Max-Forwards` lets them, and `OPTIONS *` asks the
//! upstream about itself, as it asked this one.

mod hops;
mod later;

use std::sync::OnceLock;

use wasip3::cli::environment::get_arguments;
use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, HeaderError, Method, Request, Response, Scheme};
use wasip3::wit_future;

use hops::Hops;

/// Headers of one connection and not of the message: RFC 9110, section 7.6.1.
/// (The host takes away what `Connection` names.)
const HOP_BY_HOP: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// The one of these that a proxy sends by itself.
const TE: &str = "te";

const VIA: &[u8] = b"1.1 reverse-proxy";

struct Proxy;
wasip3::http::service::export!(Proxy);

impl Guest for Proxy {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let Some(upstream) = upstream() else {
            eprintln!("give the server to pass requests on to: -- http://HOST[:PORT]");
            return Ok(empty(500));
        };
        let method = request.get_method();
        let left = match Hops::of(&request, &method) {
            Hops::Forward(left) => left,
            Hops::Last => return Ok(hops::answer(&request, &method)),
            Hops::Malformed => return Ok(empty(400)),
        };
        match client::send(forwarded(request, &method, upstream, left)).await {
            Ok(response) => Ok(returned(response)),
            Err(error) => {
                eprintln!("{}: {error}", upstream.authority);
                Ok(empty(match error {
                    ErrorCode::ConnectionTimeout | ErrorCode::ConnectionReadTimeout => 504,
                    _ => 502,
                }))
            }
        }
    }
}

/// The server that all requests go to.
struct Upstream {
    scheme: Scheme,
    authority: String,
}

/// As the first argument says.
fn upstream() -> Option<&'static Upstream> {
    static UPSTREAM: OnceLock<Option<Upstream>> = OnceLock::new();
    let parse = || {
        let url = get_arguments().into_iter().nth(1)?;
        let (scheme, rest) = match url.strip_prefix("https://") {
            Some(rest) => (Scheme::Https, rest),
            None => (Scheme::Http, url.strip_prefix("http://")?),
        };
        let authority = rest.trim_end_matches('/').to_owned();
        Some(Upstream { scheme, authority })
    };
    UPSTREAM.get_or_init(parse).as_ref()
}

/// The request as the upstream gets it, with so many hops left where they are
/// counted.
fn forwarded(request: Request, method: &Method, upstream: &Upstream, left: Option<u64>) -> Request {
    let headers = request.get_headers().clone();
    let authority = request.get_authority().unwrap_or_default();
    let scheme = match request.get_scheme() {
        Some(Scheme::Https) => "https",
        _ => "http",
    };
    let path = request.get_path_with_query();
    let (processed, told) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, told);
    // It is told as this is dropped: at once, now that the host listens.
    drop(processed);

    remove_hop_by_hop(&headers);
    let wanted = headers.get_and_delete(TE).unwrap_or_default();
    // The client takes trailers, and so can what stands between.
    if wanted.iter().any(|value| value == b"trailers") {
        let _ = headers.append(TE, b"trailers");
    }
    if let Some(left) = left {
        hops::write(left, &headers);
    }
    // The interface does not tell the client's address (RFC 7239).
    let origin = format!("host=\"{authority}\";proto={scheme}");
    let _ = headers.append("forwarded", origin.as_bytes());
    let _ = headers.append("via", VIA);

    let (forwarded, _) = Request::new(headers, Some(body), trailers, None);
    // These came in a request, so they are proper in another. It is a GET until then.
    if !matches!(method, Method::Get) {
        let _ = forwarded.set_method(method);
    }
    let _ = forwarded.set_scheme(Some(&upstream.scheme));
    let _ = forwarded.set_authority(Some(&upstream.authority));
    let _ = forwarded.set_path_with_query(Some(path.as_deref().unwrap_or("/")));
    forwarded
}

/// The response as the client gets it.
fn returned(response: Response) -> Response {
    let status = response.get_status_code();
    let headers = response.get_headers().clone();
    let (processed, told) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, told);
    drop(processed);

    remove_hop_by_hop(&headers);
    let _ = headers.delete(TE);
    let _ = headers.append("via", VIA);
    let (returned, _) = Response::new(headers, Some(body), trailers);
    // It is 200 until then, and may be none that there is.
    if status != 200 && returned.set_status_code(status).is_err() {
        return empty(502);
    }
    returned
}

/// Removes the fields that are for this hop alone.
fn remove_hop_by_hop(fields: &Fields) {
    for name in let_through() {
        let _ = fields.delete(name);
    }
}

/// The names of such fields that the host does not keep to itself, which is mostly
/// none.
fn let_through() -> &'static [&'static str] {
    static NAMES: OnceLock<Vec<&str>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let fields = Fields::new();
        let forbidden = |name: &str| matches!(fields.delete(name), Err(HeaderError::Forbidden));
        let names = HOP_BY_HOP.into_iter();
        names.filter(|name| !forbidden(name)).collect()
    })
}

fn empty(status: u16) -> Response {
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(Fields::new(), None, no_trailers);
    let _ = response.set_status_code(status);
    response
}
