//! A line of the access log, in each of its formats.

use std::io::{self, Write};
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use netwasm_base::address::Address;
use netwasm_base::config::{AccessLogFormat, LogPart, LogTemplate, LogVariable, plain_path};
use netwasm_base::trace::{Hex, Trace};

use netwasm_exchange::handler::Site;

use crate::tally::Spoken;

/// A request for the records: the log, the metrics.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The service that it was for.
    pub(crate) site: Site,
    pub(crate) spoken: Spoken,
    pub(crate) status: u16,
    /// Length of the response's body in bytes.
    pub(crate) length: u64,
    pub(crate) begun: Instant,
    /// Its span, if requests are traced.
    pub(crate) trace: Option<Rc<Trace>>,
    /// Parts that only the log and sampled spans have; `None` if there is none.
    pub(crate) text: Option<Text>,
}

/// Parts of a request that the log has.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) peer: Address,
    /// The request line, as sent.
    pub(crate) line: Vec<u8>,
    pub(crate) host: Option<String>,
    pub(crate) referer: Option<Vec<u8>>,
    pub(crate) user_agent: Option<Vec<u8>>,
    /// Values of the headers that the format names.
    pub(crate) headers: Vec<Option<Vec<u8>>>,
    /// True if the request arrived by TLS.
    pub(crate) secure: bool,
    /// Time of the request's arrival.
    pub(crate) time: SystemTime,
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
    /// Writes a line.
    pub(super) fn write(
        &self,
        format: &AccessLogFormat,
        entry: &Entry,
        sent: u64,
        out: &mut Vec<u8>,
    ) {
        match format {
            AccessLogFormat::Combined => self.write_combined(entry, sent, out),
            AccessLogFormat::Json => self.write_json(entry, sent, out),
            AccessLogFormat::Template(template) => self.write_by(template, entry, sent, out),
        }
    }

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
pub(super) mod tests {
    use super::*;
    use std::time::Duration;

    pub(in crate::access_log) fn entry() -> Entry {
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
