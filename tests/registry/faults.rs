//! Registries that send the wrong things, or nothing.

use std::fs;

use serde_json::json;

use crate::harness::{Asked, Registry, Unusual, alone, artifact, directory, free_port};

use super::{away, bytes, printed};

/// Makes a response with this body.
fn response(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// True if a request is for the component.
fn is_layer(asked: &Asked) -> bool {
    let digest = netwasm_registry::Digest::of(&bytes("hello"));
    asked.line == format!("GET /v2/hello/blobs/{digest}")
}

#[test]
fn what_is_not_what_it_should_be_is_refused_and_not_kept() {
    let (registry, scratch) = (Registry::new(), directory());
    let home = scratch.path();
    let digest = registry.component("hello", "1", &bytes("hello"));
    let length = bytes("hello").len();
    let pinned = format!("{}@{digest}", registry.reference("hello"));
    let pull = |told: &[&str]| {
        let finished = registry.run(home, &["pull", &pinned]).output();
        finished.refused(1, told);
    };
    registry.set(move |asked| is_layer(asked).then(|| Unusual::Say(response(&"x".repeat(length)))));
    pull(&["sent content other than sha256:", "nothing of it is kept"]);
    registry
        .set(move |asked| is_layer(asked).then(|| Unusual::Say(response(&"x".repeat(length * 2)))));
    pull(&["has", "bytes, and at most"]);
    registry.set(|asked| is_layer(asked).then(|| Unusual::Say(response("x"))));
    pull(&["sent content other than", "1 bytes of"]);
    registry.set(|asked| {
        let is_manifest = asked.line.contains("/manifests/");
        is_manifest.then(|| Unusual::Say(response("{}")))
    });
    pull(&["sent content other than", &digest]);
    registry.set(|_| Some(Unusual::Say(response("x").replace("200 OK", "418 Teapot"))));
    pull(&["otherwise than expected", "418"]);
    let blobs = home.join("cache/netwasm/registry/blobs");
    assert_eq!(fs::read_dir(blobs).expect("a directory").count(), 0);
    registry.set(|_| None);
    printed(registry.run(home, &["pull", &pinned]));
}

#[test]
fn artifacts_without_one_component_are_told() {
    let (registry, scratch) = (Registry::new(), directory());
    let home = scratch.path();
    let wasm = "application/vnd.wasm.content.layer.v1+wasm";
    let spin = registry.blob("application/vnd.fermyon.spin.application.v1+config", b"{}");
    let layers = [b"\0asm1", b"\0asm2"].map(|it| registry.blob(wasm, it));
    let manifest = json!({ "schemaVersion": 2, "config": spin, "layers": layers });
    registry.manifest("several", "1", &manifest);
    let layer = registry.blob("application/vnd.oci.image.layer.v1.tar+gzip", b"x");
    let manifest = json!({ "schemaVersion": 2, "config": spin, "layers": [layer] });
    registry.manifest("image", "1", &manifest);
    registry.component("text", "1", b"(component)");
    registry.component("large", "1", &bytes("hello"));
    // Its configuration is that of another component.
    let mut manifest = artifact(&registry, b"\0asm1");
    manifest["config"] = artifact(&registry, b"\0asm2")["config"].clone();
    registry.manifest("other", "1", &manifest);
    for (name, told) in [
        (
            "several",
            ["an application of Spin with 2 components", "by itself"],
        ),
        (
            "image",
            ["application of Spin without a component", "image:1"],
        ),
        ("text", ["not WebAssembly", "text:1"]),
        ("other", ["of other layers than its manifest", "other:1"]),
        (
            "large",
            ["at most 1000 are allowed", "(--max-component-size)"],
        ),
    ] {
        let reference = registry.reference(&format!("{name}:1"));
        let flags = ["inspect", &reference, "--max-component-size", "1000"];
        registry.run(home, &flags).output().refused(1, &told);
    }
    // One component of Spin is run.
    let layer = registry.blob(wasm, &bytes("hello"));
    let files = registry.blob("application/vnd.wasm.content.layer.v1+data", b"file");
    let manifest = json!({ "schemaVersion": 2, "config": spin, "layers": [layer, files] });
    registry.manifest("one", "1", &manifest);
    let reference = registry.reference("one:1");
    printed(registry.run(home, &["inspect", &reference]));
}

#[test]
fn a_registry_is_asked_again_where_that_may_help() {
    let (registry, scratch) = (Registry::new(), directory());
    let home = scratch.path();
    let digest = registry.component("hello", "1", &bytes("hello"));
    let pinned = format!("{}@{digest}", registry.reference("hello"));
    let count = std::sync::atomic::AtomicUsize::new(0);
    registry.set(move |asked| {
        // The manifest, once too early; the configuration, cut off.
        match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => {
                let text = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\n";
                Some(Unusual::Say(format!("{text}content-length: 0\r\n\r\n")))
            }
            2 => {
                assert!(asked.line.contains("/blobs/"), "{asked:?}");
                Some(Unusual::Cut(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec(),
                ))
            }
            _ => None,
        }
    });
    printed(registry.run(home, &["pull", &pinned]));
    assert_eq!(registry.lines().len(), 5);
}

#[test]
fn one_that_is_silent_or_gone_is_not_waited_for() {
    let (registry, scratch) = (Registry::new(), directory());
    let home = scratch.path();
    let reference = registry.reference("hello:1");
    registry.set(|_| Some(Unusual::Nothing));
    let flags = ["pull", &reference, "--registry-timeout", "200ms"];
    let finished = registry.run(home, &flags).output();
    finished.refused(1, &["takes longer than 200ms", "--registry-timeout"]);
    registry.set(away);
    let finished = registry.run(home, &["pull", &reference]).output();
    finished.refused(1, &["is away", "503"]);
    let gone = format!("oci://127.0.0.1:{}/hello:1", free_port());
    let finished = alone(home, &["pull", &gone]).output();
    finished.refused(1, &["cannot pull", &gone, "is away", "Connection refused"]);
    let finished = alone(home, &["pull", "oci://registry.invalid/Hello"]).output();
    finished.refused(2, &["lower-case"]);
}
