//! Compares our parser and hyper's server on the same bytes of a connection.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, Version};

use netwasm_exchange::chunked::Chunked;
use netwasm_exchange::head::{Framing, Head, HeadLimits, Refusal};

pub(crate) const LIMITS: HeadLimits = HeadLimits {
    bytes: 32 << 10,
    fields: 100,
    line: 8 << 10,
};

/// Refusals of ours that hyper may not share: our reason, and an explanation.
/// hyper must refuse whatever else we refuse.
pub(crate) const STRICTER: &[(&str, &str)] = &[
    (
        "line feed without a carriage return",
        "RFC 9112, 2.2 lets a recipient take it; two that do not agree on it can be played off against each other",
    ),
    (
        "empty lines instead of a request",
        "RFC 9112, 2.2 asks to ignore at least one; hyper ignores them without end",
    ),
    (
        "this is not a proxy",
        "hyper leaves CONNECT to the application",
    ),
    (
        "fragment in the target",
        "RFC 9112, 3.2 has none; hyper drops it",
    ),
    (
        "target * of another method than OPTIONS",
        "RFC 9112, 3.2.4; hyper leaves it to the application",
    ),
    (
        "target that is neither a path nor a URL",
        "RFC 9112, 3.2.3: an authority alone is the target of CONNECT only",
    ),
    (
        "target of another scheme than http and https",
        "what it means, an origin server cannot know",
    ),
    (
        "malformed authority in the target",
        "RFC 9110, 4.2.4 has user information refused; hyper leaves it to the application",
    ),
    (
        "two Content-Length headers",
        "RFC 9112, 6.3 lets a recipient take them where they are the same, as hyper does",
    ),
    (
        "two Host headers",
        "RFC 9112, 3.2 asks for 400; hyper leaves it to the application",
    ),
    (
        "malformed Host",
        "RFC 9112, 3.2 asks for 400; hyper leaves it to the application",
    ),
    (
        "no Host header",
        "RFC 9112, 3.2 asks for 400; hyper leaves it to the application",
    ),
    (
        "malformed Content-Length",
        "hyper does not look at it beside Transfer-Encoding",
    ),
    (
        "Transfer-Encoding with Content-Length",
        "RFC 9112, 6.1 lets a server refuse it; hyper drops the length",
    ),
    (
        "transfer coding after chunked",
        "RFC 9112, 6.1 forbids chunked twice; hyper looks at the last coding only",
    ),
    (
        "empty transfer coding",
        "hyper looks at the last coding only",
    ),
    (
        "unknown transfer coding",
        "hyper looks at the last coding only, and hands over what it does not decode",
    ),
    ("unknown expectation", "hyper leaves it to the application"),
    (
        "malformed chunk size",
        "hyper takes white space after the size, and control characters in an extension",
    ),
    (
        "chunk size of too many digits",
        "hyper takes leading zeros without end",
    ),
    (
        "line feed without a carriage return in the trailers",
        "hyper takes it, as in the head",
    ),
];

/// A request as the application gets it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    authority: Option<Vec<u8>>,
    minor_version: u8,
    headers: Fields,
    pub(crate) body: Vec<u8>,
    trailers: Fields,
}

/// All values by lower-case name. hyper does not keep the order of names.
type Fields = BTreeMap<String, Vec<Vec<u8>>>;

/// Outcome of the bytes of a connection.
#[derive(Debug)]
pub(crate) struct Outcome<Refused> {
    /// The complete requests.
    pub(crate) requests: Vec<Seen>,
    /// Reason why no further request follows.
    pub(crate) refused: Option<Refused>,
}

/// Compares what both see. Returns the explanation of a known difference.
///
/// # Errors
/// Fails if a difference has no explanation.
pub(crate) fn compare(input: &[u8]) -> Result<Option<&'static str>, String> {
    let (ours, hypers) = (ours(input), hypers(input));
    for (our, their) in ours.requests.iter().zip(&hypers.requests) {
        if our != their {
            return Err(format!("we see {our:#?}, hyper sees {their:#?}"));
        }
    }
    let both = ours.requests.len().min(hypers.requests.len());
    let explanation = if let Some(only_ours) = ours.requests.get(both) {
        taken_by_us_alone(only_ours, input)
    } else if hypers.requests.get(both).is_some() {
        match ours.refused {
            Some(refusal) => stricter(refusal),
            None => ours.requests.last().and_then(closed_by_us_alone),
        }
    } else {
        return Ok(None);
    };
    let last = both.checked_sub(1).and_then(|it| ours.requests.get(it));
    explanation
        .or_else(|| last.and_then(kept_or_closed_by_us_alone))
        .map(Some)
        .ok_or_else(|| format!("unexplained: we have {ours:#?}, hyper has {hypers:#?}"))
}

fn stricter(refusal: Refusal) -> Option<&'static str> {
    STRICTER
        .iter()
        .find(|(reason, _)| *reason == refusal.reason)
        .map(|(_, explanation)| *explanation)
}

fn taken_by_us_alone(request: &Seen, input: &[u8]) -> Option<&'static str> {
    let odd = |byte: u8| b"\"<>`".contains(&byte) || !byte.is_ascii();
    if request.target.bytes().any(odd) {
        return Some("some clients do not encode these characters; hyper takes them in part");
    }
    let mut lines = input.split(|&byte| byte == b'\n');
    // A body that does not end in a line feed may stand before it.
    let method = request.method.as_bytes();
    let is_first = |line: &[u8]| line.windows(method.len().max(1)).any(|it| it == method);
    if lines.any(|line| is_first(line) && str::from_utf8(line).is_err()) {
        return Some("some clients do not encode such bytes; hyper takes UTF-8 alone");
    }
    if request.authority.as_ref()?.contains(&b'%') {
        return Some("RFC 3986, 3.2.2 lets a host be percent-encoded");
    }
    None
}

fn closed_by_us_alone(last: &Seen) -> Option<&'static str> {
    let options = last.headers.get("connection")?;
    (last.minor_version == 0 && !options.is_empty())
        .then_some("close goes before keep-alive, in whatever order they are")
}

fn kept_or_closed_by_us_alone(last: &Seen) -> Option<&'static str> {
    let text = |byte: &u8| byte.is_ascii_graphic() || b" \t".contains(byte);
    let options = last.headers.get("connection")?;
    let unread = options.iter().any(|value| !value.iter().all(text));
    unread.then_some("hyper reads no Connection that is not all ASCII; its other options count")
}

/// Returns what our parser sees.
pub(crate) fn ours(mut input: &[u8]) -> Outcome<Refusal> {
    let mut head = Head::default();
    let mut requests = Vec::new();
    let refused = loop {
        match next(&mut head, &mut input) {
            Ok(Some(request)) => requests.push(request),
            Ok(None) => break None,
            Err(refusal) => break Some(refusal),
        }
        if !head.keep_alive() {
            break None;
        }
    };
    Outcome { requests, refused }
}

/// Returns the next complete request.
fn next(head: &mut Head, input: &mut &[u8]) -> Result<Option<Seen>, Refusal> {
    let Some(length) = head.parse(input, &LIMITS)? else {
        return Ok(None);
    };
    let rest = &input[length..];
    let mut body = Vec::new();
    let mut trailers = Fields::new();
    let consumed = match head.framing() {
        Framing::None => 0,
        Framing::Length(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some(whole) = rest.get(..length) else {
                return Ok(None);
            };
            body.extend_from_slice(whole);
            length
        }
        Framing::Chunked => {
            let mut chunked = Chunked::new(u64::MAX, &LIMITS);
            let fed = chunked.feed(rest, &mut body)?;
            if !fed.done {
                return Ok(None);
            }
            for (name, value) in chunked.trailers() {
                add(&mut trailers, name, value);
            }
            fed.consumed
        }
    };
    *input = &rest[consumed..];
    let mut headers = Fields::new();
    for (name, value) in head.fields() {
        add(&mut headers, name, value);
    }
    Ok(Some(Seen {
        method: head.method().to_owned(),
        target: head.target().to_owned(),
        authority: head.authority().map(|text| text.as_bytes().to_owned()),
        minor_version: head.minor_version(),
        headers,
        body,
        trailers,
    }))
}

fn add(fields: &mut Fields, name: &str, value: &[u8]) {
    let values = fields.entry(name.to_ascii_lowercase()).or_default();
    values.push(value.to_owned());
}

/// Returns what hyper's server sees.
pub(crate) fn hypers(input: &[u8]) -> Outcome<hyper::Error> {
    let seen = RefCell::new(Vec::new());
    let service = service_fn(|request| async {
        if let Some(request) = receive(request).await {
            seen.borrow_mut().push(request);
        }
        Ok::<_, Infallible>(Response::new(String::new()))
    });
    let connection = http1::Builder::new()
        .half_close(true)
        .serve_connection(Wire { input }, service);
    let result = finish(connection);
    Outcome {
        requests: seen.take(),
        refused: result.err(),
    }
}

async fn receive(request: Request<Incoming>) -> Option<Seen> {
    let (parts, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    let mut trailers = Fields::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await {
        match frame.ok()?.into_data() {
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => {
                trailers = fields(&frame.into_trailers().unwrap_or_default());
            }
        }
    }
    // We drop fields that are not allowed in trailers. hyper leaves that to the
    // application.
    trailers.retain(|name, _| !netwasm_exchange::chunked::is_dropped(name));
    let target = parts.uri.path_and_query().map(ToString::to_string);
    let headers = fields(&parts.headers);
    let authority = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes().to_owned()),
        None => headers.get("host").and_then(|hosts| hosts.first().cloned()),
    };
    Some(Seen {
        method: parts.method.as_str().to_owned(),
        target: target.unwrap_or_default(),
        authority,
        minor_version: u8::from(parts.version == Version::HTTP_11),
        headers,
        body,
        trailers,
    })
}

fn fields(map: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in map {
        add(&mut fields, name.as_str(), value.as_bytes());
    }
    fields
}

/// Polls to completion a future that never waits for another task.
fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("hyper waits for what does not come");
}

/// A connection in memory. The client sends `input`, ends its stream, and
/// accepts every response.
struct Wire<'input> {
    input: &'input [u8],
}

impl Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.input.len().min(buffer.remaining());
        let (now, later) = self.input.split_at(length);
        buffer.put_slice(now);
        self.input = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
