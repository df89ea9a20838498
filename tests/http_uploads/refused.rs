//! Bodies that are refused after the response was sent whole.

use bytes::Bytes;

use crate::harness::http2::{ask, read, send_all};
use crate::harness::pattern;
use crate::http_bodies::{body_probe, http2};
use crate::http_uploads::head;

/// Start of the log line on such a body.
const CUT: &str = "the rest of a request is refused";

/// The guest answers at the head, and reads on.
const READS: &str = "/early?read&token=1&more=65536";

#[test]
fn a_refusal_after_the_whole_response_is_told() {
    let mut large = b"249f0\r\n".to_vec();
    large.extend(pattern(150_000));
    for (body, reason) in [
        (large.as_slice(), "--max-body"),
        (b"3\r\nabc\r\n", "--body-timeout"),
        (b"3\r\nabcde\r\n", "chunk that does not end"),
    ] {
        // Without a reader, the host drops the rest.
        for target in [READS, "/early"] {
            let server = body_probe(&["--max-body", "100KiB", "--body-timeout", "1s"]);
            let mut peer = server.connect_http();
            peer.send(head(target, &["Transfer-Encoding: chunked"]).as_bytes());
            peer.response().is(200, "early");
            peer.send(body);
            server.log.wait_for(&[CUT, reason]);
            if target == READS {
                server.log.wait_for(&["failed 1: "]);
            }
            // The client has not left, and the connection ends.
            peer.rest();
            assert_eq!(server.log.count("the client left"), 0, "{target}");
            assert_eq!(server.log.count(CUT), 1, "{target}");
            drop(peer);
            server.stop();
        }
    }
}

#[test]
fn a_refusal_after_the_whole_response_is_told_in_http2() {
    for (size, flag) in [(150_000, "--max-body"), (3, "--body-timeout")] {
        let server = body_probe(&["--max-body", "100KiB", "--body-timeout", "1s"]);
        let mut client = http2(&server);
        let (response, mut stream) = client.begin(ask("POST", READS), false).expect("a stream");
        let early = client.run(read(response)).expect("a response");
        early.is(200, "early");
        // The server may reset the stream before it has all.
        let body = Bytes::from(pattern(size));
        let _ = client.run(send_all(&mut stream, body, false));
        client.settle();
        server.log.wait_for(&[CUT, flag]);
        server.log.wait_for(&["failed 1: "]);
        client.fetch("/").is(200, "true 0");
        assert_eq!(server.log.count(CUT), 1, "{flag}");
        drop((stream, client));
        server.stop();
    }
}
