//! Tests of programs: `wasi:cli/run` 0.2 from the standard library, and 0.3 by
//! hand.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    DEADLINE, Finished, Peer, Run, Strace, directory, echoes, eventually, in_own_network, pattern,
    refusing_datagrams, set_mtu, spliced, text, write,
};
use rustix::process::Signal;

const MIB: usize = 1 << 20;

/// Makes `netwasm run command-probe.wasm`, with these words for the guest.
fn probe(words: &[&str]) -> Run {
    Run::guest("command-probe").guest_args(words)
}

/// A program that exits with the code `CODE`.
const LEAVER: &str = r#"(component
    (import "wasi:cli/exit@0.2.0" (instance $cli
        (export "exit-with-code" (func (param "status-code" u8)))))
    (core func $exit (canon lower (func $cli "exit-with-code")))
    (core module $m
        (import "" "exit" (func $exit (param i32)))
        (func (export "run") (result i32)
            (call $exit (i32.const CODE))
            (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance (export "exit" (func $exit))))))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $program (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $program)))"#;

/// Checks that the exit code is 0, and returns the standard output.
fn printed(finished: &Finished) -> &str {
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    &finished.stdout
}

#[test]
fn arguments_variables_and_standard_output_are_the_guests() {
    let finished = probe(&["arguments", "one", "two words"]).output();
    assert_eq!(printed(&finished), "one\ntwo words\n");
    let finished = probe(&["variable", "COLOUR"])
        .args(["--env", "COLOUR=blue"])
        .output();
    assert_eq!(printed(&finished), "blue\n");
    // A guest gets no variable of the host unasked.
    let finished = probe(&["variable", "HOME"]).output();
    assert_eq!(printed(&finished), "\n");
}

#[test]
fn standard_input_is_the_guests() {
    // More than pipes hold, and text, because the harness reads lines.
    let lines = "a line of the input\n".repeat(50_000);
    let finished = probe(&["copy"]).input(lines.as_bytes()).output();
    assert_eq!(finished.code, Some(0));
    assert!(finished.stdout == lines, "{} bytes", finished.stdout.len());
}

#[test]
fn the_exit_code_is_passed_through() {
    // The standard library tells WASI 0.2 only success or failure.
    for (code, exit) in [("0", 0), ("1", 1), ("7", 1)] {
        let finished = probe(&["exit", code]).output();
        assert_eq!(finished.code, Some(exit), "{finished:#?}");
    }
    let scratch = directory();
    for code in [0, 7, 255] {
        let text = LEAVER.replace("CODE", &code.to_string());
        let file = write(scratch.path(), "leaver.wat", text);
        let finished = Run::component(&file).output();
        assert_eq!(finished.code, Some(code), "{finished:#?}");
    }
    assert_eq!(probe(&["nothing of the kind"]).output().code, Some(1));
}

#[test]
fn a_trap_is_exit_code_1_and_a_line_in_the_log() {
    let finished = probe(&["panic"]).output();
    assert_eq!(finished.code, Some(1));
    assert!(
        finished.stderr.contains("as was asked for"),
        "{finished:#?}"
    );
    assert!(
        finished.stderr.contains("the guest trapped"),
        "{finished:#?}"
    );
}

#[test]
fn memory_is_bounded() {
    let finished = probe(&["allocate", "8"]).output();
    assert_eq!(printed(&finished), format!("{}\n", 8 * MIB));
    let finished = probe(&["allocate", "128"]).output();
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("--max-memory"), "{finished:#?}");
    let finished = probe(&["allocate", "128"])
        .args(["--max-memory", "256MiB"])
        .output();
    assert_eq!(printed(&finished), format!("{}\n", 128 * MIB));
}

#[test]
fn a_command_may_take_longer_than_an_event() {
    let start = Instant::now();
    let finished = probe(&["sleep", "300"])
        .args(["--event-timeout", "10ms"])
        .output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn directories_are_the_ones_that_were_given() {
    let scratch = directory();
    write(scratch.path(), "note", "content");
    let dir = format!("{}::/data", text(scratch.path()));
    let finished = probe(&["read", "/data/note"])
        .args(["--dir", &dir])
        .output();
    assert_eq!(printed(&finished), "content\n");

    let finished = probe(&["write", "/data/new", "x"])
        .args(["--dir", &dir])
        .output();
    assert_eq!(finished.code, Some(1), "read-only: {finished:#?}");
    let finished = probe(&["write", "/data/new", "x"])
        .args(["--dir", &format!("{dir}:rw")])
        .output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(scratch.path().join("new").exists());

    for path in ["/data/../note", "/etc/passwd", "note"] {
        let finished = probe(&["read", path]).args(["--dir", &dir]).output();
        assert_eq!(finished.code, Some(1), "{path}: {finished:#?}");
    }
}

#[test]
fn a_file_is_opened_on_the_thread_of_the_program_and_what_is_none_on_another() {
    let scratch = directory();
    let inside = scratch.path().join("inside");
    std::fs::create_dir_all(inside.join("sub")).expect("directories");
    write(scratch.path(), "secret", "secret");
    write(&inside, "note", "content");
    symlink("note", inside.join("link")).expect("a link");
    symlink("../secret", inside.join("out")).expect("a link");
    let dir = format!("{}::/data", text(&inside));
    let trace = scratch.path().join("trace");
    // `told` is the output, or the kind of error that the standard library has made of it.
    for (path, is_file, told) in [
        ("note", true, "content"),
        ("sub/../note", true, "content"),
        ("link", true, "content"),
        ("out", false, "PermissionDenied: "),
        ("none", false, "NotFound: "),
        ("sub", false, "IsADirectory: "),
    ] {
        let run = probe(&["read", &format!("/data/{path}")]).args(["--dir", &dir]);
        let calls = "trace=openat2,pread64";
        let Some(run) = run.traced(&["-e", calls, "-o", text(&trace)]) else {
            return;
        };
        let finished = run.output();
        let output = match is_file {
            true => printed(&finished),
            false => &finished.stderr,
        };
        assert!(output.contains(told), "{path}: {finished:#?}");
        let calls = std::fs::read_to_string(&trace).expect("a trace");
        // Each with its thread.
        let with = |needle: &str| {
            let lines = calls.lines().filter(|line| line.contains(needle));
            lines
                .filter_map(|line| line.split_once(' '))
                .collect::<Vec<_>>()
        };
        let opened = with(&format!("\"{path}\", "));
        let (thread, first) = *opened.first().expect("it is opened");
        // As `opening` does it, and wasmtime-wasi does not.
        assert!(first.contains("O_NONBLOCK"), "{path}: {first}");
        match is_file {
            true => {
                assert_eq!(opened.len(), 1, "{path}: {calls}");
                let read = with("\"content");
                assert_eq!(read.first().map(|(thread, _)| *thread), Some(thread));
            }
            false => {
                assert_eq!(opened.len(), 2, "{path}: {calls}");
                assert_ne!(opened[1].0, thread, "{path}: {calls}");
            }
        }
    }
}

#[test]
fn a_listener_is_refused_and_its_lack_is_told_to_others() {
    probe(&[])
        .args(["--tcp", "0"])
        .output()
        .refused(1, &["--tcp", "tcp-handler", "wasi:cli/run", "no listener"]);
    Run::guest("echo")
        .output()
        .refused(2, &["nothing to listen on", "--tcp"]);
}

#[test]
fn a_signal_ends_a_command_that_sleeps_or_spins() {
    for words in [&["sleep", "600000"][..], &["spin"]] {
        let mut command = probe(words)
            .args(["--shutdown-timeout", "300ms"])
            .start_command();
        command.stdout.wait_for(&[words[0]]);
        let start = Instant::now();
        command.signal(Signal::TERM);
        assert_eq!(command.wait().code(), Some(1));
        assert!(start.elapsed() >= Duration::from_millis(300), "{words:?}");
        assert!(start.elapsed() < DEADLINE, "{words:?}");
    }
}

/// Checks that an operation without its flag fails at once, and that the log
/// names the flag.
fn denied(words: &[&str], flag: &str) {
    let finished = probe(words).output();
    assert_eq!(finished.code, Some(1), "{words:?}: {finished:#?}");
    assert!(
        finished.stderr.contains("PermissionDenied"),
        "{finished:#?}"
    );
    assert!(finished.stderr.contains(flag), "{finished:#?}");
}

#[test]
fn sockets_are_denied_unless_a_flag_allows_them() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    denied(
        &["connect", &address, "x"],
        &format!("--allow-connect {address}"),
    );
    denied(
        &["listen", "127.0.0.1:38888"],
        "--allow-listen 127.0.0.1:38888",
    );
    denied(
        &["datagram", "127.0.0.1:0", &address, "x"],
        &format!("--allow-udp {address}"),
    );
    let finished = probe(&["resolve", "localhost"]).output();
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    assert!(
        finished.stderr.contains("looking localhost up"),
        "{finished:#?}"
    );
    listener.set_nonblocking(true).expect("a socket");
    assert!(listener.accept().is_err(), "nothing was sent");
}

#[test]
fn names_are_resolved_where_they_may_be_connected_to() {
    let finished = probe(&["resolve", "localhost"])
        .args(["--allow-connect", "localhost:80"])
        .output();
    assert!(printed(&finished).contains("127.0.0.1"), "{finished:#?}");
}

#[test]
fn a_client_of_the_standard_library_speaks_to_an_echo() {
    let server = Run::guest("echo").tcp().start();
    let address = server.address("tcp");
    let finished = probe(&["connect", &address.to_string(), "Hello!"])
        .args(["--allow-connect", &address.to_string()])
        .output();
    assert_eq!(printed(&finished), "Hello!\n");

    // By name: a rule for a name holds for the addresses that it leads to.
    let by_name = format!("localhost:{}", address.port());
    let finished = probe(&["connect", &by_name, "Hello!"])
        .args(["--allow-connect", &by_name])
        .output();
    assert_eq!(printed(&finished), "Hello!\n");
    server.stop();
}

#[test]
fn a_server_of_the_standard_library_serves() {
    let mut command = probe(&["listen", "127.0.0.1:0"])
        .args([
            "--allow-listen",
            "127.0.0.1:0",
            "--shutdown-timeout",
            "100ms",
        ])
        .start_command();
    let line = command.stdout.wait_for(&["listening on "]);
    let address = line.rsplit(' ').next().expect("an address");
    echoes(
        Peer::connect(address.parse().expect("an address")),
        &pattern(MIB),
    );
    command.signal(Signal::TERM);
    command.wait();
}

#[test]
fn datagrams_go_where_they_may_and_come_back() {
    let server = Run::guest("echo").udp().start();
    let to = server.address("udp").to_string();
    let finished = probe(&["datagram", "127.0.0.1:0", &to, "by UDP"])
        .args(["--allow-udp", &to])
        .output();
    assert_eq!(printed(&finished), "by UDP\n");
    server.stop();
}

#[test]
fn datagrams_larger_than_a_packet_arrive_and_those_too_long_are_an_error() {
    if !in_own_network(
        "command::datagrams_larger_than_a_packet_arrive_and_those_too_long_are_an_error",
    ) {
        return;
    }
    set_mtu(1500);
    for (any, longest) in [("127.0.0.1:0", 65_507), ("[::1]:0", 65_527)] {
        let server = Run::guest("echo").listen("--udp", any).start();
        let to = server.address("udp").to_string();
        let exchange = |size: u32| {
            probe(&["long-datagram", any, &to, &size.to_string()])
                .args(["--allow-udp", &to])
                .output()
        };
        for size in [0, 1453, 9000, longest] {
            let finished = exchange(size);
            assert_eq!(printed(&finished), format!("{size} bytes, equal\n"));
        }
        let finished = exchange(longest + 1);
        assert_eq!(finished.code, Some(1), "{finished:#?}");
        server.stop();
    }
}

#[test]
fn a_datagram_that_reaches_nobody_is_an_error_to_a_connected_socket() {
    let (address, _nobody) = refusing_datagrams();
    let address = address.to_string();
    let finished = probe(&["connected-datagram", "127.0.0.1:0", &address])
        .args(["--allow-udp", &address])
        .output();
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    assert!(
        finished.stderr.contains("ConnectionRefused"),
        "{finished:#?}"
    );
}

#[test]
fn the_client_prints_what_it_sends_and_what_comes_back() {
    let server = Run::guest("echo").listen("--tcp", "0").start();
    let port = server.address("tcp").port().to_string();
    let finished = Run::guest("tcp-client")
        .args(["--allow-connect", &format!("localhost:{port}")])
        .guest_args(&["localhost", &port, "Hello, Server!"])
        .output();
    assert_eq!(
        printed(&finished),
        "Sending: 'Hello, Server!'\nReceived: 'Hello, Server!'\n"
    );
    let finished = Run::guest("tcp-client")
        .args(["--allow-connect", "localhost:1"])
        .guest_args(&["localhost", &port, "Hello, Server!"])
        .output();
    assert_eq!(finished.code, Some(1));
    assert!(
        finished.stderr.contains(&format!("localhost:{port}")),
        "the flag is named: {finished:#?}"
    );
    server.stop();
}

#[test]
fn an_echo_on_wasi_sockets_serves_many_at_once() {
    let (mut command, address) = Run::socket_echo();
    thread::scope(|scope| {
        for client in 0..8_u8 {
            scope.spawn(move || {
                let bytes: Vec<u8> = pattern(MIB).iter().map(|byte| byte ^ client).collect();
                echoes(Peer::connect(address), &bytes);
            });
        }
    });
    // The program ends once its listener and its connections have ended.
    let mut peer = Peer::connect(address);
    peer.echoes(b"before");
    command.signal(Signal::TERM);
    command.log.wait_for(&["draining"]);
    peer.echoes(b"after");
    peer.finish();
    assert_eq!(peer.rest(), b"");
    assert_eq!(command.wait().code(), Some(0), "drained");
}

#[test]
fn the_kernel_moves_the_bytes_of_an_echo_on_wasi_sockets() {
    let (command, address) = Run::socket_echo();
    let Some(strace) = Strace::attach(&command, &["-e", "trace=splice"]) else {
        return;
    };
    let bytes = pattern(32 * MIB);
    echoes(Peer::connect(address), &bytes);
    let moved = spliced(&strace.detach());
    assert!(moved > bytes.len(), "{moved} bytes by splice(2)");
}

#[test]
fn a_program_that_prints_where_nobody_reads_can_be_ended() {
    let scratch = directory();
    write(scratch.path(), "long.txt", "x".repeat(1 << 20));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let size = rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("F_SETPIPE_SZ");
    let mut command = Run::guest("command-probe")
        .args(["--dir", &format!("{}::/data", text(scratch.path()))])
        .args(["--shutdown-timeout", "100ms"])
        .guest_args(&["read", "/data/long.txt"])
        .print_to(writer)
        .start_command();
    eventually("a full pipe", || {
        let waiting = rustix::io::ioctl_fionread(&reader).expect("FIONREAD");
        (waiting >= size as u64).then_some(())
    });
    command.signal(Signal::TERM);
    assert_eq!(command.wait().code(), Some(1), "it was aborted");
}
