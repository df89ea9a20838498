//! Bodies of responses.

use std::cell::RefCell;
use std::collections::HashMap;

use super::netwasm::net::http::{self, Fields};
use super::netwasm::net::timers;
use super::query::Query;

thread_local! {
    static DOWNLOADS: RefCell<HashMap<u64, Download>> = RefCell::default();
}

struct Download {
    /// Bytes that are yet to be sent.
    left: u64,
    /// Bytes in each call of `send`.
    piece: usize,
    /// Bytes sent so far.
    sent: u64,
    /// True if it sends without regard to the room.
    rude: bool,
    end: End,
    trailers: Fields,
    /// Calls of `writable`.
    writable: u64,
    events: Option<Events>,
}

#[derive(Clone, Copy)]
enum End {
    Finish,
    Fail,
    Trap,
    Exit,
    Never,
}

struct Events {
    sent: u64,
    count: u64,
    every: u64,
    due: u64,
}

/// `n=N`: sends so many bytes, each the number of its place, as there is room;
/// `piece=N` at once; `rude`: at once, whatever the room. Then it ends: `end=`
/// `finish`, with `trailer=NAME:VALUE`, `fail`, `trap`, `exit` or `never`.
/// Without `n`, others send.
pub(super) fn begin(token: u64, query: &Query<'_>) {
    let n = query.number("n");
    let download = Download {
        left: n.unwrap_or_default(),
        piece: query.number("piece").unwrap_or(16 << 10) as usize,
        sent: 0,
        rude: query.has("rude"),
        end: match query.first("end") {
            Some("fail") => End::Fail,
            Some("trap") => End::Trap,
            Some("exit") => End::Exit,
            Some("finish") => End::Finish,
            Some(_) => End::Never,
            None if n.is_some() => End::Finish,
            None => End::Never,
        },
        trailers: query.fields("trailer"),
        writable: 0,
        events: None,
    };
    DOWNLOADS.with_borrow_mut(|all| all.insert(token, download));
}

pub(super) fn begin_events(token: u64, query: &Query<'_>) {
    begin(token, &Query("end=never"));
    let every = query.number("ms").unwrap_or_default() * 1_000_000;
    DOWNLOADS.with_borrow_mut(|all| {
        let download = all.get_mut(&token).expect("it was begun");
        download.events = Some(Events {
            sent: 0,
            count: query.number("count").expect("a count"),
            every,
            due: timers::now() + every,
        });
    });
    arm();
}

pub(super) fn forget(token: u64) {
    DOWNLOADS.with_borrow_mut(|all| all.remove(&token));
}

pub(super) fn writable(token: u64) -> u64 {
    DOWNLOADS.with_borrow(|all| all.get(&token).map_or(0, |it| it.writable))
}

/// Sends as much as there is room for.
pub(super) fn go_on(token: u64) {
    let over = DOWNLOADS.with_borrow_mut(|all| {
        let download = all.get_mut(&token)?;
        download.writable += 1;
        let mut room = u64::MAX;
        while download.left > 0 && (room > 0 || download.rude) {
            let count = download.left.min(download.piece as u64);
            let piece: Vec<u8> = (download.sent..download.sent + count)
                .map(|place| place as u8)
                .collect();
            room = http::send(token, &piece);
            download.sent += count;
            download.left -= count;
        }
        let done = download.left == 0 && download.events.is_none();
        done.then(|| (download.end, std::mem::take(&mut download.trailers)))
    });
    let Some((end, trailers)) = over else { return };
    match end {
        End::Finish => super::outcome("finish", token, http::finish(token, &trailers)),
        End::Fail => http::fail(token),
        End::Trap => panic!("as it was told"),
        End::Exit => std::process::exit(0),
        End::Never => return,
    }
    forget(token);
}

/// Sends the events that are due.
pub(super) fn woken() {
    let now = timers::now();
    DOWNLOADS.with_borrow_mut(|all| {
        all.retain(|&token, download| {
            let Some(events) = &mut download.events else {
                return true;
            };
            if events.due <= now {
                events.due += events.every;
                events.sent += 1;
                http::send(token, format!("data: {}\n\n", events.sent).as_bytes());
            }
            let over = events.sent == events.count;
            if over {
                super::outcome("finish", token, http::finish(token, &[]));
            }
            !over
        });
    });
    arm();
}

fn arm() {
    let first = DOWNLOADS.with_borrow(|all| {
        let events = all.values().filter_map(|it| it.events.as_ref());
        events.map(|it| it.due).min()
    });
    timers::wake_at(first);
}
