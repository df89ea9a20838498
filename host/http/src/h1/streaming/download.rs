//! Response that is sent while it is made, or whose body is a file.

mod body;

use std::any::Any;
use std::io::{self, Write as _};
use std::rc::Rc;

use http::header;
use http_body::Body as _;

use netwasm_exchange::content::{BoxContent, Ended, FileContent, OpenContent};
use netwasm_exchange::failure::Failure;
use netwasm_exchange::reply::{Answered, NoResponse, Sent};
use netwasm_net::queue::FilePart;

use super::{AnswerStage, Answering};
use crate::exchange::read;
use crate::h1::{Driver, SMALL_FILE};
use crate::local::clear;
use crate::response::{self, Persistence, Plan, UnsendableResponse};

/// A response that is being sent.
pub(super) struct Download {
    content: Content,
    pub(super) framing: Framed,
    pub(super) status: u16,
    /// Bytes of the body sent so far.
    pub(super) sent: u64,
    /// Taken once the body was given to the transport.
    pub(super) told: Option<Told>,
    /// Trailers that the guest delivers apart from the body.
    trailers: Option<Ended>,
    pub(super) persistence: Persistence,
}

impl Download {
    /// True if nothing but trailers can be missing.
    pub(super) fn is_whole(&self) -> bool {
        let is_empty = match &self.content {
            Content::Trailers(_) => true,
            // It has no contents.
            Content::Frames(body) => self.sent == 0 && body.size_hint().exact() == Some(0),
            Content::Nothing => false,
        };
        is_empty || self.framing == Framed::Length(self.sent)
    }
}

/// Content that is still to send.
enum Content {
    Nothing,
    Frames(BoxContent),
    /// The trailers. All of the body was given to the transport.
    Trailers(Ended),
}

/// Notification of a guest that its response was sent. If dropped, it says that
/// the response was not.
#[derive(Default)]
pub(in crate::h1) struct Told {
    pub(super) sent: Option<Sent>,
    /// Dropped when the file is no longer read.
    reading: Option<Box<dyn Any>>,
}

impl Told {
    /// True if somebody waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.sent.is_some() || self.reading.is_some()
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").finish_non_exhaustive()
    }
}

/// Framing: the way in which the client finds the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framed {
    /// By its length in bytes.
    Length(u64),
    Chunked,
    /// By the end of the connection.
    Closed,
}

/// Result of sending a body.
pub(super) enum Next {
    /// The response is complete.
    Complete,
    /// The response cannot be completed. What was sent must not look whole.
    Broken,
}

impl Driver {
    /// Begins a response, or refuses one that cannot be sent. `closes` is true if
    /// the guest asked to close the connection. Returns the request unless it is
    /// done with.
    pub(super) fn begin_response(
        &mut self,
        mut answering: Box<Answering>,
        answered: Answered,
        closes: bool,
        out: &mut Vec<u8>,
    ) -> Option<Box<Answering>> {
        let limit = self.limits().response_body_timeout;
        answering.deadline = Some(self.thread().tick_after(limit));
        if let Err(what) = self.write_head(&mut answering, answered, closes, out) {
            self.refuse_response(*answering, &NoResponse::Failed(what), out);
            return None;
        }
        Some(answering)
    }

    /// Writes the head of a response, and its body if that is a file. `closes` is
    /// true if the guest asked to close the connection.
    ///
    /// # Errors
    /// Fails if the response cannot be sent. Nothing of it was written then.
    fn write_head(
        &mut self,
        answering: &mut Answering,
        answered: Answered,
        closes: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let Answered {
            response,
            sent: told,
            trailers,
        } = answered;
        let (parts, mut body) = response.into_parts();
        let request = &answering.request;
        let head = request.is_head();
        let file = match response::bodiless(parts.status.as_u16()) {
            true => None,
            false => body.take_file(),
        };
        let file = file.map(FileContent::open).transpose();
        let file = file.map_err(|error| format!("its file cannot be sent: {error}"))?;
        let file_length = file.as_ref().map(|file| file.length);
        let plan = match Plan::new(&parts, head, file_length, body.is_end_stream()) {
            Ok(plan) => plan,
            Err(fault) => {
                if let (UnsendableResponse::File { file, .. }, Some(told)) = (&fault, told) {
                    // The guest may not listen.
                    let _ = told.send(Err(Failure::HttpResponseBodySize(Some(*file))));
                }
                return Err(fault.to_string());
            }
        };
        let status = plan.status;
        let one_zero = request.head.minor_version() == 0;
        let told_length = parts.headers.contains_key(header::CONTENT_LENGTH);
        let framing = match plan.length {
            // A file's trailers need chunks.
            _ if file.is_some() && !told_length && request.head.accepts_trailers() && !one_zero => {
                Framed::Chunked
            }
            Some(length) => Framed::Length(length),
            None if one_zero => Framed::Closed,
            None => Framed::Chunked,
        };
        let waits = answering
            .upload
            .as_ref()
            .is_some_and(|it| it.expects_continue());
        let keeps = request.head.keep_alive()
            && framing != Framed::Closed
            && !waits
            && !closes
            && !self.transport.ends_with_answer();
        let persistence = match (keeps, request.head.minor_version()) {
            (false, _) => Persistence::Closed,
            (true, 0) => Persistence::KeptOnRequest,
            (true, _) => Persistence::Kept,
        };
        let begin = out.len();
        response::write_head(status, &parts.headers, &self.local.date(), out);
        if framing == Framed::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            if request.head.accepts_trailers() && plan.has_body {
                response::write_trailer(&parts.headers, out);
            }
        }
        let length = plan.told.filter(|_| framing != Framed::Chunked);
        response::finish(length, persistence, out);
        let mut download = Box::new(Download {
            content: Content::Nothing,
            framing,
            status,
            sent: 0,
            told: None,
            trailers,
            persistence,
        });
        let mut told = Told {
            sent: told,
            reading: None,
        };
        match file {
            _ if !plan.has_body => download.framing = Framed::Length(0),
            None => download.content = Content::Frames(body),
            Some(file) => {
                download.sent = file.length;
                if let Err(error) = self.send_file(&file, framing, out) {
                    out.truncate(begin);
                    return Err(format!("its file cannot be read: {error}"));
                }
                told.reading = Some(file.reading);
                download.content = Content::Trailers(file.ended);
            }
        }
        download.told = Some(told);
        answering.stage = AnswerStage::Sending(download);
        Ok(())
    }

    /// Sends a file, or queues it.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    fn send_file(
        &mut self,
        content: &OpenContent,
        framing: Framed,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let &OpenContent { offset, length, .. } = content;
        if length == 0 {
            return Ok(());
        }
        if framing == Framed::Chunked {
            begin_chunk(length, out);
        }
        if length <= SMALL_FILE {
            read(&content.file, offset, length, out)?;
        } else {
            let part = FilePart {
                file: Rc::clone(&content.file),
                offset,
                remaining: length,
            };
            self.exchange.written += out.len() as u64 + length;
            self.transport.write_with_file(out, part);
            clear(out);
            self.exchange.sending = true;
        }
        if framing == Framed::Chunked {
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }
}

fn begin_chunk(length: u64, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{length:x}\r\n");
}
