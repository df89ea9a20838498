//! Streams of events (Server-Sent Events: WHATWG HTML, section 9.2): the texts of a
//! topic as the body of a response, made without a guest.
//!
//! Each event has an ID, by which a client that connects again gets what it has
//! missed, as far as that is kept. An event of the type `gap` tells of what is not. An
//! end of the stream is none for the client: it connects again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};

use netwasm_base::config::{Limits, SlowClient};
use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;
use netwasm_net::thread::Thread;
use netwasm_net::transport::Transport;

use crate::content::{Content, FileContent};
use crate::failure::Failure;

use super::ring::{Gap, RingBegin};
use super::{Published, Subscriber, SubscriberId, TopicsOfThread};

/// Media type of a stream of events.
pub const MEDIA_TYPE: &str = "text/event-stream";

/// Maximum of a piece that the connection takes, in bytes.
const PIECE: usize = 64 << 10;

/// Bytes that a queued event takes besides its text.
const OVERHEAD: usize = 64;

/// A comment, which clients ignore.
const HEARTBEAT: &[u8] = b":\n\n";

/// The events that a guest answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsOf {
    /// Topic whose texts they are.
    pub topic: String,
    /// Their type; `None` is `message`.
    pub event: Option<String>,
    /// Time after which clients connect again; `None` leaves it to them.
    pub retry: Option<Duration>,
}

/// The client that gets events.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// ID of the last event that it has seen: `Last-Event-ID`.
    pub seen: Option<Vec<u8>>,
    /// Its connection.
    pub transport: Option<Rc<Transport>>,
}

/// A stream of events, as the body of a response.
pub struct EventsBody {
    queue: Rc<EventQueue>,
    /// Name of the topic.
    topic: Arc<str>,
    id: SubscriberId,
    topics: Rc<TopicsOfThread>,
    transport: Option<Rc<Transport>>,
    /// Line before each event, with its type.
    event: Bytes,
    heartbeat: Option<Heartbeat>,
    /// Ends of the service, and of the listener if that is another one's.
    ends: Vec<Pin<Box<dyn Future<Output = ()>>>>,
    /// True once the stream has ended.
    over: bool,
}

/// Timer of the comments.
struct Heartbeat {
    interval: Duration,
    sleep: Pin<Box<Sleep>>,
    /// Time at which something was last sent.
    sent: Instant,
}

/// Events that wait for the client.
struct EventQueue {
    state: RefCell<QueueState>,
    thread: Rc<Thread>,
}

#[derive(Default)]
struct QueueState {
    events: VecDeque<Bytes>,
    /// Rest of an event that the connection has begun to take.
    begun: Bytes,
    bytes: usize,
    /// Number of the last message of the topic that the client has got, or that it
    /// does not want.
    last: u64,
    /// Messages since the last queued one that the client does not get, as it is slow.
    dropped: Option<Gap>,
    /// True if nothing more is queued, as the client is slow.
    full: bool,
    /// True if nothing more is queued, as the next message found no room on its way
    /// here.
    gap: bool,
    waker: Option<Waker>,
}

impl EventsBody {
    /// Subscribes to the texts of a topic, for a client. Returns the ID of the message
    /// before the first that it gets, too.
    ///
    /// # Errors
    /// Fails with `InvalidArgument` if the topic's name is empty or too long, or if
    /// the type has a line end.
    pub fn new(
        topics: &Rc<TopicsOfThread>,
        of: &EventsOf,
        reader: Reader,
    ) -> Result<(Self, String), ConnectionError> {
        let type_line = match &of.event {
            Some(event) if event.contains(['\r', '\n']) => {
                return Err(ConnectionError::InvalidArgument);
            }
            Some(event) => format!("event: {event}\n").into(),
            None => Bytes::new(),
        };
        let thread = topics.thread();
        let queue = Rc::new(EventQueue {
            state: RefCell::default(),
            thread: Rc::clone(thread),
        });
        let id = topics.new_id();
        let as_subscriber: Rc<dyn Subscriber> = Rc::<EventQueue>::clone(&queue);
        let (topic, ring) = topics.read(&of.topic, id, Rc::downgrade(&as_subscriber))?;
        let RingBegin {
            id: begin,
            gap,
            missed,
            messages,
            last,
        } = ring.begin(reader.seen.as_deref());
        let mut head = String::new();
        if let Some(retry) = of.retry {
            // Writing to memory cannot fail.
            let _ = writeln!(head, "retry: {}", retry.as_millis());
        }
        if let Some(gap) = gap {
            head += &gap.lines();
        }
        // Without a gap, it has no data, and so is no event to a client, which keeps
        // the ID.
        let _ = write!(head, "id: {begin}\n\n");
        let limits = &thread.env.limits;
        let mut ends: Vec<Pin<Box<dyn Future<Output = ()>>>> =
            vec![Box::pin(Rc::clone(thread).drained())];
        if let Some(transport) = &reader.transport
            && !Rc::ptr_eq(transport.thread(), thread)
        {
            ends.push(Box::pin(Rc::clone(transport.thread()).drained()));
        }
        let listener = reader.transport.as_ref().map(|it| it.thread());
        let heartbeat = Heartbeat::new(limits, listener.map(|it| &it.env.limits));
        thread.meter.add(Measure::MessagesSent, messages);
        queue.begin(head.into(), missed, last);
        thread.env.counters.event_streams_opened.add();
        let body = Self {
            queue,
            topic,
            id,
            topics: Rc::clone(topics),
            transport: reader.transport,
            event: type_line,
            heartbeat,
            ends,
            over: false,
        };
        Ok((body, begin))
    }

    /// True if the stream ends once what is queued is sent: the client connects again,
    /// elsewhere perhaps.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if self.over {
            return true;
        }
        let transport = self.transport.as_ref();
        let leaves = transport.is_some_and(|it| it.is_leaving());
        let ended = |end: &mut Pin<Box<dyn Future<Output = ()>>>| end.as_mut().poll(cx).is_ready();
        self.over = leaves
            || self.queue.state.borrow().ends()
            || self.queue.thread.is_draining()
            || self.ends.iter_mut().any(ended);
        if self.over {
            // No more is queued.
            self.topics.unsubscribe(&self.topic, self.id);
        }
        self.over
    }
}

impl Heartbeat {
    /// Returns the timer by the limits of the service and of the connection's listener.
    fn new(limits: &Limits, listener: Option<&Limits>) -> Option<Self> {
        // Other time-outs are not to end the stream either.
        let others = |it: &Limits| [Some(it.http.response_body_timeout), it.idle_timeout];
        let both = [Some(limits), listener].into_iter().flatten();
        let halves = both.flat_map(others).flatten().map(|time| time / 2);
        let interval = halves.chain(limits.http.events.heartbeat).min()?;
        Some(Self {
            interval,
            sleep: Box::pin(sleep(interval)),
            sent: Instant::now(),
        })
    }

    /// Ready once nothing was sent for the interval.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let due = self.sent + self.interval;
            if due <= now {
                self.sent = now;
                self.sleep.as_mut().reset(now + self.interval);
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl EventQueue {
    /// Queues the first lines, and what the client has missed.
    fn begin(&self, head: Bytes, missed: Vec<Bytes>, last: u64) {
        let mut state = self.state.borrow_mut();
        state.last = last;
        // The first lines must not have the type of an event before them.
        state.events.push_back(head);
        state.events.extend(missed);
        state.bytes = state.events.iter().map(|it| it.len() + OVERHEAD).sum();
    }

    fn wake(&self) {
        let waker = self.state.borrow_mut().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes a piece. `type_line` goes before each event, of which the first one ever
    /// is none.
    fn take(&self, type_line: &[u8]) -> Option<Bytes> {
        let mut state = self.state.borrow_mut();
        if state.begun.is_empty() {
            let first = state.next()?;
            if !type_line.is_empty() || !state.events.is_empty() && first.len() < PIECE {
                return Some(state.join(first, type_line));
            }
            state.begun = first;
        }
        Some(state.go_on(PIECE))
    }
}

impl QueueState {
    /// Takes the next event, whose bytes are yet to be sent.
    fn next(&mut self) -> Option<Bytes> {
        let event = self.events.pop_front()?;
        self.bytes -= OVERHEAD;
        if self.events.is_empty() {
            // An idle stream keeps no room for events.
            self.events = VecDeque::new();
        }
        Some(event)
    }

    /// Takes up to so many bytes of the event that has begun.
    fn go_on(&mut self, most: usize) -> Bytes {
        let length = self.begun.len().min(most);
        self.bytes -= length;
        self.begun.split_to(length)
    }

    /// Joins events to a piece.
    fn join(&mut self, first: Bytes, type_line: &[u8]) -> Bytes {
        let length = type_line.len() + first.len();
        let mut piece = BytesMut::with_capacity(length.min(type_line.len() + PIECE));
        let mut next = Some(first);
        while let Some(event) = next {
            if event.starts_with(b"data:") {
                piece.extend_from_slice(type_line);
            }
            self.begun = event;
            piece.extend_from_slice(&self.go_on(PIECE.saturating_sub(piece.len())));
            next = match piece.len() < PIECE {
                true => self.next(),
                false => None,
            };
        }
        piece.freeze()
    }

    /// True if nothing more is queued. The client gets what follows when it connects
    /// again, as far as that is kept.
    fn ends(&self) -> bool {
        self.full || self.gap
    }

    fn push(&mut self, text: Bytes) {
        self.bytes += text.len() + OVERHEAD;
        self.events.push_back(text);
    }

    /// Drops what is queued.
    fn clear(&mut self) {
        self.events = VecDeque::new();
        // A client ignores an event that has no end.
        self.begun = Bytes::new();
        self.bytes = 0;
    }
}

impl Subscriber for EventQueue {
    fn deliver(&self, messages: &[Arc<Published>]) {
        let limits = &self.thread.env.limits;
        let (slow, then) = (limits.http.websocket.max_queue, limits.http.websocket.slow);
        let meter = &self.thread.meter;
        let mut state = self.state.borrow_mut();
        let (mut sent, mut dropped) = (0, 0);
        for event in messages.iter().filter_map(|it| it.event.as_ref()) {
            if event.number <= state.last {
                // It is among those that the client had missed.
                continue;
            }
            // The client is not to take a later one for the last that it has seen.
            state.gap |= event.number > state.last + 1;
            state.last = event.number;
            let most = match then {
                SlowClient::Wait => limits.max_write_buffer,
                SlowClient::Drop | SlowClient::Close => slow,
            };
            // An event that tells of a gap is not a message.
            let messages = u64::from(event.gap.is_none());
            if state.ends() || state.bytes > most {
                dropped += messages;
                let gap = event.gap.unwrap_or(Gap::Of(1));
                state.dropped = Some(state.dropped.map_or(gap, |it| it.and(gap)));
                state.full |= !state.gap && then != SlowClient::Drop;
                continue;
            }
            if let Some(gap) = state.dropped.take() {
                // Without an ID: a client that leaves before the next message gets
                // what is kept of them when it comes again.
                state.push((gap.lines() + "\n").into());
            }
            sent += messages;
            state.push(event.text.clone());
        }
        meter.add(Measure::MessagesSent, sent);
        meter.add(Measure::MessagesDropped, dropped);
        if state.full {
            // It connects again, and gets what is kept.
            state.clear();
        }
        drop(state);
        self.wake();
    }

    fn missed(&self, number: u64) {
        let mut state = self.state.borrow_mut();
        // One that came later has got it from the ring.
        state.gap |= number > state.last;
        drop(state);
        self.wake();
    }

    fn reads_events(&self) -> bool {
        true
    }
}

impl Body for EventsBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = &mut *self;
        let is_over = this.is_over(cx);
        if let Some(piece) = this.queue.take(&this.event) {
            if let Some(heartbeat) = &mut this.heartbeat {
                heartbeat.sent = Instant::now();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if is_over {
            return Poll::Ready(None);
        }
        if let Some(heartbeat) = &mut this.heartbeat
            && heartbeat.poll(cx).is_ready()
        {
            let comment = Bytes::from_static(HEARTBEAT);
            return Poll::Ready(Some(Ok(Frame::data(comment))));
        }
        let mut state = this.queue.state.borrow_mut();
        match &state.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => state.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Content for EventsBody {
    fn take_file(&mut self) -> Option<FileContent> {
        None
    }
}

impl Drop for EventsBody {
    fn drop(&mut self) {
        self.topics.unsubscribe(&self.topic, self.id);
        self.queue.thread.env.counters.event_streams_ended.add();
    }
}

#[cfg(test)]
mod tests;
