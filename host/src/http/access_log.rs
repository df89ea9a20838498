//! The access log: a line for each request, once its response has been sent.
//!
//! Workers gather lines and hand them to a thread that writes, so that a slow
//! disk holds up nobody. What that thread cannot keep up with is dropped and
//! counted, rather than kept without bound.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::config::{AccessLogConfig, AccessLogFormat};
use crate::error::Error;
use crate::transport::Address;

/// How much a worker gathers before it hands it on, bytes.
const GATHER: usize = 32 << 10;

/// How many such pieces may wait to be written.
const WAITING: usize = 256;

/// How long the end of a run waits for the last lines.
const LAST: Duration = Duration::from_secs(2);

/// The log of a run.
#[derive(Debug)]
pub(crate) struct AccessLog {
    format: AccessLogFormat,
    work: Option<SyncSender<Work>>,
    dropped: Arc<AtomicU64>,
    /// Says that all is written, by its end.
    written: Mutex<Receiver<()>>,
}

impl AccessLog {
    /// Opens the file, to add to it.
    ///
    /// # Errors
    /// It cannot be written, or the system gives no thread.
    pub(crate) fn open(config: &AccessLogConfig) -> Result<Self, Error> {
        let output = Output::open(&config.path).map_err(|source| Error::Write {
            path: config.path.clone(),
            source,
        })?;
        let (work, waiting) = mpsc::sync_channel(WAITING);
        let (done, written) = mpsc::channel();
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                write(output, &waiting);
                drop(done);
            })
            .map_err(|source| Error::System {
                what: "a thread",
                source,
            })?;
        Ok(Self {
            format: config.format,
            work: Some(work),
            dropped: Arc::default(),
            written: Mutex::new(written),
        })
    }

    /// Has the file opened anew by its name, so that it can be renamed and a
    /// new one be begun.
    pub(crate) fn reopen(&self) {
        if let Some(work) = &self.work
            && work.try_send(Work::Reopen).is_err()
        {
            tracing::warn!("the access log is too busy to be opened anew; try again");
        }
    }

    /// A worker's own.
    pub(super) fn lines(&self) -> Lines {
        Lines {
            format: self.format,
            gathered: Vec::new(),
            work: self.work.clone(),
            dropped: Arc::clone(&self.dropped),
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.work = None;
        if let Ok(written) = self.written.lock() {
            // Whoever reads the log and does not go on is not waited for.
            let _ = written.recv_timeout(LAST);
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "the access log could not be written as fast as it grew"
            );
        }
    }
}

/// What the thread that writes is to do.
#[derive(Debug)]
enum Work {
    Write(Vec<u8>),
    Reopen,
}

#[derive(Debug)]
enum Output {
    File { path: PathBuf, file: File },
    Standard,
}

impl Output {
    fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self::Standard);
        }
        Ok(Self::File {
            path: path.to_owned(),
            file: append_to(path)?,
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, file } = self {
            *file = append_to(path)?;
        }
        Ok(())
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.write_all(piece),
            Self::Standard => {
                let mut out = io::stdout().lock();
                out.write_all(piece).and_then(|()| out.flush())
            }
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn write(mut output: Output, work: &Receiver<Work>) {
    let mut failed = false;
    for work in work {
        let result = match work {
            Work::Write(piece) => output.write(&piece),
            Work::Reopen => output.reopen(),
        };
        match result {
            Ok(()) => failed = false,
            Err(error) if !failed => {
                tracing::error!(%error, "the access log cannot be written");
                failed = true;
            }
            Err(_) => {}
        }
    }
}

/// Lines that a worker has gathered.
#[derive(Debug)]
pub(crate) struct Lines {
    format: AccessLogFormat,
    gathered: Vec<u8>,
    work: Option<SyncSender<Work>>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Adds a line.
    pub(super) fn add(&mut self, entry: &Entry, sent: u64) {
        match self.format {
            AccessLogFormat::Combined => entry.write_combined(sent, &mut self.gathered),
            AccessLogFormat::Json => entry.write_json(sent, &mut self.gathered),
        }
        if self.gathered.len() > GATHER {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let piece = std::mem::take(&mut self.gathered);
        let Some(work) = &self.work else { return };
        if let Err(TrySendError::Full(Work::Write(piece))) = work.try_send(Work::Write(piece)) {
            let lines = piece.iter().filter(|&&byte| byte == b'\n').count();
            self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
        }
    }
}

/// What is said of a request.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) peer: Address,
    /// The first line of the request, as it was sent.
    pub(super) line: Vec<u8>,
    pub(super) host: Option<String>,
    pub(super) referer: Option<Vec<u8>>,
    pub(super) user_agent: Option<Vec<u8>>,
    pub(super) status: u16,
    /// The length of the body that the response has, bytes.
    pub(super) length: u64,
    /// When it had arrived.
    pub(super) time: SystemTime,
    pub(super) begun: Instant,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    peer: String,
    request: &'a str,
    host: Option<&'a str>,
    status: u16,
    bytes: u64,
    seconds: f64,
    referer: Option<&'a str>,
    user_agent: Option<&'a str>,
}

impl Entry {
    /// `PEER - - [TIME] "REQUEST" STATUS BYTES "REFERER" "USER-AGENT"`.
    fn write_combined(&self, sent: u64, out: &mut Vec<u8>) {
        // As nginx has it: no port, and none of a name that the client chose.
        // Writing to memory cannot fail.
        let _ = match &self.peer {
            Address::Ip(address) => write!(out, "{}", address.ip()),
            Address::Unix(_) => write!(out, "unix:"),
        };
        out.extend_from_slice(b" - - [");
        // `Sun, 06 Nov 1994 08:49:37 GMT` has all the parts.
        let date = httpdate::fmt_http_date(self.time);
        let mut parts = date.split(' ').skip(1);
        let [day, month, year, clock] = std::array::from_fn(|_| parts.next().unwrap_or("-"));
        let _ = write!(out, "{day}/{month}/{year}:{clock} +0000] \"");
        escape(&self.line, out);
        let _ = write!(out, "\" {} {sent} \"", self.status);
        escape(self.referer.as_deref().unwrap_or(b"-"), out);
        out.extend_from_slice(b"\" \"");
        escape(self.user_agent.as_deref().unwrap_or(b"-"), out);
        out.extend_from_slice(b"\"\n");
    }

    fn write_json(&self, sent: u64, out: &mut Vec<u8>) {
        let text = |bytes: &Option<Vec<u8>>| {
            bytes
                .as_ref()
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let (referer, user_agent) = (text(&self.referer), text(&self.user_agent));
        let line = Line {
            time: humantime::format_rfc3339_millis(self.time).to_string(),
            peer: self.peer.to_string(),
            request: &String::from_utf8_lossy(&self.line),
            host: self.host.as_deref(),
            status: self.status,
            bytes: sent,
            seconds: self.begun.elapsed().as_secs_f64(),
            referer: referer.as_deref(),
            user_agent: user_agent.as_deref(),
        };
        // Text and numbers always have a form in JSON.
        if serde_json::to_writer(&mut *out, &line).is_ok() {
            out.push(b'\n');
        }
    }
}

/// As nginx does it: quotes, backslashes, and what is not printable ASCII as
/// `\xHH`, so that a client can forge neither a line nor a field.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | 0..b' ' | 0x7f.. => {
                let _ = write!(out, "\\x{byte:02X}");
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            peer: Address::Ip(([127, 0, 0, 1], 12345).into()),
            line: b"GET /a?b HTTP/1.1".to_vec(),
            host: Some("localhost:8080".into()),
            referer: None,
            user_agent: Some(b"curl/8".to_vec()),
            status: 200,
            length: 12,
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
            begun: Instant::now(),
        }
    }

    fn combined(entry: &Entry) -> String {
        let mut out = Vec::new();
        entry.write_combined(entry.length, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_line_has_the_combined_format() {
        assert_eq!(
            combined(&entry()),
            "127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b HTTP/1.1\" 200 12 \"-\" \
             \"curl/8\"\n"
        );
    }

    #[test]
    fn a_client_forges_neither_a_line_nor_a_field() {
        let line = combined(&Entry {
            user_agent: Some(b"a\"\n\\\xff".to_vec()),
            ..entry()
        });
        assert!(
            line.ends_with("\"-\" \"a\\x22\\x0A\\x5C\\xFF\"\n"),
            "{line}"
        );
    }

    #[test]
    fn a_line_of_json_is_an_object() {
        let mut out = Vec::new();
        let referer = Some(b"\"\n".to_vec());
        Entry { referer, ..entry() }.write_json(7, &mut out);
        let line: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(line["time"], "1994-11-06T08:49:37.000Z");
        assert_eq!(line["peer"], "127.0.0.1:12345");
        assert_eq!(line["request"], "GET /a?b HTTP/1.1");
        assert_eq!((&line["status"], &line["bytes"]), (&200.into(), &7.into()));
        assert_eq!(line["referer"], "\"\n");
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
    }
}
