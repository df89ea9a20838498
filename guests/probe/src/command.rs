//! The commands.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use super::netwasm::net::connector::{self, ConnectOptions, Endpoint};
use super::netwasm::net::files::File;
use super::netwasm::net::log::{Level, log};
use super::netwasm::net::transports::ClientTls;
use super::netwasm::net::types::ErrorCode;
use super::netwasm::net::{resolver, timers};
use super::{CONNECTS, Client, QUESTIONS, TIMERS, Wake, text};

/// What `leak-timers` and `leak-files` try at most.
const ENOUGH: u32 = 1_000_000;

impl Client {
    /// Carries out one command. Those that answer nothing say so.
    pub(super) fn execute(self: &Rc<Self>, line: &str) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (command, words.as_slice()) {
            // print TEXT, eprint TEXT: to standard output and error; no answer.
            ("print", _) => println!("{rest}"),
            ("eprint", _) => eprintln!("{rest}"),
            // log LEVEL TEXT: to the host's log; no answer.
            ("log", [name, ..]) => match level(name) {
                Some(level) => log(level, rest[name.len()..].trim_start()),
                None => self.refuse("usage"),
            },

            // args: all of them, as a list. env NAME: its value.
            ("args", []) => self.answer(&format!("{:?}", std::env::args().collect::<Vec<_>>())),
            ("env", [name]) => match std::env::var(name) {
                Ok(value) => self.answer(&value),
                Err(_) => self.refuse("not-found"),
            },
            // info: all that `info` gives, in a line.
            ("info", []) => self.answer(&text::info(&self.transport.info())),
            // events: those that this connection has had, in order.
            ("events", []) => self.answer(&self.events.borrow().join(" ")),

            // write N: so many bytes of `x`, and nothing else.
            ("write", [count]) => match count.parse() {
                Ok(count) => self.write(count),
                Err(_) => self.refuse("usage"),
            },
            // stream N: so many bytes of `x`, and nothing else. Once the queue
            // is above the high watermark it waits for `resume-writing`.
            ("stream", [count]) => match count.parse() {
                Ok(count) => {
                    self.left.set(count);
                    self.stream_on();
                }
                Err(_) => self.refuse("usage"),
            },
            // writelines A B...: the words with nothing between, in one call.
            ("writelines", words) => {
                let mut parts: Vec<_> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
                parts.push(b"\n".to_vec());
                self.transport.writelines(&parts);
            }
            // size: bytes in the queue. limits HIGH LOW: those in force then.
            ("size", []) => self.answer(&self.transport.get_write_buffer_size().to_string()),
            ("limits", [high, low]) => match (high.parse(), low.parse()) {
                (Ok(high), Ok(low)) => {
                    self.transport.set_write_buffer_limits(high, low);
                    let (high, low) = self.transport.get_write_buffer_limits();
                    self.answer(&format!("{high} {low}"));
                }
                _ => self.refuse("usage"),
            },
            // close TEXT, write-eof TEXT: answers TEXT, then ends.
            ("close", _) => {
                self.answer(rest);
                self.transport.close();
            }
            ("write-eof", _) => {
                self.answer(rest);
                if let Err(error) = self.transport.write_eof() {
                    self.refuse(&text::error(&error));
                }
            }
            // abort: no answer.
            ("abort", []) => self.transport.abort(),
            // exit CODE TEXT: answers TEXT, then exits.
            ("exit", [code, ..]) => match code.parse() {
                Ok(code) => {
                    self.answer(&words[1..].join(" "));
                    std::process::exit(code);
                }
                Err(_) => self.refuse("usage"),
            },
            // half-close on|off: what `eof-received` returns; answers `ok`.
            ("half-close", [setting @ ("on" | "off")]) => {
                self.half_close.set(*setting == "on");
                self.answer("ok");
            }

            // timer MILLIS: answers `fired`. pause MILLIS: does not read
            // meanwhile, then answers `resumed`.
            ("timer", [delay]) => self.wake(delay, Wake::Answer),
            ("pause", [delay]) => {
                self.transport.pause_reading();
                self.wake(delay, Wake::Resume);
            }
            // cancel-timer: the last one of `timer`; answers `ok`.
            ("cancel-timer", []) => {
                timers::cancel(self.timer.get());
                TIMERS.with_borrow_mut(|timers| timers.remove(&self.timer.take()));
                self.answer("ok");
            }
            // resolve NAME: the addresses, with spaces between.
            ("resolve", [name]) => match resolver::resolve(name) {
                Ok(id) => {
                    QUESTIONS.with_borrow_mut(|questions| questions.insert(id, self.clone()));
                }
                Err(error) => self.refuse(&text::error(&error)),
            },

            // connect ADDR TEXT: sends TEXT and an end of line, and answers
            // with the first line that comes back, or with `error: closed`.
            // ADDR is HOST:PORT, [IPV6]:PORT or unix:PATH.
            ("connect", [address, ..]) => match text::endpoint(address) {
                Some(to) => self.connect(&to, None, rest[address.len()..].trim_start()),
                None => self.refuse("usage"),
            },
            // connect-tls HOST PORT NAME TEXT: the same in TLS with a server
            // called NAME, or NAME/PROTOCOL to offer that (ALPN).
            ("connect-tls", [host, port, name, text @ ..]) => match port.parse() {
                Ok(port) => {
                    let (name, alpn) = name.split_once('/').unwrap_or((name, ""));
                    let tls = ClientTls {
                        server_name: name.to_owned(),
                        alpn: alpn.split_terminator('/').map(str::to_owned).collect(),
                    };
                    let to = Endpoint::Name(((*host).to_owned(), port));
                    self.connect(&to, Some(tls), &text.join(" "));
                }
                Err(_) => self.refuse("usage"),
            },

            // sendfile PATH OFFSET LENGTH|-: those bytes, and nothing else.
            ("sendfile", [path, offset, length]) => match (offset.parse(), length.parse()) {
                (Ok(offset), Ok(length)) => self.send_file(path, offset, Some(length)),
                (Ok(offset), Err(_)) if *length == "-" => self.send_file(path, offset, None),
                _ => self.refuse("usage"),
            },
            // read PATH, write-file PATH TEXT, list PATH: with the standard
            // library; the text, `ok`, the sorted names.
            ("read", [path]) => self.outcome(std::fs::read_to_string(path)),
            ("write-file", [path, ..]) => {
                let text = rest[path.len()..].trim_start();
                self.outcome(std::fs::write(path, text).map(|()| "ok".to_owned()));
            }
            ("list", [path]) => self.outcome(list(path)),
            // sync PATH: waits for the disk; answers `ok`.
            ("sync", [path]) => {
                let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
                self.outcome(synced.map(|()| "ok".to_owned()));
            }

            // From here on: bad manners.
            ("panic", []) => panic!("as it was told"),
            ("spin", []) => loop {
                black_box(());
            },
            ("grow", []) => {
                let mut kept = Vec::new();
                loop {
                    kept.push(black_box(vec![1_u8; 1 << 20]));
                }
            }
            ("overflow", []) => self.answer(&overflow(black_box(0)).to_string()),
            // flood: calls the host for ever.
            ("flood", []) => loop {
                black_box(self.transport.get_write_buffer_size());
            },
            // leak-timers, leak-files PATH: until the host refuses; answers
            // with its error and how many it gave.
            ("leak-timers", []) => self.leak(|| {
                timers::call_later(3_600_000_000_000)?;
                Ok(())
            }),
            ("leak-files", [path]) => self.leak(|| {
                std::mem::forget(File::open(path)?);
                Ok(())
            }),
            // sleep MILLIS: in the event; answers `ok`.
            ("sleep", [time]) => match time.parse() {
                Ok(time) => {
                    std::thread::sleep(Duration::from_millis(time));
                    self.answer("ok");
                }
                Err(_) => self.refuse("usage"),
            },

            _ => self.refuse("usage"),
        }
    }

    fn write(&self, mut count: usize) {
        let bytes = vec![b'x'; count.min(1 << 20)];
        while count > 0 {
            let part = count.min(bytes.len());
            self.transport.write(&bytes[..part]);
            count -= part;
        }
    }

    /// Goes on with `stream`.
    pub(super) fn stream_on(&self) {
        let bytes = vec![b'x'; 64 << 10];
        let (high, _) = self.transport.get_write_buffer_limits();
        while self.left.get() > 0 && self.transport.get_write_buffer_size() <= high {
            let part = self.left.get().min(bytes.len() as u64);
            self.transport.write(&bytes[..part as usize]);
            self.left.set(self.left.get() - part);
        }
    }

    fn wake(self: &Rc<Self>, millis: &str, wake: Wake) {
        let Some(delay) = millis
            .parse()
            .ok()
            .and_then(|millis: u64| millis.checked_mul(1_000_000))
        else {
            return self.refuse("usage");
        };
        match timers::call_later(delay) {
            Ok(id) => {
                if matches!(wake, Wake::Answer) {
                    self.timer.set(id);
                }
                TIMERS.with_borrow_mut(|timers| timers.insert(id, (self.clone(), wake)));
            }
            Err(error) => self.refuse(&text::error(&error)),
        }
    }

    fn connect(self: &Rc<Self>, to: &Endpoint, tls: Option<ClientTls>, text: &str) {
        match connector::connect(to, &ConnectOptions { tls, timeout: None }) {
            Ok(id) => {
                let asked = (self.clone(), text.to_owned());
                CONNECTS.with_borrow_mut(|connects| connects.insert(id, asked));
            }
            Err(error) => self.refuse(&text::error(&error)),
        }
    }

    fn send_file(&self, path: &str, offset: u64, length: Option<u64>) {
        let sent =
            File::open(path).and_then(|file| self.transport.send_file(&file, offset, length));
        if let Err(error) = sent {
            self.refuse(&text::error(&error));
        }
    }

    fn outcome(&self, outcome: std::io::Result<String>) {
        match outcome {
            Ok(text) => self.answer(&text),
            Err(error) => self.refuse(&text::kebab(error.kind())),
        }
    }

    fn leak(&self, one: impl Fn() -> Result<(), ErrorCode>) {
        for given in 0..ENOUGH {
            if let Err(error) = one() {
                return self.refuse(&format!("{} after {given}", text::error(&error)));
            }
        }
        self.answer("no limit");
    }
}

fn level(name: &str) -> Option<Level> {
    Some(match name {
        "trace" => Level::Trace,
        "debug" => Level::Debug,
        "info" => Level::Info,
        "warn" => Level::Warn,
        "error" => Level::Error,
        _ => return None,
    })
}

fn list(path: &str) -> std::io::Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.join(" "))
}

/// Calls itself until the stack ends. It keeps nothing in linear memory, so
/// that it is the host's stack that overflows.
#[inline(never)]
pub(super) fn overflow(depth: u64) -> u64 {
    if depth == u64::MAX {
        return depth;
    }
    overflow(depth + 1).rotate_left(1) ^ depth
}
