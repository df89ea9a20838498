//! `Max-Forwards` of `TRACE` and `OPTIONS`: RFC 9110, section 7.6.2.

use netwasm_exchange::answer::{Answer, Body};
use netwasm_exchange::request::Request;

/// Fields that may be secrets: RFC 9110, section 9.3.8.
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Returns the field's value if the request counts its hops; an error if it is no
/// number, or stands there twice.
fn told(request: &Request) -> Option<Result<u64, ()>> {
    if !matches!(request.head.method(), "TRACE" | "OPTIONS") {
        return None;
    }
    let mut values = request.head.all("max-forwards");
    let value = values.next()?;
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(value).ok().filter(|_| digits);
    // More digits than fit are many hops.
    let hops = text.map(|text| text.parse().unwrap_or(u64::MAX));
    Some(hops.filter(|_| values.next().is_none()).ok_or(()))
}

/// Returns the field's value for the next server, if the request counts its hops.
pub(super) fn left(request: &Request) -> Option<u64> {
    told(request)?.ok()?.checked_sub(1)
}

/// Returns the answer to a request that is not to be forwarded: its hops are used
/// up, or malformed.
pub(crate) fn answer(request: &Request) -> Option<Answer> {
    match told(request)? {
        Ok(0) => {}
        Ok(_) => return None,
        Err(()) => return Some(Answer::status(400, "malformed Max-Forwards")),
    }
    let traces = request.head.method() == "TRACE";
    let headers = match traces {
        true => vec![("Content-Type".to_owned(), b"message/http".to_vec())],
        false => Vec::new(),
    };
    Some(Answer {
        status: 200,
        headers,
        body: if traces {
            Body::Bytes(shown(request))
        } else {
            Body::Empty
        },
        trailers: Vec::new(),
    })
}

/// Returns the head of a request, without secrets.
fn shown(request: &Request) -> Vec<u8> {
    let head = &request.head;
    let mut all = format!("{} {} HTTP/1.1\r\n", head.method(), head.target()).into_bytes();
    for (name, value) in head.fields() {
        if !SECRET
            .iter()
            .any(|secret| name.eq_ignore_ascii_case(secret))
        {
            all.extend_from_slice(name.as_bytes());
            all.extend_from_slice(b": ");
            all.extend_from_slice(value);
            all.extend_from_slice(b"\r\n");
        }
    }
    all.extend_from_slice(b"\r\n");
    all
}
