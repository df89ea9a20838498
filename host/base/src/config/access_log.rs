//! Destination and format of the access log.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::config::log_template::{LogTemplate, LogTemplateError};
use crate::syslog::{SyslogError, SyslogTarget};

/// Destination and format of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// Destination of the lines.
    pub target: AccessLogTarget,
    /// Format of a line.
    pub format: AccessLogFormat,
}

/// Format of a line of the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// The combined format of Apache and nginx.
    #[default]
    Combined,
    /// One JSON object per line.
    Json,
    /// Text with variables.
    Template(Arc<LogTemplate>),
}

impl FromStr for AccessLogFormat {
    type Err = LogTemplateError;

    fn from_str(text: &str) -> Result<Self, LogTemplateError> {
        match text {
            "combined" => Ok(Self::Combined),
            "json" => Ok(Self::Json),
            _ => Ok(Self::Template(Arc::new(text.parse()?))),
        }
    }
}

/// Destination of lines: the argument of `--access-log`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessLogTarget {
    /// Standard output: `-`.
    Stdout,
    /// A file to append to.
    File(PathBuf),
    /// A syslog server: `syslog`, or `syslog:SERVER`.
    Syslog(SyslogTarget),
}

impl FromStr for AccessLogTarget {
    type Err = SyslogError;

    fn from_str(text: &str) -> Result<Self, SyslogError> {
        match text {
            "-" => Ok(Self::Stdout),
            "syslog" => "".parse().map(Self::Syslog),
            _ => match text.strip_prefix("syslog:") {
                Some(server) => server.parse().map(Self::Syslog),
                None => Ok(Self::File(text.into())),
            },
        }
    }
}
