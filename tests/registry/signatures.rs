//! Signatures in cosign's form, made by openssl.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::{Registry, directory, text};

use super::{bytes, printed};

fn openssl(folder: &Path, args: &[&str]) {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(args)
        .output();
    let output = output.expect("openssl");
    assert!(output.status.success(), "{output:?}");
}

/// Makes a key pair as `cosign generate-key-pair` does: `NAME.key` and
/// `NAME.pub`.
fn key(folder: &Path, name: &str) {
    let (private, public) = (format!("{name}.key"), format!("{name}.pub"));
    let kind = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    openssl(
        folder,
        &[["genpkey", "-out", &private].as_slice(), &kind].concat(),
    );
    openssl(
        folder,
        &["pkey", "-in", &private, "-pubout", "-out", &public],
    );
}

/// Signs what has a digest, as `cosign sign --key` does, with a statement about
/// `about`.
fn sign(registry: &Registry, folder: &Path, key: &str, digest: &str, about: &str) {
    let statement = json!({
        "critical": {
            "identity": { "docker-reference": registry.reference("hello") },
            "image": { "docker-manifest-digest": about },
            "type": "cosign container image signature"
        },
        "optional": null
    })
    .to_string();
    fs::write(folder.join("statement"), &statement).expect("a file");
    let private = format!("{key}.key");
    openssl(
        folder,
        &[
            "dgst",
            "-sha256",
            "-sign",
            &private,
            "-out",
            "signature",
            "statement",
        ],
    );
    let signature = fs::read(folder.join("signature")).expect("a file");
    let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
    let mut layer = registry.blob(kind, statement.as_bytes());
    let signature = netwasm_base::base64::encode(&signature);
    layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature });
    let config = registry.blob("application/vnd.oci.image.config.v1+json", b"{}");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let tag = format!("{}.sig", digest.replace(':', "-"));
    registry.manifest("hello", &tag, &manifest);
}

#[test]
fn only_what_a_key_has_signed_is_run() {
    let (registry, scratch) = (Registry::new(), directory());
    let home = scratch.path();
    key(home, "right");
    key(home, "wrong");
    let digest = registry.component("hello", "1", &bytes("hello"));
    let reference = registry.reference("hello:1");
    let inspect = |key: &str, flags: &[&str]| {
        let key = home.join(format!("{key}.pub"));
        let run = registry.run(home, &["inspect", &reference, "--verify-key", text(&key)]);
        run.args(flags).output()
    };
    let tag = format!("{}.sig", digest.replace(':', "-"));
    // It is cached, without a signature.
    printed(registry.run(home, &["pull", &reference]));
    inspect("right", &[]).refused(1, &["not signed", &digest, &tag, "cosign sign --key"]);
    inspect("right", &["--offline"]).refused(1, &["not signed", "the cache has no signature"]);
    sign(&registry, home, "wrong", &digest, &digest);
    inspect("right", &[]).refused(1, &["not signed", "by another key", &tag]);
    let another = digest.replace("sha256:", "sha256:0000")[..digest.len()].to_owned();
    sign(&registry, home, "right", &digest, &another);
    inspect("right", &[]).refused(1, &["not signed", "about another artifact"]);
    sign(&registry, home, "right", &digest, &digest);
    let inspected = inspect("right", &[]);
    assert_eq!(inspected.code, Some(0), "{inspected:#?}");

    // From the cache, it is verified again.
    registry.asked();
    let inspected = inspect("right", &["--offline"]);
    assert_eq!(inspected.code, Some(0), "{inspected:#?}");
    inspect("wrong", &["--offline"]).refused(1, &["not signed"]);
    assert_eq!(registry.lines(), [""; 0]);
    let either = home.join("wrong.pub");
    let inspected = inspect("right", &["--verify-key", text(&either)]);
    assert_eq!(inspected.code, Some(0), "{inspected:#?}");
    assert_eq!(registry.lines(), ["HEAD /v2/hello/manifests/1"]);
    inspect("right.key", &[]).refused(1, &["right.key.pub", "No such file"]);
}
