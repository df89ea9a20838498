//! gRPC: calls of all four kinds, whose messages are bytes.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use wasip3::clocks::monotonic_clock;
use wasip3::http::types::{Fields, Request, Response};
use wasip3::{wit_future, wit_stream};
use wit_bindgen::{StreamReader, StreamWriter};

use crate::{CHUNK, is_end, no_trailers, respond};

/// Length of what is before a message: a flag, and its length.
const PREFIX: usize = 5;

const TYPE: (&str, &str) = ("content-type", "application/grpc");

/// Answers a call. The status is in trailers, but for a call that is denied.
pub(crate) fn answer(method: String, request: Request) -> Response {
    if method == "Denied" {
        // "Trailers-Only": PERMISSION_DENIED.
        let head = [TYPE, ("grpc-status", "7"), ("grpc-message", "not%20you")];
        return respond(200, &head, None, no_trailers());
    }
    let (mut out, body) = wit_stream::new();
    let (told, trailers) = wit_future::new(|| Ok(None));
    let (_, ok) = wit_future::new(|| Ok(()));
    let (data, _) = Request::consume_body(request, ok);
    wit_bindgen::spawn_local(async move {
        let mut messages = Messages {
            data,
            buffer: Vec::new(),
            ended: false,
        };
        let mut status = "0";
        match &*method {
            "Unary" => {
                if let Some(mut message) = messages.next().await {
                    message.reverse();
                    send(&mut out, &message).await;
                }
            }
            "Collects" => {
                let mut sum = 0;
                while let Some(message) = messages.next().await {
                    sum += message.len();
                }
                send(&mut out, sum.to_string().as_bytes()).await;
            }
            "Sends" => {
                let count = messages.next().await.unwrap_or_default();
                let count = String::from_utf8_lossy(&count).parse().unwrap_or(0);
                for number in 0..count {
                    send(&mut out, i32::to_string(&number).as_bytes()).await;
                }
            }
            "Talks" => {
                while let Some(message) = messages.next().await {
                    send(&mut out, &message.to_ascii_uppercase()).await;
                }
            }
            "Waits" => monotonic_clock::wait_for(u64::MAX >> 1).await,
            // NOT_FOUND and UNIMPLEMENTED.
            "Fails" => status = "5",
            _ => status = "12",
        }
        drop(out);
        let fields = [("grpc-status", status), ("x-final", "2")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        let _ = told.write(Ok(Fields::from_list(&fields).ok())).await;
    });
    respond(200, &[TYPE], Some(body), trailers)
}

async fn send(out: &mut StreamWriter<u8>, message: &[u8]) {
    let mut bytes = vec![0];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    out.write_all(bytes).await;
}

/// Messages of a body.
struct Messages {
    data: StreamReader<u8>,
    buffer: Vec<u8>,
    ended: bool,
}

impl Messages {
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = self.buffer.get(1..PREFIX) {
                let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
                if self.buffer.len() >= PREFIX + length {
                    let rest = self.buffer.split_off(PREFIX + length);
                    let message = self.buffer.split_off(PREFIX);
                    self.buffer = rest;
                    return Some(message);
                }
            }
            if self.ended {
                return None;
            }
            let (status, piece) = self.data.read(Vec::with_capacity(CHUNK)).await;
            self.buffer.extend(piece);
            self.ended = is_end(status);
        }
    }
}
