//! Access log: a line for each request, once its response has been sent.
//!
//! Workers gather lines and put them into a [`Spool`], so that a slow or full
//! disk blocks nobody. Before the file is reopened, the lines gathered so far
//! are put there, because they belong to the old file.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::Access;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use netwasm_base::address::Address;
use netwasm_base::config::{
    AccessLogConfig, AccessLogFormat, AccessLogTarget, LogPart, LogTemplate, LogVariable,
    plain_path,
};
use netwasm_base::error::Error;
use netwasm_base::spool::{Output, Spool};
use netwasm_base::syslog::Syslog;
use netwasm_base::trace::{Hex, Trace};

use netwasm_exchange::handler::Site;

use crate::tally::Spoken;

/// Bytes that a worker gathers before it hands them on.
const GATHER: usize = 32 << 10;

/// Maximum of bytes that wait to be written.
const WAITING: usize = 8 << 20;

/// Time that the end of a run waits for the last lines.
const LAST: Duration = Duration::from_secs(2);

/// The access logs of a process. Services that log to one file share it, and so
/// do the generations of a service: a rotation reaches them all.
#[derive(Debug, Default)]
pub struct Logs(Mutex<HashMap<AccessLogTarget, Arc<LogFile>>>);

impl Logs {
    /// Opens a log for appending, unless it is open.
    ///
    /// # Errors
    /// Fails if the file cannot be written, if there is no such syslog server,
    /// or if the system provides no thread.
    pub fn open(&self, config: &AccessLogConfig) -> Result<AccessLog, Error> {
        let known = locked(&self.0).get(&config.target).map(Arc::clone);
        let file = match known {
            Some(file) => file,
            None => {
                // Not under the lock: a disk may be slow.
                let opened = Arc::new(LogFile::open(&config.target)?);
                let mut files = locked(&self.0);
                Arc::clone(files.entry(config.target.clone()).or_insert(opened))
            }
        };
        Ok(AccessLog {
            format: config.format.clone(),
            file,
        })
    }

    /// Reopens all files by their names, so that they can be rotated. Requests
    /// whose lines are not yet gathered go to the new files. Returns false if no
    /// log is a file.
    pub fn reopen(&self) -> bool {
        let files = locked(&self.0);
        // Each of them.
        files.values().filter(|file| file.reopen()).count() > 0
    }

    /// Closes files that nothing logs to any more, once their lines are written.
    pub fn close_unused(&self) {
        locked(&self.0).retain(|_, file| Arc::strong_count(file) > 1);
    }

    /// Waits for the last lines at the end of a run, but not for a stalled
    /// reader.
    pub fn finish(&self) {
        let files = std::mem::take(&mut *locked(&self.0));
        let deadline = Instant::now() + LAST;
        for file in files.into_values() {
            let left = deadline.saturating_duration_since(Instant::now());
            if !file.spool.finish(left) {
                tracing::warn!("the access log takes no more lines: the last ones are lost");
            }
        }
    }
}

/// Checks that a log can be opened, and neither makes nor changes anything.
///
/// # Errors
/// Fails if the file cannot be written, or made.
pub fn check(target: &AccessLogTarget) -> Result<(), Error> {
    let AccessLogTarget::File(path) = target else {
        return Ok(());
    };
    let may = |path: &Path, access: Access| {
        let followed = rustix::fs::AtFlags::EACCESS;
        rustix::fs::accessat(rustix::fs::CWD, path, access, followed).map_err(io::Error::from)
    };
    let checked = match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => may(path, Access::WRITE_OK),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = match path.parent() {
                Some(directory) if !directory.as_os_str().is_empty() => directory,
                _ => Path::new("."),
            };
            may(directory, Access::WRITE_OK | Access::EXEC_OK)
        }
        Err(error) => Err(error),
    };
    checked.map_err(|source| Error::Write {
        path: path.clone(),
        source,
    })
}

/// The access log of a service.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessLogFormat,
    file: Arc<LogFile>,
}

impl AccessLog {
    /// Returns the log for a worker.
    pub(super) fn lines(&self) -> Lines {
        let gathered = Arc::<Gathered>::default();
        let mut all = locked(&self.file.gathered);
        all.retain(|gathered| gathered.strong_count() > 0);
        all.push(Arc::downgrade(&gathered));
        drop(all);
        Lines {
            format: self.format.clone(),
            gathered,
            spool: self.file.spool.clone(),
            rests: true,
        }
    }
}

/// A file of lines.
#[derive(Debug)]
struct LogFile {
    spool: Spool,
    /// False for standard output and a syslog server.
    is_file: bool,
    /// Gathered lines of each worker.
    gathered: Mutex<Vec<Weak<Gathered>>>,
}

impl LogFile {
    fn open(target: &AccessLogTarget) -> Result<Self, Error> {
        let output = match target {
            AccessLogTarget::Stdout => Output::Stdout(io::stdout()),
            AccessLogTarget::File(path) => Output::file(path).map_err(|source| Error::Write {
                path: path.clone(),
                source,
            })?,
            AccessLogTarget::Syslog(target) => {
                let connected = Syslog::connect(target).map_err(|source| Error::System {
                    what: "the syslog server of --access-log",
                    source,
                })?;
                Output::Syslog(Box::new(connected))
            }
        };
        let is_file = matches!(target, AccessLogTarget::File(_));
        let spool = Spool::start("access log", output, WAITING);
        Ok(Self {
            spool: spool.map_err(Error::Thread)?,
            is_file,
            gathered: Mutex::default(),
        })
    }

    /// Reopens the file. Returns false if it is none.
    fn reopen(&self) -> bool {
        if self.is_file {
            for gathered in &*locked(&self.gathered) {
                if let Some(gathered) = gathered.upgrade() {
                    gathered.flush(&self.spool);
                }
            }
            self.spool.reopen();
        }
        self.is_file
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whole lines. Only their worker uses them, except when the file is reopened,
/// so the lock is usually free.
#[derive(Debug, Default)]
struct Gathered(Mutex<Vec<u8>>);

impl Gathered {
    /// Hands on the gathered lines. Holds the lock meanwhile, so that no later
    /// line overtakes them.
    fn flush(&self, spool: &Spool) {
        let mut lines = locked(&self.0);
        if !lines.is_empty() {
            spool.put(std::mem::take(&mut lines));
        }
    }
}

/// A worker's end of the log.
#[derive(Debug)]
pub(crate) struct Lines {
    format: AccessLogFormat,
    gathered: Arc<Gathered>,
    spool: Spool,
    /// True if there was no line since the gathered ones were handed on last.
    rests: bool,
}

impl Lines {
    /// Adds a line, if the entry has what a line needs.
    pub(super) fn add(&mut self, entry: &Entry, sent: u64) {
        let Some(text) = &entry.text else { return };
        let mut gathered = locked(&self.gathered.0);
        match &self.format {
            AccessLogFormat::Combined => text.write_combined(entry, sent, &mut gathered),
            AccessLogFormat::Json => text.write_json(entry, sent, &mut gathered),
            AccessLogFormat::Template(template) => {
                text.write_by(template, entry, sent, &mut gathered);
            }
        }
        // A line after a pause is not kept waiting.
        let goes_on = std::mem::replace(&mut self.rests, false) || gathered.len() > GATHER;
        drop(gathered);
        if goes_on {
            self.gathered.flush(&self.spool);
        }
    }

    /// Returns the names of the request's headers that a line has, besides the
    /// usual ones.
    pub(super) fn headers(&self) -> &[String] {
        match &self.format {
            AccessLogFormat::Template(template) => &template.headers,
            AccessLogFormat::Combined | AccessLogFormat::Json => &[],
        }
    }

    /// Hands on the gathered lines. Called a few times a second.
    pub(super) fn flush(&mut self) {
        self.rests = true;
        self.gathered.flush(&self.spool);
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A request for the records: the log, the metrics.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The service that it was for.
    pub(super) site: Site,
    pub(super) spoken: Spoken,
    pub(super) status: u16,
    /// Length of the response's body in bytes.
    pub(super) length: u64,
    pub(super) begun: Instant,
    /// Its span, if requests are traced.
    pub(super) trace: Option<Rc<Trace>>,
    /// Parts that only the log and sampled spans have; `None` if there is none.
    pub(super) text: Option<Text>,
}

/// Parts of a request that the log has.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) peer: Address,
    /// The request line, as sent.
    pub(super) line: Vec<u8>,
    pub(super) host: Option<String>,
    pub(super) referer: Option<Vec<u8>>,
    pub(super) user_agent: Option<Vec<u8>>,
    /// Values of [`Lines::headers`].
    pub(super) headers: Vec<Option<Vec<u8>>>,
    /// True if the request arrived by TLS.
    pub(super) secure: bool,
    /// Time of the request's arrival.
    pub(super) time: SystemTime,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    peer: String,
    request: &'a str,
    host: Option<&'a str>,
    status: u16,
    bytes: u64,
    seconds: f64,
    referer: Option<&'a str>,
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
}

impl Text {
    /// Writes `PEER - - [TIME] "REQUEST" STATUS BYTES "REFERER" "USER-AGENT"`.
    fn write_combined(&self, entry: &Entry, sent: u64, out: &mut Vec<u8>) {
        self.write_peer(out);
        out.extend_from_slice(b" - - [");
        self.write_time(out);
        out.extend_from_slice(b"] \"");
        escape(&self.line, out);
        let _ = write!(out, "\" {} {sent} \"", entry.status);
        escape(self.referer.as_deref().unwrap_or(b"-"), out);
        out.extend_from_slice(b"\" \"");
        escape(self.user_agent.as_deref().unwrap_or(b"-"), out);
        out.extend_from_slice(b"\"\n");
    }

    fn write_peer(&self, out: &mut Vec<u8>) {
        // As nginx does: no port, and no Unix path, which the client chose.
        // Writing to memory cannot fail.
        let _ = match &self.peer {
            Address::Ip(address) => write!(out, "{}", address.ip()),
            Address::Unix(_) => write!(out, "unix:"),
        };
    }

    /// Writes `06/Nov/1994:08:49:37 +0000`.
    fn write_time(&self, out: &mut Vec<u8>) {
        // `Sun, 06 Nov 1994 08:49:37 GMT` has all the parts.
        let date = httpdate::fmt_http_date(self.time);
        let mut parts = date.split(' ').skip(1);
        let [day, month, year, clock] = std::array::from_fn(|_| parts.next().unwrap_or("-"));
        let _ = write!(out, "{day}/{month}/{year}:{clock} +0000");
    }

    /// Writes a line by a template. What a client has sent is escaped, and what
    /// it has not sent is `-`.
    fn write_by(&self, template: &LogTemplate, entry: &Entry, sent: u64, out: &mut Vec<u8>) {
        for part in &template.parts {
            match part {
                LogPart::Text(text) => out.extend_from_slice(text.as_bytes()),
                LogPart::Value(variable) => self.write_variable(*variable, entry, sent, out),
            }
        }
        out.push(b'\n');
    }

    fn write_variable(&self, variable: LogVariable, entry: &Entry, sent: u64, out: &mut Vec<u8>) {
        let mut words = self.line.split(|byte| *byte == b' ');
        let [method, target, protocol] = std::array::from_fn(|_| words.next());
        let (path, query) = match target {
            Some(target) => {
                let question = target.iter().position(|byte| *byte == b'?');
                let (path, query) = target.split_at(question.unwrap_or(target.len()));
                (Some(path), query.get(1..))
            }
            None => (None, None),
        };
        let since = self.time.duration_since(SystemTime::UNIX_EPOCH);
        let sent_by_client = match variable {
            LogVariable::Request => Some(self.line.as_slice()),
            LogVariable::RequestMethod => method,
            LogVariable::RequestUri => target,
            LogVariable::Args => query,
            LogVariable::ServerProtocol => protocol,
            LogVariable::Host => self.host.as_deref().map(str::as_bytes),
            LogVariable::Header(place) => self.headers.get(place).and_then(Option::as_deref),
            LogVariable::Uri => {
                let path = String::from_utf8_lossy(path.unwrap_or(b"-"));
                // Decoded, it may have spaces, which separate fields.
                for (number, part) in plain_path(&path).split(|it| *it == b' ').enumerate() {
                    if number > 0 {
                        out.extend_from_slice(b"\\x20");
                    }
                    escape(part, out);
                }
                return;
            }
            LogVariable::RemoteAddress => return self.write_peer(out),
            LogVariable::TimeLocal => return self.write_time(out),
            LogVariable::RemotePort
            | LogVariable::TimeIso8601
            | LogVariable::Msec
            | LogVariable::Scheme
            | LogVariable::Status
            | LogVariable::BodyBytesSent
            | LogVariable::TraceId
            | LogVariable::SpanId
            | LogVariable::RequestTime => {
                let context = entry.trace.as_ref().map(|trace| trace.context);
                // Writing to memory cannot fail.
                let _ = match (variable, &self.peer) {
                    (LogVariable::TraceId, _) if let Some(context) = context => {
                        write!(out, "{}", Hex(&context.trace))
                    }
                    (LogVariable::SpanId, _) if let Some(context) = context => {
                        write!(out, "{}", Hex(&context.span))
                    }
                    (LogVariable::RemotePort, Address::Ip(address)) => {
                        write!(out, "{}", address.port())
                    }
                    (LogVariable::TimeIso8601, _) => {
                        write!(out, "{}", humantime::format_rfc3339_seconds(self.time))
                    }
                    (LogVariable::Msec, _) => {
                        write!(out, "{:.3}", since.unwrap_or_default().as_secs_f64())
                    }
                    (LogVariable::Scheme, _) => {
                        write!(out, "{}", if self.secure { "https" } else { "http" })
                    }
                    (LogVariable::Status, _) => write!(out, "{}", entry.status),
                    (LogVariable::BodyBytesSent, _) => write!(out, "{sent}"),
                    (LogVariable::RequestTime, _) => {
                        write!(out, "{:.3}", entry.begun.elapsed().as_secs_f64())
                    }
                    _ => write!(out, "-"),
                };
                return;
            }
        };
        escape(sent_by_client.unwrap_or(b"-"), out);
    }

    fn write_json(&self, entry: &Entry, sent: u64, out: &mut Vec<u8>) {
        let text = |bytes: &Option<Vec<u8>>| {
            bytes
                .as_ref()
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let (referer, user_agent) = (text(&self.referer), text(&self.user_agent));
        let context = entry.trace.as_ref().map(|trace| trace.context);
        let line = JsonLine {
            time: humantime::format_rfc3339_millis(self.time).to_string(),
            peer: self.peer.to_string(),
            request: &String::from_utf8_lossy(&self.line),
            host: self.host.as_deref(),
            status: entry.status,
            bytes: sent,
            seconds: entry.begun.elapsed().as_secs_f64(),
            referer: referer.as_deref(),
            user_agent: user_agent.as_deref(),
            trace_id: context.map(|it| Hex(&it.trace).to_string()),
            span_id: context.map(|it| Hex(&it.span).to_string()),
        };
        let mut json = Serializer::with_formatter(&mut *out, Printable);
        // Text and numbers always have a form in JSON.
        if line.serialize(&mut json).is_ok() {
            out.push(b'\n');
        }
    }
}

/// Formatter that also escapes control characters that JSON permits, because a
/// terminal would obey them.
struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for part in fragment.split_inclusive(char::is_control) {
            let text = part.trim_end_matches(char::is_control);
            writer.write_all(text.as_bytes())?;
            if let Some(control) = part.chars().next_back().filter(|it| it.is_control()) {
                write!(writer, "\\u{:04x}", u32::from(control))?;
            }
        }
        Ok(())
    }
}

/// Escapes quotes, backslashes and non-printable or non-ASCII bytes as `\xHH`,
/// as nginx does, so that a client can forge neither a line nor a field.
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
            site: Site::default(),
            spoken: Spoken::Http1,
            status: 200,
            length: 12,
            begun: Instant::now(),
            trace: None,
            text: Some(text()),
        }
    }

    fn text() -> Text {
        Text {
            peer: Address::Ip(([127, 0, 0, 1], 12345).into()),
            line: b"GET /a?b HTTP/1.1".to_vec(),
            host: Some("localhost:8080".into()),
            referer: None,
            user_agent: Some(b"curl/8".to_vec()),
            headers: vec![Some(b"a\"\n".to_vec()), None],
            secure: true,
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
        }
    }

    #[test]
    fn a_line_after_a_pause_is_written_at_once_and_others_are_gathered() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let logs = Logs::default();
        let log = logs.open(&AccessLogConfig {
            target: AccessLogTarget::File(path.clone()),
            format: AccessLogFormat::Combined,
        });
        let mut lines = log.expect("a log").lines();
        let written = || {
            std::fs::read_to_string(&path)
                .expect("a file")
                .lines()
                .count()
        };
        let wait_for = |count: usize| {
            let deadline = Instant::now() + Duration::from_secs(30);
            while written() < count && Instant::now() < deadline {
                std::thread::yield_now();
            }
            assert_eq!(written(), count);
        };
        lines.add(&entry(), 1);
        wait_for(1);
        for _ in 0..10 {
            lines.add(&entry(), 1);
        }
        assert_eq!(
            locked(&lines.gathered.0).split(|it| *it == b'\n').count(),
            11
        );
        lines.flush();
        wait_for(11);
        lines.add(&entry(), 1);
        wait_for(12);
        drop(lines);
        logs.finish();
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_told_without_a_try() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        check(&AccessLogTarget::Stdout).expect("it is open");
        for path in [at("log"), "/dev/null".into()] {
            check(&AccessLogTarget::File(path)).expect("it can be opened");
        }
        assert!(!at("log").exists());
        for path in [directory.path().to_owned(), at("none/log")] {
            let error = check(&AccessLogTarget::File(path)).expect_err("it cannot");
            assert!(error.to_string().contains("cannot write"), "{error}");
        }
    }

    #[test]
    fn a_template_has_what_was_sent_escaped_and_a_dash_for_what_was_not() {
        let line = |template: &str, text: &Text| {
            let template = template.parse().expect("a template");
            let mut out = Vec::new();
            text.write_by(&template, &entry(), 7, &mut out);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(
            line(
                "$remote_addr:$remote_port $time_local $time_iso8601 $msec $scheme $status \
                 $body_bytes_sent",
                &text()
            ),
            "127.0.0.1:12345 06/Nov/1994:08:49:37 +0000 1994-11-06T08:49:37Z 784111777.000 https \
             200 7\n"
        );
        assert_eq!(
            line(
                "$request|$request_method|$request_uri|$uri|$args|$server_protocol|$host",
                &text()
            ),
            "GET /a?b HTTP/1.1|GET|/a?b|/a|b|HTTP/1.1|localhost:8080\n"
        );
        assert_eq!(
            line("$http_x_one $http_x_two $remote_user", &text()),
            "a\\x22\\x0A - -\n"
        );
        let malformed = Text {
            line: b"\x16\x03".to_vec(),
            host: None,
            ..text()
        };
        assert_eq!(
            line("$request_method $uri $args $host", &malformed),
            "\\x16\\x03 - - -\n"
        );
    }

    fn combined(text: &Text) -> String {
        let mut out = Vec::new();
        text.write_combined(&entry(), 12, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_line_has_the_combined_format() {
        assert_eq!(
            combined(&text()),
            "127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b HTTP/1.1\" 200 12 \"-\" \
             \"curl/8\"\n"
        );
    }

    #[test]
    fn a_client_forges_neither_a_line_nor_a_field() {
        let line = combined(&Text {
            user_agent: Some(b"a\"\n\\\xff".to_vec()),
            ..text()
        });
        assert!(
            line.ends_with("\"-\" \"a\\x22\\x0A\\x5C\\xFF\"\n"),
            "{line}"
        );
    }

    #[test]
    fn a_line_of_json_is_an_object() {
        let mut out = Vec::new();
        let written = Text {
            referer: Some(b"\"\n".to_vec()),
            user_agent: Some("a\u{9b}\u{9d}b\u{7f}é".into()),
            ..text()
        };
        written.write_json(&entry(), 7, &mut out);
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains("\"a\\u009b\\u009db\\u007fé\""), "{text}");
        let line: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(line["time"], "1994-11-06T08:49:37.000Z");
        assert_eq!(line["peer"], "127.0.0.1:12345");
        assert_eq!(line["request"], "GET /a?b HTTP/1.1");
        assert_eq!((&line["status"], &line["bytes"]), (&200.into(), &7.into()));
        assert_eq!(line["referer"], "\"\n");
        assert_eq!(line["user_agent"], "a\u{9b}\u{9d}b\u{7f}é");
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
    }
}
