//! Tests of `netwasm-test`, the crate that handlers are tested with.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use netwasm_test::{Component, Server};

use crate::harness::{START, directory, eventually, guest, pattern, same, text, write};

/// Runs a component by the host that is under test, with its cache.
pub(crate) fn by_this_host(component: Component) -> Component {
    component
        .host(env!("CARGO_BIN_EXE_netwasm"))
        .host_env(
            "XDG_CACHE_HOME",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"),
        )
        .time_limit(START)
}

pub(crate) fn built_in(name: &str) -> Component {
    by_this_host(Component::built_in(name))
}

pub(crate) fn probe() -> Component {
    by_this_host(Component::file(guest("probe")))
}

/// Returns the message of a failure.
pub(crate) fn failure<T>(test: impl FnOnce() -> T) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(test)) else {
        panic!("it does not fail");
    };
    *payload.downcast::<String>().expect("a message")
}

/// Returns a run of this program that has one test alone.
pub(crate) fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test]);
    command
}

/// True if a process runs. One that has ended and that nobody has waited for
/// does not.
fn runs(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn an_echo_over_every_transport() {
    let server = built_in("echo").tcp().tls().udp().unix().start();
    for connect in [
        Server::connect_tcp,
        Server::connect_tls,
        Server::connect_unix,
    ] {
        let mut client = connect(&server);
        client.send("one\r\ntwo\nthree");
        assert_eq!(client.read_line(), "one");
        client.expect("two");
        assert_eq!(client.read(1), b"\n");
        client.send([0, 255]);
        client.finish();
        client.expect(b"three\x00");
        assert_eq!(client.read_to_end(), [255]);
        client.expect_end();
    }
    let client = server.udp();
    client.send("datagram");
    client.expect("datagram");
    client.send("");
    assert_eq!(client.receive(), b"");
    server.log().expect_none("WARN");
    let counts = server.stop();
    assert_eq!((counts.accepted, counts.closed, counts.lost), (3, 3, 0));
    assert_eq!((counts.datagrams, counts.traps), (2, 0));
}

#[test]
fn an_echo_larger_than_all_buffers_does_not_block() {
    let server = built_in("echo").tcp().tls().start();
    let bytes = pattern(8 << 20);
    for mut client in [server.connect_tcp(), server.connect_tls()] {
        client.send(&bytes);
        client.finish();
        same(&client.read_to_end(), &bytes);
    }
    server.stop();
}

#[test]
fn a_client_has_a_certificate_and_offers_protocols() {
    let server = probe().tls().alpn("one").alpn("two").start();
    let mut client = server.connect_tls_alpn(&["two", "three"]);
    assert_eq!(client.alpn(), Some("two"));
    client.send("info\n");
    let info = client.read_line();
    assert!(info.contains(" alpn two "), "{info}");
    drop(client);
    assert_eq!(server.connect_tls().alpn(), None);
    server.stop();

    let server = probe().tls().client_certificates().start();
    let mut client = server.connect_tls_as("alice");
    client.send("info\n");
    let info = client.read_line();
    assert!(info.contains(" peer-certificate "), "{info}");
    drop(client);
    // With TLS 1.3, a client learns of the refusal after its handshake.
    let message = failure(|| server.connect_tls().expect_end());
    assert!(message.contains("CertificateRequired"), "{message}");
    let counts = server.stop();
    assert_eq!((counts.accepted, counts.handshakes_failed), (2, 1));
}

#[test]
fn a_program_runs_to_its_end() {
    let upstream = built_in("echo").tcp().start();
    let address = upstream.address("tcp");
    let client = |allowed: &str| {
        built_in("tcp-client")
            .allow_connect(allowed)
            .arg(address.ip().to_string())
            .arg(address.port().to_string())
            .arg("Hello!")
            .start_program()
            .wait()
    };
    let finished = client("127.0.0.1:*");
    assert_eq!(finished.code, 0);
    assert_eq!(
        finished.output[..2],
        ["Sending: 'Hello!'", "Received: 'Hello!'"]
    );
    assert_eq!(client("127.0.0.2:*").code, 1);
    upstream.stop();
}

#[test]
fn a_program_listens_by_itself() {
    let server = built_in("socket-echo")
        .allow_listen("127.0.0.1:0")
        .arg("127.0.0.1:0")
        .start_program();
    let line = server.log().expect("listening on ");
    let address = line.rsplit(' ').next().expect("an address");
    let mut client = server.connect_to(address.parse().expect("an address"));
    client.send("hello");
    client.expect("hello");
    client.finish();
    client.expect_end();
    assert_eq!(server.stop_program().code, 0);
}

#[test]
fn nothing_is_expected_for_a_while() {
    let server = built_in("echo").tcp().udp().start();
    let wait = Duration::from_millis(50);
    let mut client = server.connect_tcp();
    client.expect_nothing(wait);
    client.send("x");
    let message = failure(|| client.expect_nothing(START));
    assert!(message.contains(r#"bytes came: "x""#), "{message}");
    client.expect("x");
    client.finish();
    client.expect_end();
    let message = failure(|| client.expect_nothing(wait));
    assert!(message.contains("ended the connection"), "{message}");

    let client = server.udp();
    client.expect_nothing(wait);
    client.send("y");
    let message = failure(|| client.expect_nothing(START));
    assert!(message.contains(r#"a datagram came: "y""#), "{message}");
    server.stop();
}

#[test]
fn lines_of_the_log_are_counted() {
    let server = probe().tcp().start();
    let mut client = server.connect_tcp();
    client.send("log warn one more\nlog warn one more\nsize\n");
    client.expect("0\n");
    let lines = server.log().expect_times("one more", 2);
    assert_eq!(lines.len(), 2);
    client.finish();
    client.expect_end();
    let log = server.log().clone();
    server.stop();
    let message = failure(|| log.expect_times("one more", 3));
    assert!(
        message.starts_with("2 lines of the log contain \"one more\", not 3"),
        "{message}"
    );
}

#[test]
fn a_failed_expectation_shows_the_difference_and_the_log() {
    let server = probe().tcp().start();
    let mut client = server.connect_tcp();
    client.send("log warn before the difference\nsize\n");
    let message = failure(|| client.expect("7\n"));
    assert!(message.contains("byte 0 differs"), "{message}");
    assert!(
        message.contains(r#"expected (2 bytes): "7\n""#),
        "{message}"
    );
    assert!(
        message.contains(r#"received (2 bytes): "0\n""#),
        "{message}"
    );
    assert!(message.contains("the server's log:"), "{message}");
    assert!(message.contains("before the difference"), "{message}");

    // The bytes are still there.
    client.expect("0\n");
    client.send("close bye\n");
    let message = failure(|| client.expect("bye\nbye\n"));
    assert!(
        message.contains("the server ended the connection after 4 of 8 bytes"),
        "{message}"
    );
    let message = failure(|| client.expect_end());
    assert!(
        message.contains(r#"bytes instead of the end: "bye\n""#),
        "{message}"
    );
    server.stop();
}

#[test]
fn a_connection_that_the_component_aborts_is_reset() {
    let server = probe().tcp().tls().start();
    for mut client in [server.connect_tcp(), server.connect_tls()] {
        client.send("abort\n");
        let message = failure(|| client.expect_end());
        assert!(message.contains("reset the connection"), "{message}");
        client.expect_reset();
    }
    server.stop();
}

#[test]
fn a_client_can_reset_its_connection() {
    let server = built_in("echo").tcp().tls().start();
    for mut client in [server.connect_tcp(), server.connect_tls()] {
        client.send("there");
        client.expect("there");
        client.reset();
    }
    let counts = server.stop();
    assert_eq!((counts.accepted, counts.lost), (2, 2));
}

/// Makes a component trap, and returns its server.
fn trapped(component: Component) -> Server {
    let server = component.tcp().start();
    let mut client = server.connect_tcp();
    client.send("panic\n");
    client.expect_reset();
    server
}

#[test]
fn a_trap_fails_the_stop() {
    let server = trapped(probe());
    let message = failure(|| server.stop());
    assert!(
        message.contains("the component trapped: traps=1"),
        "{message}"
    );
    assert!(message.contains("as it was told"), "{message}");
}

#[test]
fn a_trap_can_be_what_a_test_wants() {
    let server = trapped(probe());
    server.log().expect("as it was told");
    let message = failure(|| server.log().expect_none("as it was told"));
    assert!(message.contains("a line of the log contains"), "{message}");
    let counts = server.stop_despite_traps();
    assert_eq!((counts.accepted, counts.traps), (1, 1));
}

#[test]
fn counts_are_read_from_a_log_in_json() {
    let server = trapped(probe().flag("--log-format=json"));
    let log = server.log().clone();
    let counts = server.stop_despite_traps();
    assert_eq!((counts.accepted, counts.traps), (1, 1));
    // The log is whole now.
    assert!(log.expect("ended").starts_with('{'));
}

#[test]
fn a_connection_that_is_open_fails_the_stop() {
    let server = built_in("echo")
        .tcp()
        .flag("--shutdown-timeout=300ms")
        .start();
    let mut client = server.connect_tcp();
    client.send("x");
    client.expect("x");
    let message = failure(|| server.stop());
    assert!(
        message.contains("1 connections were still open"),
        "{message}"
    );
    client.expect_reset();
}

#[test]
fn flags_reach_the_host_and_arguments_the_component() {
    let scratch = directory();
    write(scratch.path(), "read-me", "from a directory");
    let server = probe()
        .tcp()
        .dir(scratch.path(), "/read")
        .writable_dir(scratch.path(), "/write")
        .env("PLACE", "here = there")
        .arg("one")
        .arg("--two")
        .start();
    let mut client = server.connect_tcp();
    let mut ask = |question: &str| {
        client.send(format!("{question}\n"));
        client.read_line()
    };
    assert!(ask("args").ends_with(r#", "one", "--two"]"#));
    assert_eq!(ask("env PLACE"), "here = there");
    assert_eq!(ask("read /read/read-me"), "from a directory");
    assert!(ask("write-file /read/new x").starts_with("error: "));
    assert_eq!(ask("write-file /write/new x"), "ok");
    assert_eq!(ask("connect 127.0.0.1:1 x"), "error: access-denied");
    server
        .log()
        .expect("--allow-connect 127.0.0.1:1 would allow it");
    drop(client);
    assert_eq!(server.stop().denied, 1);
}

#[test]
fn what_is_allowed_is_not_denied() {
    let upstream = built_in("echo").tcp().start();
    let server = probe().tcp().allow_connect("127.0.0.1:*").start();
    let address = upstream.address("tcp");
    let message = failure(|| upstream.address("udp"));
    assert!(message.contains("no udp listener"), "{message}");
    let mut client = server.connect_tcp();
    client.send(format!("connect {address} hello\n"));
    assert_eq!(client.read_line(), "hello");
    client.finish();
    client.expect_end();
    let counts = server.stop();
    assert_eq!((counts.made, counts.denied), (1, 0));
    upstream.stop();
}

#[test]
fn connections_share_an_instance_if_a_test_says_so() {
    let component = probe().http().workers(1);
    let counts = |component: Component| {
        let server = component.start();
        let counts = [(); 2].map(|()| server.http().get("/count").text().to_owned());
        server.stop();
        counts
    };
    assert_eq!(counts(component.clone()), ["1\n", "1\n"]);
    assert_eq!(counts(component.isolation_worker()), ["1\n", "2\n"]);
}

#[test]
fn other_clients_can_trust_the_authority_of_the_run() {
    let server = built_in("router").https().start();
    let url = server.urls().first().expect("a listener").clone();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30", "--cacert"])
        .arg(server.authority())
        .arg(format!("{url}/about"))
        .output()
        .expect("curl(1)");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "<h1>About</h1>",
        "{output:?}"
    );
    server.stop();
}

#[test]
fn a_start_that_fails_says_why() {
    let message = failure(|| built_in("ecko").tcp().start());
    assert!(
        message.contains("ended (exit status: 2) before it listened"),
        "{message}"
    );
    assert!(
        message.contains("neither a file nor a built-in component 'ecko'"),
        "{message}"
    );

    let message = failure(|| built_in("echo").start());
    assert!(message.contains("needs a listener"), "{message}");

    let server = built_in("echo").tcp().start();
    let message = failure(|| server.connect_tls());
    assert!(message.contains("add .tls() before .start()"), "{message}");
    let message = failure(|| server.authority().to_owned());
    assert!(message.contains(".tls()"), "{message}");

    let message = failure(|| Component::file("no-such.wasm"));
    assert!(message.contains("'no-such.wasm'"), "{message}");
}

#[test]
fn a_server_that_is_dropped_has_ended() {
    let server = built_in("echo").tcp().start();
    let mut client = server.connect_tcp();
    client.send("x");
    client.expect("x");
    let process = server.id().to_string();
    assert!(runs(&process));
    drop(server);
    assert!(!Path::new("/proc").join(process).exists());
    client.expect_end();
}

/// Names the file for the process id of a server, in a run of this program that
/// aborts.
const ABORTS: &str = "NETWASM_TEST_ABORTS";

#[test]
fn a_server_ends_with_the_process_of_its_test() {
    const NAME: &str = "test_kit::a_server_ends_with_the_process_of_its_test";
    if let Some(file) = std::env::var_os(ABORTS) {
        let server = built_in("echo").tcp().start();
        std::fs::write(file, server.id().to_string()).expect("a file");
        std::process::abort();
    }
    let scratch = directory();
    let file = scratch.path().join("process");
    let aborted = again(NAME)
        .env(ABORTS, text(&file))
        .output()
        .expect("it starts");
    assert!(!aborted.status.success());
    let process = std::fs::read_to_string(file).expect("the server's process id");
    eventually("the server's end", || (!runs(&process)).then_some(()));
}
