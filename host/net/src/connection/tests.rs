use super::*;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::Write as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use netwasm_base::config::Limits;

use crate::guest::NoGuest;
use crate::testing::{connection, in_worker, pass, peer, settle, soon, until};
use crate::tls::SessionInfo;

/// More than the high watermark plus what a socket takes, in bytes.
const LARGE: usize = 1 << 20;

/// An event delivered to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Made,
    Data(Vec<u8>),
    Eof,
    Writable,
    TlsStarted,
    Lost(Lost),
}

use Event::{Data, Eof, Made, TlsStarted, Writable};

/// A guest's reaction to an event. Its result counts for `Eof`.
type Act = Box<dyn Fn(&Rc<Transport>, &Event) -> Result<bool, Gone>>;

/// A guest of one connection, which records its events.
struct Noting {
    events: RefCell<Vec<Event>>,
    transport: RefCell<Option<Rc<Transport>>>,
    dead: Cell<bool>,
    exited: Cell<bool>,
    act: Act,
}

impl Noting {
    fn new(act: impl Fn(&Rc<Transport>, &Event) -> Result<bool, Gone> + 'static) -> Rc<Self> {
        Rc::new(Self {
            events: RefCell::default(),
            transport: RefCell::default(),
            dead: Cell::default(),
            exited: Cell::default(),
            act: Box::new(act),
        })
    }

    /// Returns a guest that does nothing, and stays open after the peer's end.
    fn passive() -> Rc<Self> {
        Self::new(|_, _| Ok(true))
    }

    /// Returns a guest that echoes.
    fn echo() -> Rc<Self> {
        Self::new(|transport, event| {
            if let Data(data) = event {
                transport.write(data);
            }
            Ok(false)
        })
    }

    fn transport(&self) -> Rc<Transport> {
        self.transport.borrow().clone().expect("it was made")
    }

    fn tell(&self, event: Event) -> Result<bool, Gone> {
        assert!(!self.dead.get(), "{event:?} for a guest that is no more");
        let said = (self.act)(&self.transport(), &event);
        self.dead.set(said.is_err());
        let mut events = self.events.borrow_mut();
        match (events.last_mut(), event) {
            // Where the data is split does not matter.
            (Some(Data(before)), Data(data)) => before.extend(data),
            (_, event) => events.push(event),
        }
        said
    }

    fn has(&self, event: &Event) -> bool {
        self.events.borrow().contains(event)
    }

    /// Waits until the connection is over, and returns the reason.
    async fn lost(&self) -> Lost {
        let lost = || match self.events.borrow().last() {
            Some(Event::Lost(lost)) => Some(lost.clone()),
            _ => None,
        };
        until("the guest is told that the connection is over", || {
            lost().is_some()
        })
        .await;
        lost().flatten()
    }
}

impl fmt::Debug for Noting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noting").finish_non_exhaustive()
    }
}

impl EventGuest for Noting {
    type Connection = ();

    fn connection_made(&self, transport: &Rc<Transport>) -> Result<(), Gone> {
        *self.transport.borrow_mut() = Some(Rc::clone(transport));
        self.tell(Made).map(drop)
    }

    fn data_received(&self, (): (), data: &[u8]) -> Result<(), Gone> {
        assert!(!data.is_empty());
        self.tell(Data(data.to_vec())).map(drop)
    }

    fn eof_received(&self, (): ()) -> Result<bool, Gone> {
        self.tell(Eof)
    }

    fn writable(&self, (): ()) -> Result<(), Gone> {
        self.tell(Writable).map(drop)
    }

    fn tls_started(&self, (): (), _info: SessionInfo) -> Result<(), Gone> {
        self.tell(TlsStarted).map(drop)
    }

    fn connection_lost(&self, (): (), reason: Option<&ConnectionError>) -> Result<(), Gone> {
        self.tell(Event::Lost(reason.cloned())).map(drop)
    }

    fn is_dead(&self) -> bool {
        self.dead.get()
    }

    fn has_exited(&self) -> bool {
        self.exited.get()
    }
}

/// Guests for successive connections.
struct Each(RefCell<VecDeque<Rc<Noting>>>);

impl Guests<Noting> for Each {
    fn guest(&self) -> Result<Rc<Noting>, NoGuest> {
        let next = self.0.borrow_mut().pop_front();
        next.ok_or_else(|| NoGuest("there is no other".into()))
    }
}

/// Gives a connection to a guest, if there is one.
fn drive(worker: &Rc<Worker>, transport: Rc<Transport>, guest: Option<&Rc<Noting>>) {
    let guests = guest.into_iter().cloned().collect();
    let service = ToGuests::events(Rc::new(Each(RefCell::new(guests))));
    service.accept(worker, transport);
}

/// Gives a new connection to a guest, and returns its other end.
fn accept(worker: &Rc<Worker>, guest: &Rc<Noting>) -> UnixStream {
    let (transport, there) = connection(worker);
    drive(worker, transport, Some(guest));
    peer(there)
}

/// Reads `count` bytes from the other end.
async fn take(peer: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut taken = vec![0; count];
    soon("bytes for the peer", peer.read_exact(&mut taken))
        .await
        .expect("they come");
    taken
}

/// Reads up to the end of the stream.
async fn take_all(peer: &mut UnixStream) -> Vec<u8> {
    let mut all = Vec::new();
    soon("the end of the stream", peer.read_to_end(&mut all))
        .await
        .expect("it ends in order");
    all
}

async fn send(peer: &mut UnixStream, data: &[u8]) {
    soon("room for what is sent", peer.write_all(data))
        .await
        .expect("it is sent");
}

async fn end(peer: &mut UnixStream) {
    peer.shutdown().await.expect("it is shut");
}

#[test]
fn events_come_in_their_order() {
    in_worker(Limits::default(), async |worker| {
        let guest = Noting::echo();
        let mut peer = accept(&worker, &guest);
        for letter in [b"a", b"b"] {
            send(&mut peer, letter).await;
            assert_eq!(take(&mut peer, 1).await, letter);
        }
        end(&mut peer).await;
        assert_eq!(guest.lost().await, None);
        let expected = [Made, Data(b"ab".to_vec()), Eof, Event::Lost(None)];
        assert_eq!(*guest.events.borrow(), expected);
        assert_eq!(take_all(&mut peer).await, b"");
        assert_eq!(worker.env().counters.connections_closed.get(), 1);
    });
}

#[test]
fn all_that_a_guest_wrote_is_sent_before_it_is_closed() {
    in_worker(Limits::default(), async |worker| {
        let guest = Noting::new(|transport, event| {
            if *event == Eof {
                transport.write(&vec![7; LARGE]);
            }
            Ok(false)
        });
        let mut peer = accept(&worker, &guest);
        end(&mut peer).await;
        assert_eq!(take_all(&mut peer).await, vec![7; LARGE]);
        assert_eq!(guest.lost().await, None);
    });
}

#[test]
fn a_guest_may_send_after_the_peers_end() {
    in_worker(Limits::default(), async |worker| {
        let guest = Noting::passive();
        let mut peer = accept(&worker, &guest);
        end(&mut peer).await;
        until("the end is told", || guest.has(&Eof)).await;
        settle().await;
        assert_eq!(*guest.events.borrow(), [Made, Eof]);
        guest.transport().write(b"later");
        assert_eq!(take(&mut peer, 5).await, b"later");
        guest.transport().write_eof().expect("it is open");
        assert_eq!(guest.lost().await, None);
        assert_eq!(take_all(&mut peer).await, b"");
    });
}

#[test]
fn a_guest_that_writes_much_is_told_to_pause_and_to_go_on() {
    let limits = Limits::default();
    let low = limits.write_low as u64;
    in_worker(limits, async |worker| {
        let guest = Noting::new(move |transport, event| {
            match event {
                Made => {
                    transport.write(&vec![1; LARGE]);
                    assert_eq!(transport.room(), 0);
                }
                Writable => assert!(transport.queued() <= low),
                _ => {}
            }
            Ok(true)
        });
        let mut peer = accept(&worker, &guest);
        let mut expected = vec![Made];
        for round in 0..3 {
            if round > 0 {
                guest.transport().write(&vec![1; LARGE]);
                assert_eq!(guest.transport().room(), 0);
            }
            until("the guest is told", || *guest.events.borrow() == expected).await;
            settle().await;
            assert_eq!(*guest.events.borrow(), expected, "nobody has read");
            take(&mut peer, LARGE).await;
            expected.push(Writable);
            until("the guest is to go on", || {
                *guest.events.borrow() == expected
            })
            .await;
        }
        settle().await;
        assert_eq!(*guest.events.borrow(), expected);
    });
}

#[test]
fn what_a_guest_does_not_receive_waits() {
    in_worker(Limits::default(), async |worker| {
        let guest = Noting::new(|transport, event| {
            if *event == Made {
                transport.pause_receiving();
            }
            Ok(false)
        });
        let mut peer = accept(&worker, &guest);
        send(&mut peer, b"early").await;
        end(&mut peer).await;
        settle().await;
        assert_eq!(*guest.events.borrow(), [Made]);
        guest.transport().resume_receiving();
        assert_eq!(guest.lost().await, None);
        let expected = [Made, Data(b"early".to_vec()), Eof, Event::Lost(None)];
        assert_eq!(*guest.events.borrow(), expected);
    });
}

/// Asserts that a connection ended by the time-out of this flag.
fn assert_late(lost: Lost, flag: &str) {
    match lost {
        Some(ConnectionError::Timeout(why)) => assert!(why.contains(flag), "{why}"),
        other => panic!("it ended by {other:?}"),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_peer_that_takes_nothing_is_cut_off() {
    let limits = Limits::default();
    let limit = limits.write_timeout;
    in_worker(limits, async |worker| {
        let guest = Noting::passive();
        let mut peer = accept(&worker, &guest);
        until("it is made", || guest.has(&Made)).await;
        guest.transport().write(&vec![1; LARGE]);
        pass(&worker, limit - 3 * SECOND).await;
        // Progress restarts the time-out.
        take(&mut peer, 200 << 10).await;
        pass(&worker, limit - 3 * SECOND).await;
        assert_eq!(*guest.events.borrow(), [Made]);
        pass(&worker, 6 * SECOND).await;
        assert_late(guest.lost().await, "--write-timeout");
        assert_eq!(worker.env().counters.connections_lost.get(), 1);
        assert!(take_all(&mut peer).await.len() < LARGE);
    });
}

#[test]
fn a_connection_on_which_nothing_moves_is_cut_off() {
    let limit = 20 * SECOND;
    let limits = Limits {
        idle_timeout: Some(limit),
        ..Limits::default()
    };
    in_worker(limits, async |worker| {
        let guest = Noting::passive();
        let mut peer = accept(&worker, &guest);
        for _ in 0..3 {
            pass(&worker, limit - 3 * SECOND).await;
            send(&mut peer, b"x").await;
        }
        pass(&worker, limit - 3 * SECOND).await;
        assert_eq!(*guest.events.borrow(), [Made, Data(b"xxx".to_vec())]);
        pass(&worker, 6 * SECOND).await;
        assert_late(guest.lost().await, "--idle-timeout");
    });
}

#[test]
fn a_connection_on_which_nothing_moves_after_the_peers_end_is_cut_off() {
    let limit = 20 * SECOND;
    let limits = Limits {
        half_close_timeout: Some(limit),
        ..Limits::default()
    };
    in_worker(limits, async |worker| {
        let guest = Noting::passive();
        let mut peer = accept(&worker, &guest);
        pass(&worker, 2 * limit).await;
        end(&mut peer).await;
        until("the end is told", || guest.has(&Eof)).await;
        pass(&worker, limit - 3 * SECOND).await;
        assert_eq!(*guest.events.borrow(), [Made, Eof]);
        pass(&worker, 6 * SECOND).await;
        assert_late(guest.lost().await, "--half-close-timeout");
    });
}

#[test]
fn a_small_request_does_not_wait_for_a_connection_that_always_has_more() {
    in_worker(Limits::default(), async |worker| {
        let (transport, mut there) = connection(&worker);
        there.set_nonblocking(true).expect("O_NONBLOCK");
        let (count, steps) = (Rc::new(Cell::new(0)), worker.env().steps.clone());
        let counted = Rc::clone(&count);
        let send_more = there.try_clone().expect("a descriptor");
        let bulk = Noting::new(move |_, event| {
            if let Data(_) = event {
                counted.set(counted.get() + 1);
                // Pretends that the call took long, and sends more at once.
                steps.advance();
                let _ = (&send_more).write(&[2; 64 << 10]);
            }
            Ok(false)
        });
        drive(&worker, transport, Some(&bulk));
        there.write_all(b"begin").expect("there is room");
        let handled = Rc::new(Cell::new(None));
        let (noted, counted) = (Rc::clone(&handled), Rc::clone(&count));
        let small = Noting::new(move |_, event| {
            if let Data(_) = event {
                noted.set(Some(counted.get()));
            }
            Ok(false)
        });
        let mut peer = accept(&worker, &small);
        until("much is under way", || count.get() > 20).await;
        for _ in 0..10 {
            let before = count.get();
            peer.write_all(b"x").await.expect("there is room");
            until("the small one is handled", || handled.get().is_some()).await;
            let waited = handled.take().expect("it is") - before;
            assert!(waited <= 2, "{waited} events of another came first");
        }
        let before = count.get();
        until("the bulk goes on", || count.get() > before + 20).await;
    });
}

#[test]
fn a_guest_that_fails_costs_its_own_connection_alone() {
    in_worker(Limits::default(), async |worker| {
        let (failing, other) = (
            Noting::new(|_, event| match event {
                Data(_) => Err(Gone),
                _ => Ok(true),
            }),
            Noting::echo(),
        );
        let mut lost = accept(&worker, &failing);
        let mut kept = accept(&worker, &other);
        send(&mut lost, b"x").await;
        assert_eq!(take_all(&mut lost).await, b"");
        send(&mut kept, b"y").await;
        assert_eq!(take(&mut kept, 1).await, b"y");
        // The guest is told nothing more, not even the end.
        let expected = [Made, Data(b"x".to_vec())];
        assert_eq!(*failing.events.borrow(), expected);
        assert_eq!(worker.env().counters.connections_lost.get(), 1);
    });
}

#[test]
fn what_a_guest_wrote_before_it_exited_is_sent() {
    in_worker(Limits::default(), async |worker| {
        let guest = Noting::new(|transport, event| match event {
            Data(_) => {
                transport.write(&vec![3; LARGE]);
                Err(Gone)
            }
            _ => Ok(true),
        });
        guest.exited.set(true);
        let mut peer = accept(&worker, &guest);
        send(&mut peer, b"x").await;
        assert_eq!(take_all(&mut peer).await, vec![3; LARGE]);
        assert_eq!(*guest.events.borrow(), [Made, Data(b"x".to_vec())]);
    });
}

#[test]
fn a_connection_without_a_guest_is_cut_off() {
    in_worker(Limits::default(), async |worker| {
        let (transport, there) = connection(&worker);
        drive(&worker, transport, None);
        assert_eq!(take_all(&mut peer(there)).await, b"");
        assert_eq!(worker.env().counters.instances_failed.get(), 1);
    });
}

#[test]
fn a_guest_that_aborts_is_told_so() {
    in_worker(Limits::default(), async |worker| {
        let guest = Noting::new(|transport, event| {
            if let Data(_) = event {
                transport.write(&vec![4; LARGE]);
                transport.abort();
            }
            Ok(true)
        });
        let mut peer = accept(&worker, &guest);
        send(&mut peer, b"x").await;
        assert_eq!(guest.lost().await, Some(ConnectionError::Aborted));
        assert!(take_all(&mut peer).await.len() < LARGE);
    });
}
