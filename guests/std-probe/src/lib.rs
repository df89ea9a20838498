//! Uses standard interfaces as it is told: for tests. See `words` for what it
//! does.
//!
//! ```sh
//! netwasm run guests/std-probe.wasm --keyvalue a=memory: -- draft a set k v
//! netwasm run guests/std-probe.wasm --http 8080 --keyvalue a=memory: &
//! curl http://localhost:8080/draft/a/get/k
//! ```

mod otel;
mod tls;
mod words;

use std::env;

use wasip2::exports::cli::run;
use wasip2::exports::http::incoming_handler;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Program;
wasip2::cli::command::export!(Program);

/// Words are arguments.
impl run::Guest for Program {
    fn run() -> Result<(), ()> {
        let words: Vec<String> = env::args().skip(1).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        println!("{}", said(&words));
        Ok(())
    }
}

fn said(words: &[&str]) -> String {
    match *words {
        ["tls", address, name, message] => tls::ask(address, name, message),
        ["otel", ref rest @ ..] => otel::run(rest),
        _ => words::run(words),
    }
}

struct Handler;
wasip2::http::proxy::export!(Handler);

/// Words are the parts of the path.
impl incoming_handler::Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let words: Vec<&str> = path.split('/').skip(1).collect();
        let said = said(&words);
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("a body");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("a stream");
        // A client that is gone has no use for it.
        let _ = stream.blocking_write_and_flush(said.as_bytes());
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
