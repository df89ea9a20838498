//! The command line: help, mistakes, `inspect`, `compile`, and the log.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use crate::harness::{
    self, Finished, Run, Server, cert, directory, eventually, guest, text, write,
};

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
fn the_version_is_told() {
    let version = netwasm(&["--version"]);
    assert_eq!(
        version.stdout.trim(),
        format!("netwasm {}", env!("CARGO_PKG_VERSION"))
    );
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
fn inspect_tells_what_a_component_is_and_how_to_run_it() {
    let echo = netwasm(&["inspect", text(&guest("echo"))]);
    assert_eq!(echo.code, Some(0), "{echo:?}");
    for part in [
        "netwasm:net/tcp-handler",
        "netwasm:net/udp-handler",
        "netwasm run",
        "--tcp",
        "--udp",
    ] {
        assert!(echo.stdout.contains(part), "no {part} in {}", echo.stdout);
    }
    let proxy = netwasm(&["inspect", text(&guest("proxy"))]);
    assert!(proxy.stdout.contains("--allow-connect"), "{}", proxy.stdout);
    assert!(
        proxy.stdout.contains("netwasm:net/connector"),
        "{}",
        proxy.stdout
    );
    for (name, flag) in [
        ("fetch", "--allow-connect HOST:PORT"),
        ("pool", "--allow-connect HOST:PORT"),
        ("resolve", "--allow-resolve NAME"),
        ("stream-probe", "--allow-udp HOST:PORT"),
    ] {
        let client = netwasm(&["inspect", text(&guest(name))]);
        for part in ["netwasm:net/client", "run it with", flag] {
            assert!(client.stdout.contains(part), "{}", client.stdout);
        }
    }
    // The fewest flags are advised, and no permission.
    let mut lines = proxy.stdout.lines();
    let advised = lines
        .find(|line| line.starts_with("run it with"))
        .and_then(|_| lines.next());
    let advised = advised.expect("a command").trim();
    assert!(
        advised.starts_with("netwasm run ") && advised.ends_with(" --tcp 8888"),
        "{advised}"
    );
    assert!(!advised.contains("--allow"), "{advised}");
    let scratch = directory();
    let core = write(scratch.path(), "core.wat", "(module)");
    netwasm(&["inspect", text(&core)]).refused(1, &["core.wat", "core module"]);
}

#[test]
fn what_was_made_for_another_host_is_refused_with_advice() {
    let scratch = directory();
    let exports = |name: &str| format!("(instance $i) (export \"{name}\" (instance $i))");
    let needs = |name: &str| {
        let import = format!("(import \"{name}\" (instance (export \"open\" (func))))");
        format!("{import} {}", exports("wasi:http/incoming-handler@0.2.0"))
    };
    for (what, parts) in [
        (
            exports("wasi:http/handler@0.3.0-rc-2026-03-15"),
            [
                "0.3.0-rc-2026-03-15, which was not released",
                "build it anew",
            ],
        ),
        (
            needs("fermyon:spin/sqlite@2.0.0"),
            ["fermyon:spin/sqlite@2.0.0", "without what belongs to Spin"],
        ),
        (
            needs("wasi:messaging/consumer@0.2.0-draft"),
            ["wasi:messaging/consumer@0.2.0-draft", "compose it"],
        ),
        (exports("greet"), ["exports none of", "for another host"]),
    ] {
        let file = write(scratch.path(), "other.wat", format!("(component {what})"));
        Run::component(&file).http().output().refused(1, &parts);
        let told = netwasm(&["inspect", text(&file)]);
        for part in parts {
            assert!(told.stdout.contains(part), "no {part} in {}", told.stdout);
        }
    }
    let fastly = "(module (import \"fastly_http_req\" \"new\" (func)))";
    let file = write(scratch.path(), "fastly.wat", fastly);
    Run::component(&file)
        .http()
        .output()
        .refused(1, &["core module", "fastly_http_req", "wasi:http"]);
}

#[test]
fn what_compile_writes_runs_only_when_trusted() {
    let scratch = directory();
    let compiled = scratch.path().join("echo.cwasm");
    let finished = netwasm(&["compile", text(&guest("echo")), "-o", text(&compiled)]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    Run::component(&compiled)
        .tcp()
        .output()
        .refused(1, &["echo.cwasm", "--allow-compiled"]);
    let server = Run::component(&compiled)
        .tcp()
        .args(["--allow-compiled"])
        .start();
    server.serves_echo();
    server.stop();

    let mut bytes = std::fs::read(&compiled).expect("compiled code");
    bytes.truncate(bytes.len() / 2);
    let half = write(scratch.path(), "half.cwasm", bytes);
    Run::component(&half)
        .tcp()
        .args(["--allow-compiled"])
        .output()
        .refused(1, &["half.cwasm"]);
}

#[test]
fn it_works_without_a_cache_and_where_none_can_be_written() {
    let server = Run::guest("echo").tcp().args(["--no-cache"]).start();
    server.serves_echo();
    let server = Run::guest("echo")
        .tcp()
        .env("XDG_CACHE_HOME", "/proc/nowhere")
        .env("HOME", "/proc/nowhere")
        .start();
    server.serves_echo();
}

#[test]
fn a_cache_that_is_damaged_is_told_of_and_not_run() {
    let scratch = directory();
    let run = || {
        Run::guest("echo")
            .tcp()
            .env("XDG_CACHE_HOME", text(scratch.path()))
            .start()
    };
    run().serves_echo();
    let entries = std::fs::read_dir(scratch.path().join("netwasm/code")).expect("the cache");
    let files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    let [file] = &files[..] else {
        panic!("{files:?} are not one");
    };
    let whole = std::fs::read(file).expect("the code");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    for damaged in [&flipped[..], &whole[..whole.len() / 2], &[]] {
        std::fs::write(file, damaged).expect("it is written");
        let server = run();
        server.serves_echo();
        server.log.wait_for(&["WARN", "compiling anew", text(file)]);
        server.stop();
        assert_eq!(std::fs::read(file).expect("the code").len(), whole.len());
    }
    let server = run();
    server.serves_echo();
    assert_eq!(server.log.count("compiling anew"), 0);
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
        let up = eventually("it listens, or ends", || {
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
    // start's own count anew: compilation, ticker.
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

#[test]
fn a_component_in_text_form_runs() {
    // The text is read, because only its world is refused.
    let scratch = directory();
    let file = write(scratch.path(), "empty.wat", "(component)");
    Run::component(&file)
        .tcp()
        .output()
        .refused(1, &["netwasm:net/tcp-handler"]);
}

/// Starts a server that logs a connection that was reset.
fn with_a_reset(args: &[&str]) -> Server {
    let server = Run::guest("echo").tcp().args(args).start();
    let mut peer = server.connect();
    peer.send(b"some");
    peer.take(4);
    peer.reset();
    server
}

#[test]
fn the_log_is_json_where_that_is_asked_for() {
    let server = with_a_reset(&["--log-format", "json"]);
    let line = server.log.wait_for(&["reset"]);
    let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(entry["level"], "INFO", "{line}");
    assert!(entry["timestamp"].is_string(), "{line}");
    assert!(
        entry["fields"].is_object() || entry["message"].is_string(),
        "{line}"
    );
}

#[test]
fn a_lost_connection_is_one_line_with_its_peer_and_reason() {
    let server = with_a_reset(&[]);
    let line = server.log.wait_for(&["reset"]);
    assert!(
        line.contains("127.0.0.1:") && line.contains("INFO"),
        "{line}"
    );
    assert!(
        !line.contains('\u{1b}'),
        "no colours where nobody sees them: {line}"
    );
    assert_eq!(server.log.count("reset"), 1);
    assert_eq!(server.log.count("traffic"), 0);
}

#[test]
fn v_shows_orderly_ends_too() {
    let server = Run::guest("echo").tcp().args(["-v"]).start();
    server.serves_echo();
    server.log.wait_for(&["DEBUG", "127.0.0.1:"]);
}

#[test]
fn standard_output_has_only_the_listeners() {
    let listening = Run::guest("echo").tcp().udp().start().listening.clone();
    assert!(
        listening[0].starts_with("tcp://127.0.0.1:"),
        "{listening:?}"
    );
    assert!(
        listening[1].starts_with("udp://127.0.0.1:"),
        "{listening:?}"
    );
    assert!(
        listening.iter().all(|url| !url.ends_with(":0")),
        "{listening:?}"
    );
}

#[test]
fn a_closed_standard_output_does_not_stop_the_start() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let mut child = Command::new(env!("CARGO_BIN_EXE_netwasm"))
        .args([
            "run",
            text(&guest("echo")),
            "--tcp",
            &harness::unix_address(&path),
        ])
        .stdout(writer)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("netwasm starts");
    eventually("a socket", || {
        std::os::unix::net::UnixStream::connect(&path).ok()
    });
    child.kill().expect("it runs");
    child.wait().expect("its end");
}
