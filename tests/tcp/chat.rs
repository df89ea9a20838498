//! The chat: connections of one instance.

use crate::harness::{Run, Server, TcpPeer};

/// Starts a chat, with one room that all clients share.
fn chat(options: &[&str]) -> Server {
    Run::guest("chat")
        .tcp()
        .args(["--isolation", "worker", "--workers", "1"])
        // An unoptimised host is slow beside other tests.
        .args(["--event-timeout", "10s"])
        .args(options)
        .start()
}

fn join(server: &Server, name: &str) -> TcpPeer {
    let mut peer = server.connect();
    assert!(peer.line().starts_with("* you are "));
    assert_eq!(
        peer.ask(&format!("/nick {name}")),
        format!("* you are {name}")
    );
    peer
}

/// Receives the next line that somebody said.
fn said(peer: &mut TcpPeer) -> String {
    loop {
        let line = peer.line();
        if !line.starts_with('*') {
            return line;
        }
    }
}

#[test]
fn lines_in_the_chat_go_to_all_others() {
    let server = chat(&[]);
    let mut ann = join(&server, "ann");
    let mut bob = join(&server, "bob");
    let mut cay = join(&server, "cay");
    ann.say("hello everybody");
    assert_eq!(said(&mut bob), "ann: hello everybody");
    assert_eq!(said(&mut cay), "ann: hello everybody");
    // A line may come in pieces, and several may come at once.
    bob.send(b"good ");
    bob.send(b"morning\nhow are you?\n");
    for peer in [&mut ann, &mut cay] {
        assert_eq!(said(peer), "bob: good morning");
        assert_eq!(said(peer), "bob: how are you?");
    }
    cay.reset();
    ann.say("is cay gone?");
    assert_eq!(said(&mut bob), "ann: is cay gone?");
    drop((ann, bob));
    server.stop();
}

#[test]
fn a_slow_reader_in_the_chat_holds_up_nobody_and_learns_what_it_missed() {
    let server = chat(&[]);
    let mut slow = TcpPeer::connect_narrow(server.address("tcp"));
    assert!(slow.line().starts_with("* you are "));
    let mut talker = join(&server, "talker");
    let mut reader = join(&server, "reader");
    let before = server.resident();
    let text = "x".repeat(1000);
    // In all, more than the kernel's buffers on the way hold.
    for _ in 0..100 {
        for _ in 0..100 {
            talker.say(&text);
        }
        for _ in 0..100 {
            assert_eq!(said(&mut reader).len(), text.len() + "talker: ".len());
        }
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes for one slow reader");
    talker.say("the last line");
    let mut missed = false;
    loop {
        let line = slow.line();
        missed |= line.starts_with("* you missed ");
        if line == "talker: the last line" {
            break;
        }
    }
    assert!(missed, "it was not told what it missed");
}
