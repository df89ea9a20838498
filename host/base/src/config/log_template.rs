//! Lines of an access log by a template, with the variables of nginx.

use std::fmt;
use std::str::FromStr;

/// A line of an access log: `--access-log-format '$remote_addr "$request"'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTemplate {
    text: String,
    /// The line, in order.
    pub parts: Vec<LogPart>,
    /// Names of the request's headers that it has, in lower case.
    pub headers: Vec<String>,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPart {
    /// Text as it is.
    Text(String),
    /// The value of a variable.
    Value(LogVariable),
}

/// A variable, as nginx has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogVariable {
    /// `$remote_addr`: the client's IP address, or `unix:`.
    RemoteAddress,
    /// `$remote_port`: its port.
    RemotePort,
    /// `$time_local`: the time of the request, as the combined format has it.
    TimeLocal,
    /// `$time_iso8601`: that time by RFC 3339, in UTC.
    TimeIso8601,
    /// `$msec`: that time in seconds since 1970, with milliseconds.
    Msec,
    /// `$request`: the request line.
    Request,
    /// `$request_method`.
    RequestMethod,
    /// `$request_uri`: path and query, as sent.
    RequestUri,
    /// `$uri`: the path, as routes compare it.
    Uri,
    /// `$args` and `$query_string`: the query, as sent.
    Args,
    /// `$server_protocol`: `HTTP/1.1`, say.
    ServerProtocol,
    /// `$scheme`: `http` or `https`.
    Scheme,
    /// `$host`: the requested host and port.
    Host,
    /// `$status` of the response.
    Status,
    /// `$body_bytes_sent`: bytes of its body that were sent.
    BodyBytesSent,
    /// `$request_time`: seconds from the head to the end of the response, with
    /// milliseconds.
    RequestTime,
    /// `$trace_id`: the trace of the request (`--otlp`).
    TraceId,
    /// `$span_id`: its span there.
    SpanId,
    /// `$http_NAME`: a header of the request, by its place in
    /// [`LogTemplate::headers`].
    Header(usize),
}

const VARIABLES: [(&str, LogVariable); 19] = [
    ("remote_addr", LogVariable::RemoteAddress),
    ("remote_port", LogVariable::RemotePort),
    ("time_local", LogVariable::TimeLocal),
    ("time_iso8601", LogVariable::TimeIso8601),
    ("msec", LogVariable::Msec),
    ("request", LogVariable::Request),
    ("request_method", LogVariable::RequestMethod),
    ("request_uri", LogVariable::RequestUri),
    ("uri", LogVariable::Uri),
    ("args", LogVariable::Args),
    ("query_string", LogVariable::Args),
    ("server_protocol", LogVariable::ServerProtocol),
    ("scheme", LogVariable::Scheme),
    ("host", LogVariable::Host),
    ("status", LogVariable::Status),
    ("body_bytes_sent", LogVariable::BodyBytesSent),
    ("request_time", LogVariable::RequestTime),
    ("trace_id", LogVariable::TraceId),
    ("span_id", LogVariable::SpanId),
];

impl fmt::Display for LogTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for LogTemplate {
    type Err = LogTemplateError;

    fn from_str(text: &str) -> Result<Self, LogTemplateError> {
        if !text.contains('$') {
            return Err(LogTemplateError::Unknown(text.to_owned()));
        }
        if text.contains(char::is_control) {
            return Err(LogTemplateError::Control);
        }
        let mut template = Self {
            text: text.to_owned(),
            parts: Vec::new(),
            headers: Vec::new(),
        };
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            template.push_text(before);
            let (name, left) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or(LogTemplateError::Brace)?,
                None => {
                    let goes_on = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                    let end = after.find(|letter| !goes_on(letter));
                    after.split_at(end.unwrap_or(after.len()))
                }
            };
            let value = template.variable(name)?;
            template.parts.extend(value.map(LogPart::Value));
            if value.is_none() {
                template.push_text("-");
            }
            rest = left;
        }
        template.push_text(rest);
        Ok(template)
    }
}

impl LogTemplate {
    fn push_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.parts.last_mut() {
            Some(LogPart::Text(last)) => last.push_str(text),
            _ => self.parts.push(LogPart::Text(text.to_owned())),
        }
    }

    /// Returns a variable by its name; `None` for one that has no value here.
    fn variable(&mut self, name: &str) -> Result<Option<LogVariable>, LogTemplateError> {
        if name == "remote_user" {
            // Nobody is logged in: guests do that themselves.
            return Ok(None);
        }
        if let Some((_, variable)) = VARIABLES.iter().find(|(known, _)| *known == name) {
            return Ok(Some(*variable));
        }
        match name.strip_prefix("http_") {
            Some(header) if !header.is_empty() => {
                let header = header.replace('_', "-").to_ascii_lowercase();
                let known = self.headers.iter().position(|it| *it == header);
                let place = known.unwrap_or(self.headers.len());
                if known.is_none() {
                    self.headers.push(header);
                }
                Ok(Some(LogVariable::Header(place)))
            }
            _ => {
                let names = VARIABLES.map(|(name, _)| name).join(", ");
                Err(LogTemplateError::Variable(name.to_owned(), names))
            }
        }
    }
}

/// Reason why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogTemplateError {
    /// The text has no variable, and names no format.
    #[error(
        "'{0}' is not a format: write combined, json, or a line with variables, such as \
         '$remote_addr \"$request\" $status'"
    )]
    Unknown(String),
    /// The text has a line end, or another control character.
    #[error("a line has no line ends and no other control characters")]
    Control,
    /// A brace is not closed.
    #[error("a brace after $ is not closed")]
    Brace,
    /// There is no such variable.
    #[error("there is no variable '${0}': there are {1}, remote_user, and http_NAME for a header")]
    Variable(String, String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_variables() {
        let template: LogTemplate = "$remote_addr - $remote_user \"$request\" ${status}ms $http_user_agent/$http_User_Agent"
            .parse()
            .expect("a template");
        let text = |text: &str| LogPart::Text(text.into());
        let value = LogPart::Value;
        assert_eq!(
            template.parts,
            [
                value(LogVariable::RemoteAddress),
                text(" - - \""),
                value(LogVariable::Request),
                text("\" "),
                value(LogVariable::Status),
                text("ms "),
                value(LogVariable::Header(0)),
                text("/"),
                value(LogVariable::Header(0)),
            ]
        );
        assert_eq!(template.headers, ["user-agent"]);
        for (text, error) in [
            ("apache", "'apache' is not a format"),
            ("$status\n", "no line ends"),
            ("${status", "not closed"),
            ("$nope", "no variable '$nope'"),
            ("$http_", "no variable '$http_'"),
            ("100$", "no variable '$'"),
        ] {
            let found = text.parse::<LogTemplate>().expect_err(text).to_string();
            assert!(found.contains(error), "{text}: {found}");
        }
    }
}
