//! The log and the access log with no reader, with a full disk, and with a
//! flood of lines caused by clients.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};

use crate::harness::{Http2, Log, Peer, Run, Server, directory, eventually, free_port, text};
use rustix::process::Signal;

/// Returns a pipe of one page, which a server soon fills if nobody reads.
fn small_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("F_SETPIPE_SZ");
    (reader, writer)
}

/// Sends a malformed request, which is logged.
fn malformed(server: &Server) {
    let mut peer = server.connect_http();
    peer.send(b"nonsense\r\n\r\n");
    peer.finish();
    assert!(peer.rest().starts_with(b"HTTP/1.1 400"));
}

/// Returns the sum of a numeric field over the lines that contain `text`.
fn sum(lines: &[String], text: &str, field: &str) -> usize {
    let with = lines.iter().filter(|line| line.contains(text));
    with.filter_map(|line| {
        let (_, value) = line.split_once(&format!("{field}="))?;
        value.split(' ').next()?.parse::<usize>().ok()
    })
    .sum()
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (reader, writer) = small_pipe();
    let mut server = Run::guest("hello").http().https().log_to(writer).start();
    for _ in 0..100 {
        malformed(&server);
        let mut plain = Peer::connect(server.address("https"));
        plain.send(b"GET / HTTP/1.1\r\n\r\n");
        plain.finish_and_wait();
    }
    server.serves_http();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let lines: Vec<_> = BufReader::new(reader).lines().collect();
    assert!((1..200).contains(&lines.len()), "{} fit", lines.len());
}

#[test]
fn lines_that_nobody_read_are_counted_once_somebody_reads() {
    let (reader, writer) = small_pipe();
    let server = Run::guest("probe").tcp().log_to(writer).start();
    let mut peer = server.connect();
    // A guest logs more lines than the queue holds.
    let long = "x".repeat(4000);
    for _ in 0..500 {
        peer.say(&format!("log warn {long}"));
    }
    assert_eq!(peer.ask("size"), "0", "all were said");
    let log = Log::follow(reader);
    log.wait_for(&["lines of the log were dropped"]);
    peer.say("log warn enough");
    log.wait_for(&["enough"]);
    drop(peer);
    server.stop();
    log.wait_for(&["ended"]);
    let lines = log.lines();
    let dropped = sum(&lines, "lines of the log were dropped", "dropped");
    assert_eq!(log.count(&long) + dropped, 500);
}

#[test]
fn a_flood_of_one_kind_is_counted_and_hides_no_other() {
    let mut server = Run::guest("hello").http().args(["--log-rate", "1"]).start();
    for _ in 0..100 {
        malformed(&server);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    server.log.wait_for(&["draining"]);
    server.log.wait_for(&["ended"]);
    let lines = server.log.text();
    let lines: Vec<_> = lines.lines().map(str::to_owned).collect();
    let written = server.log.count("INFO request refused");
    let suppressed = sum(&lines, "lines of a kind were suppressed", "suppressed");
    assert_eq!(written + suppressed, 100, "{lines:#?}");
    assert!(suppressed > 0, "{lines:#?}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("like=\"request refused\""))
    );
}

#[test]
fn an_access_log_on_a_full_disk_stops_nothing() {
    let mut server = Run::guest("hello")
        .http()
        .args(["--access-log", "/dev/full"])
        .start();
    for _ in 0..10 {
        server.serves_http();
    }
    server
        .log
        .wait_for(&["the access log cannot be written", "No space left"]);
    server.serves_http();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let text = server.log.text();
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    assert_eq!(server.log.count("the access log cannot be written"), 1);
    let dropped = sum(&lines, "lines of the access log were dropped", "dropped");
    assert_eq!(dropped, 11, "{text}");
}

#[test]
fn an_access_log_that_nobody_reads_stops_nothing() {
    let (reader, writer) = small_pipe();
    let path = {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), writer.as_raw_fd())
    };
    let server = Run::guest("hello")
        .http()
        .args(["--access-log", &path])
        .start();
    let mut peer = server.connect_http();
    for _ in 0..1000 {
        assert_eq!(peer.fetch("/").status, 200);
    }
    let address = server.address("http");
    server.stop();
    eventually("its end", || {
        TcpStream::connect(address).is_err().then_some(())
    });
    drop(reader);
}

#[test]
fn lines_of_before_a_rotation_are_in_the_old_file() {
    const ROTATIONS: usize = 10;
    for signal in [Signal::USR1, Signal::HUP] {
        let scratch = directory();
        let path = scratch.path().join("access.log");
        let server = Run::guest("hello")
            .http()
            .args(["--workers", "2", "--access-log", text(&path)])
            .start();
        let mut one = server.connect_http();
        let mut two = Http2::connect(server.address("http"));
        for rotation in 0..ROTATIONS {
            assert_eq!(one.fetch(&format!("/{rotation}/one")).status, 200);
            assert_eq!(two.fetch(&format!("/{rotation}/two")).status, 200);
            // By now the first requests are logged.
            assert_eq!(one.fetch("/next").status, 200);
            assert_eq!(two.fetch("/next").status, 200);
            let old = scratch.path().join(rotation.to_string());
            std::fs::rename(&path, &old).expect("another name");
            server.signal(signal);
            eventually("a new file", || path.exists().then_some(()));
            let old = std::fs::read_to_string(old).expect("the old log");
            for protocol in ["one", "two"] {
                let line = format!("GET /{rotation}/{protocol} ");
                assert_eq!(old.matches(&line).count(), 1, "{line} in\n{old}");
            }
        }
        server.stop();
        let all: String = std::fs::read_dir(scratch.path())
            .expect("the directory")
            .map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("a log"))
            .collect();
        // No line is lost or duplicated.
        assert_eq!(all.lines().count(), 4 * ROTATIONS, "{all}");
    }
}

#[test]
fn sigusr1_without_a_log_file_does_nothing() {
    let logs = [&[][..], &["--access-log", "-"]];
    for args in logs {
        let server = Run::guest("hello").http().args(args).start();
        server.serves_http();
        server.signal(Signal::USR1);
        server
            .log
            .wait_for(&["SIGUSR1", "no log file", "--access-log"]);
        server.serves_http();
        server.stop();
    }
    let server = Run::guest("echo").tcp().udp().start();
    server.signal(Signal::USR1);
    server.log.wait_for(&["SIGUSR1", "no log file"]);
    server.serves_echo();
    server.stop();
}

#[test]
fn a_quiet_run_shows_only_warnings_and_errors() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    for flag in ["-q", "--quiet"] {
        let mut server = Run::guest("probe")
            .args(["--tcp", &address.to_string(), flag])
            .args(["--admin", "127.0.0.1:0"])
            .start_command();
        let stream = crate::harness::within(crate::harness::START, "it listens", || {
            TcpStream::connect(address).ok()
        });
        let mut peer = Peer::accepted(stream);
        assert_eq!(peer.ask("connect 127.0.0.1:1 x"), "error: access-denied");
        drop(peer);
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        let log = server.log.text();
        assert!(
            log.contains("WARN") && log.contains("--allow-connect"),
            "{log}"
        );
        assert!(!log.contains("INFO"), "{log}");
        assert_eq!(server.stdout.text(), "");
    }
}
