//! A chat room: lines from one client go to all others.
//!
//! ```sh
//! netwasm run guests/chat.wasm --tcp 8888 --isolation worker --workers 1
//! nc localhost 8888
//! ```
//!
//! With other settings each instance is a room of its own. `/nick NAME` sets
//! the name that others see.
//!
//! A client that reads too slowly holds up nobody. When its queue is full
//! (`write` returns no room), the newest `BACKLOG` lines are kept for it, and
//! when it reads again (`writable`) it gets those, after a line that says how
//! many older ones it missed.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:chat;
        world chat {
            include netwasm:net/tcp-server@0.2.0;
        }
    ",
    world: "netwasm:chat/chat",
    generate_all,
});

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use exports::netwasm::net::tcp_handler;
use netwasm::net::transports::Transport;
use netwasm::net::types::{Error, TlsInfo};

/// The longest line that is passed on, bytes; longer ones are refused.
const MAX_LINE: usize = 1024;

/// The longest name, characters.
const MAX_NAME: usize = 20;

/// How many lines are kept for a client that does not read.
const BACKLOG: usize = 100;

thread_local! {
    /// Everybody in the room, in the order of their coming.
    static ROOM: RefCell<Vec<Rc<Member>>> = RefCell::default();
    /// How many have come so far.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Chat;
export!(Chat);

impl tcp_handler::Guest for Chat {
    type Connection = Connection;
}

struct Connection {
    member: Rc<Member>,
    /// What arrived of a line that has not ended yet.
    line: RefCell<Vec<u8>>,
}

impl tcp_handler::GuestConnection for Connection {
    fn new(transport: Transport) -> Self {
        COUNT.set(COUNT.get() + 1);
        let name = format!("guest{}", COUNT.get());
        let member = Rc::new(Member {
            transport,
            name: RefCell::new(name.clone()),
            paused: Cell::new(false),
            backlog: RefCell::default(),
            missed: Cell::new(0),
        });
        member.tell(&format!("* you are {name}; /nick NAME changes that\n").into());
        ROOM.with_borrow_mut(|room| room.push(member.clone()));
        member.tell_others(&format!("* {name} joined"));
        Self {
            member,
            line: RefCell::default(),
        }
    }

    /// Cuts what arrives into lines.
    fn data_received(&self, data: Vec<u8>) {
        let mut line = self.line.borrow_mut();
        for part in data.split_inclusive(|&byte| byte == b'\n') {
            // One byte more than allowed is enough to see that it is too long.
            let room = (MAX_LINE + 1).saturating_sub(line.len());
            line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.member.said(&line);
                line.clear();
            }
        }
    }

    /// False: it gets what is still queued, then leaves the room.
    fn eof_received(&self) -> bool {
        false
    }

    fn tls_started(&self, _info: TlsInfo) {}

    fn writable(&self) {
        self.member.paused.set(false);
        self.member.catch_up();
    }

    fn connection_lost(&self, _reason: Option<Error>) {
        ROOM.with_borrow_mut(|room| room.retain(|other| !Rc::ptr_eq(other, &self.member)));
        self.member
            .tell_others(&format!("* {} left", self.member.name.borrow()));
    }
}

/// Somebody in the room.
struct Member {
    transport: Transport,
    name: RefCell<String>,
    /// Until `writable`, after there was no room.
    paused: Cell<bool>,
    /// Lines that wait for `writable`, the oldest one first. They are
    /// shared by all for whom they wait.
    backlog: RefCell<VecDeque<Rc<str>>>,
    /// How many lines found no room in the backlog.
    missed: Cell<u64>,
}

impl Member {
    /// Deals with a line that this client sent.
    fn said(self: &Rc<Self>, line: &[u8]) {
        if line.len() > MAX_LINE {
            let refusal = format!("* not sent: longer than {MAX_LINE} bytes\n");
            return self.tell(&refusal.into());
        }
        // Control characters could play tricks on the others' terminals.
        let mut text = String::from_utf8_lossy(line).into_owned();
        text.retain(|c| !c.is_control());
        match text.strip_prefix("/nick ") {
            Some(name) => self.rename(name.trim()),
            None if text.trim().is_empty() => {}
            None => self.tell_others(&format!("{}: {text}", self.name.borrow())),
        }
    }

    fn rename(self: &Rc<Self>, name: &str) {
        let taken = || {
            ROOM.with_borrow(|room| {
                room.iter()
                    .any(|other| !Rc::ptr_eq(other, self) && *other.name.borrow() == name)
            })
        };
        if name.is_empty() || name.chars().count() > MAX_NAME || taken() {
            return self.tell(&format!("* {name:?} is taken, empty or too long\n").into());
        }
        let old = self.name.replace(name.to_owned());
        self.tell(&format!("* you are {name}\n").into());
        self.tell_others(&format!("* {old} is now {name}"));
    }

    /// Sends a line to everybody but this one.
    fn tell_others(self: &Rc<Self>, line: &str) {
        let line = format!("{line}\n").into();
        ROOM.with_borrow(|room| {
            for other in room.iter().filter(|other| !Rc::ptr_eq(other, self)) {
                other.tell(&line);
            }
        });
    }

    /// Sends this client a line, or keeps it until the client reads.
    fn tell(&self, line: &Rc<str>) {
        if !self.paused.get() {
            return self.send(line.as_bytes());
        }
        let mut backlog = self.backlog.borrow_mut();
        if backlog.len() == BACKLOG {
            backlog.pop_front();
            self.missed.set(self.missed.get() + 1);
        }
        backlog.push_back(line.clone());
    }

    /// Sends what was kept.
    fn catch_up(&self) {
        let mut lines = String::new();
        let missed = self.missed.take();
        if missed > 0 {
            lines = format!("* you missed {missed} lines\n");
        }
        lines.extend(self.backlog.take().iter().map(|line| &**line));
        if !lines.is_empty() {
            self.send(lines.as_bytes());
        }
    }

    /// Sends bytes, and notes if there is no room for more.
    fn send(&self, data: &[u8]) {
        self.paused.set(self.transport.write(data) == 0);
    }
}
