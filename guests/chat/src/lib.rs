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
//! A client that reads too slowly holds up nobody: the newest `BACKLOG` lines
//! are kept for it, and when it reads again it gets those, after a line that
//! says how many older ones it missed.
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use netwasm_guest::channel::broadcast::{self, Received};
use netwasm_guest::metrics::{Counter, Gauge};
use netwasm_guest::{Connection, Either, ErrorKind, Result, select};

netwasm_guest::export!(tcp: serve);

/// The longest line that is passed on, bytes; longer ones are refused.
const MAX_LINE: usize = 1024;

/// The longest name, characters.
const MAX_NAME: usize = 20;

/// How many lines are kept for a client that does not read.
const BACKLOG: usize = 100;

/// Shown by `--admin` in `/metrics`.
static MEMBERS: Gauge = Gauge::new("members", "People in the room");
static LINES: Counter = Counter::new("lines", "Lines that went to all others");

/// A line, and who said it.
type Said = (u64, Rc<str>);

struct Room {
    lines: broadcast::Sender<Said>,
    /// The names of everybody in the room.
    names: RefCell<Vec<(u64, String)>>,
    /// How many have come so far.
    count: Cell<u64>,
}

thread_local! {
    static ROOM: Rc<Room> = Rc::new(Room {
        lines: broadcast::channel(BACKLOG),
        names: RefCell::default(),
        count: Cell::new(0),
    });
}

async fn serve(conn: Connection) -> Result<()> {
    let (mut reader, mut writer) = conn.split();
    let member = Member::join();
    let mut others = member.room.lines.subscribe();
    let name = member.name();
    writer
        .write_all(format!("* you are {name}; /nick NAME changes that\n"))
        .await?;
    loop {
        let next = select(reader.read_until(b'\n', MAX_LINE + 1), others.recv()).await;
        match next {
            Either::Left(Ok(Some(line))) => {
                if let Some(reply) = member.said(&line) {
                    writer.write_all(reply).await?;
                }
            }
            Either::Left(Err(error)) if error.kind() == ErrorKind::TooLong => {
                reader.skip_until(b'\n').await?;
                let refusal = format!("* not sent: longer than {MAX_LINE} bytes\n");
                writer.write_all(refusal).await?;
            }
            Either::Left(Err(error)) if error.kind() == ErrorKind::UnexpectedEnd => return Ok(()),
            Either::Left(ended) => return ended.map(|_| ()),
            Either::Right(Some(Received::Value((who, line)))) if who != member.id => {
                writer.write_all(line.as_bytes()).await?;
            }
            Either::Right(Some(Received::Missed(count))) => {
                writer
                    .write_all(format!("* you missed {count} lines\n"))
                    .await?;
            }
            Either::Right(_) => {}
        }
    }
}

/// Somebody in the room, until it is dropped.
struct Member {
    room: Rc<Room>,
    id: u64,
}

impl Member {
    fn join() -> Self {
        let room = ROOM.with(Rc::clone);
        let id = room.count.get() + 1;
        room.count.set(id);
        let name = format!("guest{id}");
        room.names.borrow_mut().push((id, name.clone()));
        MEMBERS.change(1.0);
        let member = Self { room, id };
        member.tell_others(&format!("* {name} joined"));
        member
    }

    fn name(&self) -> String {
        let names = self.room.names.borrow();
        let own = names.iter().find(|(id, _)| *id == self.id);
        own.map(|(_, name)| name.clone()).unwrap_or_default()
    }

    /// Deals with a line that this client sent. Returns what to tell it.
    fn said(&self, line: &[u8]) -> Option<String> {
        // Control characters could play tricks on the others' terminals.
        let mut text = String::from_utf8_lossy(line).into_owned();
        text.retain(|c| !c.is_control());
        match text.strip_prefix("/nick ") {
            Some(name) => return Some(self.rename(name.trim())),
            None if text.trim().is_empty() => {}
            None => {
                LINES.add(1);
                self.tell_others(&format!("{}: {text}", self.name()));
            }
        }
        None
    }

    fn rename(&self, name: &str) -> String {
        let old = self.name();
        let mut names = self.room.names.borrow_mut();
        let taken = names
            .iter()
            .any(|(id, other)| *id != self.id && other == name);
        if name.is_empty() || name.chars().count() > MAX_NAME || taken {
            return format!("* {name:?} is taken, empty or too long\n");
        }
        for (id, own) in names.iter_mut() {
            if *id == self.id {
                name.clone_into(own);
            }
        }
        drop(names);
        self.tell_others(&format!("* {old} is now {name}"));
        format!("* you are {name}\n")
    }

    /// Sends a line to everybody but this one.
    fn tell_others(&self, line: &str) {
        self.room.lines.send((self.id, format!("{line}\n").into()));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let name = self.name();
        self.room
            .names
            .borrow_mut()
            .retain(|(id, _)| *id != self.id);
        MEMBERS.change(-1.0);
        self.tell_others(&format!("* {name} left"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netwasm_guest::testing::{self, Peer};

    fn join(name: &str) -> Peer {
        let mut peer = testing::serve(serve);
        assert!(peer.read_line().starts_with("* you are guest"));
        peer.send(format!("/nick {name}\n"));
        assert_eq!(peer.read_line(), format!("* you are {name}"));
        peer
    }

    #[test]
    fn lines_go_to_all_others() {
        let mut ann = join("ann");
        let mut bob = join("bob");
        for line in ["* guest2 joined", "* guest2 is now bob"] {
            assert_eq!(ann.read_line(), line);
        }
        ann.send("good ");
        ann.send("morning\n\x1b[2Jhow are you?\r\n");
        bob.expect("ann: good morning\nann: [2Jhow are you?\n");
        ann.expect_nothing();
        bob.send("/nick ann\n");
        assert_eq!(bob.read_line(), "* \"ann\" is taken, empty or too long");
        bob.send([&[b'x'; 1024][..], b"\n", &[b'x'; 1025][..], b"\nafter\n"].concat());
        assert_eq!(bob.read_line(), "* not sent: longer than 1024 bytes");
        assert_eq!(ann.read_line(), format!("bob: {}", "x".repeat(1024)));
        assert_eq!(ann.read_line(), "bob: after");
        bob.reset();
        assert_eq!(ann.read_line(), "* bob left");
        assert_eq!(testing::metric("members", &[]), Some(1.0));
        assert_eq!(testing::metric("lines", &[]), Some(4.0));
        ann.finish();
        ann.expect_end();
    }

    #[test]
    fn a_slow_reader_learns_what_it_missed() {
        let mut slow = join("slow");
        let mut talker = join("talker");
        let text = "x".repeat(1000);
        for _ in 0..500 {
            talker.send(format!("{text}\n"));
        }
        talker.send("the last line\n");
        let mut missed = None;
        loop {
            let line = slow.read_line();
            if let Some(rest) = line.strip_prefix("* you missed ") {
                missed = Some(rest.to_owned());
            }
            if line == "talker: the last line" {
                break;
            }
        }
        assert!(missed.is_some());
    }
}
