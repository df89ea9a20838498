//! The parts of a request that the host itself must understand: its target, its
//! framing, and whether the connection persists.

use httparse::Header;

use super::authority::is_authority;
use super::target::{self, Form};
use super::{Framing, Head, Refusal, Span, bad};

impl Head {
    pub(super) fn interpret_target(
        &mut self,
        method: &str,
        target: &str,
        raw_target: Span,
    ) -> Result<(), Refusal> {
        if method == "CONNECT" {
            return Err(Refusal::new(501, "this is not a proxy"));
        }
        let form = target::form(method, target.as_bytes())?;
        self.authority = None;
        self.target = raw_target;
        match form {
            Form::Path | Form::Asterisk => Ok(()),
            Form::Other => self.interpret_absolute_target(target, raw_target),
        }
    }

    /// Interprets an absolute target: RFC 9112, section 3.2.2.
    fn interpret_absolute_target(&mut self, target: &str, raw_target: Span) -> Result<(), Refusal> {
        let Some((scheme, rest)) = target.split_once("://") else {
            return Err(bad("target that is neither a path nor a URL"));
        };
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(bad("target of another scheme than http and https"));
        }
        let length = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(length);
        if !is_authority(authority.as_bytes()) {
            return Err(bad("malformed authority in the target"));
        }
        let start = raw_target.end - rest.len() as u32;
        let end = start + authority.len() as u32;
        self.authority = Some(Span { start, end });
        self.target.start = end;
        if !path.starts_with('/') {
            let start = self.text.len() as u32;
            self.text.push(b'/');
            self.text.extend_from_slice(path.as_bytes());
            let end = self.text.len() as u32;
            self.target = Span { start, end };
        }
        Ok(())
    }

    pub(super) fn interpret_fields(
        &mut self,
        headers: &[Header<'_>],
        head: &[u8],
    ) -> Result<(), Refusal> {
        let mut host = None;
        let mut hosts = 0;
        let mut length = None;
        let mut codings = None;
        let mut close = false;
        let mut stay = false;
        let mut expects = false;
        let mut trailers = false;
        for header in headers {
            let (name, value) = (header.name, header.value);
            match name.len() {
                2 if name.eq_ignore_ascii_case("te") => {
                    trailers |=
                        members(value).any(|member| member.eq_ignore_ascii_case(b"trailers"));
                }
                4 if name.eq_ignore_ascii_case("host") => {
                    hosts += 1;
                    host = Some(value);
                }
                6 if name.eq_ignore_ascii_case("expect") => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal::new(417, "unknown expectation"));
                    }
                    expects = true;
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    for option in members(value) {
                        close |= option.eq_ignore_ascii_case(b"close");
                        stay |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    let Some(value) = content_length(value) else {
                        return Err(bad("malformed Content-Length"));
                    };
                    if length.replace(value).is_some() {
                        return Err(bad("two Content-Length headers"));
                    }
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    codings.get_or_insert_with(Codings::default).add(value)?;
                }
                _ => {}
            }
        }
        let modern = self.minor_version == 1;
        match host {
            Some(_) if hosts > 1 => return Err(bad("two Host headers")),
            Some(host) if !is_authority(host) => return Err(bad("malformed Host")),
            Some(host) if self.authority.is_none() => {
                self.authority = Some(Span::of(host, head));
            }
            None if modern => return Err(bad("no Host header")),
            Some(_) | None => {}
        }
        self.framing = match (codings, length) {
            (None, None) => Framing::None,
            (None, Some(length)) => Framing::Length(length),
            (Some(_), _) if !modern => return Err(bad("Transfer-Encoding with HTTP/1.0")),
            (Some(_), Some(_)) => return Err(bad("Transfer-Encoding with Content-Length")),
            (Some(codings), None) => codings.framing()?,
        };
        self.keep_alive = !close && (modern || stay);
        self.expects_continue = modern && expects;
        self.accepts_trailers = modern && trailers;
        Ok(())
    }
}

/// Transfer codings of a request: RFC 9112, section 6.1.
#[derive(Default)]
struct Codings {
    unknown: bool,
    chunked: bool,
}

impl Codings {
    fn add(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for coding in members(value) {
            if self.chunked {
                return Err(bad("transfer coding after chunked"));
            }
            if coding.is_empty() {
                return Err(bad("empty transfer coding"));
            }
            if coding.eq_ignore_ascii_case(b"chunked") {
                self.chunked = true;
            } else {
                self.unknown = true;
            }
        }
        Ok(())
    }

    fn framing(&self) -> Result<Framing, Refusal> {
        match (self.chunked, self.unknown) {
            (true, false) => Ok(Framing::Chunked),
            (true, true) => Err(Refusal::new(501, "unknown transfer coding")),
            (false, _) => Err(bad("last transfer coding is not chunked")),
        }
    }
}

/// Returns the members of a comma-separated list, empty ones included.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Parses digits and nothing else: no sign, no list.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut length: u64 = 0;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        length = length
            .checked_mul(10)?
            .checked_add(u64::from(byte - b'0'))?;
    }
    Some(length)
}
