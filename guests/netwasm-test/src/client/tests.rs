//! Tests of waits, and of connections that cannot be made.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use super::*;

const LIMIT: Duration = Duration::from_millis(200);

/// Returns a client, and the server's end of its connection.
fn connected() -> (Client, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let client = Client::tcp(address, LIMIT, &Log::new(LIMIT)).expect("a connection");
    (client, listener.accept().expect("the client").0)
}

#[test]
fn a_wait_has_a_limit() {
    let (mut client, mut server) = connected();
    server.write_all(b"abc").expect("it is sent");
    let fault = client.try_expect(b"abcdef").expect_err("too little");
    assert!(
        fault.starts_with("nothing came within 200ms after 3 of 6 bytes"),
        "{fault}"
    );
    let fault = client.try_read_line().expect_err("no line");
    assert_eq!(
        fault,
        "nothing came within 200ms instead of a line; received: \"abc\""
    );
    let fault = client.try_expect_reset().expect_err("no reset");
    assert!(fault.contains("instead of a reset"), "{fault}");
    assert_eq!(client.try_read(3), Ok(b"abc".to_vec()));
    let fault = client.try_expect_end().expect_err("no end");
    assert_eq!(fault, "nothing came within 200ms instead of the end");
}

#[test]
fn a_server_that_takes_nothing_is_an_error() {
    let (mut client, _server) = connected();
    let bytes = vec![0; 64 << 20];
    let fault = client.try_send(&bytes).expect_err("too much");
    assert!(fault.contains("of 67108864 bytes within 200ms"), "{fault}");
}

#[test]
fn a_difference_shows_what_came_with_it() {
    let (mut client, mut server) = connected();
    server.write_all(b"a").expect("it is sent");
    let sender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        server.write_all(b"B").expect("it is sent");
        std::thread::sleep(Duration::from_millis(20));
        server.write_all(b"cdef").expect("it is sent");
        server
    });
    let fault = client.try_expect(b"abcd").expect_err("another byte");
    assert!(fault.starts_with("byte 1 differs\n"), "{fault}");
    assert!(fault.contains(r#"received (4 bytes): "aBcd""#), "{fault}");
    sender.join().expect("no panic");
}

#[test]
fn nobody_to_connect_to_is_an_error() {
    let log = Log::new(LIMIT);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let fault = Client::tcp(address, LIMIT, &log).expect_err("no listener");
    assert!(fault.contains("cannot connect"), "{fault}");
    let fault = Client::unix(Path::new("/no/such"), LIMIT, &log).expect_err("no file");
    assert!(
        fault.starts_with("unix /no/such: cannot connect"),
        "{fault}"
    );
}

#[test]
fn a_server_without_a_handshake_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let fault =
        Client::tls(address, &Settings::default(), LIMIT, &Log::new(LIMIT)).expect_err("no TLS");
    assert!(fault.ends_with("no handshake within 200ms"), "{fault}");
}
