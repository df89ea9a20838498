//! Bodies of requests.

use std::cell::RefCell;
use std::collections::HashMap;

use super::netwasm::net::http::{self, Fields, Request};
use super::netwasm::net::types::Error;
use super::query::Query;
use super::{outcome, said, say};

thread_local! {
    static UPLOADS: RefCell<HashMap<u64, Upload>> = RefCell::default();
}

#[derive(Default)]
struct Upload {
    /// Credit that was given and not used.
    credit: u64,
    /// Credit to give with each piece.
    more: u64,
    received: u64,
    pieces: u64,
    largest: usize,
    /// FNV-1a of the body.
    hash: u64,
    /// True if the body is sent back.
    echo: bool,
    /// Credit that is withheld until there is room for the echo.
    withheld: u64,
}

/// Credit of an echo, in bytes.
const ECHO: u64 = 64 << 10;

/// Begins to read a body. Returns false if there is none to read.
pub(super) fn begin(token: u64, query: &Query<'_>, request: &Request) -> bool {
    let upload = Upload {
        credit: query.number("credit").unwrap_or(64 << 10),
        more: query.number("more").unwrap_or_default(),
        ..Upload::default()
    };
    read(token, request, upload)
}

pub(super) fn begin_echo(token: u64, request: &Request) -> bool {
    let upload = Upload {
        credit: ECHO,
        echo: true,
        ..Upload::default()
    };
    read(token, request, upload)
}

fn read(token: u64, request: &Request, upload: Upload) -> bool {
    let upload = Upload {
        hash: 0xcbf2_9ce4_8422_2325,
        ..upload
    };
    let begun = request.read_body(token, upload.credit);
    let reads = begun.is_ok();
    outcome("read-body", token, begun);
    if reads {
        UPLOADS.with_borrow_mut(|all| all.insert(token, upload));
    }
    reads
}

pub(super) fn known(token: u64) -> bool {
    UPLOADS.with_borrow(|all| all.contains_key(&token))
}

pub(super) fn received(token: u64) -> u64 {
    UPLOADS.with_borrow(|all| all.get(&token).map_or(0, |it| it.received))
}

pub(super) fn receive(token: u64, data: &[u8]) {
    UPLOADS.with_borrow_mut(|all| {
        let upload = all.get_mut(&token).expect("a body that is read");
        let count = data.len() as u64;
        assert!(count > 0, "a piece has bytes");
        upload.received += count;
        upload.pieces += 1;
        upload.largest = upload.largest.max(data.len());
        if upload.echo {
            upload.withheld += count;
            if http::send(token, data) > 0 {
                let credit = std::mem::take(&mut upload.withheld);
                http::read_more(token, credit);
            }
            return;
        }
        for &byte in data {
            upload.hash = (upload.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if upload.more > 0 {
            http::read_more(token, upload.more);
        }
    });
}

/// Gives the credit that an echo withheld.
pub(super) fn writable(token: u64) {
    UPLOADS.with_borrow_mut(|all| {
        if let Some(upload) = all.get_mut(&token) {
            let credit = std::mem::take(&mut upload.withheld);
            http::read_more(token, credit);
        }
    });
}

/// Answers with what has come: bytes, hash, trailers.
pub(super) fn end(token: u64, trailers: &Fields) {
    let upload = UPLOADS.with_borrow_mut(|all| all.remove(&token));
    let upload = upload.expect("a body that is read");
    if upload.echo {
        return outcome("finish", token, http::finish(token, trailers));
    }
    let mut text = format!("{} {:016x}", upload.received, upload.hash);
    for (name, value) in trailers {
        text += &format!(" {name}={}", String::from_utf8_lossy(value));
    }
    say(&format!(
        "ended {token}: {} largest {}",
        upload.received, upload.largest
    ));
    outcome(
        "respond",
        token,
        http::respond(token, said(&format!("{text}\n"))),
    );
}

pub(super) fn fail(token: u64, error: &Error) {
    let upload = UPLOADS.with_borrow_mut(|all| all.remove(&token));
    let upload = upload.expect("a body that is read");
    say(&format!(
        "failed {token}: {:?} after {}",
        error.code, upload.received
    ));
    if upload.echo {
        http::fail(token);
    }
}
