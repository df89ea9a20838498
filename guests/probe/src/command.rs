//! The commands.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use super::netwasm::net::connector;
use super::netwasm::net::files::File;
use super::netwasm::net::log::{Level, log};
use super::netwasm::net::types::{ConnectOptions, Endpoint, Error, TlsOptions, TlsRole};
use super::netwasm::net::{resolver, timers};
use super::{CONNECTS, Client, QUESTIONS, Wake, metrics, next_token, shared, text, timer};

/// Maximum of attempts of `leak-questions` and `leak-files`.
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

            // metric KIND NAME VALUE...: see `metrics::count`.
            ("metric", words) => match metrics::count(words) {
                Some(Ok(())) => self.answer("ok"),
                Some(Err(error)) => self.refuse(&text::error(&error)),
                None => self.refuse("usage"),
            },

            // shared FUNCTION KEY...: see `shared::call`.
            ("shared", words) => match shared::call(words) {
                Some(Ok(answer)) => self.answer(&answer),
                Some(Err(error)) => self.refuse(&text::error(&error)),
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
            // proxied: what a proxy has told.
            ("proxied", []) => self.answer(&text::proxied(self.transport.proxied())),
            // events: those that this connection has had, in order.
            ("events", []) => self.answer(&self.events.borrow().join(" ")),

            // write N: so many bytes of `x`, and nothing else.
            ("write", [count]) => match count.parse() {
                Ok(count) => self.write(count),
                Err(_) => self.refuse("usage"),
            },
            // stream N: so many bytes of `x`, and nothing else. Once the queue
            // is full it waits for `writable`.
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
            ("timer", [delay]) => self.wake(delay, Wake::Answer(self.clone())),
            ("pause", [delay]) => {
                self.transport.pause_reading();
                self.wake(delay, Wake::Resume(self.clone()));
            }
            // cancel-timer: the last one of `timer`; answers `ok`.
            ("cancel-timer", []) => {
                timer::cancel(self.timer.take());
                self.answer("ok");
            }
            // resolve NAME: the addresses, with spaces between.
            ("resolve", [name]) => {
                let token = next_token();
                match resolver::resolve(token, name) {
                    Ok(()) => {
                        let asked = self.clone();
                        QUESTIONS.with_borrow_mut(|questions| questions.insert(token, asked));
                    }
                    Err(error) => self.refuse(&text::error(&error)),
                }
            }
            // resolve-twice NAME: two look-ups under one token; the error.
            ("resolve-twice", [name]) => {
                let token = next_token();
                let both =
                    resolver::resolve(token, name).and_then(|()| resolver::resolve(token, name));
                resolver::cancel(token);
                match both {
                    Ok(()) => self.answer("both"),
                    Err(error) => self.refuse(&text::error(&error)),
                }
            }
            // now: the clock. idle MILLIS|-: the limit of idleness; `ok`.
            ("now", []) => self.answer(&timers::now().to_string()),
            ("idle", [limit]) => {
                let limit: Option<u64> = limit.parse().ok();
                self.transport
                    .set_idle_timeout(limit.map(|limit| limit * 1_000_000));
                self.answer("ok");
            }
            // start-tls: continues in TLS as a server; no answer.
            ("start-tls", []) => {
                let role = TlsRole::Server;
                let received = self.received.take();
                if let Err(error) = self.transport.start_tls(&role, &received) {
                    self.refuse(&text::error(&error));
                }
            }
            // goad N: so many `x`, one for each `writable` that it asks for.
            ("goad", [count]) => match count.parse() {
                Ok(count) => {
                    self.goaded.set(count);
                    self.transport.want_write();
                }
                Err(_) => self.refuse("usage"),
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
                    let tls = TlsOptions {
                        server_name: Some(name.to_owned()),
                        alpn: alpn.split_terminator('/').map(str::to_owned).collect(),
                        authority: None,
                        identity: None,
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
            // leak-questions, leak-files PATH: until the host refuses; answers
            // with its error and how many it gave.
            ("leak-questions", []) => self.leak(|| resolver::resolve(next_token(), "localhost")),
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
        while self.left.get() > 0 {
            let part = self.left.get().min(bytes.len() as u64);
            let room = self.transport.write(&bytes[..part as usize]);
            self.left.set(self.left.get() - part);
            if room == 0 {
                break;
            }
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
        let answers = matches!(wake, Wake::Answer(_));
        let timer = timer::start(delay, wake);
        if answers {
            self.timer.set(timer);
        }
    }

    fn connect(self: &Rc<Self>, to: &Endpoint, tls: Option<TlsOptions>, text: &str) {
        let options = ConnectOptions {
            tls,
            timeout: None,
            local_address: None,
        };
        let token = next_token();
        match connector::connect(token, to, &options) {
            Ok(()) => {
                let asked = (self.clone(), text.to_owned());
                CONNECTS.with_borrow_mut(|connects| connects.insert(token, asked));
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

    fn leak(&self, one: impl Fn() -> Result<(), Error>) {
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
