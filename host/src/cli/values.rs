//! Parsers of flags' values, and messages for malformed ones.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use http::{HeaderName, HeaderValue, Uri};

use netwasm_base::config::{CertificateFiles, Isolation, NEVER, OtlpHeader};

use crate::logging::LogFormat;

use super::help;

impl ValueEnum for LogFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Text, Self::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Text => "text",
            Self::Json => "json",
        }))
    }
}

/// Parses the mode of `--isolation`.
pub(super) fn isolation(text: &str) -> Result<Isolation, String> {
    match text {
        "request" => Ok(Isolation::Request),
        "connection" => Ok(Isolation::Connection),
        "worker" => Ok(Isolation::Worker),
        _ => {
            let modes = help::modes();
            Err(format!(
                "write one of these, by which clients share an instance:\n{}",
                modes.trim_end()
            ))
        }
    }
}

/// A time, or none for no limit. A type of its own because clap takes `Option`
/// for an optional flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeOrNone(pub(super) Option<Duration>);

/// A variable of the guest; `None` if it is to be inherited but is not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable(pub(super) Option<(String, String)>);

/// Parses the time of a flag; no limit is [`NEVER`].
pub(super) fn time(text: &str) -> Result<Duration, String> {
    Ok(time_or_none(text)?.0.unwrap_or(NEVER))
}

/// Like `time`, but no limit is `None`.
pub(super) fn time_or_none(text: &str) -> Result<TimeOrNone, String> {
    if text == "none" {
        return Ok(TimeOrNone(None));
    }
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Ok(TimeOrNone(None)),
        Ok(time) => Ok(TimeOrNone(Some(time))),
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => Err(
            format!("a time has a unit, ms, s, m, h or d: write {text}s for seconds"),
        ),
        Err(_) => Err(
            "write a number with a unit, ms, s, m, h or d, such as 100ms or 30s; 0 or none is no \
             limit"
                .into(),
        ),
    }
}

/// Parses the URL of a receiver of traces.
pub(super) fn otlp_url(text: &str) -> Result<String, String> {
    let uri = text.parse::<Uri>().ok();
    let is_http = uri.is_some_and(|uri| {
        let has_user = uri.authority().is_some_and(|it| it.as_str().contains('@'));
        matches!(uri.scheme_str(), Some("http" | "https")) && !has_user
    });
    match is_http {
        true => Ok(text.to_owned()),
        false => Err("write a URL, such as http://localhost:4318, without a user".into()),
    }
}

/// Headers that requests to a receiver of traces have already.
const OF_OTLP: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Checks a header for the receiver of traces, `NAME=VALUE`. No error has the
/// value, which is a secret.
pub(super) fn otlp_header(text: &str) -> Result<OtlpHeader, String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("write NAME=VALUE, such as Authorization=Basic ...".into());
    };
    let parsed: HeaderName = name
        .parse()
        .map_err(|_| format!("'{name}' is not a header name"))?;
    if OF_OTLP.contains(&parsed.as_str()) {
        return Err(format!("{name} is not to be set: netwasm does that itself"));
    }
    if HeaderValue::from_str(value).is_err() {
        return Err(format!(
            "the value of {name} is not that of a header: one line of visible ASCII"
        ));
    }
    Ok(OtlpHeader {
        name: name.to_owned(),
        value: value.to_owned(),
    })
}

/// Parses a part of a whole.
pub(super) fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok();
    let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "write a number from 0 to 1, such as 0.1 for a tenth".into())
}

pub(super) fn size(text: &str) -> Result<usize, String> {
    let size = text.parse::<ByteSize>().map_err(|_| {
        "write a number of bytes, or one with its unit, such as 64KiB, 1.5MB or 1GiB".to_owned()
    })?;
    match usize::try_from(size.as_u64()) {
        Ok(0) => Err("it must not be zero".into()),
        Ok(size) => Ok(size),
        Err(_) => Err("it is more than this machine can address".into()),
    }
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must not be zero".into()),
        Ok(count) => Ok(count),
        Err(_) => Err("write a whole number, 1 or more".into()),
    }
}

/// Parses a limit of each client.
pub(super) fn of_client(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| {
        format!(
            "write a whole number from 1 to {}; without it, there is no limit",
            u32::MAX
        )
    })
}

pub(super) fn workers(text: &str) -> Result<NonZeroUsize, String> {
    match text.parse::<NonZeroUsize>() {
        Ok(workers) if workers.get() <= 1024 => Ok(workers),
        _ => Err("write a whole number from 1 to 1024".into()),
    }
}

/// Parses the mode of a file, in octal digits as chmod(1) takes it.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal = !digits.is_empty() && digits.bytes().all(|it| (b'0'..=b'7').contains(&it));
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if is_octal && mode <= 0o777 => Ok(mode),
        _ => Err("write a mode in octal digits as chmod takes it, such as 660 or 600".into()),
    }
}

/// Parses the name of a file that guests may choose.
pub(super) fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.to_owned(), file.into()))
        }
        _ => Err("write NAME=FILE".into()),
    }
}

/// Parses the name of a certificate and a key that guests may choose.
pub(super) fn identity(text: &str) -> Result<(String, CertificateFiles), String> {
    let form = || "write NAME=CERT,KEY, or NAME=FILE if both are in one file".to_owned();
    let (name, files) = text.split_once('=').ok_or_else(form)?;
    let (chain, key) = files.split_once(',').unwrap_or((files, files));
    if name.is_empty() || chain.is_empty() || key.is_empty() {
        return Err(form());
    }
    let files = CertificateFiles {
        chain: chain.into(),
        key: key.into(),
    };
    Ok((name.to_owned(), files))
}

pub(super) fn variable(text: &str) -> Result<Variable, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("write NAME=VALUE, or NAME to inherit it".into());
    }
    let value = match value {
        Some(value) => Some(value),
        None => match std::env::var(name) {
            Ok(value) => Some(value),
            Err(std::env::VarError::NotPresent) => None,
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err("its value is not UTF-8, which a guest's must be".into());
            }
        },
    };
    Ok(Variable(value.map(|value| (name.to_owned(), value))))
}
