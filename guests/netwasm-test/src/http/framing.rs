//! Responses of HTTP/1.1 on a connection (RFC 9112).

use std::time::Duration;

use httparse::Status;

use super::Response;
use crate::client::Client;
use crate::deadline::Deadline;

/// Largest number of header lines in a response.
const HEADERS: usize = 256;

/// Receives a final response. Also returns true if the connection persists
/// after it.
pub(super) fn receive(
    connection: &mut Client,
    method: &str,
    limit: Duration,
) -> Result<(Response, bool), String> {
    let (mut response, minor_version) = loop {
        let (response, minor_version) = receive_head(connection, limit)?;
        if response.status >= 200 || response.status == 101 {
            break (response, minor_version);
        }
    };
    let tokens = response.header("Connection").unwrap_or_default();
    let closes = tokens
        .split(',')
        .any(|token| token.trim().eq_ignore_ascii_case("close"));
    let mut persistent = !closes && minor_version == 1 && response.status != 101;
    match framing(method, &response)? {
        Framing::None => {}
        Framing::Length(length) => {
            response.body = connection.try_read(length)?;
        }
        Framing::Chunked => receive_chunks(connection, limit, &mut response)?,
        Framing::Close => {
            response.body = connection.try_read_to_end()?;
            persistent = false;
        }
    }
    Ok((response, persistent))
}

/// Receives the head of a response. Also returns the minor version of HTTP/1.
fn receive_head(connection: &mut Client, limit: Duration) -> Result<(Response, u8), String> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some((length, response, minor_version)) = parse_head(connection.buffered())? {
            connection.consume(length);
            return Ok((response, minor_version));
        }
        if let Err(fault) = connection.arrive(deadline) {
            let got = connection.buffered().escape_ascii();
            return Err(format!("{fault} before the head; received: \"{got}\""));
        }
    }
}

/// Parses the head of a response, if it is complete: its length in bytes, the
/// response without a body, and the minor version.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Response, u8)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head
        .parse(bytes)
        .map_err(|error| malformed("the head", &error, bytes))?;
    let (Status::Complete(length), Some(status), Some(version)) = (parsed, head.code, head.version)
    else {
        return Ok(None);
    };
    let response = Response {
        status,
        headers: owned(head.headers),
        body: Vec::new(),
        trailers: Vec::new(),
    };
    Ok(Some((length, response, version)))
}

fn owned(fields: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|field| {
            let value = String::from_utf8_lossy(field.value).into_owned();
            (field.name.to_owned(), value)
        })
        .collect()
}

/// How the end of a body is found (RFC 9112, section 6.3).
enum Framing {
    None,
    Length(usize),
    Chunked,
    Close,
}

fn framing(method: &str, response: &Response) -> Result<Framing, String> {
    if method == "HEAD" || matches!(response.status, 101 | 204 | 304) {
        return Ok(Framing::None);
    }
    match (
        response.header("Transfer-Encoding"),
        response.header("Content-Length"),
    ) {
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (Some(_), _) => Err(format!("the body's framing is unknown: {response:?}")),
        (None, None) => Ok(Framing::Close),
        (None, Some(length)) => match length.parse() {
            Ok(length) => Ok(Framing::Length(length)),
            Err(_) => Err(format!("Content-Length is {length:?}")),
        },
    }
}

/// Receives a chunked body (RFC 9112, section 7.1), and its trailers.
fn receive_chunks(
    connection: &mut Client,
    limit: Duration,
    response: &mut Response,
) -> Result<(), String> {
    loop {
        let size = receive_chunk_size(connection, limit)?;
        if size == 0 {
            break;
        }
        response.body.extend(connection.try_read(size)?);
        let end = connection.try_read(2)?;
        if end != b"\r\n" {
            return Err(format!("a chunk ends in \"{}\"", end.escape_ascii()));
        }
    }
    loop {
        let line = connection.try_read_line()?;
        if line.is_empty() {
            return Ok(());
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!("not a trailer: {line:?}"));
        };
        let field = (name.to_owned(), value.trim().to_owned());
        response.trailers.push(field);
    }
}

fn receive_chunk_size(connection: &mut Client, limit: Duration) -> Result<usize, String> {
    let deadline = Deadline::after(limit);
    loop {
        let bytes = connection.buffered();
        let parsed = httparse::parse_chunk_size(bytes)
            .map_err(|error| malformed("a chunk's size", &error, bytes))?;
        if let Status::Complete((length, size)) = parsed {
            connection.consume(length);
            return usize::try_from(size).map_err(|error| format!("a chunk of {size}: {error}"));
        }
        if let Err(fault) = connection.arrive(deadline) {
            return Err(format!("{fault} inside the body"));
        }
    }
}

fn malformed(what: &str, error: &impl std::fmt::Display, bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(200)];
    format!(
        "{what} is malformed ({error}): \"{}\"",
        shown.escape_ascii()
    )
}
