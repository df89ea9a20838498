//! Stands for the host's configuration, of which the parser takes its limits.

/// The flags that the limits of a head are made of.
#[allow(dead_code, reason = "limits are given here as they are")]
pub(crate) struct HttpLimits {
    pub(crate) max_head: usize,
    pub(crate) max_headers: usize,
    pub(crate) max_request_line: usize,
}
