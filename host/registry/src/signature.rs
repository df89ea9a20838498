//! Signatures of artifacts, in the form that cosign gives them with a key: a
//! manifest under the tag `sha256-DIGEST.sig`, whose layers are statements about
//! the digest ("simple signing"), each with its signature in an annotation.

use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

use netwasm_base::base64;
use netwasm_base::input::Input;

use crate::digest::Digest;
use crate::error::Error;
use crate::media::{Descriptor, Manifest};

/// Annotation with the signature of a layer, in Base64.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// Kind of statement.
const KIND: &str = "cosign container image signature";

/// Most statements that are looked at.
const MOST: usize = 32;

/// Largest statement, in bytes.
pub(crate) const MOST_STATEMENT: u64 = 64 << 10;

/// Largest file of a key, in bytes.
const MOST_KEY: u64 = 64 << 10;

/// Bytes that precede the point of a key on P-256, by RFC 5480.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Bytes that precede an Ed25519 key, by RFC 8410.
const ED: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A key that signatures are verified by.
pub(crate) enum VerifyKey {
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A statement with its signature.
pub(crate) struct Statement {
    pub(crate) blob: Descriptor,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    r#type: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl VerifyKey {
    /// Reads a public key in PEM.
    ///
    /// # Errors
    /// Fails if it cannot be read, or is of another kind.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        use std::io::Read;
        let mut bytes = Vec::new();
        let file = Input::open(path).map_err(Error::file(path))?;
        let read = file.take(MOST_KEY).read_to_end(&mut bytes);
        read.map_err(Error::file(path))?;
        let wrong =
            |reason: &str| Error::Setting(format!("--verify-key {}: {reason}", path.display()));
        let key = SubjectPublicKeyInfoDer::from_pem_slice(&bytes)
            .map_err(|_| wrong("it has no public key in PEM (BEGIN PUBLIC KEY)"))?;
        Self::of(&key).ok_or_else(|| {
            wrong(
                "its key is neither ECDSA on P-256, which `cosign generate-key-pair` makes, nor \
                   Ed25519",
            )
        })
    }

    fn of(key: &[u8]) -> Option<Self> {
        if let Some(point) = key.strip_prefix(P256).filter(|it| it.len() == 65) {
            return Some(Self::P256(point.to_vec()));
        }
        let key = key.strip_prefix(ED).filter(|it| it.len() == 32)?;
        Some(Self::Ed25519(key.to_vec()))
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::P256(key) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(message, signature)
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        verified.is_ok()
    }
}

/// Reads keys.
///
/// # Errors
/// Fails as reading one does.
pub(crate) fn keys(files: &[PathBuf]) -> Result<Vec<VerifyKey>, Error> {
    files.iter().map(|file| VerifyKey::read(file)).collect()
}

/// Returns the tag of the signatures of a manifest.
pub(crate) fn tag(digest: &Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

/// Returns the statements of a manifest of signatures, of those that can be
/// read.
///
/// # Errors
/// Says what is wrong with the manifest.
pub(crate) fn statements(manifest: &[u8]) -> Result<Vec<Statement>, String> {
    let manifest = Manifest::parse(manifest)?;
    let statements = manifest.layers.into_iter().filter_map(|blob| {
        let signature = base64::decode(blob.annotations.get(SIGNATURE)?.trim())?;
        (blob.size <= MOST_STATEMENT).then_some(Statement { blob, signature })
    });
    Ok(statements.take(MOST).collect())
}

impl Statement {
    /// Checks that a key has signed it, and that it is about this manifest.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(crate) fn verify(
        &self,
        payload: &[u8],
        keys: &[VerifyKey],
        digest: &Digest,
    ) -> Result<(), String> {
        if !keys.iter().any(|key| key.verify(payload, &self.signature)) {
            return Err("it is signed, and by another key".into());
        }
        let payload: Payload = serde_json::from_slice(payload)
            .map_err(|error| format!("what the key has signed cannot be read: {error}"))?;
        let Critical { image, r#type } = payload.critical;
        if r#type != KIND {
            return Err("the key has signed another kind of statement".into());
        }
        match image.digest.parse::<Digest>() {
            Ok(signed) if signed == *digest => Ok(()),
            _ => Err("what the key has signed is about another artifact".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use serde_json::json;

    use super::*;

    fn openssl(folder: &Path, args: &[&str]) {
        let output = Command::new("openssl")
            .current_dir(folder)
            .args(args)
            .output();
        let output = output.expect("openssl");
        assert!(output.status.success(), "{output:?}");
    }

    /// Makes a key pair, `NAME.key` and `NAME.pub`.
    fn key(folder: &Path, name: &str, kind: &[&str]) {
        let (private, public) = (format!("{name}.key"), format!("{name}.pub"));
        openssl(
            folder,
            &[["genpkey", "-out", &private].as_slice(), kind].concat(),
        );
        openssl(
            folder,
            &["pkey", "-in", &private, "-pubout", "-out", &public],
        );
    }

    fn payload(digest: &Digest, kind: &str) -> String {
        let critical = json!({
            "identity": { "docker-reference": "a.example/b" },
            "image": { "docker-manifest-digest": digest },
            "type": kind
        });
        json!({ "critical": critical, "optional": null }).to_string()
    }

    #[test]
    fn signatures_of_openssl_are_verified() {
        const P256_KIND: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
        let scratch = tempfile::tempdir().expect("a directory");
        let folder = scratch.path();
        key(folder, "p256", P256_KIND);
        key(folder, "other", P256_KIND);
        key(folder, "ed", &["-algorithm", "ED25519"]);
        key(folder, "rsa", &["-algorithm", "RSA"]);
        let (digest, another) = (Digest::of(b"abc"), Digest::of(b"abd"));
        let read = |name: &str| keys(&[folder.join(name)]);
        for (name, sign) in [
            (
                "p256",
                [
                    "dgst", "-sha256", "-sign", "p256.key", "-out", "sig", "payload",
                ]
                .as_slice(),
            ),
            (
                "ed",
                &[
                    "pkeyutl", "-sign", "-inkey", "ed.key", "-rawin", "-in", "payload", "-out",
                    "sig",
                ],
            ),
        ] {
            let signed = |text: &str| {
                fs::write(folder.join("payload"), text).expect("a file");
                openssl(folder, sign);
                Statement {
                    blob: Descriptor::new("text/plain", text.as_bytes()),
                    signature: fs::read(folder.join("sig")).expect("a file"),
                }
            };
            let keys = read(&format!("{name}.pub")).expect("a key");
            let text = payload(&digest, KIND);
            let statement = signed(&text);
            let verify = |text: &str, keys: &[VerifyKey], digest| {
                statement.verify(text.as_bytes(), keys, digest)
            };
            assert_eq!(verify(&text, &keys, &digest), Ok(()));
            let error = verify(&text, &keys, &another).expect_err("of another");
            assert!(error.contains("about another artifact"), "{error}");
            let error = verify(&payload(&another, KIND), &keys, &another).expect_err("changed");
            assert!(error.contains("by another key"), "{error}");
            let others = read("other.pub").expect("a key");
            assert!(verify(&text, &others, &digest).is_err());
            let text = payload(&digest, "another");
            let error = signed(&text).verify(text.as_bytes(), &keys, &digest);
            assert!(error.expect_err("another kind").contains("another kind"));
        }
        for (name, told) in [("rsa.pub", "neither ECDSA"), ("p256.key", "no public key")] {
            let error = read(name).err().expect("no key of these").to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_manifest_of_signatures_is_read() {
        let digest = Digest::of(b"abc");
        assert!(tag(&digest).starts_with("sha256-ba7816bf"));
        let layer = |annotations: serde_json::Value| {
            json!({
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
                "digest": digest, "size": 3, "annotations": annotations
            })
        };
        let manifest = json!({ "layers": [
            layer(json!({ SIGNATURE: "YWJj" })), layer(json!({ SIGNATURE: "*" })), layer(json!({}))
        ]});
        let found = statements(manifest.to_string().as_bytes()).expect("a manifest");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].signature, b"abc");
        assert!(statements(b"{").is_err());
    }
}
