//! Responses of event guests, and the host's own.

use std::io;
use std::rc::Rc;

use netwasm_exchange::answer::{Answer, Body};
use netwasm_exchange::content::RequestBody;
use netwasm_exchange::deferred::Deferred;
use netwasm_exchange::handler::Decision;
use netwasm_exchange::head::{Framing, HeadLimits, Refusal};
use netwasm_exchange::request::Request;
use netwasm_net::files::File;
use netwasm_net::queue::FilePart;

use crate::access_log::Entry;
use crate::exchange;
use crate::exchange::{TOO_LARGE, read};
use crate::file_body::{self, Part, Purpose};
use crate::h1::{Driver, JOIN, SMALL_FILE};
use crate::local::clear;
use crate::response::{self, Checked, Persistence};
use crate::upload::UploadBody;

impl Driver {
    /// Calls the guest to answer a request.
    pub(super) fn respond(&mut self, mut request: Box<Request>, out: &mut Vec<u8>) {
        self.exchange.fresh = false;
        let entry = self.entry(&mut request);
        request.transport = Some(Rc::clone(&self.transport));
        request.secure = self.exchange.secure;
        let local = Rc::clone(&self.local);
        let (request, decision) = self.exchange.own.handle(&local, &self.transport, request);
        match decision {
            Decision::Answer(answer) => {
                self.send(&request, &answer, entry, out);
                self.local.put_request(request);
                self.transport
                    .set_alarm(Some(self.limits().keep_alive_timeout));
            }
            Decision::Later(deferred) => self.defer(request, entry, None, None, deferred),
            Decision::Forward(forward) => self.forward(request, entry, None, None, forward, out),
            Decision::WebSocket(accepted) => self.open_websocket(request, *accepted, entry, out),
            // The handler has the body, so this cannot be.
            Decision::Collect(_) => self.send(&request, &exchange::gone(), entry, out),
        }
    }

    /// Calls the guest with a request whose body is yet to arrive. `input` is
    /// what has arrived of it. Returns the bytes used of that.
    pub(super) fn begin_at_head(
        &mut self,
        mut request: Box<Request>,
        limits: &HeadLimits,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> usize {
        let most = self.limits().max_body as u64;
        self.exchange.fresh = false;
        let entry = self.entry(&mut request);
        request.transport = Some(Rc::clone(&self.transport));
        request.secure = self.exchange.secure;
        let Some(upload) = self.upload(&request, most, limits, input) else {
            self.respond(request, out);
            return 0;
        };
        request.arriving = true;
        request.coming = Some(RequestBody::new(UploadBody(Rc::clone(&upload))));
        let local = Rc::clone(&self.local);
        let (mut request, decision) = self.exchange.own.handle(&local, &self.transport, request);
        let mut coming = request.coming.take();
        if coming.is_none() {
            upload.is_read_by_events();
        }
        let deferred = match decision {
            Decision::Forward(forward) => {
                self.forward(request, entry, Some(upload), coming, forward, out);
                return input.len();
            }
            Decision::Answer(answer) => {
                coming = None;
                Deferred::given(answer)
            }
            Decision::Later(deferred) => deferred,
            // A request that opens one has no body, so this cannot be.
            Decision::WebSocket(accepted) => {
                accepted.fail();
                Deferred::given(exchange::gone())
            }
            Decision::Collect(wanted) => {
                let most = wanted.map_or(most, |wanted| wanted.min(most));
                request.arriving = false;
                if let Framing::Length(length) = request.head.framing()
                    && length > most
                {
                    self.refuse(request, TOO_LARGE, out);
                    return 0;
                }
                return self.collect(request, limits, most, input, out);
            }
        };
        self.defer(request, entry, Some(upload), coming, deferred);
        input.len()
    }

    /// Checks a response and writes it.
    pub(super) fn send(
        &mut self,
        request: &Request,
        answer: &Answer,
        entry: Option<Entry>,
        out: &mut Vec<u8>,
    ) {
        let local = Rc::clone(&self.local);
        let told = answer.told_in(|| request.error_form());
        let answer = told.as_ref().unwrap_or(answer);
        match exchange::check(answer, request, &local.account(&request.site).net) {
            Ok(mut checked) => {
                checked.closes |= self.exchange.last;
                self.write(request, &checked, entry, out);
            }
            Err(ours) => self.answer_for(request, &ours, entry, out),
        }
    }

    fn write(
        &mut self,
        request: &Request,
        checked: &Checked<'_>,
        entry: Option<Entry>,
        out: &mut Vec<u8>,
    ) {
        let keeps =
            request.head.keep_alive() && !checked.closes && !self.transport.ends_with_answer();
        let persistence = match (keeps, request.head.minor_version()) {
            (false, _) => Persistence::Closed,
            (true, 0) => Persistence::KeptOnRequest,
            (true, _) => Persistence::Kept,
        };
        self.exchange.last |= !keeps;
        // Whoever leaves some of the request unread has it close.
        self.exchange.whole = !keeps && !checked.closes;
        let (status, length) = match &checked.answer.body {
            Body::File(file) => self.write_file(request, checked, file, persistence, out),
            body => {
                let bytes = match body {
                    Body::Bytes(bytes) => bytes.as_slice(),
                    _ => &[],
                };
                let length = self.write_bytes(request, checked, bytes, persistence, out);
                (checked.answer.status, length)
            }
        };
        self.log_later(entry, status, length, out);
    }

    /// Writes a response with a body of bytes. Returns the bytes of the body
    /// that are sent.
    fn write_bytes(
        &mut self,
        request: &Request,
        checked: &Checked<'_>,
        bytes: &[u8],
        persistence: Persistence,
        out: &mut Vec<u8>,
    ) -> u64 {
        let status = checked.answer.status;
        checked.start(status, &self.local.date(), &[], out);
        let trailers = &checked.answer.trailers;
        let may_follow = !request.is_head() && !response::bodiless(status);
        if may_follow && !trailers.is_empty() && request.head.accepts_trailers() {
            response::finish_chunked(bytes, trailers, persistence, out);
            return bytes.len() as u64;
        }
        let length = checked.told_length(status, bytes.len() as u64);
        response::finish(length, persistence, out);
        if request.is_head() {
            return 0;
        }
        if bytes.len() <= JOIN {
            out.extend_from_slice(bytes);
        } else {
            self.exchange.written += (out.len() + bytes.len()) as u64;
            self.transport.write_vectored(&[out, bytes]);
            clear(out);
            self.exchange.sending = self.transport.queued() > 0;
        }
        bytes.len() as u64
    }

    /// Writes a response with a file. Returns its status, and the bytes of the
    /// body that are sent.
    fn write_file(
        &mut self,
        request: &Request,
        checked: &Checked<'_>,
        file: &Rc<File>,
        persistence: Persistence,
        out: &mut Vec<u8>,
    ) -> (u16, u64) {
        let http = &self.local;
        let mut fields = http.fields();
        let served = file_body::respond(
            Rc::clone(file),
            Purpose::of(request, checked.answer.status),
            request,
            |name| checked.first(name),
            http.now(),
            &mut fields,
        );
        let begin = out.len();
        checked.start(served.status, &http.date(), served.omitted, out);
        out.extend_from_slice(&fields);
        fields.clear();
        drop(fields);
        let length = checked.told_length(served.status, served.length);
        response::finish(length, persistence, out);
        if request.is_head() {
            return (served.status, 0);
        }
        for part in served.parts {
            match part {
                Part::Bytes(bytes) => out.extend_from_slice(&bytes),
                Part::File {
                    file,
                    offset,
                    length,
                } if served.length <= SMALL_FILE => {
                    if let Err(error) = read(&file, offset, length, out) {
                        out.truncate(begin);
                        return self.file_failed(request, &error, out);
                    }
                }
                Part::File {
                    file,
                    offset,
                    length: remaining,
                } => {
                    let part = FilePart {
                        file,
                        offset,
                        remaining,
                    };
                    self.exchange.written += out.len() as u64 + part.remaining;
                    self.transport.write_with_file(out, part);
                    clear(out);
                    self.exchange.sending = true;
                }
            }
        }
        (served.status, served.length)
    }

    /// Answers in place of a file of which nothing was sent yet. Returns the
    /// status, and the bytes of the body that are sent.
    fn file_failed(
        &mut self,
        request: &Request,
        error: &io::Error,
        out: &mut Vec<u8>,
    ) -> (u16, u64) {
        let env = &self.local.account(&request.site).net;
        exchange::file_failed(env, request.head.target(), error);
        self.exchange.last = true;
        let ours = Answer::status(500, "");
        let answer = ours.told_in(|| request.error_form()).unwrap_or(ours);
        let text = match &answer.body {
            Body::Bytes(text) => text.as_slice(),
            _ => &[],
        };
        let checked = Checked::ours(&answer);
        let length = self.write_bytes(request, &checked, text, Persistence::Closed, out);
        (answer.status, length)
    }

    /// Writes the host's own response.
    pub(super) fn answer_for(
        &mut self,
        request: &Request,
        answer: &Answer,
        entry: Option<Entry>,
        out: &mut Vec<u8>,
    ) {
        let told = answer.told_in(|| request.error_form());
        let mut checked = Checked::ours(told.as_ref().unwrap_or(answer));
        checked.closes = self.exchange.last;
        self.write(request, &checked, entry, out);
    }

    /// Answers a malformed request, or one over a limit. The connection ends
    /// after that, since the start of the next request is unknown.
    pub(super) fn refuse(
        &mut self,
        mut request: Box<Request>,
        refusal: Refusal,
        out: &mut Vec<u8>,
    ) {
        let local = Rc::clone(&self.local);
        let env = &local.account(&request.site).net;
        let ours = exchange::refused(env, &self.transport, refusal);
        let answer = ours.told_in(|| request.error_form()).unwrap_or(ours);
        let status = answer.status;
        if let Body::Bytes(text) = &answer.body {
            let checked = Checked::ours(&answer);
            checked.start(status, &local.date(), &[], out);
            response::finish(Some(text.len() as u64), Persistence::Closed, out);
            let body = if request.is_head() {
                &[]
            } else {
                text.as_slice()
            };
            out.extend_from_slice(body);
            let entry = self.entry(&mut request);
            self.log_later(entry, status, body.len() as u64, out);
        }
        self.exchange.last = true;
        local.put_request(request);
    }
}
