//! Demands of a group's settings on the fields of forwarded messages: the cookie
//! that keeps a client with its server, and the server's `Retry-After`.

use std::borrow::Cow;
use std::time::SystemTime;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};

use netwasm_exchange::request::Request;
use netwasm_net::upstream::{Group, Server};

use crate::retry_after::retry_after;

/// Returns the number of the server that the client's cookie names.
pub(super) fn stuck(group: &Group, request: &Request) -> Option<u64> {
    let sticky = group.sticky()?;
    let mut pairs = request.head.all("cookie").flat_map(pairs);
    pairs.find_map(|pair| {
        let value = value_of(pair, sticky.cookie())?;
        sticky.server(value)
    })
}

/// Returns the value of a request's field without the group's cookie, which is
/// between the client and the host. Nothing is left of a field without others.
pub(super) fn without_cookie<'a>(group: &Group, name: &str, value: &'a [u8]) -> Cow<'a, [u8]> {
    let Some(sticky) = group.sticky() else {
        return Cow::Borrowed(value);
    };
    let is_ours = |pair: &&[u8]| value_of(pair, sticky.cookie()).is_some();
    if !name.eq_ignore_ascii_case("cookie") || !pairs(value).any(|pair| is_ours(&pair)) {
        return Cow::Borrowed(value);
    }
    let others: Vec<_> = pairs(value).filter(|pair| !is_ours(pair)).collect();
    Cow::Owned(others.join(&b"; "[..]))
}

/// Adds the group's cookie to a response, unless the client's names its server
/// already.
pub(super) fn add_cookie(group: &Group, server: &Server, request: &Request, to: &mut HeaderMap) {
    let Some(sticky) = group.sticky() else {
        return;
    };
    if stuck(group, request) == Some(server.number()) {
        return;
    }
    let Some(name) = sticky.name_of(server) else {
        return;
    };
    let secure = if request.secure { "; Secure" } else { "" };
    let cookie = format!(
        "{}={name}; Path=/; HttpOnly; SameSite=Lax{secure}",
        sticky.cookie()
    );
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        // A header beyond the map's capacity is left out.
        let _ = to.try_append(SET_COOKIE, value);
    }
}

/// Leaves a server alone for as long as its response says, if the group heeds
/// that: RFC 9110, section 10.2.3, and RFC 6585, section 4.
pub(super) fn heed(server: &Server, status: StatusCode, headers: &HeaderMap) {
    let busy = matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    );
    if !busy || !server.heeds_pauses() {
        return;
    }
    if let Some(pause) = retry_after(headers, SystemTime::now()) {
        server.asks_for_pause(pause);
    }
}

/// Returns the pairs of a `Cookie`: RFC 6265, section 4.2.1.
fn pairs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let pairs = value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    pairs.filter(|pair| !pair.is_empty())
}

/// Returns a pair's value, if this is its name.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn group(settings: &str) -> Group {
        let group = format!("g=127.0.0.1:1,127.0.0.1:2;{settings}").parse();
        Group::new(&group.expect("a group"), &Arc::default()).expect("a group")
    }

    #[test]
    fn the_cookie_stays_between_client_and_host() {
        let group = group("sticky=SRV");
        for (value, left) in [
            ("a=1; SRV=x; b=2", "a=1; b=2"),
            ("SRV=x", ""),
            ("SRV=x;SRV=y", ""),
            ("a=1;b=2", "a=1;b=2"),
            ("xSRV=1; SRV2=3; srv=4", "xSRV=1; SRV2=3; srv=4"),
            ("a=SRV=x", "a=SRV=x"),
        ] {
            let rest = without_cookie(&group, "Cookie", value.as_bytes());
            assert_eq!(&*rest, left.as_bytes(), "{value}");
        }
        assert_eq!(&*without_cookie(&group, "X", b"SRV=x"), b"SRV=x");
        let plain = self::group("");
        assert_eq!(&*without_cookie(&plain, "Cookie", b"SRV=x"), b"SRV=x");
    }

    #[test]
    fn a_client_gets_a_cookie_until_it_has_that_of_its_server() {
        let group = group("sticky=SRV");
        let [one, other] = group.servers() else {
            panic!("two servers");
        };
        let mut request = Request::default();
        let set = |server: &Server, request: &Request| {
            let mut headers = HeaderMap::new();
            add_cookie(&group, server, request, &mut headers);
            let cookie = headers.get(SET_COOKIE)?;
            Some(cookie.to_str().expect("text").to_owned())
        };
        let cookie = set(one, &request).expect("a cookie");
        assert!(
            cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"),
            "{cookie}"
        );
        assert!(!cookie.contains("127.0.0.1"), "{cookie}");
        request.secure = true;
        let cookie = set(one, &request).expect("a cookie");
        assert!(cookie.ends_with("; Secure"), "{cookie}");
        assert_ne!(set(other, &request), Some(cookie));
    }
}
