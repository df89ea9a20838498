//! Ways to a registry: logins, TLS, proxies, mirrors, redirects.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::{io, thread};

use crate::harness::{
    Asked, Finished, Registry, Unusual, alone, cert, directory, guest, log_in, text,
};

use super::{bytes, printed};

const PASSWORD: &str = "correct horse";

/// Makes a registry want a token, which a server at the same place gives to this
/// user.
fn wants_token(registry: &Registry) {
    let realm = format!("http://{}/token?a=b", registry.address);
    let basic = netwasm_base::base64::encode(format!("ann:{PASSWORD}").as_bytes());
    registry.set(move |asked: &Asked| {
        let empty = "content-length: 0\r\n\r\n";
        if asked.line.starts_with("GET /token?") {
            for part in [
                "a=b",
                "service=the%20registry",
                "scope=repository%3Ahello%3Apull",
            ] {
                assert!(asked.line.contains(part), "{asked:?}");
            }
            return Some(Unusual::Say(
                match asked.authorization == format!("Basic {basic}") {
                    true => {
                        let body = r#"{"token":"t0k"}"#;
                        let length = body.len();
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
                    }
                    false => format!("HTTP/1.1 401 Unauthorized\r\n{empty}"),
                },
            ));
        }
        let challenge = format!(
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"{realm}\",\
             service=\"the registry\"\r\n{empty}"
        );
        (asked.authorization != "Bearer t0k").then_some(Unusual::Say(challenge))
    });
}

/// Checks that a failure does not tell a secret.
fn tells_no_secret(finished: &Finished) {
    for secret in [
        PASSWORD,
        "t0k",
        &netwasm_base::base64::encode(PASSWORD.as_bytes()),
    ] {
        assert!(!finished.stderr.contains(secret), "{finished:#?}");
    }
}

#[test]
fn a_token_is_got_with_the_credentials_of_docker() {
    let (registry, scratch) = (Registry::new(), directory());
    let home = scratch.path();
    registry.component("hello", "1", &bytes("hello"));
    wants_token(&registry);
    let reference = registry.reference("hello:1");
    let pull = || registry.run(home, &["pull", &reference]);
    let finished = pull().output();
    let file = home.join(".docker/config.json");
    finished.refused(
        1,
        &[
            "does not allow it (401)",
            "no credentials",
            text(&file),
            "docker login",
        ],
    );
    log_in(home, &registry.address.to_string(), "ann", "wrong");
    let finished = pull().output();
    finished.refused(1, &["(401)", "the credentials of", text(&file)]);
    log_in(home, &registry.address.to_string(), "ann", PASSWORD);
    registry.asked();
    let finished = pull().env("RUST_LOG", "trace").output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    tells_no_secret(&finished);
    let asked = registry.asked();
    let tokens = asked.iter().filter(|it| it.line.contains("/token")).count();
    assert_eq!(tokens, 1, "it is kept: {asked:?}");
    // Another file, of which a helper is to be asked.
    let auth = home.join("auth.json");
    fs::write(&auth, r#"{"credsStore":"missing"}"#).expect("a file");
    let finished = pull().env("REGISTRY_AUTH_FILE", text(&auth)).output();
    finished.refused(1, &["the helper docker-credential-missing cannot be run"]);
}

#[test]
fn a_redirect_to_another_host_gets_no_credentials() {
    let (registry, store, scratch) = (Registry::new(), Registry::new(), directory());
    let home = scratch.path();
    registry.component("hello", "1", &bytes("hello"));
    store.component("hello", "1", &bytes("hello"));
    let basic = netwasm_base::base64::encode(format!("ann:{PASSWORD}").as_bytes());
    let place = store.address;
    registry.set(move |asked| {
        let empty = "content-length: 0\r\n\r\n";
        if asked.authorization != format!("Basic {basic}") {
            let text = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"x\"\r\n";
            return Some(Unusual::Say(format!("{text}{empty}")));
        }
        let (_, path) = asked.line.split_once(' ').expect("a path");
        let text = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{place}{path}\r\n");
        path.contains("/blobs/")
            .then(|| Unusual::Say(format!("{text}{empty}")))
    });
    log_in(home, &registry.address.to_string(), "ann", PASSWORD);
    let reference = registry.reference("hello:1");
    printed(registry.run(home, &["pull", &reference]));
    let asked = store.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(
        asked.iter().all(|it| it.authorization.is_empty()),
        "{asked:?}"
    );
    let asked = registry.asked();
    assert!(
        asked
            .iter()
            .skip(1)
            .all(|it| it.authorization.starts_with("Basic ")),
        "{asked:?}"
    );
}

#[test]
fn tls_is_spoken_and_verified() {
    let (registry, scratch) = (Registry::secure(), directory());
    let home = scratch.path();
    registry.component("hello", "1", &bytes("hello"));
    let reference = format!("oci://localhost:{}/hello:1", registry.address.port());
    let pull = |flags: &[&str]| alone(home, &["pull", &reference]).args(flags);
    let refused = pull(&[]).output();
    refused.refused(
        1,
        &[
            "no secure connection",
            "issuer is unknown",
            "--registry-ca FILE",
        ],
    );
    assert_eq!(registry.lines(), [""; 0]);
    let authority = cert("ca.pem");
    printed(pull(&["--registry-ca", text(&authority)]));
    // A server on this machine that does not speak TLS is asked without it.
    let plain = Registry::new();
    plain.component("hello", "1", &bytes("hello"));
    printed(alone(home, &["pull", &plain.reference("hello:1")]));
}

/// Starts a proxy that connects to a registry, whatever it is asked for. Returns
/// its port, and the heads of the requests.
fn proxy(to: &Registry) -> (u16, Arc<Mutex<Vec<String>>>) {
    use std::io::{BufRead, BufReader, Write};
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let (to, seen) = (to.address, Arc::clone(&heads));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("a copy"));
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).expect("a line") == 0 {
                    break;
                }
            }
            seen.lock().expect("no panic").push(head);
            let server = TcpStream::connect(to).expect("the registry");
            let mut back = stream.try_clone().expect("a copy");
            back.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("sent");
            let mut from = server.try_clone().expect("a copy");
            thread::spawn(move || io::copy(&mut from, &mut back));
            let mut server = server;
            thread::spawn(move || io::copy(&mut reader, &mut server));
        }
    });
    (port, heads)
}

#[test]
fn proxies_and_mirrors_are_used() {
    let (registry, scratch) = (Registry::secure(), directory());
    let home = scratch.path();
    registry.component("hello", "1", &bytes("hello"));
    let (port, heads) = proxy(&registry);
    let authority = cert("ca.pem");
    // The certificate is of another name: the proxy has led to another server.
    let pull = |home: &Path, variable: &str, value: &str| {
        alone(home, &["pull", "oci://registry.example/hello:1"])
            .args(["--registry-ca", text(&authority)])
            .env(variable, value)
            .output()
    };
    let value = format!(
        "http://ann:{}@127.0.0.1:{port}",
        PASSWORD.replace(' ', "%20")
    );
    let finished = pull(home, "HTTPS_PROXY", &value);
    finished.refused(1, &["no secure connection to registry.example"]);
    tells_no_secret(&finished);
    let head = heads.lock().expect("no panic").remove(0);
    assert!(
        head.starts_with("CONNECT registry.example:443 HTTP/1.1\r\n"),
        "{head}"
    );
    let basic = netwasm_base::base64::encode(format!("ann:{PASSWORD}").as_bytes());
    assert!(
        head.contains(&format!("\r\nproxy-authorization: Basic {basic}\r\n")),
        "{head}"
    );

    // The mirror is another name of what the proxy leads to.
    let (first, second) = (Registry::new(), Registry::new());
    second.component("hub/library/hello", "1", &bytes("hello"));
    let mirrors = [
        format!("docker.io={}", first.address),
        format!("docker.io={}/hub", second.address),
    ];
    let mut run = first.run(home, &["pull", "oci://docker.io/hello:1"]);
    run = run.args(["--registry-plain-http", &second.address.to_string()]);
    for mirror in &mirrors {
        run = run.args(["--registry-mirror", mirror]);
    }
    let pinned = printed(run);
    assert!(
        pinned.starts_with("oci://docker.io/library/hello@sha256:"),
        "{pinned}"
    );
    assert_eq!(first.lines(), ["HEAD /v2/library/hello/manifests/1"]);
    assert!(
        second
            .lines()
            .iter()
            .all(|it| it.contains("/v2/hub/library/hello/"))
    );
}

#[test]
fn a_way_out_of_tls_is_refused() {
    let (registry, plain, scratch) = (Registry::secure(), Registry::new(), directory());
    let home = scratch.path();
    registry.component("hello", "1", &bytes("hello"));
    let place = plain.address;
    registry.set(move |asked| {
        let head = match asked.line.split_once(' ') {
            Some(("POST", _)) => "202 Accepted",
            Some(("GET", path)) if path.contains("/blobs/") => "302 Found",
            _ => return None,
        };
        let empty = "content-length: 0\r\n\r\n";
        Some(Unusual::Say(format!(
            "HTTP/1.1 {head}\r\nlocation: http://{place}/here\r\n{empty}"
        )))
    });
    let authority = cert("ca.pem");
    let run = |args: &[&str]| {
        let run = alone(home, args).args(["--registry-ca", text(&authority)]);
        run.output()
    };
    let reference = format!("oci://localhost:{}/hello:1", registry.address.port());
    run(&["pull", &reference]).refused(1, &["a redirect to", "without TLS"]);
    let component = guest("router");
    let pushed = run(&["push", text(&component), &reference]);
    pushed.refused(1, &["its place is without TLS"]);
    assert_eq!(plain.lines(), [""; 0]);
}
