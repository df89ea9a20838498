//! Flags of HTTP.

use std::time::Duration;

use clap::Args;

use netwasm_base::config::{AccessLogConfig, AccessLogFormat, AccessLogTarget, HttpLimits, Route};

use crate::cli::values::{count, size, time};

#[derive(Args, Debug)]
#[command(next_help_heading = "HTTP")]
pub(in crate::cli) struct Http {
    /// Log each request to a file, - (standard output), syslog or syslog:SERVER
    #[arg(long, value_name = "FILE")]
    access_log: Option<AccessLogTarget>,
    /// Format of its lines: combined, json, or a template with nginx variables such as $status
    #[arg(long, value_name = "FORMAT", default_value = "combined")]
    #[arg(hide_short_help = true, requires = "access_log")]
    access_log_format: AccessLogFormat,
    /// Answer only requests for this host and path, as '*.example.org/api'; repeatable
    #[arg(long, value_name = "HOST[/PATH]", hide_short_help = true)]
    pub(in crate::cli) route: Vec<Route>,
    /// Largest body of a request
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1MiB")]
    max_body: usize,
    /// Largest head of a request
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "32KiB")]
    #[arg(hide_short_help = true)]
    max_head: usize,
    /// Longest first line of a request
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "8KiB")]
    #[arg(hide_short_help = true)]
    max_request_line: usize,
    /// Most headers that a request may have
    #[arg(long, value_name = "N", value_parser = count, default_value = "100")]
    #[arg(hide_short_help = true)]
    max_headers: usize,
    /// Most headers that a response to a request of a wasi:http component may have
    #[arg(long, value_name = "N", value_parser = count, default_value = "200")]
    #[arg(hide_short_help = true)]
    max_response_headers: usize,
    /// How long a client may take to send the head of a request
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    #[arg(hide_short_help = true)]
    head_timeout: Duration,
    /// How long a client may pause within a body, or within a WebSocket message
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    #[arg(hide_short_help = true)]
    body_timeout: Duration,
    /// How long a connection may be idle between requests
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "60s")]
    #[arg(hide_short_help = true)]
    keep_alive_timeout: Duration,
    /// How long a component that answers later may take to begin its response,
    /// counted from the last piece of the request that it got; and to give its
    /// trailers once its body has ended
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "60s")]
    #[arg(hide_short_help = true)]
    response_timeout: Duration,
    /// How long it may pause within a response that it has begun
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10m")]
    #[arg(hide_short_help = true)]
    response_body_timeout: Duration,
    /// How many requests an instance of a wasi:http component answers
    #[arg(long, value_name = "N", value_parser = count, default_value = "128")]
    #[arg(hide_short_help = true)]
    max_instance_reuse_count: usize,
    /// How many of them at once; wasi:http 0.2 always has one at a time
    #[arg(long, value_name = "N", value_parser = count, default_value = "16")]
    #[arg(hide_short_help = true)]
    max_instance_concurrent_reuse_count: usize,
    /// Its instances at once for one connection [default: a quarter of --max-connections]
    #[arg(long, value_name = "N", value_parser = count, hide_short_help = true)]
    max_connection_instances: Option<usize>,
    /// Bytes from all HTTP/2 clients that may wait for guests to read them
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64MiB")]
    #[arg(hide_short_help = true)]
    max_unread: usize,
    /// Send interim responses such as 103 to HTTP/1.1 clients too, some of which misread them
    #[arg(long, hide_short_help = true)]
    send_informational: bool,
}

impl Http {
    pub(in crate::cli) fn limits(&self) -> HttpLimits {
        HttpLimits {
            max_head: self.max_head,
            max_request_line: self.max_request_line,
            max_headers: self.max_headers,
            max_response_headers: self.max_response_headers,
            max_body: self.max_body,
            head_timeout: self.head_timeout,
            body_timeout: self.body_timeout,
            keep_alive_timeout: self.keep_alive_timeout,
            response_timeout: self.response_timeout,
            response_body_timeout: self.response_body_timeout,
            max_instance_reuse: self.max_instance_reuse_count,
            max_instance_concurrency: self.max_instance_concurrent_reuse_count,
            max_connection_instances: self.max_connection_instances,
            max_unread: self.max_unread,
            send_informational: self.send_informational,
            ..HttpLimits::default()
        }
    }

    pub(in crate::cli) fn access_log(self) -> Option<AccessLogConfig> {
        Some(AccessLogConfig {
            target: self.access_log?,
            format: self.access_log_format,
        })
    }
}
