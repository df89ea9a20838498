//! Sessions of the engine with peers that are not of it.

use std::process::{Command, Stdio};

use super::{SERVER, probe, says};
use crate::harness::{Client, Log, Server, cert, skipped, text};

#[test]
fn a_client_of_the_engine_speaks_to_openssl() {
    let Some(mut server) = openssl(&[
        "s_server",
        "-accept",
        "127.0.0.1:0",
        "-cert",
        text(&cert("cert.pem")),
        "-key",
        text(&cert("key.pem")),
        "-rev",
    ]) else {
        return;
    };
    let log = Log::follow(server.0.stdout.take().expect("its output"));
    let line = log.wait_for(&["ACCEPT 127.0.0.1:"]);
    let (_, port) = line.rsplit_once(':').expect("a port");
    says(
        &["--allow-connect", "127.0.0.1:*"],
        &[
            ("k = open inet stream", "1000000"),
            (&format!("connect k 127.0.0.1:{port}"), "in-progress"),
            ("connected k", "none"),
            ("c = tls client localhost ca=ca.pem", "ok"),
            ("tls shake-over c k", "done"),
            ("tls write c hello\\n", "6"),
            ("tls flush-over c k", "ok"),
            ("tls read-over c k", "\"olleh\\n\""),
        ],
    );
}

#[test]
fn a_server_of_the_engine_speaks_to_a_native_client() {
    let command = probe(&[
        "k = open inet stream",
        "bind k 127.0.0.1:0",
        "listen k 5",
        "say-listener k",
        "a = accept k",
        "s = tls server",
        &format!("tls serve-over s a {SERVER} alpn=x"),
        "tls read-over s a",
        "tls write s answer",
        "tls close s",
        "tls flush-over s a",
        "tls read-over s a",
    ])
    .args(["--allow-listen", "127.0.0.1:0"])
    .start_command();
    let mut client = Client::of("localhost").connect(command.own_listener());
    client.send(b"question");
    assert_eq!(client.take(6), b"answer");
    client.finish();
    ended(command);
}

fn ended(mut command: Server) {
    assert_eq!(command.wait().code(), Some(0));
    command.stdout.wait_for(&["tls read-over s a: end"]);
}

/// A program that is killed when the value is dropped.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts openssl(1). Returns `None`, and prints why, if there is none.
fn openssl(args: &[&str]) -> Option<Running> {
    let started = Command::new("openssl")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    match started {
        Ok(child) => Some(Running(child)),
        Err(_) => {
            skipped("there is no openssl here");
            None
        }
    }
}
