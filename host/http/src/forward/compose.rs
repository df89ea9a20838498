//! The head of a request for a server of an upstream group.
//!
//! Fields of the connection stay here (RFC 9110, section 7.6.1), with what
//! `Connection` names. The framing is the host's own. All else goes on as it
//! came, in its order, except for the handler's edits.

use std::io::Write as _;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use netwasm_base::trace::Context;
use netwasm_exchange::answer::Fields;
use netwasm_exchange::forward::{Edits, Forward, ForwardedHost, Tells};
use netwasm_exchange::head::scan::is_token;
use netwasm_exchange::head::{Framing, authority, target};
use netwasm_exchange::hop;
use netwasm_exchange::request::Request;
use netwasm_net::endpoint::Endpoint;
use netwasm_net::upstream::Server;

use crate::forward::{affinity, hops, told, websocket};
use crate::response::{self, check_field, write_field};

/// Reason why a request cannot be forwarded as the handler wants it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnsendableRequest {
    #[error("{0:?} is not a method")]
    Method(String),
    #[error("{0:?} is not a target: it begins with a slash, and has no space or control character")]
    Target(String),
    #[error("{0:?} is not a host")]
    Host(String),
    #[error("the header {0} is the host's to send")]
    Framing(String),
    #[error("{0}")]
    Field(String),
}

/// Framing of a body that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentFraming {
    /// No body.
    None,
    /// By its length in bytes.
    Length(u64),
    Chunked,
}

/// A request that was checked, and what its response depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Composed {
    framing: SentFraming,
    /// True if the client waits for `100 Continue`.
    expects: bool,
    /// True if only the head of the response is wanted.
    pub(super) is_head: bool,
    /// True if the client wants a body all the same, so that the length of none
    /// must not be told.
    pub(super) hides_length: bool,
    /// True if the request may be sent again: RFC 9110, section 9.2.2.
    pub(super) is_idempotent: bool,
    /// True if the client wants another protocol.
    pub(super) upgrades: bool,
    /// The span that the server is told of.
    pub(super) span: Option<Context>,
    /// `Max-Forwards` for the server, if the request counts it.
    hops: Option<u64>,
}

/// Checks a request, so that its head can be composed. `expects` is true if the
/// client waits for `100 Continue`, which the server then decides on;
/// `may_upgrade` if the client's connection can change to another protocol.
///
/// # Errors
/// Fails if the handler wants what must not be sent.
pub(super) fn compose(
    request: &Request,
    forward: &Forward,
    framing: SentFraming,
    expects: bool,
    may_upgrade: bool,
) -> Result<Composed, UnsendableRequest> {
    let method = method(request, forward);
    if method.is_empty() || !method.bytes().all(is_token) || method == "CONNECT" {
        return Err(UnsendableRequest::Method(method.to_owned()));
    }
    let target = target(request, forward);
    match target::form(method, target.as_bytes()) {
        Ok(target::Form::Path | target::Form::Asterisk) => {}
        Ok(target::Form::Other) | Err(_) => {
            return Err(UnsendableRequest::Target(target.to_owned()));
        }
    }
    if let ForwardedHost::Replaced(host) = &forward.host
        && !authority::is_authority(host.as_bytes())
    {
        return Err(UnsendableRequest::Host(host.clone()));
    }
    check(&forward.request)?;
    check(&forward.response)?;
    Ok(Composed {
        framing,
        expects,
        is_head: method == "HEAD",
        hides_length: method == "HEAD" && !request.is_head(),
        is_idempotent: matches!(
            method,
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
        ),
        upgrades: may_upgrade && framing == SentFraming::None && upgrade(request).is_some(),
        span: None,
        hops: hops::left(request),
    })
}

/// Returns the method and the target of the request as it is sent.
pub(super) fn line<'a>(request: &'a Request, forward: &'a Forward) -> (&'a str, &'a str) {
    (method(request, forward), target(request, forward))
}

fn method<'a>(request: &'a Request, forward: &'a Forward) -> &'a str {
    let asked = forward.method.as_deref();
    asked.unwrap_or_else(|| request.head.method())
}

fn target<'a>(request: &'a Request, forward: &'a Forward) -> &'a str {
    let asked = forward.target.as_deref();
    asked.unwrap_or_else(|| request.head.target())
}

impl Composed {
    /// Writes the head of the request for a server that speaks HTTP/1.1.
    pub(super) fn write(
        &self,
        request: &Request,
        forward: &Forward,
        server: &Server,
        out: &mut Vec<u8>,
    ) {
        out.reserve(512);
        out.extend_from_slice(method(request, forward).as_bytes());
        out.push(b' ');
        out.extend_from_slice(target(request, forward).as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        write_authority(request, forward, server, out);
        out.extend_from_slice(b"\r\n");
        self.add_all(request, forward, out);
        // Some servers want trailers only if the client does.
        let trailers = takes_trailers(request);
        if trailers {
            out.extend_from_slice(b"TE: trailers\r\n");
        }
        let upgrade = upgrade(request).filter(|_| self.upgrades);
        if let Some(protocol) = upgrade {
            write_field("Upgrade", protocol, out);
        }
        out.extend_from_slice(match (trailers, upgrade) {
            (true, Some(_)) => b"Connection: TE, Upgrade\r\n",
            (true, None) => b"Connection: TE\r\n",
            (false, Some(_)) => b"Connection: Upgrade\r\n",
            (false, None) => b"",
        });
        if self.expects {
            out.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        match (self.framing, self.length(request, forward)) {
            (SentFraming::Chunked, _) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            // Writing to memory cannot fail.
            (_, Some(length)) => drop(write!(out, "Content-Length: {length}\r\n")),
            (_, None) => {}
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Returns the head of the request for a server that speaks HTTP/2. Octets
    /// of the target that no URI has are percent-encoded. `connects` asks for the
    /// protocol that the client wants by an extended CONNECT (RFC 8441).
    ///
    /// # Errors
    /// Fails if HTTP/2 has no such target or host.
    pub(super) fn http2(
        &self,
        request: &Request,
        forward: &Forward,
        server: &Server,
        connects: bool,
    ) -> Result<http::Request<()>, UnsendableRequest> {
        let mut authority = Vec::with_capacity(64);
        write_authority(request, forward, server, &mut authority);
        let host = || UnsendableRequest::Host(String::from_utf8_lossy(&authority).into_owned());
        let mut parts = http::uri::Parts::default();
        parts.authority = Some(Authority::try_from(&*authority).map_err(|_| host())?);
        parts.scheme = Some(match server.tls() {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        });
        let sent = target(request, forward);
        let wrong = || UnsendableRequest::Target(sent.to_owned());
        let path = PathAndQuery::try_from(&*target::for_uri(sent));
        parts.path_and_query = Some(path.map_err(|_| wrong())?);
        let method = method(request, forward);
        let mut headers = HeaderMap::with_capacity(16);
        self.add_all(request, forward, &mut headers);
        if takes_trailers(request) {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        if self.expects {
            headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        }
        if let Some(length) = self.length(request, forward) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let mut made = http::Request::new(());
        let wrong_method = |_| UnsendableRequest::Method(method.to_owned());
        *made.method_mut() = Method::from_bytes(method.as_bytes()).map_err(wrong_method)?;
        *made.uri_mut() = Uri::from_parts(parts).map_err(|_| wrong())?;
        *made.headers_mut() = headers;
        if connects {
            websocket::connect(&mut made, upgrade(request).unwrap_or_default());
        }
        Ok(made)
    }

    /// Adds the fields that are the same in all versions.
    fn add_all(&self, request: &Request, forward: &Forward, out: &mut impl Header) {
        add_clients(request, forward, self, out);
        told::add(request, forward.tells, out);
        if let Some(span) = &self.span
            && !forward.request.drops("traceparent")
        {
            out.add("traceparent", span.to_string().as_bytes());
        }
        if let Some(hops) = self.hops
            && !forward.request.drops("max-forwards")
        {
            out.add("Max-Forwards", hops.to_string().as_bytes());
        }
        for (name, value) in forward.request.set.iter().chain(&forward.request.add) {
            out.add(name, value);
        }
    }

    /// Returns the Content-Length, if it is told.
    fn length(&self, request: &Request, forward: &Forward) -> Option<u64> {
        let told = || {
            let anticipates = matches!(method(request, forward), "POST" | "PUT" | "PATCH");
            anticipates || request.head.framing() != Framing::None
        };
        match self.framing {
            SentFraming::Length(length) => Some(length),
            SentFraming::None => told().then_some(0),
            SentFraming::Chunked => None,
        }
    }
}

/// Fields of a request that is composed.
pub(super) trait Header {
    /// Adds a field, which was checked.
    fn add(&mut self, name: &str, value: &[u8]);
}

impl Header for Vec<u8> {
    fn add(&mut self, name: &str, value: &[u8]) {
        write_field(name, value, self);
    }
}

impl Header for HeaderMap {
    fn add(&mut self, name: &str, value: &[u8]) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            // A request has fewer fields than the map's capacity.
            let _ = self.try_append(name, value);
        }
    }
}

/// Writes the `Host` of the request.
fn write_authority(request: &Request, forward: &Forward, server: &Server, out: &mut Vec<u8>) {
    let host = match &forward.host {
        ForwardedHost::Kept => request.head.authority().unwrap_or("localhost"),
        ForwardedHost::Replaced(host) => host,
        ForwardedHost::OfServer => {
            return write_host(server.endpoint(), server.tls().is_some(), out);
        }
    };
    out.extend_from_slice(host.as_bytes());
}

/// Writes the `Host` that a server has by itself.
fn write_host(server: &Endpoint, secure: bool, out: &mut Vec<u8>) {
    let default = if secure { 443 } else { 80 };
    // Writing to memory cannot fail.
    let _ = match server {
        Endpoint::Address(address) if address.port() == default => match address.is_ipv6() {
            true => write!(out, "[{}]", address.ip()),
            false => write!(out, "{}", address.ip()),
        },
        Endpoint::Address(address) => write!(out, "{address}"),
        Endpoint::Name { host, port } if *port == default => write!(out, "{host}"),
        Endpoint::Name { host, port } => write!(out, "{host}:{port}"),
        Endpoint::Unix(_) => write!(out, "localhost"),
    };
}

/// Returns the protocol that the client wants in place of HTTP/1.1: RFC 9110,
/// section 7.8.
pub(super) fn upgrade(request: &Request) -> Option<&[u8]> {
    let head = &request.head;
    let protocol = head.first("upgrade").filter(|it| !it.is_empty())?;
    let mut options = hop::named(head.all("connection"));
    let wanted = options.any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    (wanted && head.minor_version() == 1 && !is_http(protocol)).then_some(protocol)
}

/// True if one of these protocols is HTTP: in a tunnel of it, requests would pass
/// that no handler has decided on.
fn is_http(protocols: &[u8]) -> bool {
    let begins = |member: &[u8], name: &str| {
        let start = member.get(..name.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    };
    let mut members = protocols
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii);
    members.any(|member| ["h2c", "http/", "tls/"].iter().any(|it| begins(member, it)))
}

/// Adds the client's fields that go on.
fn add_clients(request: &Request, forward: &Forward, composed: &Composed, out: &mut impl Header) {
    let framing = composed.framing;
    let head = &request.head;
    let mut named = Vec::new();
    if head.first("connection").is_some() {
        named.extend(hop::named(head.all("connection")));
    }
    for (name, value) in head.fields() {
        let goes_on = match name.len() {
            // The host writes these itself.
            2 if is(name, "te") => false,
            4 if is(name, "host") => false,
            6 if is(name, "expect") => false,
            14 if is(name, "content-length") => false,
            7 if is(name, "trailer") => framing == SentFraming::Chunked,
            9 if is(name, "forwarded") => !is_told(name, forward.tells),
            // Its server is to be within this request's span.
            11 if is(name, "traceparent") => request.trace.is_none(),
            // It is counted.
            12 if is(name, "max-forwards") => composed.hops.is_none(),
            // Of a connection's upgrade to HTTP/2 (RFC 7540, section 3.2.1).
            14 if is(name, "http2-settings") => false,
            // It authenticates the client to this proxy.
            19 if is(name, "proxy-authorization") => false,
            15..=17 if is_x_forwarded(name) => !is_told(name, forward.tells),
            _ => !response::is_framing(name),
        };
        let is_named = || {
            named
                .iter()
                .any(|it| it.eq_ignore_ascii_case(name.as_bytes()))
        };
        if goes_on && !is_named() && !forward.request.drops(name) {
            let left = affinity::without_cookie(&forward.group, name, value);
            if !left.is_empty() || value.is_empty() {
                out.add(name, &left);
            }
        }
    }
}

fn is(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}

fn is_x_forwarded(name: &str) -> bool {
    let mut names = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"].iter();
    names.any(|it| is(name, it))
}

/// True if a field about the client is left out as it came: it is not believed,
/// or the host writes its own.
fn is_told(name: &str, tells: Tells) -> bool {
    let extended = match is(name, "forwarded") {
        true => tells.forwarded,
        // The other two of a believed proxy stay: it has seen the client.
        false => tells.x_forwarded && is(name, "x-forwarded-for"),
    };
    !tells.believes || extended
}

/// True if the client wants trailers.
fn takes_trailers(request: &Request) -> bool {
    let mut members = request
        .head
        .all("te")
        .flat_map(|it| it.split(|byte| *byte == b','));
    members.any(|member| member.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Checks edits of a header.
///
/// # Errors
/// Fails with a field that must not be sent.
pub(super) fn check(edits: &Edits) -> Result<(), UnsendableRequest> {
    check_all(&edits.set)?;
    check_all(&edits.add)
}

fn check_all(fields: &Fields) -> Result<(), UnsendableRequest> {
    for (name, value) in fields {
        check_field(name, value).map_err(|fault| UnsendableRequest::Field(fault.to_string()))?;
        let ours = ["host", "content-length", "expect"];
        if response::is_framing(name) || ours.iter().any(|it| is(name, it)) {
            return Err(UnsendableRequest::Framing(name.clone()));
        }
    }
    Ok(())
}
