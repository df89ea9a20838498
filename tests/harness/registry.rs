//! A registry of components in the test's process.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::{DEADLINE, Run, server_config, text};

/// Media type of manifests.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and path.
    pub(crate) line: String,
    /// Value of `Authorization`; empty if there is none.
    pub(crate) authorization: String,
    body: Vec<u8>,
}

/// An answer in place of the usual one.
pub(crate) enum Unusual {
    /// This response.
    Say(String),
    /// This beginning of a response, and then the end of the connection.
    Cut(Vec<u8>),
    /// None, as long as the client waits.
    Nothing,
}

/// A registry. It serves until the process ends.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

type Rule = dyn Fn(&Asked) -> Option<Unusual> + Send + Sync;

struct State {
    rule: Mutex<Arc<Rule>>,
    asked: Mutex<Vec<Asked>>,
    /// Blobs by digest, and manifests by path.
    content: Mutex<HashMap<String, Vec<u8>>>,
}

impl Registry {
    /// Starts a registry that speaks plain HTTP.
    pub(crate) fn new() -> Self {
        Self::with(None)
    }

    /// Starts a registry with the test's certificate for `localhost`.
    pub(crate) fn secure() -> Self {
        Self::with(Some(Arc::new(server_config("cert.pem", "key.pem", &[]))))
    }

    fn with(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            rule: Mutex::new(Arc::new(|_: &Asked| None)),
            asked: Mutex::default(),
            content: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, tls) = (Arc::clone(&serving), tls.clone());
                thread::spawn(move || {
                    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
                    match tls {
                        Some(tls) => {
                            let session = ServerConnection::new(tls).expect("a session");
                            state.serve(BufReader::new(StreamOwned::new(session, stream)));
                        }
                        None => state.serve_plain(stream),
                    }
                });
            }
        });
        Self { address, state }
    }

    /// Answers by a rule from now on, where that has an answer.
    pub(crate) fn set(&self, rule: impl Fn(&Asked) -> Option<Unusual> + Send + Sync + 'static) {
        *self.state.rule.lock().expect("no panic") = Arc::new(rule);
    }

    /// Returns the requests since this was last asked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.state.asked.lock().expect("no panic"))
    }

    /// Returns the lines of the requests since this was last asked.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|it| it.line).collect()
    }

    /// Puts a blob, and returns its descriptor.
    pub(crate) fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let mut content = self.state.content.lock().expect("no panic");
        content.insert(digest.clone(), bytes.to_vec());
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    }

    /// Puts a manifest under a tag, and returns its digest.
    pub(crate) fn manifest(&self, name: &str, tag: &str, manifest: &Value) -> String {
        let bytes = manifest.to_string().into_bytes();
        let digest = digest(&bytes);
        let mut content = self.state.content.lock().expect("no panic");
        for target in [tag, &digest] {
            content.insert(format!("/v2/{name}/manifests/{target}"), bytes.clone());
        }
        digest
    }

    /// Puts a component as `wkg` pushes it, and returns the manifest's digest.
    pub(crate) fn component(&self, name: &str, tag: &str, bytes: &[u8]) -> String {
        self.manifest(name, tag, &artifact(self, bytes))
    }

    /// Returns what was pushed: a blob's digest, or a manifest's path.
    pub(crate) fn content(&self, key: &str) -> Option<Vec<u8>> {
        self.state
            .content
            .lock()
            .expect("no panic")
            .get(key)
            .cloned()
    }

    /// Returns a reference to it.
    pub(crate) fn reference(&self, rest: &str) -> String {
        format!("oci://{}/{rest}", self.address)
    }

    /// Makes `netwasm ARGS`, with a home and a cache of its own. The registry may
    /// be asked without TLS.
    pub(crate) fn run(&self, home: &Path, args: &[&str]) -> Run {
        let address = self.address.to_string();
        alone(home, args).args(["--registry-plain-http", &address])
    }
}

/// Makes `netwasm ARGS`, with a home and a cache of its own, and no proxy.
pub(crate) fn alone(home: &Path, args: &[&str]) -> Run {
    let mut run = Run::command(args)
        .env("HOME", text(home))
        .env("XDG_CACHE_HOME", text(&home.join("cache")));
    for name in [
        "DOCKER_CONFIG",
        "REGISTRY_AUTH_FILE",
        "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "https_proxy",
        "all_proxy",
        "http_proxy",
        "no_proxy",
    ] {
        run = run.env(name, "");
    }
    run
}

/// Puts the blobs of a component, and returns its manifest.
pub(crate) fn artifact(registry: &Registry, bytes: &[u8]) -> Value {
    let layer = registry.blob("application/wasm", bytes);
    let config = json!({
        "created": "2026-01-01T00:00:00Z", "author": null, "architecture": "wasm",
        "os": "wasip2", "layerDigests": [layer["digest"]],
        "component": { "exports": [], "imports": [], "target": null }
    });
    let config = config.to_string();
    let config = registry.blob("application/vnd.wasm.config.v0+json", config.as_bytes());
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        "annotations": { "org.opencontainers.image.version": "1.0" }
    })
}

impl State {
    /// Closes a connection that begins a TLS session, as servers of HTTP do.
    fn serve_plain(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let first = stream.fill_buf().map(|bytes| bytes.first().copied());
        if first.is_ok_and(|byte| byte != Some(0x16)) {
            self.serve(stream);
        }
    }

    fn serve<S: Read + Write>(&self, mut stream: BufReader<S>) {
        while let Some(asked) = receive(&mut stream) {
            self.asked.lock().expect("no panic").push(asked.clone());
            let rule = Arc::clone(&*self.rule.lock().expect("no panic"));
            let (answer, goes_on) = match rule(&asked) {
                None => (self.answer(&asked), true),
                Some(Unusual::Say(answer)) => (answer.into_bytes(), true),
                Some(Unusual::Cut(answer)) => (answer, false),
                Some(Unusual::Nothing) => {
                    // Until the client goes.
                    let _ = stream.read(&mut [0]);
                    return;
                }
            };
            let sent = stream.get_mut().write_all(&answer);
            if sent.and_then(|()| stream.get_mut().flush()).is_err() || !goes_on {
                return;
            }
        }
    }

    fn answer(&self, asked: &Asked) -> Vec<u8> {
        let (method, path) = asked.line.split_once(' ').expect("a path");
        let mut content = self.content.lock().expect("no panic");
        let created = |content: &mut HashMap<_, _>, key: String| {
            content.insert(key, asked.body.clone());
            b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n".to_vec()
        };
        if method == "POST" {
            let head = "HTTP/1.1 202 Accepted\r\ncontent-length: 0";
            return format!("{head}\r\nlocation: {path}1?state=a\r\n\r\n").into_bytes();
        }
        if let Some((_, wanted)) = path.split_once("&digest=") {
            assert_eq!(method, "PUT");
            let wanted = wanted.replace("%3A", ":");
            assert_eq!(digest(&asked.body), wanted);
            return created(&mut content, wanted);
        }
        if method == "PUT" {
            let (name, _) = path.rsplit_once('/').expect("a name");
            let by_digest = format!("{name}/{}", digest(&asked.body));
            created(&mut content, by_digest);
            return created(&mut content, path.to_owned());
        }
        let key = match path.split_once("/blobs/") {
            Some((_, digest)) => digest,
            None => path,
        };
        let Some(bytes) = content.get(key) else {
            let body = r#"{"errors":[{"code":"UNKNOWN","message":"it is not there"}]}"#;
            let length = body.len();
            let head = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\n\r\n");
            return match method {
                "HEAD" => head.into_bytes(),
                _ => (head + body).into_bytes(),
            };
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {MANIFEST}\r\ncontent-length: {}\r\n\
             docker-content-digest: {}\r\n\r\n",
            bytes.len(),
            digest(bytes)
        );
        match method {
            "HEAD" => head.into_bytes(),
            _ => [head.as_bytes(), bytes].concat(),
        }
    }
}

fn receive(stream: &mut impl BufRead) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8(head).expect("a head");
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned())
    };
    let length = field("content-length").map_or(0, |it| it.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let (line, _) = head.split_once(" HTTP/1.1\r\n").expect("a request");
    Some(Asked {
        line: line.to_owned(),
        authorization: field("authorization").unwrap_or_default(),
        body,
    })
}

/// Returns the digest of bytes, as `sha256sum` has it.
fn digest(bytes: &[u8]) -> String {
    netwasm_registry::Digest::of(bytes).to_string()
}

/// Writes credentials as `docker login` does, in a home.
pub(crate) fn log_in(home: &Path, registry: &str, user: &str, password: &str) {
    let auth = netwasm_base::base64::encode(format!("{user}:{password}").as_bytes());
    let config = json!({ "auths": { registry: { "auth": auth } } });
    fs::create_dir_all(home.join(".docker")).expect("a directory");
    fs::write(home.join(".docker/config.json"), config.to_string()).expect("a file");
}
