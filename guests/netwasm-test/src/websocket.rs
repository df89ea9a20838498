//! A client of WebSocket (RFC 6455), over HTTP/1.1.

use std::time::Duration;

use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::client::Client;
use crate::listener::Listener;
use crate::server::Server;
use crate::tls::Settings;

/// The opcodes of frames: RFC 6455, section 5.2.
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Longest message that a test receives, in bytes: a length that is longer is a
/// fault, not a reason to take that much memory.
const LONGEST: u64 = 1 << 30;

/// A message of a WebSocket connection. Text and bytes convert into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebSocketMessage {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl From<&str> for WebSocketMessage {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for WebSocketMessage {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for WebSocketMessage {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(bytes.to_vec())
    }
}

impl From<Vec<u8>> for WebSocketMessage {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}

/// A WebSocket connection to the server.
///
/// It answers pings, and joins the frames of a message. Every operation has the
/// server's time limit ([`crate::Component::time_limit`], 10 seconds by default),
/// and panics with the server's log if it fails.
#[derive(Debug)]
pub struct WebSocketClient {
    connection: Client,
    /// The agreed protocol.
    protocol: Option<String>,
}

/// The next thing that a server sends.
enum Next {
    Message(WebSocketMessage),
    /// The code of a close frame; `None` if it has none.
    Close(Option<u16>),
}

impl Server {
    /// Opens a WebSocket connection to the HTTP listener, at a path such as `/chat`.
    ///
    /// # Panics
    /// Panics if there is no such listener, or if the connection is not opened within
    /// the time limit. The message has the server's answer.
    #[track_caller]
    #[must_use]
    pub fn websocket(&self, target: &str) -> WebSocketClient {
        self.websocket_with(target, &[])
    }

    /// Like [`Self::websocket`], with headers, such as `Sec-WebSocket-Protocol`,
    /// `Origin` or `Cookie`.
    ///
    /// # Panics
    /// Panics as [`Self::websocket`] does.
    #[track_caller]
    #[must_use]
    pub fn websocket_with(&self, target: &str, headers: &[(&str, &str)]) -> WebSocketClient {
        let address = self.find(Listener::Http);
        let connection = address.and_then(|address| Client::tcp(address, self.limit, &self.log));
        WebSocketClient::open(self.checked(connection), target, headers)
    }

    /// Like [`Self::websocket`], to the HTTPS listener. The client trusts only the
    /// authority of this run.
    ///
    /// # Panics
    /// Panics as [`Self::websocket`] does.
    #[track_caller]
    #[must_use]
    pub fn secure_websocket(&self, target: &str) -> WebSocketClient {
        let settings = Settings {
            alpn: &["http/1.1"],
            certificate: None,
        };
        let connection = self.secure(Listener::Https, &settings);
        WebSocketClient::open(self.checked(connection), target, &[])
    }
}

impl WebSocketClient {
    #[track_caller]
    fn open(mut connection: Client, target: &str, headers: &[(&str, &str)]) -> Self {
        match shake_hands(&mut connection, target, headers) {
            Ok(protocol) => Self {
                connection,
                protocol,
            },
            Err(fault) => connection.fail(&fault),
        }
    }

    /// Returns the agreed protocol, if the server has chosen one.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Sends a message: text, or bytes.
    ///
    /// # Panics
    /// Panics if the server ends the connection, or if it does not take all within
    /// the time limit.
    #[track_caller]
    pub fn send(&mut self, message: impl Into<WebSocketMessage>) {
        let sent = match message.into() {
            WebSocketMessage::Text(text) => self.send_frame(TEXT, text.as_bytes()),
            WebSocketMessage::Binary(bytes) => self.send_frame(BINARY, &bytes),
        };
        self.checked(sent);
    }

    /// Receives the next message.
    ///
    /// # Panics
    /// Panics if the server closes the connection, sends what the protocol forbids,
    /// or sends no message within the time limit.
    #[track_caller]
    #[must_use]
    pub fn receive(&mut self) -> WebSocketMessage {
        let next = self.next();
        match self.checked(next) {
            Next::Message(message) => message,
            Next::Close(code) => {
                let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                self.connection
                    .fail(&format!("it is closed with {code} instead of a message"))
            }
        }
    }

    /// Receives the next message, and checks that it is this one.
    ///
    /// # Panics
    /// Panics if it is another, and as [`Self::receive`] does.
    #[track_caller]
    pub fn expect(&mut self, expected: impl Into<WebSocketMessage>) {
        let expected = expected.into();
        let received = self.receive();
        if received != expected {
            self.connection.fail(&format!(
                "another message came\n  expected: {expected:?}\n  received: {received:?}"
            ));
        }
    }

    /// Checks that nothing comes for a while, not even a ping.
    ///
    /// # Panics
    /// Panics if something is there or comes, or if the connection ends.
    #[track_caller]
    pub fn expect_nothing(&mut self, wait: Duration) {
        self.connection.expect_nothing(wait);
    }

    /// Receives a close frame with this code, answers it, and receives the end.
    ///
    /// # Panics
    /// Panics if a message comes, if the code is another, or if the connection does
    /// not end within the time limit.
    #[track_caller]
    pub fn expect_close(mut self, code: u16) {
        self.expect_close_frame(code);
        // The server may have ended the connection.
        let _ = self.send_frame(CLOSE, &code.to_be_bytes());
        self.connection.expect_end();
    }

    /// Closes the connection with a code, and receives the server's answer and the
    /// end.
    ///
    /// # Panics
    /// Panics if something else comes, or if the connection does not end within the
    /// time limit.
    #[track_caller]
    pub fn close(mut self, code: u16) {
        let sent = self.send_frame(CLOSE, &code.to_be_bytes());
        self.checked(sent);
        self.expect_close_frame(code);
        self.connection.expect_end();
    }

    #[track_caller]
    fn expect_close_frame(&mut self, expected: u16) {
        let next = self.next();
        match self.checked(next) {
            Next::Close(Some(code)) if code == expected => {}
            Next::Close(code) => self.connection.fail(&format!(
                "it is closed with the code {code:?} instead of {expected}"
            )),
            Next::Message(message) => self
                .connection
                .fail(&format!("{message:?} came instead of a close frame")),
        }
    }

    #[track_caller]
    fn checked<T>(&self, result: Result<T, String>) -> T {
        match result {
            Ok(value) => value,
            Err(fault) => self.connection.fail(&fault),
        }
    }

    fn send_frame(&mut self, opcode: u8, payload: &[u8]) -> Result<(), String> {
        let mask: [u8; 4] = random()?;
        self.connection.try_send(&frame(opcode, mask, payload))
    }

    /// Receives a message, or the end. Answers pings.
    fn next(&mut self) -> Result<Next, String> {
        let mut kind = CONTINUATION;
        let mut message = Vec::new();
        loop {
            let (is_last, opcode, payload) = self.receive_frame()?;
            match opcode {
                PING => {
                    self.send_frame(PONG, &payload)?;
                    continue;
                }
                PONG => continue,
                CLOSE => {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    return Ok(Next::Close(code));
                }
                TEXT | BINARY if kind == CONTINUATION => kind = opcode,
                CONTINUATION if kind != CONTINUATION => {}
                _ => return Err(format!("a frame with opcode {opcode} does not belong here")),
            }
            message.extend(payload);
            if !is_last {
                continue;
            }
            return Ok(Next::Message(match kind {
                TEXT => WebSocketMessage::Text(
                    String::from_utf8(message).map_err(|_| "the text is not UTF-8")?,
                ),
                _ => WebSocketMessage::Binary(message),
            }));
        }
    }

    /// Receives a frame: whether it is the last of its message, its opcode and its
    /// payload.
    fn receive_frame(&mut self) -> Result<(bool, u8, Vec<u8>), String> {
        let [first, second] = self.read::<2>()?;
        if first & 0x70 != 0 || second & 0x80 != 0 {
            return Err("a frame has bits of no extension, or a mask".to_owned());
        }
        let length = match second {
            126 => u64::from(u16::from_be_bytes(self.read()?)),
            127 => u64::from_be_bytes(self.read()?),
            length => u64::from(length),
        };
        let count = usize::try_from(length).ok().filter(|_| length <= LONGEST);
        let count = count.ok_or_else(|| format!("a frame of {length} bytes"))?;
        let payload = self.connection.try_read(count)?;
        Ok((first & 0x80 != 0, first & 0x0f, payload))
    }

    fn read<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.connection.try_read(N)?;
        bytes
            .try_into()
            .map_err(|_| "fewer bytes than were asked for".to_owned())
    }
}

/// Opens the connection: RFC 6455, section 4.1. Returns the agreed protocol.
fn shake_hands(
    connection: &mut Client,
    target: &str,
    headers: &[(&str, &str)],
) -> Result<Option<String>, String> {
    let nonce: [u8; 16] = random()?;
    let key = base64(&nonce);
    let mut head = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    );
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    connection.try_send(head.as_bytes())?;
    let status = connection.try_read_line()?;
    if !status.starts_with("HTTP/1.1 101 ") {
        return Err(format!("no WebSocket connection is opened: {status}"));
    }
    let (mut accept, mut protocol) = (None, None);
    loop {
        let line = connection.try_read_line()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match &*name.to_ascii_lowercase() {
            "sec-websocket-accept" => accept = Some(value.trim().to_owned()),
            "sec-websocket-protocol" => protocol = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    match accept == Some(accepted(&key)) {
        true => Ok(protocol),
        false => Err(format!("Sec-WebSocket-Accept is wrong: {accept:?}")),
    }
}

/// Returns a frame of a client: RFC 6455, section 5.2.
fn frame(opcode: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => bytes.push(0x80 | length),
        (_, Ok(length)) => {
            bytes.push(0x80 | 126);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    let masked = payload.iter().zip(mask.into_iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Returns the answer to a key: RFC 6455, section 4.2.2.
fn accepted(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64(hash.as_ref())
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| "the system has no random bytes".to_owned())?;
    Ok(bytes)
}

/// Returns bytes in Base64: RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = [16, 8, 0].iter().zip(three);
        let bits = bits.fold(0, |bits, (place, byte)| bits | (u32::from(*byte) << place));
        for (at, place) in [18, 12, 6, 0].into_iter().enumerate() {
            let letter = LETTERS[((bits >> place) & 63) as usize];
            text.push(if at <= three.len() {
                letter.into()
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_standard_shows() {
        let answer = accepted("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn frames_are_masked_and_tell_their_length() {
        let hello = frame(TEXT, [0x37, 0xfa, 0x21, 0x3d], b"Hello");
        let expected = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        assert_eq!(hello, expected);
        let starts = |length: usize| frame(BINARY, [0; 4], &vec![7; length])[..4].to_vec();
        assert_eq!(starts(125), [0x82, 0xfd, 0, 0]);
        assert_eq!(starts(126), [0x82, 0xfe, 0, 126]);
        assert_eq!(starts(0x1_0000), [0x82, 0xff, 0, 0]);
    }
}
