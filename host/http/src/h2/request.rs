//! Head of a request in HTTP/2 (RFC 9113, section 8.3). `h2` has already
//! refused malformed ones: connection-specific fields, wrong or repeated
//! pseudo-fields, a Content-Length that differs from the body, or two that
//! differ. The screen has hidden from it the targets that it would not take.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Instant;

use h2::ext::Protocol;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, header};

use netwasm_base::address::Address;
use netwasm_base::config::HttpLimits;
use netwasm_exchange::handler::Site;
use netwasm_exchange::head::authority::is_authority;
use netwasm_exchange::head::target::{self, Form};
use netwasm_exchange::head::{Refusal, bad};
use netwasm_exchange::request::Request;
use netwasm_exchange::told::ErrorForm;
use send_wrapper::SendWrapper;

use crate::access_log::{Entry, Text};
use crate::exchange::TOO_LARGE;
use crate::local::Local;
use crate::spans;
use crate::tally::Spoken;

/// Writes a head into a request for a guest.
pub(super) fn fill(request: &mut Request, head: &Parts) {
    request.head.compose(
        head.method.as_str(),
        target(head),
        authority(head).unwrap_or_default(),
        head.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes())),
    );
    request.site = site(head).clone();
    request.tunnels = tunnels(head);
}

/// Returns the form of an error for the client.
pub(super) fn error_form(head: &Parts) -> ErrorForm {
    AcceptLines::of(&head.headers).error_form()
}

/// Lines of a request's `Accept`, kept where its other fields go to a guest. Their
/// bytes are shared: to keep them costs less than to parse them, which errors alone
/// need.
#[derive(Default)]
pub(super) struct AcceptLines {
    first: Option<HeaderValue>,
    /// Mostly none.
    others: Vec<HeaderValue>,
}

impl AcceptLines {
    pub(super) fn of(fields: &HeaderMap) -> Self {
        let mut lines = fields.get_all(header::ACCEPT).iter().cloned();
        Self {
            first: lines.next(),
            others: lines.collect(),
        }
    }

    /// Returns the form of an error for the client.
    pub(super) fn error_form(&self) -> ErrorForm {
        let lines = self.first.iter().chain(&self.others);
        ErrorForm::of(lines.map(HeaderValue::as_bytes))
    }
}

/// Checks what `h2` leaves unchecked.
///
/// # Errors
/// Fails with the refusal that the client gets.
pub(super) fn check(head: &mut Parts, limits: &HttpLimits) -> Result<(), Refusal> {
    if head.method == Method::CONNECT {
        return Err(Refusal::new(501, "this is not a proxy"));
    }
    if has_too_many(&head.headers, limits.max_headers) {
        return Err(Refusal::over("--max-headers", 431, "too many header lines"));
    }
    check_target(head, limits)?;
    // A request with `Host` and no `:authority` lacks the scheme here.
    if !matches!(head.uri.scheme_str(), Some("http" | "https") | None) {
        return Err(bad("target of another scheme than http and https"));
    }
    // Most requests have few fields: one pass is cheaper than three lookups.
    let mut host = None;
    let mut has_length = false;
    for (name, value) in &head.headers {
        if is_padded(value) {
            return Err(bad("space around the value of a header"));
        }
        if name == header::HOST && host.replace(value).is_some() {
            return Err(bad("two Host headers"));
        }
        if name == header::EXPECT && !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::new(417, "unknown expectation"));
        }
        if name == header::CONTENT_LENGTH {
            // `h2` accepts equal ones; HTTP/1.1 refuses them.
            if std::mem::replace(&mut has_length, true) {
                return Err(bad("two Content-Length headers"));
            }
            if number(value).is_some_and(|length| length > limits.max_body as u64) {
                return Err(TOO_LARGE);
            }
        }
    }
    check_authority(head.uri.authority(), host)
}

/// True if there are too many fields. Those into which clients split `Cookie` are
/// one, as they are joined (RFC 9113, section 8.2.3): browsers split each cookie off.
fn has_too_many(headers: &HeaderMap, most: usize) -> bool {
    let count = headers.len();
    if count <= most {
        return false;
    }
    let cookies = headers.get_all(header::COOKIE).iter().count();
    count - cookies.saturating_sub(1) > most
}

fn check_target(head: &Parts, limits: &HttpLimits) -> Result<(), Refusal> {
    const TOO_LONG: Refusal = Refusal::over("--max-request-line", 414, "the target is too long");
    let sent = sent_target(head);
    if sent.len() > limits.max_request_line {
        return Err(TOO_LONG);
    }
    if target::form(head.method.as_str(), sent)? == Form::Other {
        return Err(bad("target that is not a path"));
    }
    match head.extensions.get::<Revealed>() {
        Some(Revealed { uri: None, .. }) => Err(TOO_LONG),
        _ => Ok(()),
    }
}

/// Checks that `:authority` or `Host` is there, and that they agree if both are
/// (RFC 9113, section 8.3.1).
fn check_authority(asked: Option<&Authority>, host: Option<&HeaderValue>) -> Result<(), Refusal> {
    match (asked.map(Authority::as_str), host) {
        (None, None) => Err(bad("neither :authority nor Host")),
        (Some(asked), _) if !is_authority(asked.as_bytes()) => Err(bad("malformed :authority")),
        (_, Some(host)) if !is_authority(host.as_bytes()) => Err(bad("malformed Host")),
        (Some(asked), Some(host)) if !asked.as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            Err(bad("Host is not what :authority says"))
        }
        _ => Ok(()),
    }
}

/// True if a value begins or ends with a space or a tab (RFC 9113, section
/// 8.2.1).
fn is_padded(value: &HeaderValue) -> bool {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    space(value.as_bytes().first()) || space(value.as_bytes().last())
}

/// A target that was hidden from `h2`.
#[derive(Clone, Debug)]
struct Revealed {
    /// As sent.
    sent: Arc<[u8]>,
    /// For guests that take requests whole.
    text: String,
    /// For async guests.
    uri: Option<PathAndQuery>,
}

/// Restores the target that was hidden from `h2`. If it is unknown, the
/// replacement stays and is refused.
pub(super) fn reveal(head: &mut Parts, sent: Option<Arc<[u8]>>) {
    let Some(sent) = sent else { return };
    let text = target::text(&sent).into_owned();
    let uri = target::for_uri(&text).parse().ok();
    head.extensions.insert(Revealed { sent, text, uri });
}

/// Returns a target that was hidden from `h2`, for an async guest.
pub(super) fn revealed(head: &Parts) -> Option<&PathAndQuery> {
    head.extensions.get::<Revealed>()?.uri.as_ref()
}

/// Notes the service that a request is for.
pub(super) fn set_site(head: &mut Parts, site: Site) {
    // Mostly there is one, and extensions allocate.
    if !matches!(site, Site::Own) {
        // The streams of a connection are on one thread.
        head.extensions.insert(SendWrapper::new(site));
    }
}

/// Returns the service that a request is for.
pub(super) fn site(head: &Parts) -> &Site {
    let site = head.extensions.get::<SendWrapper<Site>>();
    site.map_or(&Site::Own, |site| site)
}

/// Marks a request that wants another protocol on its stream.
#[derive(Clone, Copy, Debug)]
struct Tunnels;

/// Makes an extended CONNECT (RFC 8441) look as the request of HTTP/1.1 would: GET
/// with `Upgrade`. Returns false for any other request.
pub(super) fn take_connect(head: &mut Parts) -> bool {
    let Some(protocol) = head.extensions.remove::<Protocol>() else {
        return false;
    };
    let Ok(value) = HeaderValue::from_str(protocol.as_str()) else {
        return false;
    };
    if protocol.as_str().eq_ignore_ascii_case("websocket") {
        // RFC 6455, section 4.1, has it, and RFC 8441, section 5.1, has not.
        let key = HeaderValue::from_str(&websocket_key());
        let key = key.unwrap_or(HeaderValue::from_static(""));
        head.headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    head.headers.insert(header::UPGRADE, value);
    let upgrade = HeaderValue::from_static("Upgrade");
    head.headers.insert(header::CONNECTION, upgrade);
    head.method = Method::GET;
    head.extensions.insert(Tunnels);
    true
}

/// True if a request wants another protocol on its stream.
pub(super) fn tunnels(head: &Parts) -> bool {
    head.extensions.get::<Tunnels>().is_some()
}

/// Returns 16 random bytes in Base64.
fn websocket_key() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // Keys of hash maps are random.
    let random = || RandomState::new().build_hasher().finish();
    let bits = u128::from(random()) << 64 | u128::from(random());
    let digits = (0..22).map(|place| {
        let six = match place {
            21 => bits << 4,
            place => bits >> (122 - 6 * place),
        };
        let letter = LETTERS.get((six & 63) as usize);
        char::from(letter.copied().unwrap_or(b'A'))
    });
    digits.chain("==".chars()).collect()
}

/// Returns path and query, or `*` for `OPTIONS *`.
pub(super) fn target(head: &Parts) -> &str {
    match head.extensions.get::<Revealed>() {
        Some(target) => &target.text,
        None => head.uri.path_and_query().map_or("/", |it| it.as_str()),
    }
}

/// Returns path and query as sent.
fn sent_target(head: &Parts) -> &[u8] {
    match head.extensions.get::<Revealed>() {
        Some(target) => &target.sent,
        None => target(head).as_bytes(),
    }
}

/// Returns the requested host and port.
pub(super) fn authority(head: &Parts) -> Option<&str> {
    let asked = head.uri.authority().map(Authority::as_str);
    asked.or_else(|| head.headers.get(header::HOST)?.to_str().ok())
}

/// Returns the told length of the body.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    number(headers.get(header::CONTENT_LENGTH)?)
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

/// True if the client waits for `100 Continue` before it sends the body.
pub(super) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.contains_key(header::EXPECT)
}

/// Returns the entry of a request for the records, if there are any.
pub(super) fn entry(
    head: &Parts,
    peer: &Address,
    secure: bool,
    local: &Local,
) -> Option<Box<Entry>> {
    let site = site(head);
    let account = local.account(site);
    if !account.records() {
        return None;
    }
    let field = |name: &str| {
        let value = head.headers.get(name);
        value.map(|it: &HeaderValue| it.as_bytes().to_vec())
    };
    let trace = spans::begin(&account.net, |name| {
        let value = head.headers.get(name);
        value.map(HeaderValue::as_bytes)
    });
    let text = || Text {
        peer: peer.clone(),
        line: [
            head.method.as_str().as_bytes(),
            sent_target(head),
            b"HTTP/2.0",
        ]
        .join(&b' '),
        host: authority(head).map(str::to_owned),
        referer: field(header::REFERER.as_str()),
        user_agent: field(header::USER_AGENT.as_str()),
        headers: account.logged_headers(|name| field(name)),
        secure,
        time: local.now(),
    };
    Some(Box::new(Entry {
        site: site.clone(),
        spoken: Spoken::Http2,
        status: 0,
        length: 0,
        begun: Instant::now(),
        text: account.needs_text(trace.as_ref()).then(text),
        trace,
    }))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn checked(method: &str, uri: &str, fields: &[(&str, &str)]) -> Result<(), u16> {
        let request = http::Request::builder().method(method).uri(uri);
        let (mut head, ()) = request.body(()).expect("a request").into_parts();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            let value = HeaderValue::from_str(value).expect("a value");
            head.headers.append(name, value);
        }
        check(&mut head, &HttpLimits::default()).map_err(|refusal| refusal.status)
    }

    #[test]
    fn an_error_has_a_form_by_all_lines_of_accept() {
        let mut fields = HeaderMap::new();
        let form = |fields: &HeaderMap| AcceptLines::of(fields).error_form();
        assert_eq!(form(&fields), ErrorForm::Text);
        let add = |fields: &mut HeaderMap, value| {
            fields.append(header::ACCEPT, HeaderValue::from_static(value));
        };
        add(&mut fields, "application/json;q=0.5");
        assert_eq!(form(&fields), ErrorForm::Problem);
        add(&mut fields, "image/png");
        add(&mut fields, "text/html");
        assert_eq!(form(&fields), ErrorForm::Page);
    }

    #[test]
    fn what_http_1_1_would_refuse_is_refused() {
        assert_eq!(checked("GET", "http://a.example/b?c", &[]), Ok(()));
        assert_eq!(checked("CONNECT", "a.example:1", &[]), Err(501));
        assert_eq!(checked("GET", "http://u@a.example/", &[]), Err(400));
        assert_eq!(checked("GET", "ftp://a.example/", &[]), Err(400));
        let long = format!("http://a.example/{}", "x".repeat(9000));
        assert_eq!(checked("GET", &long, &[]), Err(414));
        let many = [("x", "y"); 101];
        assert_eq!(checked("GET", "http://a.example/", &many), Err(431));
        let large = [("content-length", "1048577")];
        assert_eq!(checked("PUT", "http://a.example/", &large), Err(413));
        let twice = [("content-length", "1"); 2];
        assert_eq!(checked("PUT", "http://a.example/", &twice), Err(400));
        let expects = [("expect", "100-Continue")];
        assert_eq!(checked("PUT", "http://a.example/", &expects), Ok(()));
        let other = [("expect", "more")];
        assert_eq!(checked("PUT", "http://a.example/", &other), Err(417));
        for padded in [" a", "a\t", " "] {
            let padded = [("x-name", padded)];
            assert_eq!(checked("GET", "http://a.example/", &padded), Err(400));
        }
        assert_eq!(checked("GET", "http://a.example/", &[("x", "")]), Ok(()));
    }

    #[test]
    fn host_must_be_what_the_authority_is() {
        let uri = "http://a.example/";
        assert_eq!(checked("GET", uri, &[("host", "A.example")]), Ok(()));
        assert_eq!(checked("GET", uri, &[("host", "b.example")]), Err(400));
        let two = [("host", "a.example"), ("host", "a.example")];
        assert_eq!(checked("GET", uri, &two), Err(400));
    }
}
