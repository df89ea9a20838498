//! Requests in HTTP/1.1: heads, and the bodies that are collected before a
//! guest is called.

use std::rc::Rc;

use netwasm_exchange::chunked::{Chunked, Fed};
use netwasm_exchange::handler::{Takes, Wanted};
use netwasm_exchange::head::{Framing, HeadLimits};
use netwasm_exchange::request::Request;

use crate::exchange::{NOT_PLAIN, NOT_TLS, TOO_LARGE};
use crate::h1::{Collecting, Driver, Reading};
use crate::upload::Remaining;
use crate::{h2, response};

impl Driver {
    /// Uses some of the input. Returns the bytes used; `None` if it needs more.
    pub(super) fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        match std::mem::replace(&mut self.exchange.reading, Reading::Head(None)) {
            Reading::Head(partial) => self.read_head(partial, input, out),
            Reading::Body(upload) => Some(self.read_body(upload, input, out)),
            other => {
                // This input comes after the response to the present request.
                self.exchange.reading = other;
                None
            }
        }
    }

    fn read_head(
        &mut self,
        partial: Option<Box<Request>>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let begins = partial.is_none();
        let mut request = partial.unwrap_or_else(|| self.local.take_request());
        let limits = self.limits();
        let (head_timeout, limits) = (limits.head_timeout, HeadLimits::from(limits));
        match request.head.parse(input, &limits) {
            Ok(Some(length)) => {
                let body = input.get(length..).unwrap_or_default();
                Some(length + self.begin_request(request, &limits, body, out))
            }
            Ok(None) => {
                // The first request's time began with the connection.
                if begins && !self.exchange.fresh {
                    self.transport.set_alarm(Some(head_timeout));
                }
                self.exchange.reading = Reading::Head(Some(request));
                None
            }
            Err(_) if self.exchange.fresh && !self.exchange.secure && is_preface(input) => {
                self.exchange.reading = Reading::Http2;
                self.local.put_request(request);
                None
            }
            Err(_) if self.exchange.fresh && !self.exchange.secure && is_handshake(input) => {
                self.refuse(request, NOT_PLAIN, out);
                None
            }
            Err(refusal) => {
                self.refuse(request, refusal, out);
                None
            }
        }
    }

    /// Refuses a client that speaks plain HTTP on a port for TLS. `input` is
    /// what has arrived of its request.
    pub(super) fn refuse_plain(&mut self, input: &[u8]) {
        let local = Rc::clone(&self.local);
        let mut request = local.take_request();
        // The access log gets the fields that can be parsed.
        let _ = request.head.parse(input, &HeadLimits::from(self.limits()));
        let mut out = local.out();
        self.refuse(request, NOT_TLS, &mut out);
        self.write_out(&mut out);
    }

    /// Begins a request whose head has arrived, with what has arrived of its
    /// body. Returns the bytes used of that.
    fn begin_request(
        &mut self,
        mut request: Box<Request>,
        limits: &HeadLimits,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> usize {
        let most = self.limits().max_body as u64;
        let wanted = || Wanted {
            authority: request.head.authority(),
            target: request.head.target(),
        };
        let (site, takes) = self.local.route(self.transport.peer(), &wanted);
        request.site = site;
        if let Framing::Length(length) = request.head.framing()
            && length > most
        {
            self.refuse(request, TOO_LARGE, out);
            return 0;
        }
        let comes = !matches!(request.head.framing(), Framing::None | Framing::Length(0));
        match takes {
            Takes::Streams => self.begin_answering(request, limits, input, out),
            Takes::Heads if comes => self.begin_at_head(request, limits, input, out),
            Takes::Heads | Takes::Whole => self.collect(request, limits, most, input, out),
        }
    }

    /// Collects a body of up to `most` bytes, and then calls the guest. `input`
    /// is what has arrived of it. Returns the bytes used of that.
    pub(super) fn collect(
        &mut self,
        mut request: Box<Request>,
        limits: &HeadLimits,
        most: u64,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> usize {
        let remaining = match request.head.framing() {
            Framing::None => {
                self.respond(request, out);
                return 0;
            }
            Framing::Length(length) => Remaining::Length(length),
            Framing::Chunked => Remaining::Chunked(Chunked::new(most, limits)),
        };
        request.body.clear();
        let comes = !matches!(remaining, Remaining::Length(0));
        if comes && input.is_empty() && request.head.expects_continue() {
            response::write_continue(out);
        }
        let upload = Box::new(Collecting { request, remaining });
        self.read_body(upload, input, out)
    }

    /// Uses what has arrived of a body, and returns the bytes used.
    fn read_body(&mut self, mut upload: Box<Collecting>, input: &[u8], out: &mut Vec<u8>) -> usize {
        let body = &mut upload.request.body;
        let (used, done) = match &mut upload.remaining {
            Remaining::Length(remaining) => {
                let length = usize::try_from(*remaining).unwrap_or(usize::MAX);
                let piece = input.get(..length).unwrap_or(input);
                body.extend_from_slice(piece);
                *remaining -= piece.len() as u64;
                (piece.len(), *remaining == 0)
            }
            Remaining::Chunked(chunked) => match chunked.feed(input, body) {
                Ok(Fed { consumed, done }) => {
                    if done {
                        upload
                            .request
                            .trailers
                            .extend_from_slice(chunked.trailers());
                    }
                    (consumed, done)
                }
                Err(refusal) => {
                    self.refuse(upload.request, refusal, out);
                    return input.len();
                }
            },
        };
        if done {
            self.respond(upload.request, out);
        } else {
            self.transport.set_alarm(Some(self.limits().body_timeout));
            self.exchange.reading = Reading::Body(upload);
        }
        used
    }
}

/// True if the input is the preface of HTTP/2 with prior knowledge, or its
/// start (RFC 9113, section 3.4). HTTP/1.1 would refuse it as a request.
fn is_preface(input: &[u8]) -> bool {
    let most = h2::PREFACE.len();
    input.len() >= "PRI * HTTP/2.0\r\n".len()
        && h2::PREFACE.starts_with(input.get(..most).unwrap_or(input))
}

/// True if the input is a TLS handshake record, or its start (RFC 8446, section
/// 5.1).
fn is_handshake(input: &[u8]) -> bool {
    matches!(input, [22] | [22, 3, ..])
}
