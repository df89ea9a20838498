//! WebSocket connections that guests open: the client's side of the handshake, RFC
//! 6455, section 4.1.
//!
//! ```text
//!   ClientRequest --> head --> server
//!   server --> head (forward::reading) --> judge --> Opened, its driver
//!                                             \--> NotOpened
//! ```

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};

use aws_lc_rs::rand;
use http::{HeaderMap, HeaderName, StatusCode, header};

use netwasm_base::config::MessageCompression;
use netwasm_base::error::ConnectionError;
use netwasm_exchange::answer::Fields;
use netwasm_exchange::websocket::{Accepted, ClientRequest, NotOpened, Opened};
use netwasm_net::protocol::Lost;
use netwasm_net::transport::{Linger, Transport};
use netwasm_net::worker::Worker;

use crate::forward::reading::{self, Received};
use crate::websocket::codec::{Agreed, ThreadBuffers};
use crate::websocket::{WebSocketConnection, accept, base64};

/// Maximum of interim responses before the server's answer.
const MOST_INTERIM: usize = 16;

/// Fields of an answer that are the host's.
const OURS: [HeaderName; 3] = [
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_PROTOCOL,
];

/// Asks the server of a connection for a WebSocket on it.
///
/// # Errors
/// Fails if the server refuses, breaks a rule, or leaves.
pub(super) async fn open(
    worker: Weak<Worker>,
    messages: Rc<ThreadBuffers>,
    transport: Rc<Transport>,
    request: ClientRequest,
) -> Result<Opened, NotOpened> {
    let mut opening = Opening::new(transport);
    let limits = &opening.transport.thread().env.limits.http;
    let most_fields = limits.max_response_headers;
    let compression = match request.compress {
        true => limits.websocket.compression,
        false => MessageCompression::Off,
    };
    let key = new_key()?;
    opening.transport.write(&head(&request, &key, compression));
    let answer = poll_fn(|cx| opening.poll_answer(cx, most_fields)).await?;
    if answer.status != StatusCode::SWITCHING_PROTOCOLS {
        opening.then = Then::Closes;
        return Err(NotOpened::Refused {
            status: answer.status.as_u16(),
            headers: fields(&answer.headers),
        });
    }
    let agreed = judge(&answer, &request, &key, compression)
        .map_err(|fault| ConnectionError::Other(format!("the server's answer has {fault}")))?;
    let protocol = answer.headers.get(header::SEC_WEBSOCKET_PROTOCOL);
    let protocol = protocol.and_then(|it| it.to_str().ok()).map(str::to_owned);
    let transport = Rc::clone(&opening.transport);
    Ok(Opened {
        protocol,
        headers: fields(&answer.headers),
        transport,
        begin: Box::new(move |socket, guest| {
            let Some(worker) = worker.upgrade() else {
                return;
            };
            let (transport, early) = opening.into_parts();
            let accepted = Accepted {
                protocol: None,
                headers: Vec::new(),
                socket,
                guest,
            };
            let mut connection = WebSocketConnection::to_server(&messages, accepted, agreed);
            connection.keep(early);
            let driver = OpenedDriver {
                stage: OpeningStage::Open(Box::new(connection)),
                transport: Rc::clone(&transport),
            };
            worker.drive(&transport, driver);
        }),
    })
}

/// Returns a new `Sec-WebSocket-Key`.
fn new_key() -> Result<String, ConnectionError> {
    let mut key = [0; 16];
    let filled = rand::fill(&mut key);
    filled.map_err(|_| ConnectionError::Other("the system has no random numbers".into()))?;
    Ok(base64(&key))
}

/// Returns the head of the request.
fn head(request: &ClientRequest, key: &str, compression: MessageCompression) -> Vec<u8> {
    let ClientRequest { host, target, .. } = request;
    let mut head = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    );
    if !request.protocols.is_empty() {
        let protocols = request.protocols.join(", ");
        head.push_str(&format!("Sec-WebSocket-Protocol: {protocols}\r\n"));
    }
    if let Some(offer) = Agreed::offer(compression) {
        head.push_str(&format!("Sec-WebSocket-Extensions: {offer}\r\n"));
    }
    let mut head = head.into_bytes();
    for (name, value) in &request.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Judges an answer with status 101. Returns what was agreed on compression.
///
/// # Errors
/// Fails with what the answer must not have.
fn judge(
    answer: &Received,
    request: &ClientRequest,
    key: &str,
    compression: MessageCompression,
) -> Result<Option<Agreed>, &'static str> {
    let is_websocket = |it: &http::HeaderValue| it.as_bytes().eq_ignore_ascii_case(b"websocket");
    if !answer.says_upgrade || !answer.upgrade.as_ref().is_some_and(is_websocket) {
        return Err("another protocol than WebSocket (Upgrade, Connection)");
    }
    let values = |name: HeaderName| {
        let values = answer.headers.get_all(name).iter();
        values.map(http::HeaderValue::as_bytes)
    };
    let mut proofs = values(header::SEC_WEBSOCKET_ACCEPT);
    if proofs.next() != Some(accept(key.as_bytes()).as_bytes()) || proofs.next().is_some() {
        return Err("a wrong Sec-WebSocket-Accept, or none");
    }
    let mut chosen = values(header::SEC_WEBSOCKET_PROTOCOL);
    let offered = |it: &[u8]| request.protocols.iter().any(|own| own.as_bytes() == it);
    if !chosen.next().is_none_or(offered) || chosen.next().is_some() {
        return Err("a protocol that was not offered (Sec-WebSocket-Protocol)");
    }
    Agreed::granted(values(header::SEC_WEBSOCKET_EXTENSIONS), compression)
}

/// Returns the fields of an answer that a guest gets.
fn fields(headers: &HeaderMap) -> Fields {
    let all = headers.iter().filter(|(name, _)| !OURS.contains(name));
    all.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

/// A connection whose server has yet to answer, or whose driver has yet to begin.
/// Dropping it closes the connection.
struct Opening {
    transport: Rc<Transport>,
    /// Input that was not used.
    input: Vec<u8>,
    interim: usize,
    then: Then,
}

/// Fate of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It fails, unless something else is noted.
    Fails,
    /// Its server has answered, and opens no WebSocket connection.
    Closes,
    /// It goes on, in other hands.
    GoesOn,
}

impl Opening {
    fn new(transport: Rc<Transport>) -> Self {
        Self {
            transport,
            input: Vec::new(),
            interim: 0,
            then: Then::Fails,
        }
    }

    /// Ready with the head of the answer, which is final or has the status 101.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        most_fields: usize,
    ) -> Poll<Result<Received, ConnectionError>> {
        let wrong = |fault: reading::Malformed| {
            ConnectionError::Other(format!("the server's answer cannot be understood: {fault}"))
        };
        loop {
            if let Some(lost) = self.transport.over() {
                return Poll::Ready(Err(lost.unwrap_or(ConnectionError::Aborted)));
            }
            if let Poll::Ready(Err(reason)) = self.transport.poll_flush(cx) {
                return Poll::Ready(Err(reason));
            }
            let before = self.input.len();
            ready!(self.poll_receive(cx))?;
            let received = self.input.len() - before;
            while reading::may_be_whole(&self.input, received)
                && let Some(answer) =
                    reading::read(&self.input, false, most_fields, &|_| false).map_err(wrong)?
            {
                if !self.input.starts_with(b"HTTP/1.1 ") {
                    return Poll::Ready(Err(wrong(reading::Malformed::Head)));
                }
                self.input.drain(..answer.size);
                if !answer.status.is_informational()
                    || answer.status == StatusCode::SWITCHING_PROTOCOLS
                {
                    return Poll::Ready(Ok(answer));
                }
                self.interim += 1;
                if self.interim > MOST_INTERIM {
                    return Poll::Ready(Err(wrong(reading::Malformed::Status)));
                }
            }
            if self.transport.pauses(cx, received) {
                return Poll::Pending;
            }
        }
    }

    /// Receives a piece.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let thread = Rc::clone(self.transport.thread());
        let mut scratch = thread.scratch.borrow_mut();
        let received = ready!(self.transport.poll_receive(cx, &mut scratch))?;
        Poll::Ready(match received.is_end() {
            true => Err(ConnectionError::Reset),
            false => {
                self.input.extend_from_slice(scratch.get(received));
                Ok(())
            }
        })
    }

    /// Returns the connection, which goes on, and the frames that have arrived.
    fn into_parts(mut self) -> (Rc<Transport>, Vec<u8>) {
        self.then = Then::GoesOn;
        (Rc::clone(&self.transport), std::mem::take(&mut self.input))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let counters = &self.transport.thread().env.counters;
        match self.then {
            Then::Fails => counters.connections_lost.add(),
            Then::Closes => {
                counters.connections_closed.add();
                self.transport.say_close_notify();
            }
            Then::GoesOn => return,
        }
        self.transport.release();
    }
}

/// Drives a connection to a server to its end.
struct OpenedDriver {
    transport: Rc<Transport>,
    stage: OpeningStage,
}

enum OpeningStage {
    Open(Box<WebSocketConnection>),
    Lingering(Linger),
    Over,
}

impl OpenedDriver {
    /// Counts and logs how the connection ended.
    fn lose(&self, lost: &Lost) -> OpeningStage {
        let transport = &self.transport;
        transport.record_end(lost);
        match lost {
            None => {
                transport.say_close_notify();
                OpeningStage::Lingering(Linger::begin(transport))
            }
            Some(_) => {
                transport.reset_on_close();
                OpeningStage::Over
            }
        }
    }
}

impl Future for OpenedDriver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let transport = Rc::clone(&this.transport);
        let _driven = transport.drive(cx);
        loop {
            this.stage = match &mut this.stage {
                OpeningStage::Open(connection) => {
                    let lost = ready!(connection.poll(cx));
                    this.lose(&lost)
                }
                OpeningStage::Lingering(linger) => {
                    ready!(linger.poll(&transport, cx));
                    OpeningStage::Over
                }
                OpeningStage::Over => {
                    transport.release();
                    return Poll::Ready(());
                }
            };
        }
    }
}
