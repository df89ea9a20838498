//! The PROXY protocol to servers of upstream groups (`proxy-protocol`), and what
//! guests are told of a connection that a proxy passes on.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;

use crate::harness::{DEADLINE, Peer, Run, Server, TcpPeer, Upstream, cert, message, text};

/// Header of version 2 for a client at 192.0.2.9:1234 of 198.51.100.1:443, and with
/// these fields.
fn binary(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut body = b"\xc0\0\x02\x09\xc6\x33\x64\x01\x04\xd2\x01\xbb".to_vec();
    for (kind, value) in fields {
        let length = u16::try_from(value.len()).expect("a length");
        body.push(*kind);
        body.extend(length.to_be_bytes());
        body.extend(*value);
    }
    let length = u16::try_from(body.len()).expect("a length");
    let begin = b"\r\n\r\n\0\r\nQUIT\n\x21\x11";
    [&begin[..], &length.to_be_bytes(), &body].concat()
}

/// Returns a client's own address.
fn own(peer: &mut TcpPeer) -> SocketAddr {
    peer.get().local_addr().expect("an address")
}

/// Starts a guest that forwards all requests to a group of one server.
fn gateway(server: SocketAddr, settings: &str) -> Server {
    Run::guest("gateway")
        .http()
        .args(["--workers", "1"])
        .args(["--upstream", &format!("site={server};{settings}")])
        .guest_args(&["/=site"])
        .start()
}

#[test]
fn each_client_has_connections_of_its_own_that_begin_with_its_address() {
    // Each head that comes, and an empty one at the end, with the connection's
    // number.
    let (asked, heads) = mpsc::channel();
    let upstream = Upstream::new(move |mut asker, number| {
        while let Some(head) = asker.head() {
            let _ = asked.send((number, head));
            asker.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
        let _ = asked.send((number, String::new()));
    });
    let server = gateway(upstream.address, "proxy-protocol=v1");
    let to = server.address("http");
    let fetch = |peer: &mut TcpPeer| {
        peer.fetch("/x").is(200, "hello");
        let (number, head) = heads.recv_timeout(DEADLINE).expect("a request");
        let begin = head.split("GET /x ").next().expect("a begin");
        (number, begin.to_owned())
    };
    let [mut one, mut other] = [(); 2].map(|()| server.connect_http());
    let header = |from: SocketAddr| {
        let (from, to) = (from.port(), to.port());
        format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n")
    };
    assert_eq!(fetch(&mut one), (1, header(own(&mut one))));
    assert_eq!(fetch(&mut one), (1, String::new()));
    assert_eq!(fetch(&mut other), (2, header(own(&mut other))));
    assert_eq!(fetch(&mut one), (1, String::new()));
    // A connection that was kept for a client ends with it.
    drop(one);
    let ended = heads.recv_timeout(DEADLINE).expect("an end");
    assert_eq!(ended, (1, String::new()));
    assert_eq!(fetch(&mut other), (2, String::new()));
    drop(other);
    server.stop();
}

#[test]
fn servers_behind_a_relay_are_told_whose_connection_it_is_before_tls() {
    let behind = Run::guest("probe")
        .tls()
        .args(["--proxy-protocol-from", "127.0.0.0/8"])
        .start();
    let port = behind.address("tls").port();
    for (guest, version) in [("proxy", "v1"), ("proxy", "v2"), ("stream-probe", "v2")] {
        let front = Run::guest(guest)
            .tcp()
            .args(["--ca", text(&cert("ca.pem"))])
            .args([
                "--upstream",
                &format!("db=https://localhost:{port};proxy-protocol={version}"),
            ])
            .guest_args(if guest == "proxy" { &["@db"][..] } else { &[] })
            .start();
        let mut peer = front.connect();
        if guest == "stream-probe" {
            peer.say("relay @db");
        }
        let told = peer.ask("info");
        let expected = format!("peer {} local ", own(&mut peer));
        assert!(told.starts_with(&expected), "{told}, not {expected}");
        let told = peer.ask("proxied");
        let expected = format!(" destination {} fields", front.address("tcp"));
        assert!(told.ends_with(&expected), "{told}, not {expected}");
        drop(peer);
        front.stop();
    }
    behind.stop();
}

#[test]
fn a_proxy_passes_on_what_another_has_told_it() {
    let behind = Run::guest("probe")
        .http()
        .args(["--proxy-protocol-from", "127.0.0.0/8"])
        .start();
    let front = Run::guest("gateway")
        .http()
        .args(["--proxy-protocol-from", "127.0.0.0/8"])
        .args([
            "--upstream",
            &format!("site={};send-proxy-v2", behind.address("http")),
        ])
        .guest_args(&["/=site"])
        .start();
    let mut peer = front.connect_http();
    peer.send(&binary(&[]));
    let told = peer.fetch("/info");
    assert!(
        told.text().starts_with("peer 192.0.2.9:1234 local "),
        "{told:?}"
    );
    let told = peer.fetch("/proxied");
    let expected = " destination 198.51.100.1:443 fields";
    assert!(told.text().trim_end().ends_with(expected), "{told:?}");
    drop(peer);
    front.stop();
    behind.stop();
}

#[test]
fn checks_begin_with_a_header_of_nobody() {
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (settings, begin) in [
        ("check=connect;proxy-protocol=v2", &local[..]),
        (
            "check=/up;send-proxy",
            b"PROXY UNKNOWN\r\nGET /up HTTP/1.1\r\n",
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = gateway(listener.local_addr().expect("an address"), settings);
        let (mut stream, _) = listener.accept().expect("a check");
        let timeout = stream.set_read_timeout(Some(DEADLINE));
        timeout.expect("a timeout");
        let mut came = vec![0; begin.len()];
        stream.read_exact(&mut came).expect("a header");
        assert_eq!(came, begin, "{settings}");
        drop((listener, stream));
        server.stop();
    }
}

#[test]
fn a_guest_reads_what_a_proxy_tells() {
    let session = [
        &[0x07, 0, 0, 0, 0][..],
        b"\x21\0\x07TLSv1.3",
        b"\x22\0\x05alice",
    ];
    let session = session.concat();
    let header = binary(&[
        (0x01, b"h2"),
        (0x02, b"a.example"),
        (0x04, &[0; 9]),
        (0x05, b"id-7"),
        (0x20, &session),
        (0xe0, b"own"),
    ]);
    let expected = "destination 198.51.100.1:443 alpn h2 authority a.example id id-7 \
                    tls TLSv1.3 certificate verified common-name alice fields 1 2 5 32 224";
    let from = ["--proxy-protocol-from", "127.0.0.0/8"];
    let server = Run::guest("probe").tcp().http().args(from).start();
    let mut peer = server.connect();
    peer.send(&header);
    let proxy = own(&mut peer);
    assert_eq!(peer.ask("proxied"), format!("proxy {proxy} {expected}"));
    drop(peer);
    let mut peer = server.connect_http();
    let request = message("GET", "/proxied", &[]);
    let told = peer.exchange([&header[..], request.as_bytes()].concat());
    let proxy = own(&mut peer);
    assert_eq!(told.text().trim_end(), format!("proxy {proxy} {expected}"));
    drop(peer);
    server.stop();
    // Without a header, there is nothing.
    let server = Run::guest("probe").tcp().start();
    assert_eq!(server.connect().ask("proxied"), "none");
    server.stop();
    let server = Run::guest("stream-probe").tcp().args(from).start();
    let mut peer = Peer::connect(server.address("tcp"));
    peer.send(&header);
    let told = peer.ask("proxied");
    for part in ["\"a.example\"", "\"TLSv1.3\"", "verified: true", "(224, "] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    drop(peer);
    server.stop();
}
