//! Connections to servers that a worker keeps for its next requests. The
//! worker's runtime watches them, so that taking one costs no system call.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque, hash_map};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use netwasm_base::address::Address;
use netwasm_base::config::HttpVersion;
use netwasm_base::counters::{Counted, Counters};

use crate::endpoint::Endpoint;
use crate::parked::{IDLE_TIMEOUT, MAX_AGE};
use crate::thread::{Thread, Tick};
use crate::tls::ClientTls;
use crate::transport::Transport;
use crate::upstream::{Group, Server};

/// Maximum of connections that a worker keeps for a server; for each client, if they
/// begin with a PROXY header.
const MOST: usize = 64;

/// Maximum of connections that a worker keeps for all clients. Each counts against
/// `--max-outgoing`.
const MOST_OF_ALL: usize = 512;

/// Maximum of connections that a worker keeps for one client each, of all clients.
/// They end with their clients' connections.
const MOST_OF_CLIENTS: usize = 4096;

/// Maximum of servers known that no group has.
const MOST_ALONE: usize = 1024;

/// Time between two looks for connections that are kept for too long.
const LOOK: Duration = Duration::from_secs(1);

/// The connections that a worker keeps, and the servers that its guests name
/// themselves.
#[derive(Debug, Default)]
pub struct Kept {
    /// Connections by what they are for; the most recently used is last. None is
    /// empty.
    idle: RefCell<HashMap<Purpose, VecDeque<Idle>, BuildHasherDefault<NumberHasher>>>,
    /// Connections for all clients.
    of_all: RefCell<Ages>,
    /// Connections for one client each.
    of_clients: RefCell<Ages>,
    /// Number of the next connection.
    next: Cell<u64>,
    alone: RefCell<HashMap<Place, Arc<Group>>>,
    looked: Cell<Tick>,
    shared: OnceCell<Rc<dyn Any>>,
}

/// Hash of the host's own numbers and addresses, which nobody else chooses.
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        // The map takes the lowest bits. Those of a product depend on themselves alone.
        self.0 ^ (self.0 >> 32)
    }
}

/// The purposes of connections, in the order of their numbers: the one that was
/// unused for the longest is first. The next request mostly takes the last; with one
/// connection for each client, it takes any. Its place stays as a gap for a while,
/// since to close it would move half of the others. The first and the last are no gaps.
#[derive(Debug, Default)]
struct Ages {
    order: VecDeque<(u64, Option<Purpose>)>,
    gaps: usize,
}

impl Ages {
    /// Adds a connection, whose number is the largest so far.
    fn add(&mut self, number: u64, purpose: Purpose) {
        self.order.push_back((number, Some(purpose)));
    }

    fn remove(&mut self, number: u64) {
        if self.order.back().is_some_and(|(last, _)| *last == number) {
            self.order.pop_back();
        } else if let Ok(place) = self
            .order
            .binary_search_by_key(&number, |(other, _)| *other)
            && let Some((_, purpose)) = self.order.get_mut(place)
            && purpose.take().is_some()
        {
            self.gaps += 1;
        }
        self.close_gaps();
    }

    fn take_oldest(&mut self) -> Option<Purpose> {
        let (_, purpose) = self.order.pop_front()?;
        self.close_gaps();
        purpose
    }

    /// Removes the gaps at both ends, and all once there are more than connections.
    fn close_gaps(&mut self) {
        if self.gaps == 0 {
            return;
        }
        let is_gap = |entry: &(u64, Option<Purpose>)| entry.1.is_none();
        while self.order.front().is_some_and(is_gap) {
            self.order.pop_front();
            self.gaps -= 1;
        }
        while self.order.back().is_some_and(is_gap) {
            self.order.pop_back();
            self.gaps -= 1;
        }
        if self.gaps > self.len() {
            self.order.retain(|(_, purpose)| purpose.is_some());
            self.gaps = 0;
        }
    }

    /// Returns the number of the connection that was unused for the longest.
    fn oldest(&self) -> Option<u64> {
        self.order.front().map(|(number, _)| *number)
    }

    fn len(&self) -> usize {
        self.order.len() - self.gaps
    }
}

/// Destination, TLS settings and version of a server that a guest names itself.
type Place = (Endpoint, Option<ClientTls>, HttpVersion);

/// Requests that a connection at rest is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Purpose {
    /// Number of the server.
    server: u64,
    /// Connection of the one client that it is for, as its PROXY header says. Its
    /// address is no other's as long as there is a weak pointer to it.
    client: Option<*const Transport>,
}

impl Purpose {
    fn new(server: &Server, client: Option<&Weak<Transport>>) -> Self {
        Self {
            server: server.number(),
            client: client.map(Weak::as_ptr),
        }
    }
}

/// A connection at rest. Dropping it counts it as closed.
#[derive(Debug)]
struct Idle {
    transport: Rc<Transport>,
    /// Grows from one to the next.
    number: u64,
    /// Connection of the one client that it is for.
    client: Option<Weak<Transport>>,
    since: Tick,
    counted: Counted,
}

impl Kept {
    /// Returns the group of a server that the guest names itself. The policy has
    /// allowed it.
    pub fn group_of(
        &self,
        endpoint: Endpoint,
        tls: Option<ClientTls>,
        http: HttpVersion,
        counters: &Arc<Counters>,
    ) -> Arc<Group> {
        let mut alone = self.alone.borrow_mut();
        if alone.len() >= MOST_ALONE {
            // Their connections expire.
            alone.clear();
        }
        let place = (endpoint, tls, http);
        let group = alone.entry(place).or_insert_with_key(|key| {
            let (endpoint, tls, http) = key.clone();
            Arc::new(Group::alone(endpoint, tls, http, counters))
        });
        Arc::clone(group)
    }

    /// Returns the connections that many requests use at once, as their protocol
    /// knows them. There is one such protocol.
    pub fn shared<T: Any + Default>(&self) -> Rc<T> {
        let shared = self.shared.get_or_init(|| Rc::<T>::default());
        Rc::clone(shared).downcast().unwrap_or_default()
    }

    /// Takes the most recently used connection to a server whose peer has
    /// neither closed it nor sent anything unasked. If the server's name has
    /// several addresses, it is one to the address whose turn it is. `surely`
    /// asks the kernel, for a request that cannot be sent twice. `client` is the
    /// connection for which it was kept.
    pub fn take(
        &self,
        server: &Server,
        client: Option<&Weak<Transport>>,
        surely: bool,
    ) -> Option<Rc<Transport>> {
        let wanted = server.next_address();
        let mut idle = self.idle.borrow_mut();
        let hash_map::Entry::Occupied(mut entry) = idle.entry(Purpose::new(server, client)) else {
            return None;
        };
        let mut ages = self.ages(client.is_some()).borrow_mut();
        let mut found = None;
        while found.is_none()
            && let Some(Idle {
                transport,
                number,
                counted,
                ..
            }) = take_last(entry.get_mut(), wanted)
        {
            ages.remove(number);
            let stays = server.is_at(transport.peer()) && !is_old(&transport);
            if stays && transport.is_at_rest() && (!surely || is_open(&transport)) {
                counted.resume();
                found = Some(transport);
            }
        }
        if entry.get().is_empty() {
            entry.remove();
        }
        found
    }

    /// Returns the connections for one client each, or the others.
    fn ages(&self, of_clients: bool) -> &RefCell<Ages> {
        match of_clients {
            true => &self.of_clients,
            false => &self.of_all,
        }
    }

    /// Keeps a connection for the next request, unless something is under way on
    /// it or it is too old. If it is for one client, `client` is whose connection.
    pub fn put(&self, server: &Server, client: Option<Weak<Transport>>, transport: Rc<Transport>) {
        let thread = Rc::clone(transport.thread());
        let counted = Counted::new(&thread.env.counters);
        // The server's name may lead elsewhere meanwhile.
        let stays = server.is_at(transport.peer()) && !is_old(&transport);
        if thread.is_draining() || !stays || !transport.rest() {
            transport.say_close_notify();
            return;
        }
        let purpose = Purpose::new(server, client.as_ref());
        let (of_clients, most) = match client {
            Some(_) => (true, MOST_OF_CLIENTS),
            None => (false, MOST_OF_ALL),
        };
        let mut ages = self.ages(of_clients).borrow_mut();
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(purpose).or_default();
        if kept.len() >= MOST
            && let Some(oldest) = kept.pop_front()
        {
            ages.remove(oldest.number);
        }
        let number = self.next.replace(self.next.get() + 1);
        ages.add(number, purpose);
        let is_over = ages.len() > most;
        kept.push_back(Idle {
            transport,
            number,
            client,
            since: thread.now(),
            counted,
        });
        drop((idle, ages));
        if is_over {
            self.close_oldest_of(of_clients);
        }
    }

    /// Closes the connection that was unused for the longest. Returns false if
    /// there is none.
    pub fn close_oldest(&self) -> bool {
        let first = |ages: &RefCell<Ages>| ages.borrow().oldest();
        let of_clients = match (first(&self.of_all), first(&self.of_clients)) {
            (Some(of_all), Some(of_clients)) => of_clients < of_all,
            (_, of_clients) => of_clients.is_some(),
        };
        self.close_oldest_of(of_clients)
    }

    /// Closes the oldest of those for one client each, or of the others.
    fn close_oldest_of(&self, of_clients: bool) -> bool {
        let oldest = self.ages(of_clients).borrow_mut().take_oldest();
        let Some(purpose) = oldest else {
            return false;
        };
        // It is the first of those for the same.
        if let hash_map::Entry::Occupied(mut entry) = self.idle.borrow_mut().entry(purpose) {
            entry.get_mut().pop_front();
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        true
    }

    /// Closes connections that were unused for too long, or closed by their
    /// peers. To be called from time to time.
    pub(crate) fn expire(&self, thread: &Thread) {
        let none = self.idle.borrow().is_empty();
        if none || !thread.passed(self.looked.get(), LOOK) {
            return;
        }
        self.looked.set(thread.now());
        let mut idle = self.idle.borrow_mut();
        idle.retain(|purpose, kept| {
            let mut ages = self.ages(purpose.client.is_some()).borrow_mut();
            kept.retain(|it| {
                let stays = !thread.is_draining()
                    && !thread.passed(it.since, IDLE_TIMEOUT)
                    && !is_old(&it.transport)
                    && it.transport.is_at_rest()
                    && it.client.as_ref().is_none_or(|it| it.strong_count() > 0);
                if !stays {
                    ages.remove(it.number);
                }
                stays
            });
            !kept.is_empty()
        });
    }
}

/// Takes the connection that was used last, of those to an address if one is
/// wanted.
fn take_last(kept: &mut VecDeque<Idle>, wanted: Option<IpAddr>) -> Option<Idle> {
    let is_there = |it: &Idle| match (wanted, it.transport.peer()) {
        (None, _) => true,
        (Some(wanted), Address::Ip(peer)) => peer.ip() == wanted,
        (Some(_), Address::Unix(_)) => false,
    };
    let place = kept.iter().rposition(is_there)?;
    kept.remove(place)
}

/// True if a connection has reached its maximum age.
fn is_old(transport: &Transport) -> bool {
    transport.thread().passed(transport.opened(), MAX_AGE)
}

/// True if the kernel knows of no end, nor of bytes that have arrived.
fn is_open(transport: &Transport) -> bool {
    // In TLS, tickets may have arrived, which are no reason against it.
    !transport.is_plain() || transport.is_quiet()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use netwasm_base::config::Limits;

    use super::*;
    use crate::testing::{connection, in_worker, pass};
    use crate::worker::Worker;

    #[test]
    fn ages_are_in_order_whatever_is_taken_out_of_the_middle() {
        let purpose = |server| Purpose {
            server,
            client: None,
        };
        let (mut ages, mut model) = (Ages::default(), BTreeMap::new());
        // Numbers that look random, and are the same each time.
        let mut state = 1_u64;
        let mut random = move |most: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % most
        };
        for number in 0..4000 {
            ages.add(number, purpose(number));
            model.insert(number, purpose(number));
            // It grows, is of one size, and shrinks.
            let removed = match (random(3), number) {
                (0, ..1600) => 0,
                (_, ..3000) => 1,
                (count, _) => count + 1,
            };
            for _ in 0..removed.min(model.len()) {
                let taken = match random(10) {
                    0 => ages.take_oldest().map(|it| it.server),
                    1 => model.last_key_value().map(|(last, _)| *last),
                    _ => model.keys().nth(random(model.len())).copied(),
                };
                let taken = taken.expect("there is one");
                assert!(model.remove(&taken).is_some(), "{taken} is there");
                ages.remove(taken);
                // Nothing happens to one that is gone.
                ages.remove(taken);
            }
            assert_eq!(ages.len(), model.len());
            assert_eq!(ages.oldest(), model.keys().next().copied());
            assert!(ages.order.len() <= 2 * model.len());
        }
        while let Some((_, first)) = model.pop_first() {
            assert_eq!(ages.take_oldest(), Some(first));
        }
        assert_eq!((ages.take_oldest(), ages.order.len()), (None, 0));
    }

    #[test]
    fn a_client_keeps_its_connection_however_many_others_do() {
        in_worker(Limits::default(), async |worker: Rc<Worker>| {
            let (kept, counters) = (&worker.kept, &worker.env().counters);
            let endpoint = Endpoint::Unix("/nobody".into());
            let group = kept.group_of(endpoint, None, HttpVersion::Http1, counters);
            let [server] = group.servers() else {
                panic!("one server");
            };
            let clients = [(); MOST + 1].map(|()| connection(&worker));
            let of = |number: usize| clients.get(number).map(|it| Rc::downgrade(&it.0));
            let servers = [(); MOST + 1].map(|()| connection(&worker));
            for (number, (transport, _)) in servers.iter().enumerate() {
                kept.put(server, of(number), Rc::clone(transport));
            }
            assert_eq!(kept.of_clients.borrow().len(), MOST + 1);
            let take = |number| kept.take(server, of(number).as_ref(), true);
            let first = take(0).expect("it is kept");
            assert!(Rc::ptr_eq(&first, &servers[0].0));
            assert!(take(0).is_none() && kept.take(server, None, true).is_none());
            // The one that was unused for the longest gives way.
            assert!(kept.close_oldest());
            assert!(take(1).is_none() && take(2).is_some());
            // They go with their clients.
            drop(clients);
            pass(&worker, 2 * LOOK).await;
            assert!(kept.idle.borrow().is_empty());
            assert_eq!(kept.of_clients.borrow().len(), 0);
        });
    }
}
