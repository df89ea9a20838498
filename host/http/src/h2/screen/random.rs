//! Random connections: requests arrive from `h2` as a client sent them, and the
//! screen gives up nothing that `h2` goes on with.

mod client;
mod encoder;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::noop_waker;
use h2::RecvStream;
use h2::server::{self, SendResponse};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use netwasm_exchange::head::target;

use self::client::{Random, RandomClient, frame};
use super::*;

/// The limit on heads, bytes.
const MAX_HEAD: usize = 256 << 10;

/// Frames of a header block that `h2` takes then.
const MOST_FRAMES: usize = 22;

/// A request, as it was sent or as it has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    stream: u32,
    method: String,
    path: Vec<u8>,
    authority: String,
    /// In the order of their names.
    headers: Fields,
    body: Vec<u8>,
    trailers: Fields,
    /// True if it comes to its end.
    whole: bool,
}

type Fields = Vec<(String, Vec<u8>)>;

/// A client's bytes, piece by piece, as `h2` gets them. Bytes that `h2` sends are lost.
struct Feed {
    /// None where `h2` is to see all as it is.
    screen: Option<Rc<RefCell<Screen>>>,
    pieces: VecDeque<Vec<u8>>,
    ready: Bytes,
}

impl AsyncRead for Feed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.ready.is_empty() {
            let Some(piece) = self.pieces.pop_front() else {
                return Poll::Pending;
            };
            let seen = match &self.screen {
                Some(screen) => screen.borrow_mut().screen(&piece).into_owned(),
                None => piece,
            };
            self.ready = seen.into();
        }
        let count = buffer.remaining().min(self.ready.len());
        buffer.put_slice(&self.ready.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Feed {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A request that is coming.
struct ComingRequest {
    message: Message,
    incoming: RecvStream,
    outgoing: Option<SendResponse<Bytes>>,
}

fn fields(map: &HeaderMap) -> Fields {
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    let mut fields: Fields = map.iter().map(field).collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

impl ComingRequest {
    fn new(
        request: http::Request<RecvStream>,
        outgoing: SendResponse<Bytes>,
        screen: Option<&Rc<RefCell<Screen>>>,
    ) -> Self {
        let (head, incoming) = request.into_parts();
        let stream = incoming.stream_id().as_u32();
        let path = head.uri.path_and_query().map_or("/", |it| it.as_str());
        let hidden = screen.filter(|_| is_hidden(path));
        let path = match hidden {
            Some(screen) => screen.borrow_mut().take(stream).expect("a target").to_vec(),
            None => path.as_bytes().to_vec(),
        };
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        Self {
            message: Message {
                stream,
                method: head.method.as_str().to_owned(),
                path,
                authority: authority.unwrap_or_default().to_owned(),
                headers: fields(&head.headers),
                ..Message::default()
            },
            incoming,
            outgoing: Some(outgoing),
        }
    }

    /// Takes what there is of the body, and answers at its end.
    fn poll(&mut self, cx: &mut Context<'_>) {
        if self.outgoing.is_none() {
            return;
        }
        while let Poll::Ready(Some(piece)) = self.incoming.poll_data(cx) {
            let Ok(piece) = piece else {
                self.outgoing = None;
                return;
            };
            self.message.body.extend_from_slice(&piece);
            let _ = self.incoming.flow_control().release_capacity(piece.len());
        }
        match self.incoming.poll_trailers(cx) {
            Poll::Pending => {}
            Poll::Ready(Err(_)) => self.outgoing = None,
            Poll::Ready(Ok(trailers)) => {
                self.message.trailers = trailers.as_ref().map(fields).unwrap_or_default();
                self.message.whole = true;
                if let Some(mut outgoing) = self.outgoing.take() {
                    let _ = outgoing.send_response(http::Response::new(()), true);
                }
            }
        }
    }
}

/// Returns the requests that `h2` gets from these pieces, and true if it ends the
/// connection.
fn received(
    pieces: VecDeque<Vec<u8>>,
    screen: Option<&Rc<RefCell<Screen>>>,
) -> (Vec<Message>, bool) {
    let waker = noop_waker();
    let cx = &mut Context::from_waker(&waker);
    let feed = Feed {
        screen: screen.cloned(),
        pieces,
        ready: Bytes::new(),
    };
    let mut handshake = server::Builder::new()
        .max_concurrent_streams(100)
        .max_header_list_size(MAX_HEAD as u32)
        .handshake::<_, Bytes>(feed);
    let connection = Pin::new(&mut handshake).poll(cx);
    let mut coming: Vec<ComingRequest> = Vec::new();
    let Poll::Ready(Ok(mut connection)) = connection else {
        return (Vec::new(), true);
    };
    let mut ends = false;
    let mut idle = 0;
    // Nothing waits: what has been done is seen in the next round.
    while idle < 3 && !ends {
        idle += 1;
        match connection.poll_accept(cx) {
            Poll::Ready(Some(Ok((request, outgoing)))) => {
                coming.push(ComingRequest::new(request, outgoing, screen));
                idle = 0;
            }
            Poll::Ready(Some(Err(_)) | None) => ends = true,
            Poll::Pending => {}
        }
        for it in &mut coming {
            it.poll(cx);
        }
    }
    (coming.into_iter().map(|it| it.message).collect(), ends)
}

/// Cuts what a client sends.
fn cut(mut input: &[u8], random: &mut Random) -> VecDeque<Vec<u8>> {
    let most = [1, 3, 12, 100, 2000, 1 << 20][random.below(6)];
    // Many of them take long.
    let most = most.max(input.len() / 1000);
    let mut pieces = VecDeque::new();
    while !input.is_empty() {
        let (piece, rest) = input.split_at(input.len().min(1 + random.below(most)));
        pieces.push_back(piece.to_vec());
        input = rest;
    }
    pieces
}

#[test]
fn requests_arrive_as_they_were_sent() {
    let mut arrived = 0;
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut client = RandomClient::new(&mut random);
        client.all_kinds = true;
        client.run(40);
        let sent = client.sent;
        let input = client.output;
        let screen = Rc::new(RefCell::new(Screen::new(MAX_HEAD)));
        let (received, ends) = received(cut(&input, &mut random), Some(&screen));
        assert_eq!(received.len(), sent.len(), "seed {seed}");
        for (received, sent) in received.iter().zip(&sent) {
            assert_eq!(received, sent, "seed {seed}");
        }
        assert!(!ends, "seed {seed}");
        let screen = screen.borrow();
        assert!(!screen.blind && screen.held.is_empty(), "seed {seed}");
        arrived += sent.len();
    }
    assert!(arrived > 600, "{arrived}");
}

/// Returns the requests that `h2` gets from these frames.
fn screened(frames: &[Vec<u8>]) -> (Vec<Message>, bool) {
    let screen = Rc::new(RefCell::new(Screen::new(MAX_HEAD)));
    let input = [PREFACE, &frame(4, 0, 0, b""), &frames.concat()].concat();
    received([input].into(), Some(&screen))
}

#[test]
fn a_head_has_as_many_frames_as_h2_takes() {
    for (count, takes) in [(MOST_FRAMES, true), (MOST_FRAMES + 1, false)] {
        let block = b"\x82\x86\x04\x02/<\x41\x04test";
        let mut frames = vec![frame(HEADERS, END_STREAM, 1, block)];
        frames.resize(count - 1, frame(CONTINUATION, 0, 1, b""));
        frames.push(frame(CONTINUATION, END_HEADERS, 1, b""));
        let (received, ends) = screened(&frames);
        assert_eq!(received.len(), usize::from(takes));
        assert_eq!(ends, !takes);
    }
}

#[test]
fn a_promise_that_h2_would_overlook_ends_the_connection() {
    let head = b"\x82\x86\x84\x41\x04test";
    let promise = b"\0\0\0\x02\x44\x02/a\x00\x0aconnection\x00";
    let (received, ends) = screened(&[
        frame(HEADERS, END_HEADERS, 1, head),
        frame(PUSH_PROMISE, END_HEADERS, 1, promise),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, head),
    ]);
    assert!(ends && received.len() < 2, "{received:?}");
}

#[test]
fn a_stream_before_the_last_ends_the_connection() {
    let head = b"\x82\x86\x84\x41\x04test";
    let whole = END_HEADERS | END_STREAM;
    let (received, ends) = screened(&[5, 3].map(|stream| frame(HEADERS, whole, stream, head)));
    assert!(ends && received.len() < 2, "{received:?}");
}

/// Frames that nobody knows: as much as the longest frame.
fn unknown() -> Vec<u8> {
    frame(0x20, 0, 0, &[0x20; 100]).repeat(200)
}

#[test]
fn what_is_broken_is_broken_to_h2_too() {
    let (mut blind, mut compared) = (0, 0);
    for seed in 0..150 {
        let mut random = Random::new(1000 + seed);
        let mut input = if seed % 2 == 0 {
            let mut client = RandomClient::new(&mut random);
            // h2 alone takes no others, or ends the connection.
            client.paths.truncate(6);
            client.run(12);
            client.output
        } else {
            garbage(&mut random)
        };
        for _ in 0..random.below(3) {
            let at = PREFACE.len() + random.below(input.len() - PREFACE.len());
            let bit = random.below(8);
            input[at] = match random.below(2) {
                0 => random.byte(),
                _ => input[at] ^ (1 << bit),
            };
        }
        input.extend(unknown());
        let (direct, _) = received(cut(&input, &mut random), None);
        let screen = Rc::new(RefCell::new(Screen::new(MAX_HEAD)));
        let (screened, ends) = received(cut(&input, &mut random), Some(&screen));
        if screen.borrow().blind {
            assert!(ends, "seed {seed}");
            blind += 1;
        }
        for one in &direct {
            let same = screened.iter().find(|it| it.stream == one.stream);
            let same = same.unwrap_or_else(|| panic!("seed {seed}: {one:?} is missing"));
            assert_eq!(one.headers, same.headers, "seed {seed}");
            assert_eq!(
                (&one.method, &one.authority),
                (&same.method, &same.authority)
            );
            if target::is_plain(&same.path) {
                assert_eq!(one.path, same.path, "seed {seed}");
            }
            compared += 1;
        }
    }
    assert!(blind > 50 && compared > 100, "{blind} {compared}");
}

/// Header blocks of bytes that are likely to mean something.
fn garbage(random: &mut Random) -> Vec<u8> {
    const LIKELY: &[u8] = b"\x82\x84\x86\x87\x40\x44\x04\0\x10\x20\x3f\x80\xff\x7f\x01\x81/a<";
    let mut input = PREFACE.to_vec();
    for stream in [1, 3, 5, 7, 9] {
        let mut block = b"\x82\x86".to_vec();
        for _ in 0..random.below(12) {
            let likely = LIKELY[random.below(LIKELY.len())];
            block.push(match random.below(4) {
                0 => random.byte(),
                _ => likely,
            });
        }
        input.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block));
    }
    input
}
