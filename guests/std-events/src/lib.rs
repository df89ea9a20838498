//! Does what the words of a line, or of the path of an HTTP request, say with
//! standard interfaces, and answers with a line: for tests. See `std-probe` for the
//! words.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:std-events;
        world std-events {
            include netwasm:net/tcp-server@0.2.0;
            include netwasm:net/http-server@0.2.0;
        }
    ",
    world: "netwasm:std-events/std-events",
    generate_all,
});

#[path = "../../std-probe/src/otel.rs"]
mod otel;
#[path = "../../std-probe/src/words.rs"]
mod words;

use std::cell::RefCell;
use std::collections::HashMap;

use exports::netwasm::net::{http_handler, tcp_handler};
use netwasm::net::http::{Answer, Body, Method, Request, Response};
use netwasm::net::transports;
use netwasm::net::types::{ConnectionId, Error, TlsInfo};

thread_local! {
    /// Beginnings of lines that are not over, by connections.
    static LINES: RefCell<HashMap<u64, Vec<u8>>> = RefCell::default();
}

struct Events;
export!(Events);

fn said(words: &[&str]) -> String {
    match *words {
        ["otel", ref rest @ ..] => otel::run(rest),
        _ => words::run(words),
    }
}

/// Words are the parts of the path.
impl http_handler::Guest for Events {
    fn handle(_method: Method, target: String, _request: &Request) -> Answer {
        let words: Vec<&str> = target.split('/').skip(1).collect();
        Answer::Respond(Response {
            status: 200,
            headers: Vec::new(),
            body: Body::Bytes(said(&words).into_bytes()),
            trailers: Vec::new(),
        })
    }
}

impl tcp_handler::Guest for Events {
    fn connection_made(connection: ConnectionId) -> u64 {
        connection.number
    }
    fn data_received(number: u64, data: Vec<u8>) {
        let lines = LINES.with_borrow_mut(|lines| {
            let line = lines.entry(number).or_default();
            line.extend(data);
            let end = line.iter().rposition(|byte| *byte == b'\n');
            let whole: Vec<u8> = line.drain(..end.map_or(0, |end| end + 1)).collect();
            String::from_utf8_lossy(&whole).into_owned()
        });
        for line in lines.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let answer = format!("{}\n", said(&words));
            transports::write(ConnectionId { number }, answer.as_bytes());
        }
    }
    fn writable(_number: u64) {}
    fn eof_received(_number: u64) -> bool {
        false
    }
    fn tls_started(_number: u64, _info: TlsInfo) {}
    fn connection_lost(number: u64, _reason: Option<Error>) {
        LINES.with_borrow_mut(|lines| lines.remove(&number));
    }
}
