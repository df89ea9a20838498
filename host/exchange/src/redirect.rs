//! Handlers that send clients to HTTPS: the same host and path, without a guest.

use std::fmt::Write;
use std::rc::Rc;

use netwasm_net::transport::Transport;

use crate::answer::Answer;
use crate::handler::{
    Awaiting, Call, Decision, Handler, Handlers, NoAnswer, Nobody, Site, Takes, Wanted,
};
use crate::reply::NoResponse;
use crate::request::Request;

/// Default port of HTTPS: RFC 9110, section 4.2.2.
const HTTPS: u16 = 443;

/// Answers all requests by a redirect to HTTPS.
#[derive(Clone, Copy, Debug)]
pub struct Redirects {
    port: u16,
}

impl Redirects {
    /// Returns handlers that redirect to this port.
    #[must_use]
    pub fn to(port: u16) -> Self {
        Self { port }
    }

    /// Returns the answer to a request: 301 (RFC 9110, section 15.4.2), or 308
    /// where clients would otherwise send another method.
    fn answer(self, method: &str, authority: Option<&str>, target: &str) -> Answer {
        let host = authority.map(host).unwrap_or_default();
        if host.is_empty() {
            return Answer::status(400, "no host to redirect to");
        }
        let mut location = format!("https://{host}");
        if self.port != HTTPS {
            // Writing to memory cannot fail.
            let _ = write!(location, ":{}", self.port);
        }
        // `*` is the server itself.
        match target.starts_with('/') {
            true => target.bytes().for_each(|byte| push(byte, &mut location)),
            false => location.push('/'),
        }
        let status = match method {
            "GET" | "HEAD" => 301,
            _ => 308,
        };
        let mut answer = Answer::status(status, "");
        let location = ("Location".into(), location.into_bytes());
        answer.headers.push(location);
        answer
    }
}

/// Returns the host of an authority, without its port.
fn host(authority: &str) -> &str {
    match authority.find(']') {
        Some(end) => authority.get(..=end).unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// Adds a byte of a target as a URI has it: RFC 3986, section 2.
fn push(byte: u8, location: &mut String) {
    if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
        location.push(char::from(byte));
    } else {
        // Writing to memory cannot fail.
        let _ = write!(location, "%{byte:02X}");
    }
}

impl Handlers for Redirects {
    fn takes<'a>(&self, _: &dyn Fn() -> Wanted<'a>) -> (Site, Takes) {
        (Site::default(), Takes::Heads)
    }

    fn connection(&self, _: &Rc<Transport>) -> Box<dyn Handler> {
        Box::new(*self)
    }
}

impl Handler for Redirects {
    fn handle(&mut self, request: Box<Request>) -> (Box<Request>, Result<Decision, NoAnswer>) {
        let head = &request.head;
        let answer = self.answer(head.method(), head.authority(), head.target());
        (request, Ok(Decision::Answer(answer)))
    }

    fn begin(&mut self, call: Call) -> Rc<dyn Awaiting> {
        // Requests go to `handle`.
        call.reply.fail(NoResponse::NoInstance);
        Rc::new(Nobody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(port: u16, authority: &str, target: &str) -> String {
        let answer = Redirects::to(port).answer("GET", Some(authority), target);
        assert_eq!(answer.status, 301);
        let mut headers = answer.headers.into_iter();
        let (_, value) = headers.find(|(name, _)| name == "Location").expect("it");
        String::from_utf8(value).expect("ASCII")
    }

    #[test]
    fn the_host_and_the_path_stay_and_the_port_is_that_of_https() {
        for (port, authority, target, expected) in [
            (443, "a.example", "/", "https://a.example/"),
            (443, "a.example:80", "/b?c=d", "https://a.example/b?c=d"),
            (8443, "a.example:8080", "/b", "https://a.example:8443/b"),
            (
                443,
                "A.example:",
                "//c/../%2e",
                "https://A.example//c/../%2e",
            ),
            (8443, "[::1]:8080", "/", "https://[::1]:8443/"),
            (443, "[::1]", "*", "https://[::1]/"),
            (443, "a", "/é\"<|>", "https://a/%C3%A9%22%3C%7C%3E"),
        ] {
            assert_eq!(location(port, authority, target), expected);
        }
    }

    #[test]
    fn a_method_other_than_get_and_head_stays() {
        let status = |method, host| Redirects::to(443).answer(method, host, "/").status;
        assert_eq!(status("HEAD", Some("a")), 301);
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            assert_eq!(status(method, Some("a")), 308);
        }
        for host in [None, Some(""), Some(":80")] {
            assert_eq!(status("GET", host), 400);
        }
    }
}
