//! Metrics in OpenMetrics, in Prometheus's older text format, or in its protobuf,
//! which has native histograms.
//!
//! ```text
//!   View --run, services, buckets, ... --> families --+--> text
//!                                                        +--> protobuf
//! ```

mod buckets;
mod family;
mod guests;
mod protobuf;
mod requests;
mod run;
mod services;
mod text;

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body_util::Full;

use self::family::Family;
use super::{View, no_answer, of_type};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PROTOBUF: &str = "application/vnd.google.protobuf; \
                        proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Formats of an exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    OpenMetrics,
    Prometheus,
    Protobuf,
}

/// Answers a scrape.
pub(super) fn response(view: &View, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let accepts = headers.get_all(header::ACCEPT).iter();
    let accepts = accepts.filter_map(|value| value.to_str().ok());
    let families = families(view);
    match wanted(accepts) {
        Format::Protobuf => of_type(PROTOBUF, protobuf::encode(&families)),
        Format::OpenMetrics => match text::encode_open(families) {
            Ok(body) => of_type(OPEN_METRICS, body),
            Err(_) => no_answer(),
        },
        Format::Prometheus => match text::encode(families) {
            Ok(body) => of_type(PROMETHEUS, body),
            Err(_) => no_answer(),
        },
    }
}

/// Returns all metrics.
fn families(view: &View) -> Vec<Family> {
    let mut all = run::families(view);
    all.extend(services::families(view));
    all.extend(requests::families(view));
    all.extend(buckets::families(view));
    all.extend(guests::families(view));
    all
}

/// Returns the format that `Accept` asks for: of those that are there, the one
/// with the highest weight, and of equals the first (RFC 9110, section 12.5.1).
fn wanted<'a>(accepts: impl Iterator<Item = &'a str>) -> Format {
    let mut best = (0.0, Format::Prometheus);
    for item in accepts.flat_map(|value| value.split(',')) {
        if let Some((weight, format)) = offered(item)
            && weight > best.0
        {
            best = (weight, format);
        }
    }
    best.1
}

/// Returns the weight and the format of an item of `Accept`; `None` if it is
/// none of these formats.
fn offered(item: &str) -> Option<(f32, Format)> {
    let mut parts = item.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let mut weight = 1.0;
    let (mut is_delimited, mut is_family) = (false, false);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => weight = value.parse().unwrap_or(0.0),
            "proto" => is_family = value == "io.prometheus.client.MetricFamily",
            "encoding" => is_delimited = value == "delimited",
            _ => {}
        }
    }
    let format = match media.as_str() {
        "application/openmetrics-text" => Format::OpenMetrics,
        "application/vnd.google.protobuf" if is_delimited && is_family => Format::Protobuf,
        "text/plain" => Format::Prometheus,
        _ => return None,
    };
    Some((weight, format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_wanted_most() {
        let prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.\
                          MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;\
                          version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (prometheus, Format::Protobuf),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "text/plain;q=0.5, application/openmetrics-text;q=0.75",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/vnd.google.protobuf", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("", Format::Prometheus),
            ("text/html;q=x", Format::Prometheus),
        ] {
            assert_eq!(wanted([accept].into_iter()), format, "{accept}");
        }
        assert_eq!(wanted([].into_iter()), Format::Prometheus);
    }
}
