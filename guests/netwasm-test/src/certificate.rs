//! Certificates made for a run: an authority, and the certificates of servers
//! and clients that it signs. ECDSA on P-256, X.509 version 3 (RFC 5280) in DER.

use ring::digest;
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

/// A certificate with its private key.
pub(crate) struct Certificate {
    /// The certificate in DER.
    pub(crate) der: Vec<u8>,
    name: String,
    key: Key,
}

impl Certificate {
    /// Makes an authority that signs itself.
    pub(crate) fn authority(name: &str) -> Result<Self, Unspecified> {
        let key = Key::generate()?;
        let extensions = [
            extension(
                BASIC_CONSTRAINTS,
                true,
                &sequence(&[&der(BOOLEAN, &[0xff])]),
            ),
            // keyCertSign and cRLSign.
            extension(KEY_USAGE, true, &der(BIT_STRING, &[1, 0x06])),
            subject_key_identifier(&key),
        ];
        let der = sign((name, &key), (name, &key), &extensions)?;
        let name = name.to_owned();
        Ok(Self { der, name, key })
    }

    /// Makes a certificate of a server with this name, 127.0.0.1 and ::1.
    pub(crate) fn of_server(&self, name: &str) -> Result<Self, Unspecified> {
        let mut ipv6 = [0; 16];
        ipv6[15] = 1;
        let names = sequence(&[
            &der(DNS_NAME, name.as_bytes()),
            &der(IP_ADDRESS, &[127, 0, 0, 1]),
            &der(IP_ADDRESS, &ipv6),
        ]);
        let names = extension(SUBJECT_ALT_NAME, false, &names);
        self.of_peer(name, SERVER_AUTH, &[names])
    }

    /// Makes a certificate of a client with this common name.
    pub(crate) fn of_client(&self, name: &str) -> Result<Self, Unspecified> {
        self.of_peer(name, CLIENT_AUTH, &[])
    }

    fn of_peer(&self, name: &str, usage: &[u8], more: &[Vec<u8>]) -> Result<Self, Unspecified> {
        let key = Key::generate()?;
        let authority = sequence(&[&der(KEY_IDENTIFIER, &self.key.identifier())]);
        let mut extensions = vec![
            extension(BASIC_CONSTRAINTS, true, &sequence(&[])),
            // digitalSignature.
            extension(KEY_USAGE, true, &der(BIT_STRING, &[7, 0x80])),
            extension(EXTENDED_KEY_USAGE, false, &sequence(&[&der(OID, usage)])),
            extension(AUTHORITY_KEY_IDENTIFIER, false, &authority),
            subject_key_identifier(&key),
        ];
        extensions.extend_from_slice(more);
        let der = sign((&self.name, &self.key), (name, &key), &extensions)?;
        let name = name.to_owned();
        Ok(Self { der, name, key })
    }

    /// Returns the certificate in PEM.
    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// Returns the private key in DER, as PKCS#8.
    pub(crate) fn key_der(&self) -> &[u8] {
        &self.key.pkcs8
    }

    /// Returns the private key in PEM, as PKCS#8.
    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key_der())
    }
}

/// A key pair, and its encoding.
struct Key {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl Key {
    fn generate() -> Result<Self, Unspecified> {
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random)?;
        // It was made for this algorithm.
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random)
            .map_err(|_rejected| Unspecified)?;
        let pkcs8 = pkcs8.as_ref().to_vec();
        Ok(Self { pair, pkcs8 })
    }

    fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// Returns an identifier: 160 bits of the digest (RFC 7093, section 2).
    fn identifier(&self) -> [u8; 20] {
        let digest = digest::digest(&digest::SHA256, self.public());
        let mut identifier = [0; 20];
        identifier.copy_from_slice(&digest.as_ref()[..20]);
        identifier
    }
}

/// Returns the certificate of a subject, signed by an issuer.
fn sign(
    (issuer, issuer_key): (&str, &Key),
    (subject, key): (&str, &Key),
    extensions: &[Vec<u8>],
) -> Result<Vec<u8>, Unspecified> {
    let algorithm = sequence(&[&der(OID, ECDSA_WITH_SHA256)]);
    let extensions: Vec<_> = extensions.iter().map(Vec::as_slice).collect();
    // A positive number that no other certificate of this issuer has.
    let mut serial = key.identifier();
    serial[0] = 1;
    let signed = sequence(&[
        &der(VERSION, &der(INTEGER, &[2])),
        &der(INTEGER, &serial),
        &algorithm,
        &common_name(issuer),
        &sequence(&[
            &der(UTC_TIME, b"200101000000Z"),
            &der(GENERALIZED_TIME, b"21200101000000Z"),
        ]),
        &common_name(subject),
        &sequence(&[
            &sequence(&[&der(OID, EC_PUBLIC_KEY), &der(OID, PRIME256V1)]),
            &bit_string(key.public()),
        ]),
        &der(EXTENSIONS, &sequence(&extensions)),
    ]);
    let signature = issuer_key.pair.sign(&SystemRandom::new(), &signed)?;
    Ok(sequence(&[
        &signed,
        &algorithm,
        &bit_string(signature.as_ref()),
    ]))
}

fn common_name(name: &str) -> Vec<u8> {
    let attribute = sequence(&[&der(OID, COMMON_NAME), &der(UTF8_STRING, name.as_bytes())]);
    sequence(&[&der(SET, &attribute)])
}

fn subject_key_identifier(key: &Key) -> Vec<u8> {
    let identifier = der(OCTET_STRING, &key.identifier());
    extension(SUBJECT_KEY_IDENTIFIER, false, &identifier)
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical {
        der(BOOLEAN, &[0xff])
    } else {
        // False is the default, which DER leaves out.
        Vec::new()
    };
    sequence(&[&der(OID, oid), &critical, &der(OCTET_STRING, value)])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(SEQUENCE, &parts.concat())
}

/// Encodes whole bytes as bits: none of the last byte is unused.
fn bit_string(bytes: &[u8]) -> Vec<u8> {
    let mut value = vec![0];
    value.extend_from_slice(bytes);
    der(BIT_STRING, &value)
}

/// Encodes a value with its tag and its length.
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = value.len().to_be_bytes();
    let zeros = length.iter().take_while(|&&byte| byte == 0).count();
    let significant = &length[zeros..];
    match (value.len(), significant.len()) {
        (0..128, _) => bytes.push(significant.first().copied().unwrap_or(0)),
        (_, count) => {
            bytes.push(0x80 | u8::try_from(count).unwrap_or(8));
            bytes.extend_from_slice(significant);
        }
    }
    bytes.extend_from_slice(value);
    bytes
}

/// Encodes bytes in PEM (RFC 7468).
fn pem(label: &str, bytes: &[u8]) -> String {
    let lines: String = bytes.chunks(48).map(|chunk| base64(chunk) + "\n").collect();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

/// Encodes bytes in base64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for place in 0..4 {
            let index = (group >> (18 - 6 * place)) & 63;
            let letter = ALPHABET[index as usize];
            text.push(if place <= chunk.len() {
                letter.into()
            } else {
                '='
            });
        }
    }
    text
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// Tags of fields in a certificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// Tags of fields in extensions.
const KEY_IDENTIFIER: u8 = 0x80;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn lengths_have_the_shortest_form() {
        assert_eq!(der(SEQUENCE, &[]), [0x30, 0]);
        assert_eq!(der(SEQUENCE, &[7; 127])[..2], [0x30, 127]);
        assert_eq!(der(SEQUENCE, &[7; 128])[..3], [0x30, 0x81, 128]);
        assert_eq!(der(SEQUENCE, &[7; 256])[..4], [0x30, 0x82, 1, 0]);
    }
}
