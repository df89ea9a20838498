//! State shared by the streams of a connection, and the sending of responses.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

use netwasm_exchange::answer::{Answer, Body};
use netwasm_exchange::head::Refusal;
use netwasm_exchange::request::Request;
use netwasm_net::files::File;
use netwasm_net::thread::Thread;
use netwasm_net::transport::Transport;

use crate::access_log::Entry;
use crate::exchange::{self, CLIENT_LEFT, Own};
use crate::file_body::{self, Part, Purpose};
use crate::h2::held::Budget;
use crate::h2::request;
use crate::h2::stream::{Outcome, Stream, WholeRequest};
use crate::h2::window::Window;
use crate::local::{Date, Local};
use crate::response;

/// Maximum handed to `h2` at once for a stream, and of one read from a file, in
/// bytes.
pub(super) const PIECE: usize = 64 << 10;

/// Maximum size of a file that is read before its head is sent, in bytes.
const SMALL_FILE: u64 = 16 << 10;

/// State shared by the streams of a connection.
pub(super) struct Link {
    pub(super) transport: Rc<Transport>,
    pub(super) local: Rc<Local>,
    pub(super) secure: bool,
    /// The handler of the connection.
    pub(super) own: RefCell<Own>,
    /// Memory for the bodies of requests.
    pub(super) budget: Rc<Budget>,
    /// Flow-control window of the connection.
    pub(super) window: Rc<Window>,
    /// Bytes of responses that wait to be sent.
    queued: Cell<usize>,
    /// True if a guest asked to close the connection.
    pub(super) closes: Cell<bool>,
    /// `Date` of the last response.
    date: Kept<Date>,
    /// `Content-Length` of the last response.
    length: Kept<u64>,
}

/// Cached value of a header, which the next response often repeats.
type Kept<T> = RefCell<Option<(T, HeaderValue)>>;

/// Body of a response.
enum Payload {
    Bytes(Bytes),
    Parts(Vec<Part>),
}

/// Line of the access log, written when the stream is done.
pub(super) struct LogLine {
    link: Rc<Link>,
    entry: Option<Box<Entry>>,
    pub(super) status: u16,
    pub(super) sent: u64,
}

/// Why a response cannot be sent to its end.
pub(super) enum Stopped {
    /// The client reset the stream, or is gone.
    Left,
    /// The client takes nothing (`--write-timeout`).
    Slow,
    /// The file cannot be read, or has become shorter.
    File(io::Error),
}

impl Link {
    pub(super) fn new(local: &Rc<Local>, transport: &Rc<Transport>, secure: bool) -> Rc<Self> {
        let limits = &transport.thread().env.limits.http;
        Rc::new(Self {
            transport: Rc::clone(transport),
            local: Rc::clone(local),
            secure,
            own: RefCell::default(),
            budget: Rc::new(Budget::new(limits.max_body)),
            window: Window::new(&local.env),
            queued: Cell::new(0),
            closes: Cell::new(false),
            date: RefCell::default(),
            length: RefCell::default(),
        })
    }

    pub(super) fn thread(&self) -> &Rc<Thread> {
        self.transport.thread()
    }

    /// Waits for room on a stream, as long as the client takes some of what was
    /// sent. It may have to take megabytes before it makes room.
    async fn while_taken(
        &self,
        grown: impl Future<Output = Result<usize, Stopped>>,
    ) -> Result<usize, Stopped> {
        let thread = self.thread();
        let limit = thread.env.limits.write_timeout;
        let mut grown = pin!(grown);
        let mut before = self.transport.took();
        loop {
            if let Ok(room) = tokio::time::timeout(limit, grown.as_mut()).await {
                return room;
            }
            let now = self.transport.took();
            if now == before {
                return Err(Stopped::Slow);
            }
            before = now;
        }
    }

    /// True if the queued responses exceed the limit, so that the next ones
    /// wait.
    pub(super) fn is_full(&self) -> bool {
        self.queued.get() > self.thread().env.limits.max_write_buffer
    }

    pub(super) fn line(self: &Rc<Self>, head: &Parts) -> LogLine {
        LogLine {
            link: Rc::clone(self),
            entry: request::entry(head, self.transport.peer(), &self.local),
            status: CLIENT_LEFT,
            sent: 0,
        }
    }

    /// Calls the guest to answer a request. Returns what cannot be sent at
    /// once.
    pub(super) fn respond(self: &Rc<Self>, exchange: Box<WholeRequest>) -> Option<Stream> {
        let WholeRequest {
            head,
            incoming,
            outgoing,
            body,
            trailers,
        } = *exchange;
        // The request has ended, so nothing is lost by this.
        drop(incoming);
        let line = self.line(&head);
        let mut request = self.local.take_request();
        request.head.compose(
            head.method.as_str(),
            request::target(&head),
            request::authority(&head).unwrap_or_default(),
            head.headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes())),
        );
        if let Some(body) = body {
            request.body = body.take();
        }
        request.trailers = trailers;
        request.transport = Some(Rc::clone(&self.transport));
        request.secure = self.secure;
        let mut own = self.own.borrow_mut();
        let (request, answer) = own.handle(&self.local, &self.transport, request);
        drop(own);
        let sending = self.send(&request, answer, outgoing, line);
        self.local.put_request(request);
        sending
    }

    /// Checks a response and sends it.
    fn send(
        self: &Rc<Self>,
        request: &Request,
        answer: Answer,
        outgoing: SendResponse<Bytes>,
        line: LogLine,
    ) -> Option<Stream> {
        let checked = match exchange::check(&answer, request, &self.thread().env) {
            Ok(checked) => checked,
            Err(ours) => return self.send_ours(request.is_head(), ours, outgoing, line),
        };
        if checked.closes {
            self.closes.set(true);
        }
        let (status, length, omitted, parts, fields) = match &answer.body {
            Body::File(file) => {
                let mut fields = Vec::new();
                let served = file_body::respond(
                    Rc::clone(file),
                    &self.local.env.roots,
                    Purpose::of(request, answer.status),
                    request,
                    |name| checked.first(name),
                    self.local.now(),
                    &mut fields,
                );
                let parts: Vec<Part> = served.parts.into_iter().collect();
                (served.status, served.length, served.omitted, parts, fields)
            }
            Body::Bytes(bytes) => {
                let none: &[&str] = &[];
                let length = bytes.len() as u64;
                (answer.status, length, none, Vec::new(), Vec::new())
            }
            Body::Empty | Body::Unopened(_) => (answer.status, 0, &[][..], Vec::new(), Vec::new()),
        };
        let mut headers = HeaderMap::with_capacity(answer.headers.len() + 3);
        self.sign(&mut headers, checked.lacks_server(), checked.lacks_date());
        let told = checked.told_length(status, length);
        response::append_all(answer.headers, omitted, &mut headers);
        response::append_lines(&fields, &mut headers);
        if let Some(length) = told {
            headers.insert(header::CONTENT_LENGTH, self.length(length));
        }
        let is_head = request.is_head();
        let trailers = match response::bodiless(status) || is_head {
            true => None,
            false => response::trailers(&answer.trailers),
        };
        let payload = match answer.body {
            _ if is_head => Payload::Bytes(Bytes::new()),
            Body::Bytes(bytes) => Payload::Bytes(bytes.into()),
            _ if length <= SMALL_FILE => match read_all(&parts) {
                Ok(bytes) => Payload::Bytes(bytes.into()),
                Err(error) => {
                    self.file_failed(request.head.target(), &error);
                    let answer = Answer::status(500, "");
                    return self.send_ours(is_head, answer, outgoing, line);
                }
            },
            _ => Payload::Parts(parts),
        };
        self.deliver(status, headers, payload, trailers, outgoing, line)
    }

    /// Sends the host's own response.
    pub(super) fn send_ours(
        self: &Rc<Self>,
        is_head: bool,
        answer: Answer,
        outgoing: SendResponse<Bytes>,
        line: LogLine,
    ) -> Option<Stream> {
        let mut headers = HeaderMap::with_capacity(4);
        self.sign(&mut headers, true, true);
        response::append_all(answer.headers, &[], &mut headers);
        let body = match answer.body {
            Body::Bytes(bytes) => Bytes::from(bytes),
            _ => Bytes::new(),
        };
        headers.insert(header::CONTENT_LENGTH, self.length(body.len() as u64));
        let payload = Payload::Bytes(if is_head { Bytes::new() } else { body });
        self.deliver(answer.status, headers, payload, None, outgoing, line)
    }

    /// Answers a malformed request, or one over a limit.
    pub(super) fn refuse(
        self: &Rc<Self>,
        head: &Parts,
        refusal: Refusal,
        outgoing: SendResponse<Bytes>,
    ) -> Option<Stream> {
        let answer = exchange::refused(&self.transport, refusal);
        let line = self.line(head);
        let is_head = head.method == http::Method::HEAD;
        self.send_ours(is_head, answer, outgoing, line)
    }

    /// Adds `Server` and `Date`.
    pub(super) fn sign(&self, headers: &mut HeaderMap, server: bool, date: bool) {
        if server {
            let name = HeaderValue::from_static("netwasm");
            headers.insert(header::SERVER, name);
        }
        if date {
            headers.insert(header::DATE, self.date());
        }
    }

    fn date(&self) -> HeaderValue {
        kept(&self.date, self.local.date(), |date| {
            HeaderValue::from_bytes(date).unwrap_or_else(|_| HeaderValue::from_static(""))
        })
    }

    pub(super) fn length(&self, length: u64) -> HeaderValue {
        kept(&self.length, length, |length| (*length).into())
    }

    fn file_failed(&self, path: &str, error: &io::Error) {
        exchange::file_failed(&self.thread().env, path, error);
    }

    /// Sends as much of a response as can be sent at once, and returns the
    /// rest.
    fn deliver(
        self: &Rc<Self>,
        status: u16,
        headers: HeaderMap,
        payload: Payload,
        trailers: Option<HeaderMap>,
        mut outgoing: SendResponse<Bytes>,
        mut line: LogLine,
    ) -> Option<Stream> {
        line.status = status;
        let response = head(status, headers)?;
        let empty = matches!(&payload, Payload::Bytes(bytes) if bytes.is_empty());
        let ends = empty && trailers.is_none();
        // An error means that the client has left.
        let mut stream = outgoing.send_response(response, ends).ok()?;
        if ends {
            return None;
        }
        if let Payload::Bytes(bytes) = &payload {
            let length = bytes.len();
            stream.reserve_capacity(length);
            if stream.capacity() >= length {
                line.sent = length as u64;
                let bytes = bytes.clone();
                if empty || stream.send_data(bytes, trailers.is_none()).is_ok() {
                    // An error means that the client has left.
                    let _ = trailers.map(|trailers| stream.send_trailers(trailers));
                }
                return None;
            }
        }
        // The bytes count at once, not only when the future is first polled.
        let queued = match &payload {
            Payload::Bytes(bytes) => Some(Queued::new(self, bytes.len())),
            Payload::Parts(_) => None,
        };
        Some(Box::pin(async move {
            let _queued = queued;
            let sent = match payload {
                Payload::Bytes(bytes) => {
                    send_bytes(&mut stream, bytes, trailers.is_none(), &mut line).await
                }
                Payload::Parts(parts) => {
                    send_parts(&mut stream, parts, trailers.is_none(), &mut line).await
                }
            };
            match (sent, trailers) {
                (Ok(()), Some(trailers)) => {
                    let _ = stream.send_trailers(trailers);
                }
                (Ok(()), None) => {}
                (Err(stopped), _) => line.stopped(&stopped, &mut stream),
            }
            Outcome::Over
        }))
    }
}

/// Returns a header's value: the cached one, or a new one.
fn kept<T: PartialEq>(kept: &Kept<T>, now: T, make: impl FnOnce(&T) -> HeaderValue) -> HeaderValue {
    let mut kept = kept.borrow_mut();
    match &*kept {
        Some((last, value)) if *last == now => value.clone(),
        _ => {
            let value = make(&now);
            kept.insert((now, value)).1.clone()
        }
    }
}

/// Returns a response without its body.
pub(super) fn head(status: u16, headers: HeaderMap) -> Option<http::Response<()>> {
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(status).ok()?;
    *response.headers_mut() = headers;
    Some(response)
}

/// Sends bytes as fast as the client takes them.
pub(super) async fn send_bytes(
    stream: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    ends: bool,
    line: &mut LogLine,
) -> Result<(), Stopped> {
    while !bytes.is_empty() {
        let count = capacity(stream, bytes.len().min(PIECE), &line.link).await?;
        let piece = bytes.split_to(count);
        line.sent += count as u64;
        let last = ends && bytes.is_empty();
        stream.send_data(piece, last).map_err(|_| Stopped::Left)?;
    }
    Ok(())
}

async fn send_parts(
    stream: &mut SendStream<Bytes>,
    parts: Vec<Part>,
    ends: bool,
    line: &mut LogLine,
) -> Result<(), Stopped> {
    let count = parts.len();
    for (number, part) in parts.into_iter().enumerate() {
        let ends = ends && number + 1 == count;
        match part {
            Part::Bytes(bytes) => send_bytes(stream, bytes.into(), ends, line).await?,
            Part::File {
                file,
                offset,
                length,
            } => send_file(stream, &file, offset..offset + length, ends, line).await?,
        }
    }
    Ok(())
}

async fn send_file(
    stream: &mut SendStream<Bytes>,
    file: &File,
    mut range: Range<u64>,
    ends: bool,
    line: &mut LogLine,
) -> Result<(), Stopped> {
    while !range.is_empty() {
        let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let room = capacity(stream, left.min(PIECE), &line.link).await?;
        let mut piece = vec![0; room];
        file.read_exact_at(&mut piece, range.start)
            .map_err(Stopped::File)?;
        range.start += room as u64;
        line.sent += room as u64;
        let last = ends && range.is_empty();
        stream
            .send_data(piece.into(), last)
            .map_err(|_| Stopped::Left)?;
    }
    Ok(())
}

/// Waits for room on a stream, and returns the bytes that can be sent, up to
/// `wanted`.
pub(super) async fn capacity(
    stream: &mut SendStream<Bytes>,
    wanted: usize,
    link: &Link,
) -> Result<usize, Stopped> {
    stream.reserve_capacity(wanted);
    let mut room = stream.capacity();
    if room == 0 {
        let grown = async {
            loop {
                match poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(Ok(0)) => {}
                    Some(Ok(room)) => return Ok(room),
                    Some(Err(_)) | None => return Err(Stopped::Left),
                }
            }
        };
        room = link.while_taken(grown).await?;
    }
    Ok(room.min(wanted))
}

/// Reads all of a few small parts.
fn read_all(parts: &[Part]) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for part in parts {
        match part {
            Part::Bytes(bytes) => all.extend_from_slice(bytes),
            Part::File {
                file,
                offset,
                length,
            } => exchange::read(file, *offset, *length, &mut all)?,
        }
    }
    Ok(all)
}

impl LogLine {
    /// Logs why a response stops before its end, and resets the stream, so that
    /// it does not look whole.
    pub(super) fn stopped(&self, stopped: &Stopped, stream: &mut SendStream<Bytes>) {
        let peer = self.link.transport.peer();
        match stopped {
            Stopped::Left => {
                tracing::debug!(%peer, "the client wants no more of a response");
                stream.send_reset(Reason::CANCEL);
            }
            Stopped::Slow => {
                tracing::info!(%peer, "the client takes nothing of a response (--write-timeout)");
                stream.send_reset(Reason::CANCEL);
            }
            Stopped::File(error) => {
                let path = self.entry.as_ref().map(|it| it.line.as_slice());
                let path = String::from_utf8_lossy(path.unwrap_or_default()).into_owned();
                self.link.file_failed(&path, error);
                stream.send_reset(Reason::INTERNAL_ERROR);
            }
        }
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take()
            && let Some(lines) = self.link.local.lines()
        {
            let entry = Entry {
                status: self.status,
                length: self.sent,
                ..*entry
            };
            lines.borrow_mut().add(&entry, self.sent);
        }
    }
}

/// Bytes of a response that wait until the client takes them.
struct Queued {
    link: Rc<Link>,
    bytes: usize,
}

impl Queued {
    fn new(link: &Rc<Link>, bytes: usize) -> Self {
        link.queued.set(link.queued.get() + bytes);
        Self {
            link: Rc::clone(link),
            bytes,
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.link.queued.set(self.link.queued.get() - self.bytes);
    }
}
