//! A process takes the listening sockets of another one, which then drains:
//! `--takeover`.
//!
//! ```text
//!   new process                              running one, at its admin interface
//!   components are compiled
//!   POST /takeover, Upgrade  ------------->  is it the same user's?
//!               <-------------  101; what the sockets are; the sockets (SCM_RIGHTS)
//!   all workers serve
//!   ready, and what it has no use for --->  no longer accepts, and drains
//!               <-------------  ok
//! ```
//!
//! Both accept for a moment: no client finds a closed socket. If the new process
//! ends before it is ready, the running one goes on. Meanwhile neither reloads,
//! and no third process takes over. The files of Unix sockets are the new one's
//! from the time at which it has the sockets, whatever ends the old one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot};

use netwasm_base::error::Error;
use netwasm_base::unix;
use netwasm_net::handing;
use netwasm_net::listener::{Bound, Described};

use crate::admin::Ask;

use super::Event;

/// Name of the protocol that follows the request.
pub(crate) const PROTOCOL: &str = "netwasm-takeover";

/// Time for the other process to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Time for the new process to be ready, once it has the sockets.
const READY: Duration = Duration::from_secs(120);

/// Maximum size of a description, in bytes.
const MOST: u64 = 16 << 20;

/// The sockets of a listener, as one process has them and another gets them.
#[derive(Debug)]
pub(crate) struct Handed {
    /// Name of the service; empty for the admin interface.
    pub(crate) owner: String,
    /// Number of the listener in the service's settings.
    pub(crate) listener: usize,
    /// True for datagrams.
    pub(crate) datagrams: bool,
    /// The address as the settings have it.
    pub(crate) address: String,
    pub(crate) bound: Vec<Bound>,
}

/// A take-over under way: another process has the listeners, and does not serve
/// yet. Dropping it tells the run that the other process has given up.
#[derive(Debug)]
pub(crate) struct Handing(Option<mpsc::UnboundedSender<Event>>);

impl Handing {
    pub(super) fn new(events: &mpsc::UnboundedSender<Event>) -> Self {
        Self(Some(events.clone()))
    }

    /// Notes that the other process serves.
    pub(super) fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Handing {
    fn drop(&mut self) {
        if let Some(events) = self.0.take() {
            // The run may have ended.
            let _ = events.send(Event::Asked(Ask::GivenUp));
        }
    }
}

/// The sockets of a process, to be sent to another one.
#[derive(Debug)]
pub(crate) struct Luggage {
    description: String,
    sockets: Vec<OwnedFd>,
    handing: Handing,
}

impl Luggage {
    /// Describes and duplicates sockets.
    ///
    /// # Errors
    /// Fails if no descriptor is left.
    pub(crate) fn pack<'a>(
        listeners: impl Iterator<Item = (&'a str, usize, bool, String, &'a [Bound])>,
        handing: Handing,
    ) -> io::Result<Self> {
        let mut sockets = Vec::new();
        let mut entries = Vec::new();
        for (owner, listener, datagrams, address, bound) in listeners {
            let each = bound.iter().map(|bound| {
                let Described {
                    url,
                    scheme,
                    is_unix,
                    is_single,
                    file,
                    sockets,
                } = bound.described();
                json!({
                    "url": url,
                    "scheme": scheme,
                    "is_unix": is_unix,
                    "is_single": is_single,
                    "file": file,
                    "sockets": sockets,
                })
            });
            entries.push(json!({
                "owner": owner,
                "listener": listener,
                "datagrams": datagrams,
                "address": address,
                "bound": each.collect::<Vec<_>>(),
            }));
            for socket in bound.iter().flat_map(Bound::sockets) {
                sockets.push(socket.try_clone_to_owned()?);
            }
        }
        Ok(Self {
            description: format!("{}\n", json!({ "listeners": entries })),
            sockets,
            handing,
        })
    }

    /// Sends all to the other process, and waits until it serves. Returns the
    /// numbers of the listeners that it has no use for.
    ///
    /// # Errors
    /// Fails if the other process ends before, or takes too long.
    pub(crate) async fn send(
        self,
        stream: &tokio::net::UnixStream,
    ) -> io::Result<(Vec<usize>, Handing)> {
        self.send_within(stream, READY).await
    }

    async fn send_within(
        mut self,
        stream: &tokio::net::UnixStream,
        limit: Duration,
    ) -> io::Result<(Vec<usize>, Handing)> {
        // It may not read, too.
        let line = tokio::time::timeout(limit, self.hand_over(stream)).await;
        let line = line.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let ready: Value = serde_json::from_str(&line).map_err(io::Error::other)?;
        let unused = ready.get("unused").and_then(Value::as_array);
        let unused = unused.ok_or_else(|| io::Error::other("it does not say what it takes"))?;
        let unused = unused.iter().filter_map(Value::as_u64);
        let unused = unused.filter_map(|number| usize::try_from(number).ok());
        Ok((unused.collect(), self.handing))
    }

    /// Sends all, and returns what the other process says once it serves.
    async fn hand_over(&mut self, stream: &tokio::net::UnixStream) -> io::Result<String> {
        let mut rest = self.description.as_bytes();
        while !rest.is_empty() {
            stream.writable().await?;
            match stream.try_write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let all: Vec<BorrowedFd<'_>> = self.sockets.iter().map(AsFd::as_fd).collect();
        let mut sent = 0;
        while sent < all.len() {
            let left = all.get(sent..).unwrap_or_default();
            let send = || handing::send(stream, left);
            sent += stream.async_io(Interest::WRITABLE, send).await?;
        }
        drop(all);
        self.sockets.clear();
        read_line(stream).await
    }
}

/// Tells the other process that it may end.
pub(crate) async fn say_ok(stream: &tokio::net::UnixStream) {
    if stream.writable().await.is_ok() {
        // It may have ended in the meantime.
        let _ = stream.try_write(b"ok\n");
    }
}

async fn read_line(stream: &tokio::net::UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        stream.readable().await?;
        let mut byte = [0];
        match stream.try_read(&mut byte) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if byte == *b"\n" => break,
            Ok(_) if line.len() < 1 << 16 => line.extend(byte),
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(line).map_err(io::Error::other)
}

/// A process that has taken the listeners, and serves.
#[derive(Debug)]
pub(super) struct Successor {
    /// Its number, if that is known.
    pub(super) process: Option<i32>,
    /// Numbers of the listeners that it has no use for.
    pub(super) unused: Vec<usize>,
    /// Told once nothing is accepted here any more.
    pub(super) reply: oneshot::Sender<()>,
}

/// The process whose sockets were taken, until it is told to end.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

/// Takes the sockets of the process whose admin interface is there. Returns
/// `None` if there is no such process.
///
/// # Errors
/// Fails with the address, what happened and what to do.
pub(super) fn take(socket: &Path) -> Result<Option<(Predecessor, Vec<Handed>)>, Error> {
    let failed = |reason: String| Error::Listen {
        address: format!("unix:{}", socket.display()),
        reason: format!("cannot take over from the run there (--takeover): {reason}"),
    };
    let stream = match unix::address(socket).and_then(|it| UnixStream::connect_addr(&it)) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let handed = ask(&stream).map_err(|error| failed(error.to_string()))?;
    Ok(Some((Predecessor(stream), handed)))
}

fn ask(stream: &UnixStream) -> io::Result<Vec<Handed>> {
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let request = format!(
        "POST /takeover HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: {PROTOCOL}\r\nContent-Length: 0\r\n\r\n"
    );
    (&*stream).write_all(request.as_bytes())?;
    // Bytes that come with descriptors must not be read before them, so nothing
    // is read ahead.
    let mut exact = BufReader::with_capacity(1, stream);
    let mut status = String::new();
    exact.by_ref().take(MOST).read_line(&mut status)?;
    loop {
        let mut line = String::new();
        let count = exact.by_ref().take(MOST).read_line(&mut line)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            break;
        }
    }
    if status.split(' ').nth(1) != Some("101") {
        let mut text = String::new();
        // Its reason, as far as it comes.
        let _ = exact.take(1 << 16).read_to_string(&mut text);
        return Err(io::Error::other(match text.trim() {
            "" => status.trim().to_owned(),
            text => text.to_owned(),
        }));
    }
    let mut description = String::new();
    exact.by_ref().take(MOST).read_line(&mut description)?;
    let description: Value = serde_json::from_str(&description).map_err(io::Error::other)?;
    unpack(stream, &description)
}

/// Receives the sockets of a description.
fn unpack(stream: &UnixStream, description: &Value) -> io::Result<Vec<Handed>> {
    let wrong =
        || io::Error::other("it is of another version, which describes sockets differently");
    let list = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned();
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |value: &Value, name: &str| {
        let number = value.get(name).and_then(Value::as_u64);
        number.and_then(|number| usize::try_from(number).ok())
    };
    let is = |value: &Value, name: &str| value.get(name).and_then(Value::as_bool);
    let mut received = Vec::new();
    let mut taken = 0;
    let mut all = Vec::new();
    for entry in list(description, "listeners").ok_or_else(wrong)? {
        let mut bound = Vec::new();
        for one in list(&entry, "bound").ok_or_else(wrong)? {
            let described = (|| {
                Some(Described {
                    url: text(&one, "url")?,
                    scheme: text(&one, "scheme")?,
                    is_unix: is(&one, "is_unix")?,
                    is_single: is(&one, "is_single")?,
                    file: text(&one, "file").map(PathBuf::from),
                    sockets: number(&one, "sockets")?,
                })
            })();
            let described = described.ok_or_else(wrong)?;
            while received.len() < described.sockets {
                if !handing::receive(stream, &mut received)? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            taken += described.sockets;
            let sockets = received.drain(..described.sockets).collect();
            bound.push(Bound::adopt(described, sockets));
        }
        let entry = (|| {
            Some(Handed {
                owner: text(&entry, "owner")?,
                listener: number(&entry, "listener")?,
                datagrams: is(&entry, "datagrams")?,
                address: text(&entry, "address")?,
                bound,
            })
        })();
        all.push(entry.ok_or_else(wrong)?);
    }
    tracing::debug!(sockets = taken, "sockets of the running process");
    Ok(all)
}

impl Predecessor {
    /// Tells the process that this one serves, and which of its listeners it has
    /// no use for. Returns once it no longer accepts.
    ///
    /// # Errors
    /// Fails if the process does not answer. It may have ended.
    pub(super) fn end(self, unused: &[usize]) -> io::Result<()> {
        let ready = format!("{}\n", json!({ "unused": unused }));
        (&self.0).write_all(ready.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(&self.0).take(64).read_line(&mut answer)?;
        match answer.as_str() {
            // If it had no connections, it may have ended by now.
            "ok\n" | "" => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_reads_nothing_does_not_hold_up_the_run() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (here, _there) = tokio::net::UnixStream::pair().expect("a pair of sockets");
            let luggage = Luggage {
                // More than the kernel keeps.
                description: "x".repeat(64 << 20),
                sockets: Vec::new(),
                handing: Handing(None),
            };
            let sent = luggage.send_within(&here, Duration::from_millis(20)).await;
            let error = sent.expect_err("it is not read");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }
}
