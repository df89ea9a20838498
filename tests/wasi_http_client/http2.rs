//! Requests by HTTP/2, if the server speaks it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::{MIB, PROBES, SAID, ask, probe};
use crate::harness::{SecureUpstream, Secured, cert, serve_agreed, text};

#[test]
fn http_2_is_spoken_where_the_server_does() {
    for (protocols, said, trailer, connections) in [
        (&["h2", "http/1.1"][..], "HTTP/2.0", " x-sum: ", 1),
        // In HTTP/1.1, a response with a length has no trailers.
        (&["http/1.1"], "HTTP/1.1", "", 21),
    ] {
        for guest in PROBES {
            let upstream = versions(protocols);
            let server = probe(guest, "127.0.0.1:*")
                .args(["--allow-connect", "localhost:*"])
                .args(["--ca", text(&cert("ca.pem"))])
                .start();
            let url = format!("https://localhost:{}", upstream.address.port());
            let answer = format!("{said} localhost:{} 0", upstream.address.port());
            let zero = if trailer.is_empty() { "" } else { "0" };
            let told = format!("200 length {} {answer}{trailer}{zero}", answer.len());
            assert_eq!(ask(&server, &format!("/get?{url}/")), told);
            // With HTTP/2, one connection serves all of them.
            let many = ask(&server, &format!("/flood?20+{url}/"));
            assert_eq!(many, "20 answered, 0 refused");
            assert!(upstream.connections() <= connections, "{protocols:?}");
            let told = ask(&server, &format!("/upload?{}+{url}/", 4 * MIB));
            assert!(told.ends_with(&format!(" {}", 4 * MIB)), "{told}");
            server.stop();
        }
    }
}

#[test]
fn a_request_that_its_server_did_not_take_is_sent_once_more() {
    let upstream = SecureUpstream::new(&["h2"], refuse);
    for (number, guest) in PROBES.into_iter().enumerate() {
        let server = probe(guest, "127.0.0.1:*")
            .args(["--allow-connect", "localhost:*"])
            .args(["--ca", text(&cert("ca.pem"))])
            .start();
        let url = format!("https://localhost:{}", upstream.address.port());
        assert_eq!(ask(&server, &format!("/get?{url}/")), SAID);
        assert_eq!(ask(&server, &format!("/get?{url}/")), SAID);
        let said = ask(&server, &format!("/get?{url}/never"));
        assert_eq!(said, "error: ErrorCode::ConnectionTerminated");
        assert_eq!(upstream.connections(), number + 1);
        server.stop();
    }
}

#[test]
fn a_large_body_passes_both_ways_by_http_2() {
    let upstream = versions(&["h2"]);
    let size = 64 * MIB;
    for guest in PROBES {
        let server = probe(guest, "127.0.0.1:*")
            .args(["--allow-connect", "localhost:*"])
            .args(["--ca", text(&cert("ca.pem"))])
            .start();
        let url = format!("https://localhost:{}", upstream.address.port());
        ask(&server, &format!("/get?{url}/"));
        let before = server.resident();
        let said = ask(&server, &format!("/upload?{size}+{url}/"));
        assert!(said.ends_with(&format!("x-sum: {size}")), "{said}");
        let said = ask(&server, &format!("/get?{url}/{size}"));
        assert!(said.starts_with(&format!("200 stream {size} ")), "{said}");
        let grown = server.resident().saturating_sub(before);
        assert!(grown < 24 * MIB as u64, "it grew by {grown}");
        server.stop();
    }
}

/// Starts a TLS server that answers with the HTTP version of a request, its
/// authority, and the length of its body. If the path is a number, it sends
/// that many bytes instead.
fn versions(protocols: &[&str]) -> SecureUpstream {
    SecureUpstream::new(protocols, serve_version)
}

/// Refuses every second request of a connection, beginning with the first, and
/// all requests for `/never`.
async fn refuse(stream: Secured) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    let mut refuses = true;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if refuses || request.uri().path() == "/never" {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        } else {
            let head = Response::builder().header("content-length", 5).body(());
            if let Ok(mut body) = respond.send_response(head.expect("a head"), false) {
                // The client may have left.
                let _ = body.send_data(Bytes::from_static(b"hello"), true);
            }
        }
        refuses = !refuses;
    }
}

async fn serve_version(stream: Secured) {
    let answer = |request: Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        let host = head.headers.get("host").and_then(|it| it.to_str().ok());
        let host = head.uri.authority().map(Authority::as_str).or(host);
        let host = host.unwrap_or_default().to_owned();
        let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
        let trailers = async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", length.into());
            Some(Ok::<_, Infallible>(trailers))
        };
        let mut response = Response::builder();
        let body = match head.uri.path().trim_start_matches('/').parse::<usize>() {
            Ok(size) => Pieces(size).boxed(),
            Err(_) => {
                let text = format!("{:?} {host} {length}", head.version);
                response = response.header("content-length", text.len());
                Full::from(text).boxed()
            }
        };
        response.body(body.with_trailers(trailers))
    };
    serve_agreed(stream, answer).await;
}

/// A body of this many bytes.
struct Pieces(usize);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.min(64 << 10);
        self.0 -= length;
        let piece = (length > 0).then(|| Ok(Frame::data(vec![b'x'; length].into())));
        Poll::Ready(piece)
    }
}
