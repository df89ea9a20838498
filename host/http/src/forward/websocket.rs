//! WebSocket by HTTP/1.1 (RFC 6455) and by HTTP/2 (RFC 8441), for sides that differ.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use h2::ext::Protocol;
use http::{HeaderMap, HeaderValue, Method, header};

/// Suffix of a key whose hash accepts it: RFC 6455, section 1.3.
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Makes a request an extended CONNECT for a protocol.
pub(super) fn connect(request: &mut http::Request<()>, protocol: &[u8]) {
    let protocol = String::from_utf8_lossy(protocol);
    *request.method_mut() = Method::CONNECT;
    // RFC 8441, section 5.1.
    request.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
    request.extensions_mut().insert(Protocol::from(&*protocol));
}

/// Adds the field that accepts a client's key.
pub(super) fn accept(key: &[u8], headers: &mut HeaderMap) {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, SUFFIX].concat());
    if let Ok(value) = HeaderValue::from_str(&base64(hash.as_ref())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, value);
    }
}

/// Encodes bytes as Base64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let mut padded = three.iter().copied().chain([0, 0]);
        let mut next = || u32::from(padded.next().unwrap_or(0));
        let bits = next() << 16 | next() << 8 | next();
        for place in 0..4 {
            let six = (bits >> (18 - 6 * place)) & 63;
            let letter = LETTERS.get(six as usize).copied();
            text.push(match place <= three.len() {
                true => char::from(letter.unwrap_or(b'=')),
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_by_its_hash() {
        // RFC 6455, section 1.3.
        let mut headers = HeaderMap::new();
        accept(b"dGhlIHNhbXBsZSBub25jZQ==", &mut headers);
        assert_eq!(
            headers[header::SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        // RFC 4648, section 10.
        for (text, encoded) in [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("", "")] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}
