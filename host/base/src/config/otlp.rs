//! The receiver of traces, and of telemetry of guests.

use std::fmt;

/// Receiver of traces, and of what guests report by `wasi:otel`, by OTLP over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpConfig {
    /// URL of `http` or `https`; without a path, spans go to `/v1/traces`, and logs
    /// and metrics beside it.
    pub url: String,
    /// Part of the traces that begin here that is sampled: 0 to 1.
    pub sample: f64,
    /// Headers of each request to the receiver.
    pub headers: Vec<OtlpHeader>,
}

/// A header of requests to the receiver. Its value is mostly a secret,
/// and is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct OtlpHeader {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

impl fmt::Debug for OtlpHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpHeader")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
