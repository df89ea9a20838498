//! The head of a request for a server of an upstream group.
//!
//! Fields of the connection stay here (RFC 9110, section 7.6.1), with what
//! `Connection` names. The framing is the host's own. All else goes on as it
//! came, in its order, except for the handler's edits.

use std::borrow::Cow;
use std::io::Write as _;

use netwasm_base::address::Address;
use netwasm_exchange::answer::Fields;
use netwasm_exchange::forward::{Edits, Forward, ForwardedHost, Tells};
use netwasm_exchange::head::scan::is_token;
use netwasm_exchange::head::{Framing, authority, target};
use netwasm_exchange::hop;
use netwasm_exchange::request::Request;
use netwasm_net::endpoint::Endpoint;

use crate::forward::affinity;
use crate::response::{self, check_field, write_field};

/// Reason why a request cannot be forwarded as the handler wants it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsendable {
    #[error("{0:?} is no method")]
    Method(String),
    #[error("{0:?} is no target: it begins with a slash, and has no space or control character")]
    Target(String),
    #[error("{0:?} is no host")]
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

/// A request's head, and what its response depends on.
#[derive(Debug)]
pub(super) struct Composed {
    /// The head up to `Host`, which may depend on the server.
    before_host: Vec<u8>,
    /// The value of `Host`; `None` if it is the server's.
    host: Option<String>,
    after_host: Vec<u8>,
    /// True if only the head of the response is wanted.
    pub(super) is_head: bool,
    /// True if the client wants a body all the same, so that the length of none
    /// must not be told.
    pub(super) hides_length: bool,
    /// True if the request may be sent again: RFC 9110, section 9.2.2.
    pub(super) is_idempotent: bool,
    /// True if the client wants another protocol.
    pub(super) upgrades: bool,
}

impl Composed {
    /// Writes the head for a server.
    pub(super) fn write(&self, server: &Endpoint, secure: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before_host);
        out.extend_from_slice(b"Host: ");
        match &self.host {
            Some(host) => out.extend_from_slice(host.as_bytes()),
            None => write_host(server, secure, out),
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.after_host);
    }
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

/// Composes the head of a request. `expects` is true if the client waits for
/// `100 Continue`, which the server then decides on; `may_upgrade` if the
/// client's connection can change to another protocol.
///
/// # Errors
/// Fails if the handler wants what must not be sent.
pub(super) fn compose(
    request: &Request,
    forward: &Forward,
    framing: SentFraming,
    expects: bool,
    may_upgrade: bool,
) -> Result<Composed, Unsendable> {
    let head = &request.head;
    let method = forward.method.as_deref().unwrap_or_else(|| head.method());
    if method.is_empty() || !method.bytes().all(is_token) || method == "CONNECT" {
        return Err(Unsendable::Method(method.to_owned()));
    }
    let target = forward.target.as_deref().unwrap_or_else(|| head.target());
    match target::form(method, target.as_bytes()) {
        Ok(target::Form::Path | target::Form::Asterisk) => {}
        Ok(target::Form::Other) | Err(_) => return Err(Unsendable::Target(target.to_owned())),
    }
    let host = match &forward.host {
        ForwardedHost::Kept => Some(head.authority().unwrap_or("localhost").to_owned()),
        ForwardedHost::OfServer => None,
        ForwardedHost::Replaced(host) if authority::is_authority(host.as_bytes()) => {
            Some(host.clone())
        }
        ForwardedHost::Replaced(host) => return Err(Unsendable::Host(host.clone())),
    };
    check(&forward.request)?;
    check(&forward.response)?;

    let mut before_host = Vec::with_capacity(64 + target.len());
    before_host.extend_from_slice(method.as_bytes());
    before_host.push(b' ');
    before_host.extend_from_slice(target.as_bytes());
    before_host.extend_from_slice(b" HTTP/1.1\r\n");
    let mut out = Vec::with_capacity(512);
    write_fields(request, forward, framing, &mut out);
    write_told(request, forward.tells, &mut out);
    if let Some(trace) = &request.trace
        && !forward.request.drops("traceparent")
    {
        write_joined("traceparent", &[], &trace.context.to_string(), &mut out);
    }
    for (name, value) in forward.request.set.iter().chain(&forward.request.add) {
        write_field(name, value, &mut out);
    }
    // Some servers want trailers only if the client does.
    let trailers = takes_trailers(request);
    if trailers {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    let upgrade = upgrade(request).filter(|_| may_upgrade && framing == SentFraming::None);
    if let Some(protocol) = upgrade {
        write_field("Upgrade", protocol, &mut out);
    }
    out.extend_from_slice(match (trailers, upgrade) {
        (true, Some(_)) => b"Connection: TE, Upgrade\r\n",
        (true, None) => b"Connection: TE\r\n",
        (false, Some(_)) => b"Connection: Upgrade\r\n",
        (false, None) => b"",
    });
    if expects {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    let told = head.framing() != Framing::None || matches!(method, "POST" | "PUT" | "PATCH");
    // Writing to memory cannot fail.
    let _ = match framing {
        SentFraming::None if told => write!(out, "Content-Length: 0\r\n"),
        SentFraming::None => Ok(()),
        SentFraming::Length(length) => write!(out, "Content-Length: {length}\r\n"),
        SentFraming::Chunked => write!(out, "Transfer-Encoding: chunked\r\n"),
    };
    out.extend_from_slice(b"\r\n");
    Ok(Composed {
        before_host,
        host,
        after_host: out,
        is_head: method == "HEAD",
        hides_length: method == "HEAD" && !request.is_head(),
        is_idempotent: matches!(
            method,
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
        ),
        upgrades: upgrade.is_some(),
    })
}

/// Returns the protocol that the client wants in place of HTTP/1.1: RFC 9110,
/// section 7.8.
fn upgrade(request: &Request) -> Option<&[u8]> {
    let head = &request.head;
    let protocol = head.first("upgrade").filter(|it| !it.is_empty())?;
    let mut options = hop::named(head.all("connection"));
    let wanted = options.any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    (wanted && head.minor_version() == 1).then_some(protocol)
}

/// Writes the client's fields that go on.
fn write_fields(request: &Request, forward: &Forward, framing: SentFraming, out: &mut Vec<u8>) {
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
                write_field(name, &left, out);
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
/// or the host writes it anew.
fn is_told(name: &str, tells: Tells) -> bool {
    let extended = match is(name, "forwarded") {
        true => tells.forwarded,
        // The other two of a believed proxy stay: it has seen the client.
        false => tells.x_forwarded && is(name, "x-forwarded-for"),
    };
    !tells.believes || extended
}

/// Writes the fields that tell the server of the client.
fn write_told(request: &Request, tells: Tells, out: &mut Vec<u8>) {
    let head = &request.head;
    let ip = request.transport.as_ref().map(|it| match it.peer() {
        Address::Ip(address) => Some(address.ip().to_canonical()),
        Address::Unix(_) => None,
    });
    let ip = ip.flatten();
    let before = |name: &str| {
        let values: Vec<_> = head.all(name).collect();
        match tells.believes && !values.is_empty() {
            true => [&values.join(&b", "[..])[..], b", "].concat(),
            false => Vec::new(),
        }
    };
    // Writing to memory cannot fail.
    if tells.x_forwarded {
        let client = ip.map_or_else(|| Cow::from("unix:"), |ip| ip.to_string().into());
        write_joined("X-Forwarded-For", &before("x-forwarded-for"), &client, out);
        let lacks = |name: &str| !tells.believes || head.first(name).is_none();
        if lacks("x-forwarded-proto") {
            write_joined("X-Forwarded-Proto", &[], request.scheme(), out);
        }
        if let Some(authority) = head.authority()
            && lacks("x-forwarded-host")
        {
            write_joined("X-Forwarded-Host", &[], authority, out);
        }
    }
    if tells.forwarded {
        let mut element = match ip {
            Some(ip) if ip.is_ipv6() => format!("for=\"[{ip}]\""),
            Some(ip) => format!("for={ip}"),
            None => "for=unknown".to_owned(),
        };
        if let Some(authority) = head.authority() {
            // An authority has neither quotes nor backslashes.
            element += &format!(";host=\"{authority}\"");
        }
        element += &format!(";proto={}", request.scheme());
        write_joined("Forwarded", &before("forwarded"), &element, out);
    }
    if tells.via {
        let version = match head.request_line().ends_with(b"HTTP/2.0") {
            true => "2.0",
            false if head.minor_version() == 0 => "1.0",
            false => "1.1",
        };
        write_joined("Via", &[], &format!("{version} netwasm"), out);
    }
}

fn write_joined(name: &str, before: &[u8], value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(before);
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
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
pub(super) fn check(edits: &Edits) -> Result<(), Unsendable> {
    check_all(&edits.set)?;
    check_all(&edits.add)
}

fn check_all(fields: &Fields) -> Result<(), Unsendable> {
    for (name, value) in fields {
        check_field(name, value).map_err(|fault| Unsendable::Field(fault.to_string()))?;
        let ours = ["host", "content-length", "expect"];
        if response::is_framing(name) || ours.iter().any(|it| is(name, it)) {
            return Err(Unsendable::Framing(name.clone()));
        }
    }
    Ok(())
}
