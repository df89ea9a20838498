//! Handler and clients for the tests of both drivers.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use netwasm_base::config::HttpLimits;
use netwasm_exchange::answer::{self, Answer};
use netwasm_exchange::chunked::Chunked;
use netwasm_exchange::content::{BoxContent, Content, Ended, FileContent};
use netwasm_exchange::failure::Failure;
use netwasm_exchange::handler::{
    Awaiting, Call, Decision, Handler, Handlers, NoAnswer, Site, Takes, Wanted,
};
use netwasm_exchange::head::HeadLimits;
use netwasm_exchange::reply::{Answered, Reply};
use netwasm_exchange::request::Request;
use netwasm_net::service::Service as _;
use netwasm_net::testing::{connection, peer, soon, until};
use netwasm_net::transport::Transport;
use netwasm_net::worker::Worker;

use crate::Service;
use crate::flow_limit::FlowLimit;
use crate::local::{Account, Env, Local};

/// A scripted handler, which serves all connections and notes its requests.
#[derive(Clone)]
pub(crate) struct Script(Rc<Inner>);

/// Answers a request that arrived whole, by its target.
type Answers = Box<dyn Fn(&str) -> Result<Decision, NoAnswer>>;

struct Inner {
    answers: Option<Answers>,
    /// True if it takes requests at their heads.
    heads: bool,
    asked: RefCell<Vec<String>>,
    calls: RefCell<VecDeque<Call>>,
    abandoned: Cell<usize>,
    env: OnceCell<Arc<Env>>,
}

impl Script {
    /// Returns a handler that takes requests whole.
    pub(crate) fn whole(answers: impl Fn(&str) -> Result<Decision, NoAnswer> + 'static) -> Self {
        Self::new(Some(Box::new(answers)), false)
    }

    /// Returns a handler that takes requests at their heads.
    pub(crate) fn at_head(answers: impl Fn(&str) -> Result<Decision, NoAnswer> + 'static) -> Self {
        Self::new(Some(Box::new(answers)), true)
    }

    /// Returns an async handler, for which the test answers.
    pub(crate) fn awaiting() -> Self {
        Self::new(None, false)
    }

    fn new(answers: Option<Answers>, heads: bool) -> Self {
        Self(Rc::new(Inner {
            answers,
            heads,
            asked: RefCell::default(),
            calls: RefCell::default(),
            abandoned: Cell::default(),
            env: OnceCell::new(),
        }))
    }

    /// Returns the targets of all requests, in the order of arrival at the
    /// handler.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.0.asked.borrow().clone()
    }

    /// Returns how many requests were cancelled.
    pub(crate) fn abandoned(&self) -> usize {
        self.0.abandoned.get()
    }

    /// Waits for a request with this target, after so many others.
    pub(crate) async fn asked_for(&self, target: &str, others: usize) {
        let asked = || {
            self.0
                .asked
                .borrow()
                .get(others)
                .is_some_and(|it| it == target)
        };
        until(&format!("the handler is asked for {target}"), asked).await;
    }

    /// Waits for the next request to an async handler.
    pub(crate) async fn call(&self) -> Call {
        until("the handler is asked", || !self.0.calls.borrow().is_empty()).await;
        self.0.calls.borrow_mut().pop_front().expect("there is one")
    }

    /// Serves a new connection, and returns the client's end.
    pub(crate) fn connect(&self, worker: &Rc<Worker>) -> UnixStream {
        let env = self.0.env.get_or_init(|| {
            Arc::new(Env {
                access_log: None,
                tallies: None,
                flow_limit: Arc::new(FlowLimit::new(worker.env().limits.http.max_unread)),
            })
        });
        let account = Account::new(worker.env(), env);
        let local = Local::new(Arc::clone(env), Rc::new(self.clone()), account, Vec::new());
        local.let_tunnel();
        let (transport, there) = connection(worker);
        Service::new(local).accept(worker, transport);
        peer(there)
    }

    /// Like `connect`, with an HTTP/1.1 client.
    pub(crate) fn client(&self, worker: &Rc<Worker>) -> TestClient {
        TestClient {
            stream: self.connect(worker),
            kept: Vec::new(),
        }
    }
}

/// Script whose requests, except `/small`, seem to take long.
pub(crate) struct Busy {
    pub(crate) script: Script,
    /// Number of other requests answered.
    pub(crate) bulk: Rc<Cell<usize>>,
    /// Their number before the last `/small`.
    pub(crate) handled: Rc<Cell<Option<usize>>>,
}

impl Busy {
    pub(crate) fn new(worker: &Worker) -> Self {
        let bulk = Rc::new(Cell::new(0));
        let handled = Rc::new(Cell::new(None));
        let (counted, noted) = (Rc::clone(&bulk), Rc::clone(&handled));
        let steps = worker.env().steps.clone();
        let script = Script::whole(move |target| {
            if target == "/small" {
                noted.set(Some(counted.get()));
            } else {
                counted.set(counted.get() + 1);
                steps.advance();
            }
            ok("")
        });
        Self {
            script,
            bulk,
            handled,
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").finish_non_exhaustive()
    }
}

impl Handlers for Script {
    fn takes<'a>(&self, _: &dyn Fn() -> Wanted<'a>) -> (Site, Takes) {
        let takes = match self.0.answers {
            Some(_) if self.0.heads => Takes::Heads,
            Some(_) => Takes::Whole,
            None => Takes::Streams,
        };
        (Site::default(), takes)
    }

    fn connection(&self, _: &Rc<Transport>) -> Box<dyn Handler> {
        Box::new(self.clone())
    }
}

impl Handler for Script {
    fn handle(&mut self, request: Box<Request>) -> (Box<Request>, Result<Decision, NoAnswer>) {
        let target = request.head.target().to_owned();
        let answers = self.0.answers.as_ref().expect("it awaits");
        let answer = answers(&target);
        self.0.asked.borrow_mut().push(target);
        (request, answer)
    }

    fn begin(&mut self, call: Call) -> Rc<dyn Awaiting> {
        let target = call.head.uri().path().to_owned();
        self.0.asked.borrow_mut().push(target);
        self.0.calls.borrow_mut().push_back(call);
        Rc::new(self.clone())
    }
}

impl Awaiting for Script {
    fn abandon(self: Rc<Self>, reply: &Rc<Reply>) {
        self.0.abandoned.set(self.0.abandoned.get() + 1);
        reply.abandon();
    }
}

/// Returns an answer with status 200.
pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Result<Decision, NoAnswer> {
    Ok(Decision::Answer(Answer {
        status: 200,
        headers: Vec::new(),
        body: answer::Body::Bytes(body.into()),
        trailers: Vec::new(),
    }))
}

/// Answers a request to an async handler.
pub(crate) fn answer(call: &Call, response: http::response::Builder, body: Pieces) {
    let body: BoxContent = Box::new(body);
    call.reply.answer(Ok(Answered {
        response: response.body(body).expect("a response"),
        sent: None,
        trailers: None,
    }));
}

/// Like [`answer`], with status 200, and with trailers that come apart from the body.
pub(crate) fn answer_with_trailers(call: &Call, body: Pieces, trailers: Ended) {
    let body: BoxContent = Box::new(body);
    call.reply.answer(Ok(Answered {
        response: http::Response::new(body),
        sent: None,
        trailers: Some(trailers),
    }));
}

/// Answers with status 200 and a body.
pub(crate) fn answer_ok(call: &Call, body: impl Into<Bytes>) {
    answer(call, http::Response::builder(), Pieces::of(body));
}

/// A body made piece by piece.
pub(crate) struct Pieces {
    left: Box<dyn Iterator<Item = Bytes>>,
    next: Option<Bytes>,
    /// Behaviour after the last piece.
    then: AfterAnswer,
}

/// Behaviour of a body after its last piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterAnswer {
    /// It has ended, which shows before the next poll.
    Ended,
    /// It ends at the next poll.
    Ends,
    /// It stays pending for ever.
    Stalls,
}

impl Pieces {
    /// Returns a body of these pieces. All but the first are made on demand.
    pub(crate) fn new(pieces: impl Iterator<Item = Bytes> + 'static, then: AfterAnswer) -> Self {
        let mut left: Box<dyn Iterator<Item = Bytes>> = Box::new(pieces);
        Self {
            next: left.next(),
            left,
            then,
        }
    }

    /// Returns a body of one piece, or an empty one.
    pub(crate) fn of(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::new(
            Some(body).filter(|it| !it.is_empty()).into_iter(),
            AfterAnswer::Ended,
        )
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.next.take() {
            Some(piece) => {
                self.next = self.left.next();
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            None if self.then == AfterAnswer::Stalls => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && self.then == AfterAnswer::Ended
    }
}

impl Content for Pieces {
    fn take_file(&mut self) -> Option<FileContent> {
        None
    }
}

/// An HTTP/1.1 client.
pub(crate) struct TestClient {
    stream: UnixStream,
    /// Input after the last response.
    kept: Vec<u8>,
}

/// A response as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    /// Content-Length of the response.
    pub(crate) told: Option<u64>,
    pub(crate) body: Vec<u8>,
    /// True if all of the body arrived.
    pub(crate) whole: bool,
}

impl TestClient {
    pub(crate) async fn send(&mut self, data: &str) {
        let sent = soon(
            "room for what is sent",
            self.stream.write_all(data.as_bytes()),
        )
        .await;
        sent.expect("it is sent");
    }

    /// Sends a GET request.
    pub(crate) async fn get(&mut self, target: &str) {
        self.send(&get(target)).await;
    }

    /// Half-closes the connection.
    pub(crate) async fn end(&mut self) {
        self.stream.shutdown().await.expect("it is shut");
    }

    /// Receives a response to GET.
    pub(crate) async fn response(&mut self) -> TestResponse {
        self.receive(false).await
    }

    /// Receives a response; to HEAD, if `head`.
    pub(crate) async fn receive(&mut self, head: bool) -> TestResponse {
        loop {
            let length = loop {
                match memchr::memmem::find(&self.kept, b"\r\n\r\n") {
                    Some(length) => break length + 4,
                    None => assert!(self.more().await, "no response: {:?}", self.kept),
                }
            };
            let lines: Vec<u8> = self.kept.drain(..length).collect();
            let lines = String::from_utf8(lines).expect("text");
            let status = lines.get(9..12).and_then(|it| it.parse().ok());
            let status: u16 = status.expect("a status");
            if status == 100 {
                continue;
            }
            let field = |name: &str| {
                let mut fields = lines.lines().filter_map(|line| line.split_once(": "));
                let field = fields.find(|(it, _)| it.eq_ignore_ascii_case(name));
                field.map(|(_, value)| value.to_owned())
            };
            let told = field("content-length").map(|it| it.parse().expect("a number"));
            let none = head || matches!(status, 204 | 304);
            let (body, whole) = match (told, field("transfer-encoding")) {
                _ if none => (Vec::new(), true),
                (None, Some(_)) => self.chunks().await,
                (told, _) => self.bytes(told.unwrap_or(0)).await,
            };
            return TestResponse {
                status,
                told,
                body,
                whole,
            };
        }
    }

    async fn bytes(&mut self, length: u64) -> (Vec<u8>, bool) {
        let length = usize::try_from(length).expect("it is little");
        while self.kept.len() < length && self.more().await {}
        let count = length.min(self.kept.len());
        (self.kept.drain(..count).collect(), count == length)
    }

    async fn chunks(&mut self) -> (Vec<u8>, bool) {
        let limits = HeadLimits::from(&HttpLimits::default());
        let mut chunked = Chunked::new(u64::MAX, &limits);
        let mut body = Vec::new();
        loop {
            let fed = chunked.feed(&self.kept, &mut body).expect("chunks");
            self.kept.drain(..fed.consumed);
            if fed.done || !self.more().await {
                return (body, fed.done);
            }
        }
    }

    /// Waits for the end of the connection. Nothing more may arrive.
    pub(crate) async fn ended(&mut self) {
        assert!(
            !self.more().await && self.kept.is_empty(),
            "{:?}",
            self.kept
        );
    }

    /// Receives some more. Returns false at the end.
    async fn more(&mut self) -> bool {
        let receive = self.stream.read_buf(&mut self.kept);
        let received = soon("something for the client, or the end", receive).await;
        received.expect("it ends in order") > 0
    }

    /// True if there is more input, or its end.
    pub(crate) fn has_more(&mut self) -> bool {
        !self.kept.is_empty() || self.stream.try_read_buf(&mut self.kept).is_ok()
    }
}

/// Returns a GET request.
pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")
}
