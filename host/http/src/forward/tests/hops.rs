//! `Max-Forwards`: RFC 9110, section 7.6.2.

use netwasm_base::config::Limits;
use netwasm_net::testing::in_worker;

use super::{OK, PASSED, client, one_server};

#[test]
fn the_hops_of_trace_and_options_are_counted() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        let asks = |method: &str, hops: &str| {
            format!(
                "{method} /a?b HTTP/1.1\r\nHost: test\r\nMax-Forwards: {hops}\r\n\
                 Authorization: secret\r\nX-Own: 1\r\n\r\n"
            )
        };
        client.send(&asks("OPTIONS", "3")).await;
        let mut line = server.accept().await;
        for (method, hops, left) in [
            ("OPTIONS", "3", "2"),
            ("TRACE", "1", "0"),
            ("OPTIONS", "99999999999999999999", "18446744073709551614"),
            // With these methods, the field has no meaning.
            ("GET", "0", "0"),
            ("DELETE", "x", "x"),
        ] {
            if hops != "3" {
                client.send(&asks(method, hops)).await;
            }
            let head = line.head().await;
            let field = format!("\r\nMax-Forwards: {left}\r\n");
            assert!(head.contains(&field), "{method} {hops}: {head}");
            assert_eq!(head.matches("Max-Forwards").count(), 1, "{head}");
            line.send(OK).await;
            client.expect(PASSED).await;
        }
        client.send(&asks("OPTIONS", "0")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Length: 0\r\n"), "{head}");
        client.send(&asks("TRACE", "0")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("message/http"), "{head}");
        let shown = "TRACE /a?b HTTP/1.1\r\nHost: test\r\nMax-Forwards: 0\r\nX-Own: 1\r\n\r\n";
        client.expect(shown).await;
        for hops in ["x", "-1", "1, 1"] {
            client.send(&asks("OPTIONS", hops)).await;
            let head = client.head().await;
            assert!(head.starts_with("HTTP/1.1 400 "), "{hops}: {head}");
            client.receive("malformed Max-Forwards\n").await;
        }
        assert_eq!(worker.env().counters.connections_made.get(), 1);
    });
}
