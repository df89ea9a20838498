//! Components from registries: push, pull, run, and what is cached.

mod faults;
mod signatures;
mod ways;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{
    Asked, Client, Configured, Registry, Run, Unusual, cert, directory, guest, refused, reload,
    text,
};

/// Answer of a registry that cannot answer at present.
const AWAY: &str =
    "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";

fn away(_: &Asked) -> Option<Unusual> {
    Some(Unusual::Say(AWAY.into()))
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(guest(name)).expect("a guest")
}

/// Returns what a command prints that must succeed.
#[track_caller]
fn printed(run: Run) -> String {
    let finished = run.output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished.stdout.trim_end().to_owned()
}

/// Pulls into a file, and returns it.
#[track_caller]
fn pulled(registry: &Registry, home: &Path, reference: &str) -> PathBuf {
    let file = home.join("pulled.wasm");
    printed(registry.run(home, &["pull", reference, "-o", text(&file)]));
    file
}

#[test]
fn what_is_pushed_is_pulled_and_says_what_it_needs() {
    let (registry, scratch) = (Registry::new(), directory());
    let home = scratch.path();
    let reference = registry.reference("team/hello:1.0");
    let component = guest("hello");
    let annotation = "org.opencontainers.image.title=Hello";
    let push = [
        "push",
        text(&component),
        &reference,
        "--annotation",
        annotation,
    ];
    let push = || registry.run(home, &push).env("SOURCE_DATE_EPOCH", "86400");
    let pinned = printed(push());
    let lines = registry.lines();
    let sent = |lines: &[String]| lines.iter().filter(|it| it.starts_with("PUT")).count();
    assert_eq!(sent(&lines), 3, "{lines:?}");
    // The blobs are there already, and the manifest is the same.
    assert_eq!(printed(push()), pinned);
    let lines = registry.lines();
    assert_eq!(sent(&lines), 1, "{lines:?}");

    let json = |key: &str| -> Value {
        let content = registry.content(key).expect("it was pushed");
        serde_json::from_slice(&content).expect("JSON")
    };
    let manifest = json("/v2/team/hello/manifests/1.0");
    let (_, digest) = pinned.split_once('@').expect("a digest");
    assert_eq!(
        json(&format!("/v2/team/hello/manifests/{digest}")),
        manifest
    );
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.wasm.config.v0+json"
    );
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(
        manifest["annotations"]["org.opencontainers.image.title"],
        "Hello"
    );
    let config = json(manifest["config"]["digest"].as_str().expect("a digest"));
    assert_eq!(config["layerDigests"][0], manifest["layers"][0]["digest"]);
    assert_eq!(config["architecture"], "wasm");
    assert_eq!(config["os"], "wasip2");
    assert_eq!(config["created"], "1970-01-02T00:00:00Z");
    let exports = config["component"]["exports"].to_string();
    assert!(exports.contains("http"), "{exports}");
    assert!(config["component"]["imports"].is_array(), "{config}");

    let file = pulled(&registry, home, &reference);
    assert!(fs::read(file).expect("a file") == bytes("hello"));
    let inspected = printed(registry.run(home, &["inspect", &pinned]));
    assert!(inspected.contains("--http"), "{inspected}");
    let text_form = home.join("text.wasm");
    fs::write(&text_form, "(component)").expect("a file");
    let push = registry.run(home, &["push", text(&text_form), &reference]);
    push.output().refused(1, &["text form", "wasm-tools parse"]);
    let push = registry.run(home, &["push", text(&component), &pinned]);
    push.output().refused(1, &["give a tag"]);
}

#[test]
fn a_digest_that_is_cached_needs_no_network_and_a_tag_one_request() {
    let (registry, scratch) = (Registry::new(), directory());
    let home = scratch.path();
    let digest = registry.component("hello", "1", &bytes("hello"));
    let (tagged, pinned) = (registry.reference("hello:1"), registry.reference("hello"));
    let pinned = format!("{pinned}@{digest}");
    let offline = || {
        registry
            .run(home, &["inspect", &tagged, "--offline"])
            .output()
    };
    offline().refused(1, &["is not in the cache", "--offline"]);
    assert_eq!(registry.lines(), [""; 0]);

    assert_eq!(printed(registry.run(home, &["pull", &tagged])), pinned);
    assert!(registry.lines().len() > 3);
    printed(registry.run(home, &["inspect", &pinned]));
    assert_eq!(registry.lines(), [""; 0]);
    printed(registry.run(home, &["inspect", &tagged]));
    assert_eq!(registry.lines(), ["HEAD /v2/hello/manifests/1"]);

    // The present content comes, and an absent one is not replaced.
    let next = registry.component("hello", "1", &bytes("router"));
    let file = pulled(&registry, home, &tagged);
    assert!(fs::read(file).expect("a file") == bytes("router"));
    let lines = registry.lines();
    assert_eq!(
        lines[..2],
        [
            "HEAD /v2/hello/manifests/1".to_owned(),
            format!("GET /v2/hello/manifests/{next}")
        ]
    );
    registry.set(away);
    let inspected = registry.run(home, &["inspect", &tagged]).output();
    assert_eq!(inspected.code, Some(0), "{inspected:#?}");
    for told in ["is away", "503", &next, " ago"] {
        assert!(inspected.stderr.contains(told), "{inspected:#?}");
    }
    assert_eq!(registry.lines().len(), 1, "there is no second attempt");
    assert_eq!(offline().code, Some(0));
    printed(registry.run(home, &["inspect", &pinned]));
    let other = registry.reference("hello:2");
    registry
        .run(home, &["inspect", &other])
        .output()
        .refused(1, &["cannot pull", &other, "is away", "503"]);
    assert_eq!(registry.lines().len(), 3, "three attempts");
    // A tag that is gone is another thing.
    registry.set(|_| None);
    registry
        .run(home, &["inspect", &other])
        .output()
        .refused(1, &["has no hello:2 (404)"]);
}

#[test]
fn a_reload_brings_what_was_pushed_and_a_failed_one_changes_nothing() {
    let (registry, scratch) = (Registry::new(), directory());
    let home = scratch.path();
    registry.component("site", "1", &bytes("hello"));
    let reference = registry.reference("site:1");
    let server = registry.run(home, &["run", &reference]).http().start();
    let greeting = server.connect_http().fetch("/about");
    assert!(greeting.text().contains("Hello"), "{greeting:?}");
    // The tag is the same.
    registry.asked();
    let line = reload(&server);
    assert!(!line.contains("site"), "{line}");
    assert_eq!(registry.lines(), ["HEAD /v2/site/manifests/1"]);

    registry.set(|_| {
        Some(Unusual::Say(
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".into(),
        ))
    });
    refused(
        &server,
        &["cannot pull", &reference, "does not allow it (403)"],
    );
    registry.set(away);
    reload(&server);
    server.log.wait_for(&["WARN", &reference, "is away"]);
    registry.set(|_| None);
    registry.component("site", "1", &bytes("router"));
    let line = reload(&server);
    assert!(line.contains("site"), "{line}");
    crate::harness::eventually("the new component", || {
        let response = server.connect_http().fetch("/about");
        response.text().contains("<h1>About</h1>").then_some(())
    });
    server.stop();
}

#[test]
fn certificates_are_renewed_though_a_pull_fails() {
    let (registry, scratch) = (Registry::new(), directory());
    let home = scratch.path();
    registry.component("site", "1", &bytes("hello"));
    let (chain, key) = (home.join("chain.pem"), home.join("key.pem"));
    let use_certificate = |from: &str, from_key: &str| {
        fs::copy(cert(from), &chain).expect("a copy");
        fs::copy(cert(from_key), &key).expect("a copy");
    };
    use_certificate("cert.pem", "key.pem");
    let reference = registry.reference("site:1");
    let files = ["--cert", text(&chain), "--key", text(&key)];
    let run = registry.run(home, &["run", &reference]).args(files);
    let server = run.listen("--https", "127.0.0.1:0").start();
    registry.set(|_| {
        Some(Unusual::Say(
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".into(),
        ))
    });
    use_certificate("other.pem", "other.key");
    let told = [
        "does not allow it (403)",
        "certificates are renewed nevertheless",
    ];
    refused(&server, &told);
    let renewed = Client::of("other.example").try_connect(server.address("https"));
    assert!(renewed.is_ok(), "{:?}", renewed.err());
    server.stop();
}

#[test]
fn a_configuration_pins_components_and_plugs() {
    let (registry, configured) = (Registry::new(), Configured::new());
    let home = configured.directory.path();
    let digest = registry.component("site", "1", &bytes("hello"));
    let pinned = format!("{}@{digest}", registry.reference("site"));
    configured.write(format!(
        "registry-plain-http = \"{}\"\nregistry-cache-size = \"1MB\"\n[services.a]\n\
         component = \"{pinned}\"\nhttp = 0\n[services.b]\ncomponent = \"{}\"\nhttp = 0\n",
        registry.address,
        registry.reference("site:missing"),
    ));
    let file = configured.file();
    let check = || crate::harness::alone(home, &["check", text(&file)]).output();
    let checked = check();
    assert_eq!(checked.code, Some(1), "{checked:#?}");
    assert!(
        checked.stdout.contains("has no site:missing (404)"),
        "{checked:#?}"
    );
    assert!(checked.stdout.contains(":7:"), "{checked:#?}");
    registry.component("site", "missing", &bytes("hello"));
    let checked = check();
    assert_eq!(checked.code, Some(0), "{checked:#?}");
    let plugged = [
        "inspect",
        &pinned,
        "--plug",
        &registry.reference("none:1"),
        "--offline",
    ];
    registry
        .run(home, &plugged)
        .output()
        .refused(1, &["none:1 is not in the cache"]);
}

#[test]
fn two_processes_pull_at_once_and_none_keeps_what_it_must_not() {
    let (registry, scratch) = (Registry::new(), directory());
    let home = scratch.path();
    registry.component("hello", "1", &bytes("hello"));
    let reference = registry.reference("hello:1");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| printed(registry.run(home, &["pull", &reference])));
        }
    });
    printed(registry.run(home, &["inspect", &reference, "--offline"]));
    let blobs = fs::read_dir(home.join("cache/netwasm/registry/blobs")).expect("a directory");
    let names = blobs.map(|it| it.expect("an entry").file_name());
    let names: Vec<_> = names.map(|it| it.into_string().expect("a name")).collect();
    assert!(names.iter().all(|it| !it.ends_with("tmp")), "{names:?}");

    let other = directory();
    let (home, temporary) = (other.path(), other.path().join("tmp"));
    fs::create_dir(&temporary).expect("a directory");
    let server = registry
        .run(home, &["run", &reference, "--no-cache"])
        .env("TMPDIR", text(&temporary))
        .http()
        .start();
    assert_eq!(fs::read_dir(&temporary).expect("a directory").count(), 1);
    server.stop();
    assert_eq!(fs::read_dir(&temporary).expect("a directory").count(), 0);
    assert!(!home.join("cache/netwasm/registry").exists());
}
