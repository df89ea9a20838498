//! Tests of `wasi:sockets` 0.3 in a program: the addresses it may reach, and
//! the streams it passes on unread.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::harness::{
    self, DEADLINE, Finished, Peer, Run, Strace, TcpPeer, directory, eventually, in_own_network,
    pattern, refusing_datagrams, same, set_mtu, spliced, text, write,
};

const MIB: usize = 1 << 20;

fn probe(words: &[&str]) -> Run {
    Run::guest("socket-probe").guest_args(words)
}

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, address.to_string())
}

/// Checks that a call without its flag fails at once, and that the log names
/// the flag.
#[track_caller]
fn denied(words: &[&str], flag: &str) {
    let finished = probe(words).output();
    assert_eq!(finished.code, Some(1), "{words:?}: {finished:#?}");
    assert_eq!(finished.stdout, "ErrorCode::AccessDenied\n", "{words:?}");
    assert!(finished.stderr.contains(flag), "{words:?}: {finished:#?}");
}

#[track_caller]
fn went_well(finished: &Finished) {
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

#[test]
fn every_call_is_denied_unless_a_flag_allows_it() {
    denied(&["bind", "127.0.0.1:9991"], "--allow-listen 127.0.0.1:9991");
    denied(&["bind", "0.0.0.0:9991"], "--allow-listen 0.0.0.0:9991");
    denied(&["bind", "[::]:9991"], "--allow-listen [::]:9991");
    denied(&["listen", "127.0.0.1:0"], "--allow-listen 127.0.0.1:0");
    denied(&["listen", "unbound"], "--allow-listen 0.0.0.0:0");
    denied(&["udp-bind", "0.0.0.0:9991"], "--allow-listen 0.0.0.0:9991");
    denied(
        &["connect", "127.0.0.1:9991"],
        "--allow-connect 127.0.0.1:9991",
    );
    denied(&["connect", "[::1]:9991"], "--allow-connect [::1]:9991");
    denied(
        &["udp-connect", "127.0.0.1:9991"],
        "--allow-udp 127.0.0.1:9991",
    );
    denied(
        &["udp-send", "127.0.0.1:9991"],
        "--allow-udp 127.0.0.1:9991",
    );
    denied(
        &["udp-send", "255.255.255.255:9991"],
        "--allow-udp 255.255.255.255:9991",
    );
    denied(&["resolve", "localhost"], "--allow-resolve localhost");
}

#[test]
fn an_address_is_its_own_answer_and_what_is_no_name_is_an_invalid_argument() {
    for address in ["192.0.2.7", "[2001:DB8::1]"] {
        let finished = probe(&["resolve", address]).output();
        went_well(&finished);
        assert_eq!(finished.stdout, "1 addresses\n", "{address}");
    }
    for text in [
        "",
        "a.b<&>",
        "127.1",
        "[::]:80",
        "[127.0.0.1]",
        "http://name.example/",
    ] {
        let finished = probe(&["resolve", text])
            .args(["--allow-resolve", "*"])
            .output();
        assert_eq!(finished.code, Some(1), "{text:?}: {finished:#?}");
        assert_eq!(finished.stdout, "ErrorCode::InvalidArgument\n", "{text:?}");
    }
}

#[test]
fn a_rule_for_one_thing_allows_no_other() {
    let everything = |flag: &str, pattern: &str, words: &[&str]| {
        let finished = probe(words).args([flag, pattern]).output();
        assert_eq!(finished.code, Some(1), "{flag} {words:?}: {finished:#?}");
        assert_eq!(
            finished.stdout, "ErrorCode::AccessDenied\n",
            "{flag} {words:?}"
        );
    };
    everything(
        "--allow-connect",
        "0.0.0.0/0:*",
        &["udp-send", "127.0.0.1:9991"],
    );
    everything("--allow-connect", "0.0.0.0/0:*", &["listen", "127.0.0.1:0"]);
    everything("--allow-udp", "0.0.0.0/0:*", &["connect", "127.0.0.1:9991"]);
    everything("--allow-listen", "127.0.0.1:0", &["bind", "127.0.0.1:9991"]);
    everything("--allow-listen", "127.0.0.1:0", &["listen", "unbound"]);
    everything(
        "--allow-listen",
        "127.0.0.1:9991",
        &["connect", "127.0.0.1:9991"],
    );
    // A name that may be looked up may not be connected to.
    everything(
        "--allow-resolve",
        "localhost",
        &["connect", "127.0.0.1:9991"],
    );
}

#[test]
fn an_address_in_the_clothes_of_another_family_is_no_address() {
    for words in [
        ["bind", "[::ffff:127.0.0.1]:9991"],
        ["connect", "[::ffff:127.0.0.1]:9991"],
        ["connect", "0.0.0.0:9991"],
        ["connect", "127.0.0.1:0"],
        ["udp-bind", "[::ffff:127.0.0.1]:9991"],
        ["udp-send", "[::ffff:127.0.0.1]:9991"],
    ] {
        let finished = probe(&words)
            .args([
                "--allow-connect",
                "127.0.0.0/8:*",
                "--allow-udp",
                "127.0.0.0/8:*",
            ])
            .args(["--allow-listen", "127.0.0.1:9991"])
            .output();
        assert_eq!(finished.code, Some(1), "{words:?}: {finished:#?}");
        assert_eq!(finished.stdout, "ErrorCode::InvalidArgument\n", "{words:?}");
    }
}

#[test]
fn what_a_flag_allows_works() {
    let (_listener, address) = listener();
    went_well(
        &probe(&["connect", &address])
            .args(["--allow-connect", &address])
            .output(),
    );
    went_well(
        &probe(&["listen", "127.0.0.1:0"])
            .args(["--allow-listen", "127.0.0.1:0"])
            .output(),
    );
    // A rule for all addresses of the machine holds for each of them.
    went_well(
        &probe(&["listen", "127.0.0.1:0"])
            .args(["--allow-listen", "0.0.0.0:0"])
            .output(),
    );
    went_well(
        &probe(&["udp-send", &address])
            .args(["--allow-udp", &address])
            .output(),
    );
    went_well(
        &probe(&["udp-connect", &address])
            .args(["--allow-udp", &address])
            .output(),
    );
}

/// Guests of older libraries trap where they wait, and programs are faster where
/// they do not.
#[test]
fn a_call_that_has_nothing_to_wait_for_returns_at_once() {
    let any = "127.0.0.1:*";
    let finished = probe(&["at-once", "127.0.0.1:0"])
        .args(["--allow-listen", any, "--allow-connect", any])
        .args(["--allow-udp", any])
        .output();
    went_well(&finished);
    assert_eq!(finished.stdout, "by TCP\nby UDP\n");
}

#[test]
fn sockets_are_bounded() {
    let finished = probe(&["hoard", "127.0.0.1:0"])
        .args(["--max-handles", "20", "--max-connections", "10"])
        .output();
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("--max-handles"), "{finished:#?}");
}

/// Starts a program that waits for a datagram, with these flags for the host. Waits so
/// long for its answer to a stranger, and returns true if there is one.
fn answers_a_stranger(flags: &[&str], wait: Duration) -> bool {
    let known = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    known.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let known_at = known.local_addr().expect("its address").to_string();
    let command = probe(&["udp-answer", "127.0.0.1:0", &known_at])
        .args(["--allow-udp", &known_at])
        .args(flags)
        .start_command();
    let mut buffer = [0; 16];
    let (_, program) = known.recv_from(&mut buffer).expect("where it is");

    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger.send_to(b"stranger", program).expect("a datagram");
    stranger.set_read_timeout(Some(wait)).expect("a time-out");
    let answered = stranger.recv_from(&mut buffer).is_ok();
    if !answered {
        known.send_to(b"friend", program).expect("a datagram");
        let (count, _) = known.recv_from(&mut buffer).expect("an answer");
        assert_eq!(buffer.get(..count), Some(&b"friend"[..]));
        command.stdout.wait_for(&["received friend"]);
    }
    answered
}

#[test]
fn datagrams_larger_than_a_packet_arrive_and_those_too_long_are_an_error() {
    if !in_own_network(
        "sockets::datagrams_larger_than_a_packet_arrive_and_those_too_long_are_an_error",
    ) {
        return;
    }
    set_mtu(1500);
    for (any, longest) in [("127.0.0.1:0", 65_507), ("[::1]:0", 65_527)] {
        let server = Run::guest("echo").listen("--udp", any).start();
        let to = server.address("udp").to_string();
        let exchange = |size: u32| {
            probe(&["udp-echo", &to, &size.to_string()])
                .args(["--allow-udp", &to])
                .output()
        };
        for size in [0, 1453, 9000, longest] {
            let finished = exchange(size);
            went_well(&finished);
            assert_eq!(finished.stdout, format!("{size} bytes, equal\n"));
        }
        let finished = exchange(longest + 1);
        assert_eq!(finished.stdout, "ErrorCode::DatagramTooLarge\n");
        server.stop();
    }
}

#[test]
fn a_datagram_that_reaches_nobody_is_an_error_to_a_connected_socket() {
    let (address, _nobody) = refusing_datagrams();
    let address = address.to_string();
    let finished = probe(&["udp-ask", &address])
        .args(["--allow-udp", &address])
        .output();
    assert_eq!(finished.stdout, "ErrorCode::ConnectionRefused\n");
}

#[test]
fn a_datagram_of_a_stranger_is_for_those_who_may_listen() {
    let moment = Duration::from_millis(500);
    assert!(!answers_a_stranger(&[], moment), "nobody allowed that");
    let other = ["--allow-listen", "127.0.0.1:9991"];
    assert!(!answers_a_stranger(&other, moment));
    let any = ["--allow-listen", "127.0.0.1:0"];
    assert!(answers_a_stranger(&any, DEADLINE));
}

/// Starts a program that forwards a connection, and returns both ends of it.
fn forwarding() -> (harness::Server, TcpPeer, TcpPeer) {
    let (listener, target) = listener();
    let command = probe(&["forward", "127.0.0.1:0", &target])
        .args(["--allow-connect", &target, "--allow-listen", "127.0.0.1:0"])
        .start_command();
    let line = command.stdout.wait_for(&["listening on"]);
    let port = line
        .split_once("port: ")
        .and_then(|(_, rest)| rest.split(',').next()?.parse().ok())
        .expect("a port");
    let client = Peer::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    let (server, _) = listener.accept().expect("a connection");
    (command, client, TcpPeer::accepted(server))
}

#[test]
fn what_goes_from_one_socket_to_another_is_moved_by_the_kernel() {
    let (command, mut client, mut server) = forwarding();
    let strace = Strace::attach(&command, &["-e", "trace=splice"]);
    let bytes = pattern(32 * MIB);
    thread::scope(|scope| {
        let sender = &bytes;
        scope.spawn(move || {
            client.send(sender);
            client.finish();
            // This is a half-close: the other direction goes on.
            assert_eq!(client.rest(), b"the reply");
        });
        same(&server.rest(), &bytes);
        server.send(b"the reply");
        server.finish();
    });
    command
        .stdout
        .wait_for(&["request Ok(()) Ok(()), reply Ok(()) Ok(())"]);
    if let Some(strace) = strace {
        let moved = spliced(&strace.detach());
        assert!(moved > bytes.len(), "{moved} bytes by splice(2)");
    }
}

#[test]
fn a_reset_of_either_end_reaches_the_futures_of_the_other() {
    let (command, mut client, mut server) = forwarding();
    client.send(b"x");
    assert_eq!(server.take(1), b"x");
    client.reset();
    server.lost();
    let line = command.stdout.wait_for(&["request Err("]);
    assert!(
        line.contains("request Err(ErrorCode::ConnectionReset)"),
        "{line}"
    );

    let (command, mut client, mut server) = forwarding();
    server.send(b"x");
    assert_eq!(client.take(1), b"x");
    server.reset();
    // The reset shows at the latest once something is sent to the program.
    for _ in 0..64 {
        if client.get().write_all(&[0; 4096]).is_err() {
            break;
        }
    }
    let _ = client.get().shutdown(Shutdown::Write);
    client.lost();
    let line = command.stdout.wait_for(&["reply Err("]);
    assert!(
        line.contains("reply Err(ErrorCode::ConnectionReset)"),
        "{line}"
    );
}

#[test]
fn sending_after_a_reset_says_that_the_connection_is_broken() {
    let (listener, address) = listener();
    let mut command = probe(&["send-after", &address])
        .args(["--allow-connect", &address])
        .start_command();
    let (peer, _) = listener.accept().expect("a connection");
    command.stdout.wait_for(&["connected"]);
    TcpPeer::accepted(peer).reset();
    command
        .stdout
        .wait_for(&["received Err(ErrorCode::ConnectionReset)"]);
    command
        .stdout
        .wait_for(&["4 left, sent Err(ErrorCode::ConnectionBroken)"]);
    assert_eq!(command.wait().code(), Some(0));
}

#[test]
fn a_file_goes_to_a_socket_by_sendfile() {
    let scratch = directory();
    let bytes = pattern(8 * MIB);
    write(scratch.path(), "content", &bytes);
    let (listener, address) = listener();
    let mut command = probe(&["send-file", "content", &address])
        .args(["--dir", &format!("{}::/", text(scratch.path()))])
        .args(["--allow-connect", &address])
        .start_command();
    let (stream, _) = listener.accept().expect("a connection");
    let mut peer = TcpPeer::accepted(stream);
    // Sending has begun by now. Most of the file does not fit the sockets.
    let strace = Strace::attach(&command, &["-e", "trace=sendfile"]);
    same(&peer.rest(), &bytes);
    command.stdout.wait_for(&["read Ok(()), sent Ok(())"]);
    assert_eq!(command.wait().code(), Some(0));
    if let Some(strace) = strace {
        let trace = strace.detach();
        assert!(trace.iter().any(|line| line.contains("sendfile(")));
    }
}

#[test]
fn links_that_lead_out_of_a_directory_are_no_way_out() {
    let scratch = directory();
    let inside = scratch.path().join("inside");
    std::fs::create_dir(&inside).expect("a directory");
    write(scratch.path(), "secret", "secret");
    std::os::unix::fs::symlink("../secret", inside.join("link")).expect("a link");
    let (_listener, address) = listener();
    for path in ["link", "../secret", "/etc/passwd", "nothing"] {
        let finished = probe(&["send-file", path, &address])
            .args(["--dir", &format!("{}::/", text(&inside))])
            .args(["--allow-connect", &address])
            .output();
        assert_eq!(finished.code, Some(1), "{path}: {finished:#?}");
        assert!(finished.stdout.starts_with("ErrorCode::"), "{finished:#?}");
    }
    // Without --dir there is no directory.
    let finished = probe(&["send-file", "secret", &address])
        .args(["--allow-connect", &address])
        .output();
    assert_eq!(finished.code, Some(1), "{finished:#?}");
}

#[test]
fn standard_input_goes_to_a_socket_and_a_socket_to_standard_output() {
    let lines = "a line of the input\n".repeat(50_000);
    let (listener, address) = listener();
    let mut command = probe(&["send-input", &address])
        .args(["--allow-connect", &address])
        .input(lines.as_bytes())
        .start_command();
    let (stream, _) = listener.accept().expect("a connection");
    same(&TcpPeer::accepted(stream).rest(), lines.as_bytes());
    command.stdout.wait_for(&["read Ok(()), sent Ok(())"]);
    assert_eq!(command.wait().code(), Some(0));

    let mut command = probe(&["print", &address])
        .args(["--allow-connect", &address])
        .start_command();
    let (stream, _) = listener.accept().expect("a connection");
    let mut peer = TcpPeer::accepted(stream);
    peer.send(lines.as_bytes());
    peer.finish();
    command
        .stdout
        .wait_for(&["printed Ok(()), received Ok(())"]);
    assert_eq!(command.wait().code(), Some(0));
    let printed = eventually("all lines", || {
        let lines = command.stdout.lines();
        (lines.len() > 50_000).then_some(lines)
    });
    assert_eq!(printed.len(), 50_001);
}
