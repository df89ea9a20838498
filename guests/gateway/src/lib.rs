//! Decides which upstream group a request goes to. The host forwards it, and
//! passes the response on: no body enters the component.
//!
//! ```sh
//! netwasm run guests/gateway.wasm --http 8080 \
//!     --upstream site=127.0.0.1:9000 --upstream api=127.0.0.1:9001,127.0.0.1:9002 \
//!     --upstream next=127.0.0.1:9003 --env TOKEN=secret \
//!     -- /=site /api=api,next:5,rate:10/s admin.example.org/=site,token,rate:60/m:5
//! ```
//!
//! A route is
//! `[HOST]/PATH=GROUP[,CANARY:PERCENT][,token][,rate:N/s[:BURST]][,max-body:SIZE]`.
//! The route of the request's host with the longest path decides. Of the clients,
//! `PERCENT` go to the group `CANARY`: always the same ones, by their address.
//! `token` wants `Authorization: Bearer` with the variable `TOKEN`. `rate` is the
//! number of requests that a client has a second (`/m`: a minute, `/h`: an hour)
//! on this route, and may send at once unless `BURST` is another number. Beyond
//! it, the answer is 429, with the time to wait. A client is an IPv4 address or
//! an IPv6 network of 64 bits; all instances count together. `max-body` is the size
//! (`100`, `16KiB`) of a request's body beyond which the answer is 413. The host's
//! `--max-body` is above it.
//!
//! Where no server answers, the client gets a page that says so.
//!
//! A path that servers might understand differently is refused: what was decided
//! on is what is sent.

mod route;

use netwasm_guest::http::{Forward, Forwarded, Request, Response, Unread, Verdict};
use netwasm_guest::{Address, Error, Result};

use route::Route;

netwasm_guest::export!(start: check, uploads: gateway, verdicts: page);

thread_local! {
    /// The routes of the command line, or what is wrong with them.
    static ROUTES: std::result::Result<Vec<Route>, String> =
        Route::parse_all(std::env::args().skip(1));
    static TOKEN: Option<String> = std::env::var("TOKEN").ok();
}

/// The host does not listen if this fails.
fn check() -> Result<()> {
    ROUTES.with(|routes| match routes {
        Err(wrong) => Err(Error::other(wrong.clone())),
        Ok(routes) if routes.iter().any(|it| it.needs_token) && TOKEN.with(Option::is_none) => {
            Err(Error::other("a route needs a token: give --env TOKEN=..."))
        }
        Ok(_) => Ok(()),
    })
}

async fn gateway(request: Request<'_>, _: Unread) -> Response {
    ROUTES.with(|routes| decide(&request, routes.as_deref().unwrap_or_default()))
}

fn decide(request: &Request<'_>, routes: &[Route]) -> Response {
    if !is_plain(request.path()) {
        return Response::error(400);
    }
    let authority = || request.authority().unwrap_or_default();
    let Some(route) = Route::find(routes, authority, request.path()) else {
        return Response::error(404);
    };
    if let Some(wait) = wait(request, route) {
        return Response::error(429).header("retry-after", wait.to_string());
    }
    if route.needs_token && !has_token(request) {
        return Response::error(401).header("www-authenticate", "Bearer");
    }
    let forward = Forward::to(route.group(|| share(request)));
    let forward = match route.max_body {
        Some(most) => forward.max_body(most),
        None => forward,
    };
    forward
        .tell_x_forwarded()
        .tell_via()
        .remove_response("x-powered-by")
        .set_response("x-content-type-options", "nosniff")
        .token_if_missing(0)
        .into()
}

/// Sends a page where no server has answered.
fn page(response: &Forwarded) -> Verdict {
    match response.is_missing() && response.status() >= 500 {
        true => Response::error_because(response.status(), "Please try again in a minute.").into(),
        false => Verdict::pass(),
    }
}

/// True if all servers understand a path alike: no segment that leads elsewhere,
/// plain or encoded, and no encoded slash.
fn is_plain(path: &str) -> bool {
    let mut follows_slash = false;
    let is_odd = |byte| {
        let follows = std::mem::replace(&mut follows_slash, byte == b'/');
        matches!(byte, b'%' | b'\\' | b';') || (follows && matches!(byte, b'/' | b'.'))
    };
    // Few paths have any of it.
    if !path.bytes().any(is_odd) {
        return true;
    }
    let path = path.to_ascii_lowercase().replace("%2e", ".");
    let odd = ["%2f", "%5c", "%00", "\\", "//", ";"];
    !odd.iter().any(|it| path.contains(it))
        && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// True if a request has the token. The comparison takes as long whichever byte
/// is wrong.
fn has_token(request: &Request<'_>) -> bool {
    let given = request.header("authorization").unwrap_or_default();
    let given = given.strip_prefix("Bearer ").unwrap_or_default();
    TOKEN.with(|token| {
        let token = token.as_deref().unwrap_or_default();
        let differing = token.bytes().zip(given.bytes());
        let differing = differing.fold(0, |all, (one, other)| all | (one ^ other));
        !token.is_empty() && token.len() == given.len() && differing == 0
    })
}

/// Returns the seconds for which a client has to wait, if it has sent too many
/// requests.
fn wait(request: &Request<'_>, route: &Route) -> Option<u64> {
    let limit = route.limit?;
    let number = route.number.to_be_bytes();
    let key = [b"rate/", &number[..], &request.peer().client_key()].concat();
    let taken = limit.take(key).ok()?;
    (!taken.is_taken()).then(|| taken.retry_after())
}

/// Returns a number from 0 to 99, always the same for a client's address.
fn share(request: &Request<'_>) -> u8 {
    let bytes = match request.peer() {
        Address::Ip(address) => match address.ip() {
            std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
            std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
        },
        Address::Unix(_) => Vec::new(),
    };
    u8::try_from((route::hash(&bytes) >> 32) % 100).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use netwasm_guest::testing::{self, Answer, Client};
    use std::time::Duration;

    fn answer(target: &str) -> Answer {
        async fn site(request: Request<'_>) -> Response {
            let routes = [
                "/=site",
                "/api=api",
                "Admin.example/=admin",
                "/slow=site,token,rate:6/m:2",
            ];
            let routes = Route::parse_all(routes.map(str::to_owned).into_iter());
            decide(&request, &routes.expect("routes"))
        }
        let client = Client::new(site);
        client.get(target).send()
    }

    fn decided(target: &str) -> Option<Forward> {
        answer(target).forwarded().cloned()
    }

    #[test]
    fn the_longest_path_decides() {
        let to = |group: &str| {
            let to = Forward::to(group).tell_x_forwarded().tell_via();
            let to = to.remove_response("x-powered-by");
            let to = to.set_response("x-content-type-options", "nosniff");
            Some(to.token_if_missing(0))
        };
        assert_eq!(decided("/"), to("site"));
        assert_eq!(decided("/api"), to("api"));
        assert_eq!(decided("/api/x?y=../z"), to("api"));
        assert_eq!(decided("/apix"), to("site"));
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        for target in [
            "/api/../admin",
            "/%2e%2E/admin",
            "/.%2e/x",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "//x",
            "/.",
        ] {
            assert_eq!(answer(target).status(), 400, "{target}");
        }
    }

    #[test]
    fn a_client_that_sends_too_much_is_told_when_to_come_again() {
        let status = || answer("/slow").status();
        assert_eq!([status(), status(), status()], [401, 401, 429]);
        assert_eq!(answer("/slow").header("retry-after"), Some("10".into()));
        assert!(decided("/").is_some(), "another route");
        testing::advance(Duration::from_secs(10));
        assert_eq!([status(), status()], [401, 429]);
    }

    #[test]
    fn a_missing_response_is_replaced_by_a_page() {
        let missing = page(&Forwarded::new(0, 504, None)).answer();
        assert_eq!(missing.expect("a page").status(), 504);
        let own = page(&Forwarded::new(0, 413, None)).answer();
        assert!(own.is_none(), "not the server's fault");
        assert!(
            page(&Forwarded::new(0, 404, Some(Vec::new())))
                .answer()
                .is_none()
        );
    }
}
