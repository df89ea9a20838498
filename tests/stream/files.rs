//! Files that an async guest reads, or passes on unread.

use std::io::Write;

use super::{MIB, holding, probe};
use crate::harness::{Run, Strace, TcpPeer, directory, eventually, pattern, same, text, write};

#[test]
fn the_kernel_sends_a_file_that_is_passed_on_unread() {
    let scratch = directory();
    let bytes = pattern(8 * MIB);
    write(scratch.path(), "content", &bytes);
    write(scratch.path(), "empty", "");
    let server = probe()
        .args(["--dir", &format!("{}::/", text(scratch.path()))])
        .start();
    let ask = |name: &str| {
        let mut peer = server.connect();
        peer.say(&format!("file {name}"));
        let content = peer.rest();
        server.log.wait_for(&["read Ok(()), sent Ok(())"]);
        content
    };
    let strace = Strace::attach(&server, &["-e", "trace=sendfile"]);
    same(&ask("content"), &bytes);
    assert_eq!(ask("empty"), b"");
    if let Some(strace) = strace {
        let trace = strace.detach();
        assert!(trace.iter().any(|line| line.contains("sendfile")));
    }
    server.stop();
}

#[test]
fn a_file_ends_where_it_does_when_it_is_sent() {
    let scratch = directory();
    let bytes = pattern(32 * MIB);
    let path = write(scratch.path(), "content", &bytes);
    let dir = format!("{}::/", text(scratch.path()));
    let server = probe().args(["--dir", &dir]).start();
    let begin = || {
        let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
        peer.say("file content");
        assert_eq!(peer.take(1), bytes.get(..1).expect("a byte"));
        peer
    };

    let mut peer = begin();
    let mut file = std::fs::File::options()
        .append(true)
        .open(&path)
        .expect("the file");
    file.write_all(&bytes).expect("more of it");
    let rest = peer.rest();
    assert_eq!(rest.len(), 64 * MIB - 1);
    same(rest.get(32 * MIB - 1..).expect("the rest"), &bytes);
    server.log.wait_for(&["read Ok(()), sent Ok(())"]);

    let mut peer = begin();
    file.set_len(1).expect("less of it");
    let rest = peer.rest();
    assert!(rest.len() < 63 * MIB, "{} bytes", rest.len());
    eventually("the second outcome", || {
        (server.log.count("read Ok(()), sent Ok(())") == 2).then_some(())
    });
    server.stop();
}

#[test]
fn a_guest_may_read_a_file_for_longer_than_an_event_may_take() {
    let scratch = directory();
    let file = std::fs::File::create(scratch.path().join("long")).expect("a file");
    file.set_len(256 << 20).expect("a file with a hole");
    let dir = format!("{}::/", text(scratch.path()));
    for isolation in ["connection", "worker"] {
        let server = Run::guest("stream-probe")
            .tcp()
            .args(["--isolation", isolation, "--event-timeout", "50ms"])
            .args(["--workers", "1", "--dir", &dir])
            .start();
        let mut reading = server.connect();
        reading.say("sum long");
        // Another connection has its turn meanwhile.
        assert!(server.connect().ask("info").starts_with("SocketAddress"));
        assert_eq!(reading.line(), "268435456 0 Ok(())");
        server.stop();
    }
}

#[test]
fn a_pipe_below_a_directory_holds_up_nobody() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    let scratch = directory();
    let pipe = scratch.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
    let mut server = probe()
        .args(["--dir", &format!("{}::/", text(scratch.path()))])
        .args(["--shutdown-timeout", "300ms"])
        .start();
    let mut waiting = server.connect();
    waiting.say("file pipe");
    holding(&server);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(1), "one had to be aborted");
}
