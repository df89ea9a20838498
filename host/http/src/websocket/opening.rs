//! The answer to a request that opens a connection: RFC 6455, section 4.2.2.

use aws_lc_rs::digest;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use netwasm_exchange::head::Head;
use netwasm_exchange::request::Request;
use netwasm_exchange::websocket::{Accepted, offers};
use netwasm_net::env::Env;

use crate::response;
use crate::websocket::codec::Agreed;

/// Text that the client's key is joined with: RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Fields that the host sends.
const OURS: [HeaderName; 5] = [
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
];

/// Returns the fields of the answer, without those of the connection, and what is
/// agreed on compression.
///
/// # Errors
/// Fails if the guest's decision cannot be sent, and says why.
pub(crate) fn fields(
    request: &Request,
    accepted: &mut Accepted,
    env: &Env,
) -> Result<(HeaderMap, Option<Agreed>), String> {
    response::check_interim(&accepted.headers).map_err(|fault| fault.to_string())?;
    let given = std::mem::take(&mut accepted.headers);
    let mut headers = HeaderMap::with_capacity(given.len() + 3);
    response::append_all(given, &[], &mut headers);
    if let Some(name) = OURS.iter().find(|name| headers.contains_key(*name)) {
        return Err(format!("the header {name} is the host's to send"));
    }
    let key = request.head.first("sec-websocket-key").unwrap_or_default();
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, value(&accept(key))?);
    if let Some(protocol) = &accepted.protocol {
        if !offers(&request.head, protocol) {
            return Err(format!(
                "the client does not offer the protocol {protocol:?}"
            ));
        }
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value(protocol)?);
    }
    let agreed = agree(&request.head, env);
    if let Some(agreed) = agreed {
        let field = value(&agreed.field())?;
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, field);
    }
    Ok((headers, agreed))
}

fn agree(head: &Head, env: &Env) -> Option<Agreed> {
    let offers = head.all("sec-websocket-extensions");
    Agreed::on(offers, env.limits.http.websocket.compression)
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| format!("{text:?} is not a header value"))
}

/// Returns the proof that the key was understood: its SHA-1 with the GUID, in
/// Base64.
pub(crate) fn accept(key: &[u8]) -> String {
    let joined = [key, GUID].concat();
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &joined);
    base64(digest.as_ref())
}

/// Returns bytes in Base64: RFC 4648, section 4.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..4 {
            let letter = LETTERS.get((bits >> (18 - 6 * place) & 63) as usize);
            text.push(match place <= three.len() {
                true => letter.copied().map_or('A', char::from),
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
    fn the_key_is_answered_as_rfc_6455_has_it() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        // RFC 4648, section 10.
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
