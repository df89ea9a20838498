//! The command line: help, mistakes, `inspect`, `compile`, and the log.

mod components;
mod log;

use std::net::{TcpListener, UdpSocket};

use crate::harness::{Finished, Run, START, cert, directory, guest, text, within, write};

fn netwasm(args: &[&str]) -> Finished {
    Run::command(args).output()
}

/// Checks that `netwasm run guests/echo.wasm ...` is refused.
fn refused(code: i32, args: &[&str], needles: &[&str]) {
    let echo = guest("echo");
    let all: Vec<&str> = ["run", text(&echo)].iter().chain(args).copied().collect();
    netwasm(&all).refused(code, needles);
}

#[test]
fn short_help_is_shorter_and_both_name_the_listeners() {
    let short = netwasm(&["run", "-h"]);
    let long = netwasm(&["run", "--help"]);
    for help in [&short, &long] {
        assert_eq!(help.code, Some(0));
        for flag in [
            "--tcp",
            "--tls",
            "--udp",
            "--cert",
            "--key",
            "--allow-connect",
        ] {
            assert!(help.stdout.contains(flag), "no {flag} in {}", help.stdout);
        }
    }
    assert!(short.stdout.lines().count() <= 55, "{}", short.stdout);
    assert!(short.stdout.lines().count() < long.stdout.lines().count());
    for flag in [
        "--client-ca",
        "--alpn",
        "--isolation",
        "--workers",
        "--max-memory",
        "--event-timeout",
        "--max-connections",
        "--idle-timeout",
        "--backlog",
        "--shutdown-timeout",
        "--dir",
        "--env",
        "--log-format",
        "--handshake-timeout",
        "--write-timeout",
        "--max-write-buffer",
        "--max-handles",
        "--max-component-size",
        "--compile-timeout",
        "--max-outgoing",
        "--half-close-timeout",
        "--tcp-keepalive",
        "--response-body-timeout",
        "--max-response-headers",
        "--background-timeout",
        "--max-background",
        "--max-metrics",
        "--max-shared",
        "--keyvalue",
        "--config-var",
    ] {
        assert!(long.stdout.contains(flag), "no {flag} in {}", long.stdout);
    }
    for command in ["run", "inspect", "compile"] {
        assert!(netwasm(&["--help"]).stdout.contains(command));
    }
}

#[test]
fn the_built_in_echo_needs_no_file() {
    let server = Run::command(&["run", "echo"]).tcp().start();
    server.serves_echo();
    server.stop();
}

#[test]
fn a_component_that_is_not_there_is_named() {
    netwasm(&["run", "./nowhere.wasm", "--tcp", "0"]).refused(1, &["nowhere.wasm"]);
    let finished = netwasm(&["run", "ecco", "--tcp", "0"]);
    assert!(
        finished.stderr.contains("ecco") && finished.stderr.contains("echo"),
        "{finished:?}"
    );
    assert_ne!(finished.code, Some(0));
}

#[test]
fn without_a_listener_it_says_what_one_could_write() {
    refused(2, &[], &["--tcp"]);
    // Before it is compiled, which may take a minute.
    refused(2, &["--no-cache", "--compile-timeout", "1ms"], &["--tcp"]);
}

#[test]
fn a_tcp_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    refused(1, &["--tcp", &address], &[&address, "another program"]);
}

#[test]
fn a_udp_port_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    refused(
        1,
        &["--udp", &address, "--tcp", "127.0.0.1:0"],
        &[&address, "another program"],
    );
}

#[test]
fn a_second_server_does_not_share_the_port_of_the_first() {
    // The listening sockets of one server's workers do share it.
    let first = Run::guest("echo")
        .tcp()
        .udp()
        .args(["--workers", "2"])
        .start();
    let tcp = first.address("tcp").to_string();
    refused(
        1,
        &["--tcp", &tcp, "--udp", "127.0.0.1:0"],
        &[&tcp, "another program"],
    );
    let udp = first.address("udp").to_string();
    refused(
        1,
        &["--tcp", "127.0.0.1:0", "--udp", &udp],
        &[&udp, "another program"],
    );
    first.serves_echo();
}

#[test]
fn an_address_of_another_machine_is_named() {
    // An address for documentation (RFC 5737), which no machine has.
    refused(1, &["--tcp", "192.0.2.1:8888"], &["192.0.2.1:8888"]);
}

#[test]
fn bad_addresses_are_usage_errors() {
    for bad in [
        "nonsense",
        "127.0.0.1",
        "127.0.0.1:99999",
        "[::1]",
        "65536",
        "",
    ] {
        refused(2, &["--tcp", bad], &["--tcp"]);
    }
    refused(2, &["--tcp", "*:8080"], &["0.0.0.0:8080"]);
    refused(2, &["--tcp", ":8080"], &["0.0.0.0:8080"]);
}

#[test]
fn bad_limits_are_usage_errors() {
    for (flag, bad) in [
        ("--max-memory", "lots"),
        ("--max-memory", "0"),
        ("--max-connections", "0"),
        ("--max-response-headers", "0"),
        ("--max-response-headers", "10001"),
        ("--event-timeout", "5"),
        ("--event-timeout", "soon"),
        ("--workers", "0"),
        ("--isolation", "splendid"),
        ("--log-format", "xml"),
        ("--allow-connect", "no-port"),
        ("--env", "=value"),
    ] {
        refused(2, &["--tcp", "127.0.0.1:0", flag, bad], &[flag]);
    }
    refused(2, &["--tcp", "127.0.0.1:0", "--nonsense"], &["--nonsense"]);
    let swapped = [
        "--tcp",
        "127.0.0.1:0",
        "--write-high",
        "1KiB",
        "--write-low",
        "2KiB",
    ];
    refused(2, &swapped, &["--write-low", "--write-high"]);
}

#[test]
fn directories_at_one_path_of_the_guest_are_refused() {
    for (one, other) in [
        ("/data", "/data/"),
        ("/data", "data"),
        ("/", "."),
        ("/a//b", "/a/./b"),
    ] {
        let dirs = [one, other].map(|path| format!("/::{path}"));
        let args = ["--tcp", "127.0.0.1:0", "--dir", &dirs[0], "--dir", &dirs[1]];
        refused(2, &args, &["two --dir", other]);
    }
}

#[test]
fn tls_without_a_certificate_says_what_is_missing() {
    refused(2, &["--tls", "127.0.0.1:0"], &["--cert", "--key"]);
    let chain = cert("cert.pem");
    refused(
        2,
        &["--tls", "127.0.0.1:0", "--cert", text(&chain)],
        &["--key"],
    );
}

#[test]
fn bad_certificates_are_named() {
    let scratch = directory();
    let garbage = write(scratch.path(), "garbage.pem", "no certificate");
    let (chain, key) = (cert("cert.pem"), cert("key.pem"));
    let other = cert("other.key");
    for (chain, key, named) in [
        ("/nowhere/cert.pem", text(&key), "/nowhere/cert.pem"),
        (text(&chain), "/nowhere/key.pem", "/nowhere/key.pem"),
        (text(&garbage), text(&key), "garbage.pem"),
        (text(&chain), text(&garbage), "garbage.pem"),
        (text(&chain), text(&other), "other.key"),
    ] {
        let args = ["--tls", "127.0.0.1:0", "--cert", chain, "--key", key];
        refused(1, &args, &[named]);
    }
    let args = [
        "--tls",
        "127.0.0.1:0",
        "--cert",
        text(&chain),
        "--key",
        text(&key),
        "--client-ca",
        text(&garbage),
    ];
    refused(1, &args, &["garbage.pem"]);
}

#[test]
fn sizes_and_times_are_written_as_people_write_them() {
    for args in [
        ["--max-memory", "16MiB", "--event-timeout", "250ms"],
        ["--max-memory", "16M", "--event-timeout", "1s"],
        ["--max-memory", "1G", "--event-timeout", "2m"],
        ["--max-memory", "16777216", "--event-timeout", "1m 30s"],
    ] {
        let server = Run::guest("echo").tcp().args(args).start();
        server.serves_echo();
    }
}

#[test]
fn a_low_limit_of_descriptors_says_how_many_connections_that_are() {
    let server = Run::guest("echo").tcp().ulimit("-n 64").start();
    server.log.wait_for(&["ulimit -n", "connections=28"]);
    server.serves_echo();
    server.stop();
}

#[test]
fn too_few_descriptors_are_a_failure_and_never_a_success() {
    let mut served = false;
    for limit in (8..48).step_by(4) {
        let args = ["--workers", "2", "--no-cache"];
        let run = Run::guest("echo").listen("--tcp", "127.0.0.1:0").args(args);
        let mut server = run.ulimit(&format!("-n {limit}")).start_command();
        let up = within(START, "it listens, or ends", || {
            let ended = server.has_ended();
            let line = server.stdout.lines().first().cloned();
            (ended || line.is_some()).then_some(line)
        });
        let address = up.and_then(|line| line.strip_prefix("listening tcp://")?.parse().ok());
        let peer = address
            .and_then(|address: std::net::SocketAddr| std::net::TcpStream::connect(address).ok());
        if let Some(peer) = peer
            && !server.has_ended()
        {
            served = true;
            drop(peer);
            server.signal(rustix::process::Signal::TERM);
        }
        let code = server.wait().code();
        let said = server.log.text();
        assert!(!said.contains("panic"), "{limit}: {said}");
        match code {
            Some(0) => assert!(served, "{limit}: {said}"),
            code => assert_eq!((code, said.is_empty()), (Some(1), false), "{limit}: {said}"),
        }
    }
    assert!(served, "with 44 it serves");
}

#[test]
fn too_few_threads_are_told_in_one_line() {
    // Those that the main thread starts, in order: log, start, two workers. The
    // start's own count from one: compilation, ticker.
    for first in 1..=4 {
        let inject = format!("inject=clone3:error=EAGAIN:when={first}+");
        let run = Run::guest("echo").tcp().args(["--workers", "2"]);
        let Some(run) = run.traced(&["-e", "trace=clone3", "-e", &inject]) else {
            return;
        };
        run.output()
            .refused(1, &["cannot start a thread", "ulimit -u"]);
    }
}
