//! Tests of `netwasm:net/tls-engine`: TLS sessions whose bytes a program moves by
//! itself.

mod combined;
mod peers;

use crate::harness::{self, Finished, Run, cert, text};

fn probe(steps: &[&str]) -> Run {
    let certificates = format!("{}::/certs", text(&harness::repository().join("certs")));
    Run::guest("sockets-probe")
        .args(["--dir", &certificates])
        .guest_args(steps)
}

/// Runs the steps, with these flags of the host, and checks how each line ends.
#[track_caller]
fn says(flags: &[&str], steps: &[(&str, &str)]) -> Finished {
    let words: Vec<_> = steps.iter().map(|(step, _)| *step).collect();
    let finished = probe(&words).args(flags).output();
    finished.said(steps, |said, expected| said.starts_with(expected));
    finished
}

/// Options of a server with the certificate for `localhost`.
const SERVER: &str = "cert=cert.pem,key.pem";

#[test]
fn both_ends_of_a_session_are_in_one_program() {
    says(
        &[],
        &[
            (
                "c = tls client localhost ca=ca.pem alpn=h2 alpn=http/1.1",
                "ok",
            ),
            ("s = tls server", "ok"),
            ("tls handshake s", "want-read"),
            ("tls handshake c", "want-read"),
            ("tls move c s", "some"),
            ("tls handshake s", "greeted localhost h2,http/1.1"),
            ("tls handshake s", "greeted localhost h2,http/1.1"),
            (&format!("tls answer s {SERVER} alpn=http/1.1"), "ok"),
            (
                "tls answer s cert=cert.pem,key.pem",
                "invalid (there is no greeting",
            ),
            ("tls shake c s", "done"),
            (
                "tls info c",
                "TLSv1.3 TLS_AES_256_GCM_SHA384 256 alpn=http/1.1 certificates=",
            ),
            ("tls write c hello", "5"),
            ("tls move c s", "some"),
            ("tls pending s", "5"),
            ("tls read s 3", "\"hel\""),
            ("tls pending s", "2"),
            ("tls read s 100", "\"lo\""),
            ("tls read s 100", "want-read"),
            ("tls export c s 32", "32 bytes, equal true"),
            ("tls export c s 0", "invalid"),
            ("tls export c s 99999", "invalid"),
            ("tls close c", "ok"),
            ("tls move c s", "some"),
            ("tls read s 100", "end"),
            ("tls write s bye", "3"),
            ("tls close s", "ok"),
            ("tls move s c", "some"),
            ("tls read c 100", "\"bye\""),
            ("tls read c 100", "end"),
            ("tls move c s", "nothing"),
        ],
    );
}

#[test]
fn versions_and_protocols_are_agreed_on() {
    says(
        &[],
        &[
            ("c = tls client localhost ca=ca.pem 1.2", "ok"),
            ("s = tls server", "ok"),
            (&format!("tls shake c s {SERVER}"), "done"),
            (
                "tls info c",
                "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 256",
            ),
            ("d = tls client localhost ca=ca.pem 1.2", "ok"),
            ("t = tls server", "ok"),
            (&format!("tls shake d t {SERVER} 1.3"), "server: protocol ("),
            ("e = tls client localhost ca=ca.pem alpn=a", "ok"),
            ("u = tls server", "ok"),
            (
                &format!("tls shake e u {SERVER} alpn=b"),
                "server: protocol (peer doesn't support any known protocol); client: alert 120 \
                 (no_application_protocol)",
            ),
            (
                "f = tls client localhost ca=ca.pem 1.1",
                "invalid (only TLS 1.2 and 1.3",
            ),
        ],
    );
}

#[test]
fn a_certificate_that_is_refused_says_why_in_openssls_words() {
    let refused = |client: &str, server: &str, why: &str| {
        says(
            &[],
            &[
                (&format!("c = tls client {client}"), "ok"),
                ("s = tls server", "ok"),
                (&format!("tls shake c s {server}"), why),
                ("tls handshake c", "certificate "),
            ],
        );
    };
    refused(
        "localhost default",
        SERVER,
        "client: certificate 20 (unable to get local issuer certificate)",
    );
    refused(
        "wrong.example ca=ca.pem",
        SERVER,
        "client: certificate 62 (Hostname mismatch, certificate is not valid for \
         'wrong.example'.)",
    );
    refused(
        "192.0.2.1 ca=ca.pem",
        SERVER,
        "client: certificate 64 (IP address mismatch",
    );
    refused(
        "localhost ca=ca.pem",
        "cert=expired.pem,expired.key",
        "client: certificate 10 (certificate has expired)",
    );
    refused(
        "localhost ca=ca.pem",
        "cert=self.pem,self.key",
        "client: certificate 18 (self-signed certificate)",
    );
}

#[test]
fn a_certificate_that_is_named_itself_is_trusted() {
    says(
        &[],
        &[
            ("c = tls client localhost ca=self.pem", "ok"),
            ("s = tls server", "ok"),
            ("tls shake c s cert=self.pem,self.key", "done"),
            ("d = tls client wrong.example ca=self.pem", "ok"),
            ("t = tls server", "ok"),
            (
                "tls shake d t cert=self.pem,self.key",
                "client: certificate 62",
            ),
        ],
    );
}

#[test]
fn a_server_is_left_unverified_only_by_the_flag() {
    let denied = says(
        &[],
        &[
            ("c = tls client localhost unverified", "denied (leaving"),
            (
                "d = tls client localhost unnamed ca=ca.pem",
                "denied (leaving",
            ),
        ],
    );
    assert!(denied.stdout.contains("--tls-insecure"), "{denied:#?}");
    assert!(denied.stderr.contains("--tls-insecure"), "{denied:#?}");
    says(
        &["--tls-insecure"],
        &[
            ("c = tls client localhost unverified", "ok"),
            ("s = tls server", "ok"),
            ("tls shake c s cert=expired.pem,expired.key", "done"),
            ("d = tls client wrong.example unnamed ca=ca.pem", "ok"),
            ("t = tls server", "ok"),
            (&format!("tls shake d t {SERVER}"), "done"),
            ("e = tls client - unverified", "ok"),
            ("u = tls server", "ok"),
            (&format!("tls shake e u {SERVER}"), "done"),
            // Whoever asks for it gets it.
            ("f = tls client localhost default", "ok"),
            ("v = tls server", "ok"),
            (&format!("tls shake f v {SERVER}"), "client: certificate 20"),
        ],
    );
}

#[test]
fn authorities_of_the_command_line_are_trusted_by_default() {
    let ca = cert("ca.pem");
    says(
        &["--ca", text(&ca)],
        &[
            ("c = tls client localhost default", "ok"),
            ("s = tls server", "ok"),
            (&format!("tls shake c s {SERVER}"), "done"),
            ("d = tls client localhost", "ok"),
            ("t = tls server", "ok"),
            (&format!("tls shake d t {SERVER}"), "client: certificate 20"),
        ],
    );
}

#[test]
fn clients_present_certificates_to_servers_that_want_them() {
    let verifies = format!("{SERVER} ca=ca.pem required");
    says(
        &[],
        &[
            (
                "c = tls client localhost ca=ca.pem cert=client.pem,client.key",
                "ok",
            ),
            ("s = tls server", "ok"),
            (&format!("tls shake c s {verifies}"), "done"),
            (
                "tls info s",
                "TLSv1.3 TLS_AES_256_GCM_SHA384 256 alpn= certificates=1",
            ),
            ("d = tls client localhost ca=ca.pem", "ok"),
            ("t = tls server", "ok"),
            (
                &format!("tls shake d t {verifies}"),
                "server: protocol (the peer did not return a certificate); client: alert 116 \
                 (certificate_required)",
            ),
            ("e = tls client localhost ca=ca.pem", "ok"),
            ("u = tls server", "ok"),
            (
                &format!("tls shake e u {SERVER} ca=ca.pem optional"),
                "done",
            ),
            (
                "f = tls client localhost ca=ca.pem cert=expired.pem,expired.key",
                "ok",
            ),
            ("v = tls server", "ok"),
            (
                &format!("tls shake f v {verifies}"),
                "server: certificate 10 (certificate has expired); client: alert 45 \
                 (certificate_expired)",
            ),
        ],
    );
}

#[test]
fn sessions_of_one_configuration_are_resumed() {
    says(
        &[],
        &[
            ("c = tls client localhost ca=ca.pem", "ok"),
            ("s = tls server", "ok"),
            (&format!("tls shake c s {SERVER}"), "done"),
            // The tickets come with the first data.
            ("tls read c 10", "want-read"),
            ("d = tls client localhost ca=ca.pem", "ok"),
            ("t = tls server", "ok"),
            (&format!("tls shake d t {SERVER}"), "done"),
            (
                "tls info d",
                "TLSv1.3 TLS_AES_256_GCM_SHA384 256 alpn= certificates=1 resumed=true",
            ),
        ],
    );
}

#[test]
fn what_cannot_be_used_is_told() {
    says(
        &[],
        &[
            (
                "c = tls client bad..name ca=ca.pem",
                "invalid ('bad..name' is not a server name)",
            ),
            (
                "c = tls client - ca=ca.pem",
                "invalid (a server's name is to be checked",
            ),
            (
                "c = tls client localhost ca=ca.pem cert=cert.pem,other.key",
                "invalid (the private key",
            ),
            (
                "c = tls client localhost ca=ca.pem cert=cert.pem,cert.pem",
                "invalid (there is no private",
            ),
            (
                "c = tls client localhost ca=ca.pem cert=key.pem,key.pem",
                "invalid (the certificate chain",
            ),
            ("s = tls server", "ok"),
            ("tls answer s", "invalid (a server has to present"),
            (
                "tls answer s cert=cert.pem,key.pem",
                "invalid (there is no greeting",
            ),
            ("tls write s hello", "0"),
            ("tls read s 10", "want-read"),
            ("tls export s s 10", "invalid (the handshake is not done"),
        ],
    );
}

#[test]
fn a_greeting_is_refused_by_an_alert_of_the_programs_choice() {
    says(
        &[],
        &[
            ("c = tls client localhost ca=ca.pem", "ok"),
            ("s = tls server", "ok"),
            ("tls refuse s 112", "invalid (there is no greeting"),
            ("tls handshake c", "want-read"),
            ("tls move c s", "some"),
            ("tls handshake s", "greeted localhost"),
            ("tls refuse s 112", "ok"),
            ("tls move s c", "some"),
            ("tls handshake c", "alert 112 (unrecognised_name)"),
            ("tls handshake s", "protocol (the greeting was refused"),
            ("tls refuse s 112", "protocol (the greeting was refused"),
            ("tls move s c", "nothing"),
        ],
    );
}

#[test]
fn what_is_no_tls_fails_and_goes_on_failing() {
    says(
        &[],
        &[
            ("s = tls server", "ok"),
            ("tls feed s GET", "ok"),
            ("tls feed s /index.html-HTTP/1.1", "ok"),
            ("tls handshake s", "protocol ("),
            ("tls handshake s", "protocol ("),
            ("tls read s 10", "protocol ("),
            ("c = tls client localhost ca=ca.pem", "ok"),
            ("tls feed c 220-smtp.example-ESMTP", "ok"),
            ("tls handshake c", "protocol ("),
            // Nobody reads what was fed.
            ("d = tls client localhost ca=ca.pem", "ok"),
            ("tls feed-much d 1000000", "ok"),
            ("tls feed-much d 1000000", "ok"),
            (
                "tls handshake d",
                "protocol (more was fed and not read than 1 MiB",
            ),
            ("e = tls client localhost ca=ca.pem", "ok"),
            ("tls feed-end e", "ok"),
            ("tls handshake e", "truncated"),
        ],
    );
}

#[test]
fn a_stream_that_is_cut_short_is_told_from_one_that_ends() {
    says(
        &[],
        &[
            ("c = tls client localhost ca=ca.pem", "ok"),
            ("s = tls server", "ok"),
            (&format!("tls shake c s {SERVER}"), "done"),
            ("tls write c hello", "5"),
            ("tls move c s", "some"),
            ("tls feed-end s", "ok"),
            ("tls read s 10", "\"hello\""),
            ("tls read s 10", "truncated"),
        ],
    );
}

#[test]
fn data_before_an_alert_is_read_before_it() {
    says(
        &[],
        &[
            ("c = tls client localhost ca=ca.pem", "ok"),
            ("s = tls server", "ok"),
            (&format!("tls shake c s {SERVER}"), "done"),
            ("tls write c hello", "5"),
            ("tls move c s", "some"),
            ("tls feed s broken-record-broken-record", "ok"),
            ("tls read s 3", "\"hel\""),
            ("tls read s 10", "\"lo\""),
            ("tls read s 10", "protocol ("),
            ("tls handshake s", "protocol ("),
        ],
    );
}

#[test]
fn writing_waits_for_what_is_taken() {
    let finished = says(
        &[],
        &[
            ("c = tls client localhost ca=ca.pem", "ok"),
            ("s = tls server", "ok"),
            (&format!("tls shake c s {SERVER}"), "done"),
            ("tls fill c 10000000", ""),
            ("tls fill c 10000000", "0"),
            ("tls move c s", "some"),
            ("tls fill c 1000", "1000"),
            ("tls read s 1000000", ""),
        ],
    );
    let line = |step: &str| {
        let mut lines = finished.stdout.lines();
        let line = lines.find(|line| line.starts_with(step)).expect("its line");
        let number = line
            .trim_start_matches(step)
            .trim_matches(|c: char| !c.is_ascii_digit());
        number.parse::<usize>().expect("a number")
    };
    let written = line("tls fill c 10000000");
    assert!((100_000..300_000).contains(&written), "{finished:#?}");
    assert_eq!(line("tls read s 1000000"), written);
}
