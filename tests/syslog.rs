//! The access log at a syslog server.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{DEADLINE, Run, directory, eventually, text};

/// Returns a server at a Unix socket.
fn local(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket
}

/// Returns a run that logs to the server at this Unix socket.
fn logging_to(path: &Path, labels: &str) -> Run {
    let target = format!("syslog:unix:{}{labels}", text(path));
    Run::guest("hello").http().args(["--access-log", &target])
}

fn message(receive: impl FnOnce(&mut [u8]) -> std::io::Result<usize>) -> String {
    let mut buffer = [0; 16 << 10];
    let length = receive(&mut buffer).expect("a message");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn a_local_server_gets_each_line_as_syslog_3_writes_it() {
    let scratch = directory();
    let path = scratch.path().join("log");
    let socket = local(&path);
    let server = logging_to(&path, ",facility=local0,severity=notice,tag=web").start();
    let mut peer = server.connect_http();
    let head = format!("<133>web[{}]: 127.0.0.1 - - [", server.pid());
    for number in 0..3 {
        peer.fetch(&format!("/{number}"));
    }
    for number in 0..3 {
        let line = message(|buffer| socket.recv(buffer));
        assert!(line.starts_with(&head), "{line}");
        let request = format!("] \"GET /{number} HTTP/1.1\" 200 ");
        assert!(line.contains(&request) && !line.contains('\n'), "{line}");
    }
    // It is no file to open again.
    server.signal(Signal::USR1);
    server.log.wait_for(&["SIGUSR1", "no log file"]);
    drop(peer);
    server.stop();
}

#[test]
fn a_server_at_an_address_gets_messages_of_rfc_5424() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let address = socket.local_addr().expect("its address");
    let server = Run::guest("hello")
        .http()
        .args(["--access-log", &format!("syslog:udp:{address}")])
        .args(["--access-log-format", "json"])
        .start();
    server.connect_http().fetch("/there");
    let line = message(|buffer| socket.recv(buffer));
    // PRI VERSION, TIMESTAMP, HOSTNAME, APP-NAME, PROCID, MSGID, SD, MSG.
    let parts: Vec<_> = line.splitn(8, ' ').collect();
    let [version, time, host, name, process, id, data, json] = parts[..] else {
        panic!("{line}")
    };
    let process_id = server.pid().to_string();
    assert_eq!(
        (version, name, process, id, data),
        ("<190>1", "netwasm", &*process_id, "-", "-")
    );
    assert!(time.ends_with('Z') && time.len() == 27, "{time}");
    assert!(!host.is_empty());
    let json: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(json["request"], "GET /there HTTP/1.1");
    server.stop();
}

#[test]
fn a_server_that_is_not_there_is_told_at_the_start() {
    let scratch = directory();
    logging_to(&scratch.path().join("none"), "")
        .output()
        .refused(1, &["syslog server of --access-log", "No such file"]);
}

#[test]
fn a_server_that_does_not_read_holds_up_nobody_and_what_it_misses_is_counted() {
    let scratch = directory();
    let path = scratch.path().join("log");
    let socket = local(&path);
    let mut server = logging_to(&path, "").start();
    let mut peer = server.connect_http();
    let mut requests = 0;
    let mut fetch = |count: usize| {
        for _ in 0..count {
            assert_eq!(peer.fetch("/").status, 200);
        }
        requests += count;
    };
    fetch(2000);
    server.log.wait_for(&["the access log cannot be written"]);
    fetch(100);
    let received = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&received);
    let reading = thread::spawn(move || {
        socket.set_read_timeout(None).expect("no timeout");
        let mut buffer = [0; 1024];
        // An empty message ends it.
        while socket.recv(&mut buffer).expect("a message") > 0 {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    eventually("lines come again", || {
        fetch(1);
        let dropped = server.log.count("lines of the access log were dropped");
        (dropped > 0).then_some(())
    });
    drop(peer);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let log = server.log.text();
    let end = UnixDatagram::unbound().expect("a socket");
    end.send_to(&[], &path).expect("the end");
    reading.join().expect("it has read");
    let dropped = log
        .lines()
        .filter(|line| line.contains("lines of the access log were dropped"))
        .filter_map(|line| {
            let count = line.split("dropped=").nth(1)?;
            count.split(' ').next()?.parse::<usize>().ok()
        });
    let dropped: usize = dropped.sum();
    assert!(dropped > 0, "{log}");
    assert_eq!(
        received.load(Ordering::Relaxed) + dropped,
        requests,
        "{log}"
    );
}

#[test]
fn a_server_that_restarts_gets_lines_again() {
    let scratch = directory();
    let path = scratch.path().join("log");
    let first = local(&path);
    let server = logging_to(&path, "").start();
    let mut peer = server.connect_http();
    peer.fetch("/one");
    assert!(message(|buffer| first.recv(buffer)).contains("/one"));
    drop(first);
    std::fs::remove_file(&path).expect("the file");
    peer.fetch("/lost");
    server.log.wait_for(&["the access log cannot be written"]);
    let second = local(&path);
    peer.fetch("/two");
    assert!(message(|buffer| second.recv(buffer)).contains("/two"));
    drop(peer);
    server.stop();
}
