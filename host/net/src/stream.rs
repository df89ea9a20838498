//! A connection that a guest reads and writes as streams.
//!
//! Either direction begins at most once. Its outcome is reported once, by a
//! future of the guest. The guest's streams work on the transport directly: a
//! read or a write is a system call. The connection's own task only flushes,
//! shuts, relays and ends. It closes the connection once both directions are
//! over and the guest has dropped its handle. A pooled connection holds its
//! place in the pool until then, or is put back, which ends the streams.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fs;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use netwasm_base::error::ConnectionError;

use crate::files::File;
use crate::health::{Fate, Health};
use crate::parked::Parked;
use crate::pool::{Pool, PoolPlace};
use crate::protocol::Lost;
use crate::tls::{Session, SessionInfo};
use crate::transport::Transport;

/// How a direction ended.
pub type Outcome = Result<(), ConnectionError>;

/// A connection and its two directions.
#[derive(Debug)]
pub struct Stream {
    transport: Rc<Transport>,
    health: Rc<Health>,
    receiving: RefCell<StreamDirection>,
    sending: RefCell<StreamDirection>,
    /// True if the guest has dropped its handle.
    released: Cell<bool>,
    /// The target of native copying: the connection that receives what arrives
    /// here.
    feeds: RefCell<Option<Rc<Self>>>,
    /// The file that is being sent.
    sends: RefCell<Option<Sends>>,
    /// Where to report the end of a handshake.
    upgrade: RefCell<Option<oneshot::Sender<Result<SessionInfo, ConnectionError>>>>,
    /// The connection's place in its pool.
    place: RefCell<Option<PoolPlace<Parked>>>,
    over: Notify,
}

#[derive(Debug)]
struct Sends {
    file: Rc<File>,
    /// End of the part already given to the transport.
    offset: u64,
    /// Held until the file is no longer read.
    _reading: Box<dyn Any>,
}

#[derive(Debug)]
enum StreamDirection {
    Unused,
    /// Under way. The sender reports the outcome.
    Open(oneshot::Sender<Outcome>),
    /// All bytes to be sent are with the transport.
    Finishing(oneshot::Sender<Outcome>),
    Over,
}

impl StreamDirection {
    fn begin(&mut self) -> Option<oneshot::Receiver<Outcome>> {
        let Self::Unused = self else { return None };
        let (told, outcome) = oneshot::channel();
        *self = Self::Open(told);
        Some(outcome)
    }

    /// Reports how the direction ended. An unused direction stays unused: it can
    /// begin later, to report the connection's end.
    fn end(&mut self, outcome: Outcome) {
        if matches!(self, Self::Open(_) | Self::Finishing(_))
            && let Self::Open(told) | Self::Finishing(told) = mem::replace(self, Self::Over)
        {
            // The guest may have dropped the receiver.
            let _ = told.send(outcome);
        }
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Unused | Self::Over)
    }
}

impl Stream {
    /// Wraps a connection for an instance.
    pub fn new(transport: &Rc<Transport>, health: &Rc<Health>) -> Rc<Self> {
        transport.has_streams();
        Rc::new(Self {
            transport: Rc::clone(transport),
            health: Rc::clone(health),
            receiving: RefCell::new(StreamDirection::Unused),
            sending: RefCell::new(StreamDirection::Unused),
            released: Cell::new(false),
            feeds: RefCell::new(None),
            sends: RefCell::new(None),
            upgrade: RefCell::new(None),
            place: RefCell::new(None),
            over: Notify::new(),
        })
    }

    /// Sets the connection's place in a pool.
    pub fn take_place(&self, place: PoolPlace<Parked>) {
        *self.place.borrow_mut() = Some(place);
    }

    /// Puts the connection back into its pool, or closes it.
    pub fn put(&self, pool: &Arc<Pool<Parked>>) {
        let place = self.place.take().filter(|place| place.is_of(pool));
        let unsent = self.sends.borrow().is_some() || self.feeds.borrow().is_some();
        let sending = matches!(
            *self.sending.borrow(),
            StreamDirection::Unused | StreamDirection::Open(_)
        );
        let parked = match place.is_some() && sending && !unsent {
            true => self.transport.park(),
            false => None,
        };
        self.released.set(true);
        match place.zip(parked) {
            Some((place, parked)) => {
                self.receiving.borrow_mut().end(Ok(()));
                self.sending.borrow_mut().end(Ok(()));
                place.put(parked);
            }
            None => self.transport.close(),
        }
        self.transport.wake_streams();
    }

    /// Begins TLS on the streams. The receiver gets what was agreed on once the
    /// handshake is done, or why it failed.
    ///
    /// # Errors
    /// - `InvalidState`: the connection is closing, relayed in either direction,
    ///   sending a file, or in TLS already.
    pub fn start_tls(
        &self,
        session: Session,
        received: &[u8],
    ) -> Result<oneshot::Receiver<Result<SessionInfo, ConnectionError>>, ConnectionError> {
        if self.sends.borrow().is_some() {
            return Err(ConnectionError::InvalidState);
        }
        self.transport.start_tls(session, received)?;
        let (told, outcome) = oneshot::channel();
        *self.upgrade.borrow_mut() = Some(told);
        Ok(outcome)
    }

    /// Reports the end of the handshake that [`Self::start_tls`] began, and lets
    /// the streams go on.
    pub(crate) fn started_tls(&self, outcome: Result<SessionInfo, ConnectionError>) {
        if outcome.is_ok() && matches!(*self.sending.borrow(), StreamDirection::Finishing(_)) {
            // The handshake had to end first.
            let _ = self.transport.write_eof();
        }
        if let Some(told) = self.upgrade.take() {
            // The guest may have cancelled the call.
            let _ = told.send(outcome);
        }
        self.transport.wake_streams();
    }

    /// Ends the connection at once, by a reset.
    pub fn abort(&self) {
        self.transport.abort();
    }

    /// Returns the underlying transport.
    pub fn transport(&self) -> &Rc<Transport> {
        &self.transport
    }

    /// Notes that bytes moved between the guest and the connection, or that its call
    /// began.
    pub fn moved(&self) {
        self.health.moved();
    }

    /// Begins to receive. Returns `None` if receiving has begun before.
    pub fn begin_receiving(&self) -> Option<oneshot::Receiver<Outcome>> {
        self.receiving.borrow_mut().begin()
    }

    /// Begins to send. Returns `None` if sending has begun before.
    pub fn begin_sending(&self) -> Option<oneshot::Receiver<Outcome>> {
        self.sending.borrow_mut().begin()
    }

    /// Ends receiving: the peer's stream has ended, failed, or is no longer
    /// wanted.
    pub fn end_receiving(&self, outcome: Outcome) {
        if let Err(reason) = &outcome {
            self.transport.fail(reason.clone());
        }
        self.receiving.borrow_mut().end(outcome);
        self.close_if_over();
    }

    /// Ends receiving, as the guest reads no more.
    pub fn drop_receiving(&self) {
        self.abort_if_unfinished();
        self.end_receiving(Ok(()));
    }

    /// Ends sending: all bytes to be sent are with the transport.
    pub fn finish_sending(&self) {
        self.abort_if_unfinished();
        let mut sending = self.sending.borrow_mut();
        match mem::replace(&mut *sending, StreamDirection::Over) {
            StreamDirection::Open(told) => *sending = StreamDirection::Finishing(told),
            other => *sending = other,
        }
        drop(sending);
        self.transport.cancel_send();
        // If it is refused, the end of the connection ends sending too.
        let _ = self.transport.write_eof();
        self.transport.nudge();
    }

    /// Fails sending: the peer accepts no more.
    pub fn fail_sending(&self, reason: &ConnectionError) {
        self.transport.fail(reason.clone());
        self.sending.borrow_mut().end(Err(reason.clone()));
        self.close_if_over();
    }

    /// Notes that the guest has dropped its handle.
    pub fn release(&self) {
        self.abort_if_unfinished();
        self.released.set(true);
        self.close_if_over();
    }

    /// Copies what arrives here to another connection natively, until either is
    /// over. The target must have begun to send.
    pub fn feed(&self, target: &Rc<Self>) {
        match self.transport.relay(&target.transport) {
            Ok(()) => *self.feeds.borrow_mut() = Some(Rc::clone(target)),
            // A connection that has failed reports it itself.
            Err(_) => {
                self.end_receiving(Ok(()));
                target.finish_sending();
            }
        }
    }

    /// Sends a file from an offset to its end, then finishes. `reading` is
    /// dropped when the file is no longer read.
    pub fn send_file(&self, file: &fs::File, offset: u64, reading: Box<dyn Any>) {
        let file = file.try_clone().map_err(ConnectionError::from);
        match file.and_then(File::of) {
            Ok(file) => {
                *self.sends.borrow_mut() = Some(Sends {
                    file: Rc::new(file),
                    offset,
                    _reading: reading,
                });
                self.send_on();
                self.transport.nudge();
            }
            Err(reason) => self.fail_sending(&reason),
        }
    }

    /// Sends the file up to its present size. The file may grow meanwhile: its
    /// end is where a read would find it.
    fn send_on(&self) {
        let mut sends = self.sends.borrow_mut();
        let Some(Sends { file, offset, .. }) = &mut *sends else {
            return;
        };
        let failed = match file.size() {
            Ok(size) if size > *offset => {
                let length = size - *offset;
                match self.transport.send_file(file, *offset, Some(length)) {
                    Ok(_) => {
                        *offset = size;
                        return;
                    }
                    Err(reason) => Some(reason),
                }
            }
            Ok(_) => None,
            Err(reason) => Some(reason),
        };
        drop(sends);
        self.sends.take();
        match failed {
            None => self.finish_sending(),
            Some(reason) => self.fail_sending(&reason),
        }
    }

    /// Returns true if a send failed only because a file became shorter, which
    /// then counts as the file's end.
    pub(crate) fn ends_file(&self, reason: &ConnectionError) -> bool {
        let ends = *reason == ConnectionError::FileShortened && self.sends.take().is_some();
        if ends {
            self.transport.forget_file();
            self.finish_sending();
        }
        ends
    }

    /// Ends native copying: the stream has ended, or one side has failed.
    pub(crate) fn fed(&self, outcome: Outcome) {
        let Some(target) = self.feeds.take() else {
            return;
        };
        self.transport.stop_relay();
        let target_failed = target.transport.has_failed();
        // If the target accepts no more, this side's stream is no longer
        // wanted, which is no failure.
        self.end_receiving(if target_failed { Ok(()) } else { outcome });
        target.finish_sending();
    }

    /// Continues sending a file once the queue is empty, or reports the end of
    /// sending. Returns true if there may be more to do.
    pub(crate) fn settle(&self) -> bool {
        if self.sends.borrow().is_some() && self.transport.queued() == 0 {
            self.send_on();
            return true;
        }
        if !matches!(*self.sending.borrow(), StreamDirection::Finishing(_)) {
            return false;
        }
        if self.transport.has_sent_all() {
            self.sending.borrow_mut().end(Ok(()));
            self.close_if_over();
        }
        false
    }

    /// Ends everything under way, as the connection is over.
    pub(crate) fn lost(&self, lost: &Lost) {
        let outcome = || lost.clone().map_or(Ok(()), Err);
        self.receiving.borrow_mut().end(outcome());
        self.sending.borrow_mut().end(outcome());
        self.sends.take();
        self.place.take();
        self.started_tls(Err(lost.clone().unwrap_or(ConnectionError::Aborted)));
        if let Some(target) = self.feeds.take() {
            // The target no longer waits for room on behalf of this connection.
            self.transport.stop_relay();
            target.finish_sending();
        }
        self.transport.wake_streams();
        self.over.notify_one();
    }

    /// Waits until the connection is over. At most one task may wait.
    pub async fn over(&self) {
        self.over.notified().await;
    }

    fn close_if_over(&self) {
        let over = self.receiving.borrow().is_over() && self.sending.borrow().is_over();
        if self.released.get() && over {
            self.place.take();
            self.transport.close();
        }
    }

    /// Aborts a stream that a lost instance left unfinished, so that it does
    /// not look complete.
    fn abort_if_unfinished(&self) {
        let unfinished = match self.health.fate() {
            Fate::Well => false,
            Fate::Exited => self.awaits_the_guest(),
            Fate::Trapped => true,
        };
        if unfinished {
            self.transport.reset_on_close();
            self.transport.abort();
        }
    }

    /// True if the guest is sending and has not given all of its bytes.
    fn awaits_the_guest(&self) -> bool {
        let relayed = self.transport.core.borrow().fed_by.strong_count() > 0;
        let open = matches!(*self.sending.borrow(), StreamDirection::Open(_));
        open && !relayed && self.sends.borrow().is_none()
    }
}
