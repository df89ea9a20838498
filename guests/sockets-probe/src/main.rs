//! A program that does with `netwasm:net/sockets` and `tls-engine` what its
//! arguments say, good or bad: for the test-suite. Each argument is a step, such
//! as `s = open inet stream` or `connect c $s`, and prints a line with its
//! result. `$s` is the address that a socket has; a number is a descriptor.

mod addresses;
mod names;
mod said;
mod tls;

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;
use std::time::Instant;

use addresses::{parse, shown};
use names::{named_family, named_kind, named_option};
use said::{Said, error, failed, found, received, said};

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "sockets-program",
    });
}

use bindings::netwasm::net::sockets::{self, Direction, Errno, Failure, Family, Kind};

const READABLE: u32 = 1;
const WRITABLE: u32 = 4;

fn main() -> ExitCode {
    let mut probe = Probe::default();
    for step in env::args().skip(1) {
        let said = match probe.run(&step) {
            Ok(said) => said,
            Err(failed) => failed,
        };
        println!("{step}: {said}");
    }
    ExitCode::SUCCESS
}

/// The descriptors of a run, by their names in steps.
#[derive(Default)]
struct Probe {
    names: BTreeMap<String, u32>,
    tls: BTreeMap<String, tls::Session>,
}

impl Probe {
    fn run(&mut self, step: &str) -> Said {
        let (names, words) = match step.split_once(" = ") {
            Some((names, words)) => (names, words),
            None => ("", step),
        };
        let words: Vec<&str> = words.split(' ').collect();
        match *words {
            ["number", number] => {
                self.names
                    .insert(names.to_owned(), number.parse().map_err(error)?);
                Ok("ok".to_owned())
            }
            ["open", family, kind] => {
                let opened = sockets::open(named_family(family)?, named_kind(kind)?);
                self.keep(names, opened)
            }
            ["open-until-full"] => Ok(open_until_full()),
            ["pair"] => {
                let (one, other) = names.split_once(' ').ok_or("two names")?;
                let pair = sockets::pair().map_err(failed)?;
                self.names.insert(one.to_owned(), pair.0);
                self.names.insert(other.to_owned(), pair.1);
                Ok(format!("{} {}", pair.0, pair.1))
            }
            ["duplicate", of] => {
                let duplicate = sockets::duplicate(self.number(of)?);
                self.keep(names, duplicate)
            }
            ["close", what] => said(sockets::close(self.number(what)?)),
            ["bind", socket, local] => {
                said(sockets::bind(self.number(socket)?, &self.address(local)?))
            }
            ["listen", socket, backlog] => {
                let backlog = backlog.parse().map_err(error)?;
                said(sockets::listen(self.number(socket)?, backlog))
            }
            ["say-listener", socket] => {
                let local = sockets::local_address(self.number(socket)?).map_err(failed)?;
                println!("listening on {}", shown(&local));
                Ok("ok".to_owned())
            }
            ["accept", listener] => {
                let listener = self.number(listener)?;
                await_readiness(listener, READABLE)?;
                self.accept(names, listener)
            }
            ["accept-now", listener] => {
                let listener = self.number(listener)?;
                self.accept(names, listener)
            }
            ["connect", socket, to] => {
                said(sockets::connect(self.number(socket)?, &self.address(to)?))
            }
            // Waits until it is done.
            ["connected", socket] => {
                let socket = self.number(socket)?;
                await_readiness(socket, WRITABLE)?;
                self.run_error(socket)
            }
            ["error", socket] => self.run_error(self.number(socket)?),
            ["receive", socket, most] => {
                let socket = self.number(socket)?;
                await_readiness(socket, READABLE)?;
                received(sockets::receive(socket, most.parse().map_err(error)?))
            }
            ["receive-now", socket, most] => {
                let most = most.parse().map_err(error)?;
                received(sockets::receive(self.number(socket)?, most))
            }
            ["peek", socket, most] => {
                let socket = self.number(socket)?;
                await_readiness(socket, READABLE)?;
                received(sockets::peek(socket, most.parse().map_err(error)?))
            }
            ["receive-all", socket] => self.receive_all(socket),
            ["receive-from", socket, most] => {
                let socket = self.number(socket)?;
                await_readiness(socket, READABLE)?;
                let datagram = sockets::receive_from(socket, most.parse().map_err(error)?);
                let datagram = datagram.map_err(failed)?;
                let from = shown(&datagram.from);
                let text = String::from_utf8_lossy(&datagram.data);
                let truncated = if datagram.truncated { " truncated" } else { "" };
                Ok(format!("{text:?} from {from}{truncated}"))
            }
            ["send", socket, text] => said(sockets::send(self.number(socket)?, text.as_bytes())),
            // Sends as often as is said, or until there is no room.
            ["flood", socket, times, size] => self.flood(socket, times, size),
            ["send-to", socket, text, to] => {
                let socket = self.number(socket)?;
                said(sockets::send_to(
                    socket,
                    text.as_bytes(),
                    &self.address(to)?,
                ))
            }
            ["send-file", socket, path, offset, most] => {
                let (offset, most) = (offset.parse().map_err(error)?, most.parse().map_err(error)?);
                said(sockets::send_file(self.number(socket)?, path, offset, most))
            }
            ["send-whole-file", socket, path] => self.send_whole_file(socket, path),
            ["shutdown", socket, direction] => {
                let direction = match direction {
                    "receiving" => Direction::Receiving,
                    "sending" => Direction::Sending,
                    _ => Direction::Both,
                };
                said(sockets::shutdown(self.number(socket)?, direction))
            }
            ["local", socket] => {
                let local = sockets::local_address(self.number(socket)?);
                local.map(|it| shown(&it)).map_err(failed)
            }
            ["peer", socket] => {
                let peer = sockets::peer_address(self.number(socket)?);
                peer.map(|it| shown(&it)).map_err(failed)
            }
            ["get", socket, option] => said(sockets::get_option(
                self.number(socket)?,
                named_option(option)?,
            )),
            ["set", socket, option, value] => {
                let value = value.parse().map_err(error)?;
                said(sockets::set_option(
                    self.number(socket)?,
                    named_option(option)?,
                    value,
                ))
            }
            ["look-up", name] => {
                let look_up = sockets::look_up(name);
                self.keep(names, look_up)
            }
            ["found-now", look_up] => found(self.number(look_up)?),
            ["found", look_up] => {
                let look_up = self.number(look_up)?;
                await_readiness(look_up, READABLE)?;
                found(look_up)
            }
            ["signals"] => self.keep(names, sockets::signals()),
            ["take-signal", signals] => said(sockets::take_signal(self.number(signals)?)),
            ["await-signal", signals] => {
                let signals = self.number(signals)?;
                await_readiness(signals, READABLE)?;
                said(sockets::take_signal(signals))
            }
            ["await-input"] => self.keep(names, sockets::await_input()),
            ["watch-list"] => self.keep(names, sockets::watch_list()),
            ["watch", list, what, bits] => {
                let bits = bits.parse().map_err(error)?;
                said(sockets::watch(self.number(list)?, self.number(what)?, bits))
            }
            ["forget", list, what] => said(sockets::forget(self.number(list)?, self.number(what)?)),
            ["wait", list, most, milliseconds] => self.wait(list, most, milliseconds),
            // An echo, until a signal comes.
            ["echo", listener] => self.echo(listener),
            // Turns with one active socket among many watched ones.
            ["turns", watched, turns] => turns_among(
                watched.parse().map_err(error)?,
                turns.parse().map_err(error)?,
            ),
            // A loop that never waits.
            ["spin", times] => spin(times.parse().map_err(error)?),
            ["variable", name] => env::var(name).map_err(error),
            ["file", path] => std::fs::read_to_string(path).map_err(error),
            ["exit", code] => std::process::exit(code.parse().unwrap_or(255)),
            ["panic"] => panic!("as was asked for"),
            ["tls", ref words @ ..] => tls::run(&mut self.tls, &self.names, names, words),
            _ => Err("there is no such step".to_owned()),
        }
    }

    fn keep(&mut self, name: &str, opened: Result<u32, Failure>) -> Said {
        let number = opened.map_err(failed)?;
        self.names.insert(name.to_owned(), number);
        Ok(number.to_string())
    }

    fn number(&self, name: &str) -> Result<u32, String> {
        let named = self.names.get(name).copied();
        named
            .or_else(|| name.parse().ok())
            .ok_or_else(|| format!("there is no {name}"))
    }

    fn address(&self, text: &str) -> Result<sockets::SocketAddress, String> {
        match text.strip_prefix('$') {
            Some(name) => sockets::local_address(self.number(name)?).map_err(failed),
            None => parse(text),
        }
    }

    fn accept(&mut self, name: &str, listener: u32) -> Said {
        let (socket, peer) = sockets::accept(listener).map_err(failed)?;
        self.names.insert(name.to_owned(), socket);
        Ok(format!("{socket} from {}", shown(&peer)))
    }

    fn run_error(&self, socket: u32) -> Said {
        match sockets::take_error(socket).map_err(failed)? {
            None => Ok("none".to_owned()),
            Some(failure) => Ok(failed(failure)),
        }
    }

    fn receive_all(&self, socket: &str) -> Said {
        let socket = self.number(socket)?;
        let mut count = 0;
        loop {
            await_readiness(socket, READABLE)?;
            let data = sockets::receive(socket, u32::MAX).map_err(failed)?;
            if data.is_empty() {
                return Ok(format!("{count} bytes"));
            }
            count += data.len();
        }
    }

    fn flood(&self, socket: &str, times: &str, size: &str) -> Said {
        let socket = self.number(socket)?;
        let data = vec![b'x'; size.parse().map_err(error)?];
        let mut sent = 0_u64;
        for _ in 0..times.parse::<u64>().map_err(error)? {
            match sockets::send(socket, &data) {
                Ok(count) => sent += u64::from(count),
                Err(failure) => return Ok(format!("{sent} bytes, then {}", failed(failure))),
            }
        }
        Ok(format!("{sent} bytes"))
    }

    fn send_whole_file(&self, socket: &str, path: &str) -> Said {
        let socket = self.number(socket)?;
        let mut offset = 0;
        loop {
            match sockets::send_file(socket, path, offset, u64::MAX) {
                Ok(0) => return Ok(format!("{offset} bytes")),
                Ok(count) => offset += count,
                Err(Failure {
                    code: Errno::Again, ..
                }) => await_readiness(socket, WRITABLE)?,
                Err(failure) => return Err(failed(failure)),
            }
        }
    }

    fn wait(&self, list: &str, most: &str, milliseconds: &str) -> Said {
        let timeout = match milliseconds {
            "-" => None,
            count => Some(count.parse::<u64>().map_err(error)? * 1_000_000),
        };
        let most = most.parse().map_err(error)?;
        let ready = sockets::wait(self.number(list)?, most, timeout).map_err(failed)?;
        let name = |number: u32| {
            let named = self.names.iter().find(|(_, known)| **known == number);
            named.map_or_else(|| number.to_string(), |(name, _)| name.clone())
        };
        let mut ready: Vec<_> = ready
            .into_iter()
            .map(|(number, bits)| format!("{} {bits}", name(number)))
            .collect();
        ready.sort();
        Ok(match ready.is_empty() {
            true => "nothing".to_owned(),
            false => ready.join(", "),
        })
    }

    fn echo(&self, listener: &str) -> Said {
        let listener = self.number(listener)?;
        let list = sockets::watch_list().map_err(failed)?;
        let signals = sockets::signals().map_err(failed)?;
        sockets::watch(list, listener, READABLE).map_err(failed)?;
        sockets::watch(list, signals, READABLE).map_err(failed)?;
        let mut served = 0;
        loop {
            for (ready, _) in sockets::wait(list, 64, None).map_err(failed)? {
                if ready == signals {
                    let signal = sockets::take_signal(signals).map_err(failed)?;
                    return Ok(format!("signal {signal} after {served}"));
                }
                if ready == listener {
                    match sockets::accept(listener) {
                        Ok((socket, _)) => {
                            sockets::watch(list, socket, READABLE).map_err(failed)?;
                            served += 1;
                        }
                        Err(Failure {
                            code: Errno::Again, ..
                        }) => {}
                        Err(failure) => return Err(failed(failure)),
                    }
                    continue;
                }
                match sockets::receive(ready, 64 << 10) {
                    Ok(data) if !data.is_empty() && sockets::send(ready, &data).is_ok() => {}
                    Err(Failure {
                        code: Errno::Again, ..
                    }) => {}
                    Ok(_) | Err(_) => sockets::close(ready).map_err(failed)?,
                }
            }
        }
    }
}

fn open_until_full() -> String {
    let mut count = 0;
    loop {
        match sockets::open(Family::Inet, Kind::Stream) {
            Ok(_) => count += 1,
            Err(failure) => return format!("{count}, then {}", failed(failure)),
        }
    }
}

fn turns_among(watched: u32, turns: u32) -> Said {
    let list = sockets::watch_list().map_err(failed)?;
    for _ in 0..watched {
        let (one, _other) = sockets::pair().map_err(failed)?;
        sockets::watch(list, one, READABLE).map_err(failed)?;
    }
    let (mine, peer) = sockets::pair().map_err(failed)?;
    sockets::watch(list, mine, READABLE).map_err(failed)?;
    let began = Instant::now();
    for _ in 0..turns {
        sockets::send(peer, b"x").map_err(failed)?;
        let ready = sockets::wait(list, 64, None).map_err(failed)?;
        if ready != [(mine, READABLE)] {
            return Err(format!("{ready:?}"));
        }
        sockets::receive(mine, 64).map_err(failed)?;
    }
    Ok(format!(
        "{} ns",
        began.elapsed().as_nanos() / u128::from(turns.max(1))
    ))
}

fn spin(times: u32) -> Said {
    let list = sockets::watch_list().map_err(failed)?;
    for _ in 0..times {
        sockets::wait(list, 1, Some(0)).map_err(failed)?;
    }
    Ok("ok".to_owned())
}

/// Waits until a descriptor is ready.
fn await_readiness(what: u32, bits: u32) -> Result<(), String> {
    let list = sockets::watch_list().map_err(failed)?;
    sockets::watch(list, what, bits).map_err(failed)?;
    let ready = sockets::wait(list, 1, Some(20_000_000_000)).map_err(failed)?;
    sockets::close(list).map_err(failed)?;
    match ready.is_empty() {
        true => Err("it takes too long".to_owned()),
        false => Ok(()),
    }
}
