//! Channels of a Redis server, by which several processes join their topics.
//!
//! ```text
//!   publish --> queue, bounded --> thread --PUBLISH--> server
//!   subscribe, unsubscribe ------> thread --SUBSCRIBE-->  |
//!   User::received <-------------- thread <--messages-----+
//! ```
//!
//! There is one connection, by RESP3, on a thread of its own. Nothing is kept for a
//! server that is away: what is published meanwhile is lost, and counted.
//!
//! A message on the server is a byte for this form, a byte for its kind, 16 bytes
//! for the process that has sent it, and its content.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use netwasm_base::config::RedisUrl;
use netwasm_base::supervised::supervise;
use redis::aio::{MultiplexedConnection, SendError};
use redis::{
    AsyncConnectionConfig, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisError, Value, cmd,
};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::connection::connect;
use crate::dial::Dial;

/// First byte of a message.
const FORM: u8 = 1;

/// Bytes before a message's content.
const HEAD: usize = 2 + ORIGIN;

/// Length of what tells the processes apart, in bytes.
const ORIGIN: usize = 16;

/// Maximum of messages that go out together.
const BATCH: usize = 256;

/// Maximum of channels in one command.
const CHANNELS: usize = 1000;

/// Silence after which the server is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(10);

/// Times to wait before the server is connected to again: the first, and the
/// longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// User of channels. All calls are short.
pub trait User: Send + Sync + 'static {
    /// Takes a message of another process.
    fn received(&self, name: &str, kind: u8, data: &[u8]);

    /// Notes that messages have reached the server.
    fn sent(&self, count: u64);

    /// Notes that messages were not sent, or perhaps not.
    fn lost(&self, count: u64);

    /// Notes that messages of other processes may have been missed: the server is
    /// there again.
    fn joined_again(&self);
}

/// Channels of a Redis server. The connection ends once this is dropped.
pub struct Channels(Arc<Shared>);

struct Shared {
    url: RedisUrl,
    dial: Arc<dyn Dial>,
    /// Text that the name of each channel begins with on the server.
    prefix: String,
    origin: [u8; ORIGIN],
    user: Box<dyn User>,
    /// Maximum of bytes that wait to be sent.
    most: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Channels whose messages are wanted.
    wanted: HashSet<Arc<str>>,
    /// Those of which that has changed, while there is a connection.
    changed: HashSet<Arc<str>>,
    outgoing: VecDeque<Outgoing>,
    bytes: usize,
    /// Messages that are being sent.
    flight: usize,
    connected: bool,
    closed: bool,
    /// Messages lost since the server was there.
    lost: u64,
    /// True if it was logged that the server refuses a channel.
    refused: bool,
}

/// A message for a channel.
struct Outgoing {
    name: Arc<str>,
    frame: Vec<u8>,
}

/// Why a connection is over.
enum Over {
    /// Nobody wants it any more.
    Closed,
    Lost(String),
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels").finish_non_exhaustive()
    }
}

impl Channels {
    /// Begins to connect to a server, by `dial`. Names of channels begin with `prefix`
    /// there. Up to `most` bytes wait to be sent.
    ///
    /// # Errors
    /// Fails if the system gives no thread, or no random number.
    pub fn open(
        url: &RedisUrl,
        dial: &Arc<dyn Dial>,
        prefix: String,
        most: usize,
        user: impl User,
    ) -> io::Result<Self> {
        let mut origin = [0; ORIGIN];
        aws_lc_rs::rand::fill(&mut origin)
            .map_err(|_| io::Error::other("there are no random numbers"))?;
        let shared = Arc::new(Shared {
            url: url.clone(),
            dial: Arc::clone(dial),
            prefix,
            origin,
            user: Box::new(user),
            most,
            state: Mutex::default(),
            changed: Notify::new(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let its = Arc::clone(&shared);
        thread::Builder::new()
            .name("topics".into())
            .spawn(move || {
                let mut begun = false;
                let ended = supervise(|| {
                    let again = std::mem::replace(&mut begun, true);
                    if again {
                        its.disconnect();
                    }
                    runtime.block_on(run(&its, again));
                });
                if !ended {
                    its.disconnect();
                }
            })?;
        Ok(Self(shared))
    }

    /// Sends a message to the other processes, as soon as that can be done.
    pub fn publish(&self, name: &Arc<str>, kind: u8, data: &[u8]) {
        let size = HEAD + data.len() + name.len();
        let mut state = self.0.state();
        let fits = state.bytes.saturating_add(size) <= self.0.most;
        if !state.connected || !fits {
            state.lost += 1;
            drop(state);
            return self.0.user.lost(1);
        }
        let mut frame = Vec::with_capacity(HEAD + data.len());
        frame.extend([FORM, kind]);
        frame.extend(self.0.origin);
        frame.extend(data);
        state.bytes += size;
        let name = Arc::clone(name);
        state.outgoing.push_back(Outgoing { name, frame });
        drop(state);
        self.0.changed.notify_one();
    }

    /// Asks for the messages of a channel. They come from when the server knows.
    pub fn subscribe(&self, name: &Arc<str>) {
        let mut state = self.0.state();
        if state.wanted.insert(Arc::clone(name)) {
            self.0.note(state, name);
        }
    }

    /// Asks for the messages of a channel no more.
    pub fn unsubscribe(&self, name: &Arc<str>) {
        let mut state = self.0.state();
        if state.wanted.remove(name) {
            self.0.note(state, name);
        }
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, mut state: MutexGuard<'_, State>, name: &Arc<str>) {
        if state.connected {
            state.changed.insert(Arc::clone(name));
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Takes a message of the server.
    fn take(&self, info: &PushInfo) {
        if info.kind != PushKind::Message {
            return;
        }
        let [Value::BulkString(channel), Value::BulkString(frame)] = &*info.data else {
            return;
        };
        let name = std::str::from_utf8(channel).ok();
        let name = name.and_then(|name| name.strip_prefix(&*self.prefix));
        if let (Some(name), Some((head, data))) = (name, frame.split_first_chunk::<HEAD>())
            && let [FORM, kind, origin @ ..] = head
            && *origin != self.origin
        {
            self.user.received(name, *kind, data);
        }
    }

    fn channel(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Counts messages that the server has answered to.
    fn sent(&self, batch: &[Outgoing], answers: &[Value]) {
        let mut refused = 0;
        for (message, answer) in batch.iter().zip(answers) {
            if let Value::ServerError(error) = answer {
                refused += 1;
                self.refused(&message.name, &error.to_string());
            }
        }
        let mut state = self.state();
        state.flight = 0;
        state.lost += refused;
        drop(state);
        self.user.lost(refused);
        self.user.sent(batch.len() as u64 - refused);
    }

    /// Logs the first channel that the server refuses.
    fn refused(&self, name: &str, reason: &str) {
        if !std::mem::replace(&mut self.state().refused, true) {
            tracing::warn!(
                channel = self.channel(name),
                "a topic is not joined, as {} (--topics) refuses its channel: {reason}; its \
                 user needs the channel (ACL). Others that are refused are not logged",
                self.url
            );
        }
    }

    /// Counts what waits as lost, and accepts nothing.
    fn disconnect(&self) {
        let mut state = self.state();
        state.connected = false;
        state.changed.clear();
        state.bytes = 0;
        let left = std::mem::take(&mut state.outgoing);
        let lost = (left.len() + std::mem::take(&mut state.flight)) as u64;
        state.lost += lost;
        drop(state);
        self.user.lost(lost);
    }
}

/// Connects to the server, again and again. `told` is true if it was logged that the
/// connection is lost.
async fn run(shared: &Arc<Shared>, mut told: bool) {
    let mut wait = FIRST_WAIT;
    loop {
        let its = Arc::clone(shared);
        let take = move |info| {
            its.take(&info);
            Ok::<(), SendError>(())
        };
        let config = AsyncConnectionConfig::new().set_push_sender(take);
        let protocol = ProtocolVersion::RESP3;
        let over = match connect(&shared.url, &*shared.dial, protocol, config).await {
            Ok((connection, driver)) => {
                let begun = Instant::now();
                let mut serving = pin!(serve(shared, connection, &mut told));
                let over = tokio::select! {
                    over = &mut serving => over,
                    () = driver => Over::Lost("the server has closed it".into()),
                };
                if begun.elapsed() >= LAST_WAIT {
                    wait = FIRST_WAIT;
                }
                over
            }
            Err(reason) => Over::Lost(reason),
        };
        shared.disconnect();
        let Over::Lost(reason) = over else {
            return;
        };
        if !told {
            told = true;
            tracing::warn!(
                "topics are not joined: the connection to {} (--topics) is lost: {reason}; what \
                 is published goes to this process alone",
                shared.url
            );
        }
        // A wake-up may be of something else than the end.
        let ended = async {
            while !shared.state().closed {
                shared.changed.notified().await;
            }
        };
        if timeout(wait, ended).await.is_ok() {
            return;
        }
        wait = (wait * 2).min(LAST_WAIT);
    }
}

/// Sends what is published, and tells the server what is wanted, until the
/// connection is lost.
async fn serve(shared: &Shared, mut connection: MultiplexedConnection, told: &mut bool) -> Over {
    let (all, lost) = {
        let mut state = shared.state();
        state.connected = true;
        state.changed.clear();
        (
            state.wanted.iter().cloned().collect::<Vec<_>>(),
            std::mem::take(&mut state.lost),
        )
    };
    let gone = |error: RedisError| Over::Lost(error.to_string());
    if let Err(error) = tell(shared, &mut connection, &all, true).await {
        return gone(error);
    }
    match std::mem::take(told) {
        true => {
            shared.user.joined_again();
            tracing::info!(
                lost,
                "topics are joined again, over {} (--topics)",
                shared.url
            );
        }
        false => tracing::info!("topics are joined, over {} (--topics)", shared.url),
    }
    loop {
        let (batch, on, off, closed) = next(shared);
        if closed && batch.is_empty() {
            return Over::Closed;
        }
        for (names, wanted) in [(&on, true), (&off, false)] {
            if let Err(error) = tell(shared, &mut connection, names, wanted).await {
                return gone(error);
            }
        }
        if !batch.is_empty() {
            let mut pipe = redis::pipe();
            pipe.ignore_errors();
            for Outgoing { name, frame } in &batch {
                pipe.cmd("PUBLISH").arg(shared.channel(name)).arg(frame);
            }
            let answers: Vec<Value> = match pipe.query_async(&mut connection).await {
                Ok(answers) => answers,
                Err(error) => return gone(error),
            };
            shared.sent(&batch, &answers);
            continue;
        }
        if !on.is_empty() || !off.is_empty() {
            continue;
        }
        if timeout(SILENCE, shared.changed.notified()).await.is_err()
            && let Err(error) = cmd("PING").exec_async(&mut connection).await
            && !is_refusal(&error)
        {
            return gone(error);
        }
    }
}

/// Work that is next.
type Next = (Vec<Outgoing>, Vec<Arc<str>>, Vec<Arc<str>>, bool);

/// Takes the next messages, and the channels that are wanted now, or no more.
fn next(shared: &Shared) -> Next {
    let mut state = shared.state();
    let State {
        wanted,
        changed,
        outgoing,
        bytes,
        flight,
        closed,
        ..
    } = &mut *state;
    let (on, off) = changed.drain().partition(|name| wanted.contains(name));
    let count = outgoing.len().min(BATCH);
    let batch: Vec<_> = outgoing.drain(..count).collect();
    let size = |it: &Outgoing| it.frame.len() + it.name.len();
    *bytes -= batch.iter().map(size).sum::<usize>();
    *flight = batch.len();
    (batch, on, off, *closed)
}

/// True if the server is there, and does not do what it was asked.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Tells the server which channels are wanted, or are no more. Those that it refuses
/// are left out.
async fn tell(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    names: &[Arc<str>],
    wanted: bool,
) -> Result<(), RedisError> {
    let mut parts: Vec<_> = names.chunks(CHANNELS).collect();
    while let Some(names) = parts.pop() {
        let channels: Vec<_> = names.iter().map(|name| shared.channel(name)).collect();
        let told = match wanted {
            true => connection.subscribe(&channels).await,
            false => connection.unsubscribe(&channels).await,
        };
        match told {
            Ok(()) => {}
            Err(error) if !is_refusal(&error) => return Err(error),
            Err(error) => match names {
                [] => {}
                [name] => shared.refused(name, &error.to_string()),
                // One that is refused takes all of its command with it.
                _ => parts.extend(<[_; 2]>::from(names.split_at(names.len() / 2))),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
