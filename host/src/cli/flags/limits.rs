//! Limits of a service, and of compiling its component.

use std::time::Duration;

use clap::Args;

use netwasm_base::config::{Limits, TcpOptions};
use netwasm_base::{descriptors, memory};

use crate::cli::usage;
use crate::cli::values::{TimeOrNone, count, size, time, time_or_none};

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(in crate::cli) struct LimitFlags {
    /// How long the guest may compute for an event
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "100ms")]
    event_timeout: Duration,
    /// Connections at once; idle HTTP ones yield [default: by files, memory]
    #[arg(long, value_name = "N", value_parser = count)]
    max_connections: Option<usize>,
    /// Outgoing connections at once, counted apart [default: what open files allow]
    #[arg(long, value_name = "N", value_parser = count, hide_short_help = true)]
    max_outgoing: Option<usize>,
    /// Connections that may wait to be accepted
    #[arg(long, value_name = "N", default_value = "1024", hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    backlog: i32,
    /// End connections that are silent for this long
    #[arg(long, value_name = "TIME", value_parser = time_or_none, default_value = "none")]
    idle_timeout: TimeOrNone,
    /// End connections that are silent for this long after the peer has ended its sending side
    #[arg(long, value_name = "TIME", value_parser = time_or_none, default_value = "60s")]
    #[arg(hide_short_help = true)]
    half_close_timeout: TimeOrNone,
    /// Probe the peers of TCP connections that are silent for this long
    #[arg(long, value_name = "TIME", value_parser = time_or_none, default_value = "60s")]
    #[arg(hide_short_help = true)]
    tcp_keepalive: TimeOrNone,
    /// End TCP connections whose peer acknowledges nothing of what was sent for this long
    #[arg(long, value_name = "TIME", value_parser = time_or_none, default_value = "none")]
    #[arg(hide_short_help = true)]
    tcp_user_timeout: TimeOrNone,
    /// Kernel's receive buffer of TCP connections [default: adapted]
    #[arg(long, value_name = "SIZE", value_parser = size, hide_short_help = true)]
    tcp_receive_buffer: Option<usize>,
    /// Kernel's send buffer of TCP connections [default: adapted]
    #[arg(long, value_name = "SIZE", value_parser = size, hide_short_help = true)]
    tcp_send_buffer: Option<usize>,
    /// How long a TLS handshake may take
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    #[arg(hide_short_help = true)]
    handshake_timeout: Duration,
    /// End connections whose peer reads nothing of what is to be sent for this long
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    #[arg(hide_short_help = true)]
    write_timeout: Duration,
    /// Unsent bytes of a connection at which the guest is told to pause
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64KiB")]
    #[arg(hide_short_help = true)]
    write_high: usize,
    /// Unsent bytes at which it is told to resume
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "16KiB")]
    #[arg(hide_short_help = true)]
    write_low: usize,
    /// Unsent bytes at which a connection is ended; for WebSockets on HTTP/2, of all
    /// its streams together, at which the stream with the most is ended
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "16MiB")]
    #[arg(hide_short_help = true)]
    max_write_buffer: usize,
    /// Timers, files, lookups and pending connects of an instance, each
    #[arg(long, value_name = "N", value_parser = count, default_value = "1024")]
    #[arg(hide_short_help = true)]
    max_handles: usize,
    /// How long an async component may go on after its response, or its connection's end
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "60s")]
    #[arg(hide_short_help = true)]
    background_timeout: Duration,
    /// Instances that may go on like this at once; beyond that, the newest ends
    #[arg(long, value_name = "N", value_parser = count, default_value = "256")]
    #[arg(hide_short_help = true)]
    max_background: usize,
    /// Values of metrics that the component may make, each bucket of a histogram being one
    #[arg(long, value_name = "N", value_parser = count, default_value = "1000")]
    #[arg(hide_short_help = true)]
    max_metrics: usize,
    /// State that instances share: rate limits in one half of it, values in the other
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64MiB")]
    #[arg(hide_short_help = true)]
    max_shared: usize,
    /// Buckets of --keyvalue NAME=memory:, all together
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64MiB")]
    #[arg(hide_short_help = true)]
    max_keyvalue: usize,
    /// How long connections may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    #[arg(hide_short_help = true)]
    shutdown_timeout: Duration,
}

/// Limits that reading and compiling a component have, with the one that the
/// code is made for.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(in crate::cli) struct Compiling {
    /// Memory of an instance [default: 64MiB, and 1GiB for Python]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<usize>,
    /// Largest component [default: 64MiB, and 256MiB for Python]
    #[arg(long, value_name = "SIZE", value_parser = size, hide_short_help = true)]
    max_component_size: Option<usize>,
    /// How long compiling it may take
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "none")]
    #[arg(hide_short_help = true)]
    compile_timeout: Duration,
}

impl LimitFlags {
    /// Returns the limits. `connects` is true if the guest may connect
    /// somewhere.
    pub(in crate::cli) fn into_limits(self, compiling: &Compiling, connects: bool) -> Limits {
        let share = || descriptors::connections(connects).min(memory::connections(connects));
        Limits {
            max_connections: self.max_connections.unwrap_or_else(share),
            max_outgoing: self.max_outgoing.unwrap_or_else(share),
            connections_given: self.max_connections.is_some(),
            backlog: self.backlog,
            event_timeout: self.event_timeout,
            idle_timeout: self.idle_timeout.0,
            half_close_timeout: self.half_close_timeout.0,
            tcp: TcpOptions {
                keepalive: self.tcp_keepalive.0,
                user_timeout: self.tcp_user_timeout.0,
                receive_buffer: self.tcp_receive_buffer,
                send_buffer: self.tcp_send_buffer,
            },
            background_timeout: self.background_timeout,
            max_background: self.max_background,
            max_metrics: self.max_metrics,
            max_shared: self.max_shared,
            max_keyvalue: self.max_keyvalue,
            handshake_timeout: self.handshake_timeout,
            write_timeout: self.write_timeout,
            write_high: self.write_high,
            write_low: self.write_low,
            max_write_buffer: self.max_write_buffer,
            max_handles: self.max_handles,
            shutdown_timeout: self.shutdown_timeout,
            ..compiling.limits()
        }
    }
}

impl Compiling {
    /// Returns the limits of an interpreter, which is larger than components of
    /// other languages. Limits that are given stay.
    pub(in crate::cli) fn of_interpreter(self) -> Self {
        Self {
            max_memory: self.max_memory.or(Some(1 << 30)),
            max_component_size: self.max_component_size.or(Some(256 << 20)),
            ..self
        }
    }

    pub(in crate::cli) fn limits(&self) -> Limits {
        let default = Limits::default();
        let size = self.max_component_size.map(|size| size as u64);
        Limits {
            max_memory: self.max_memory.unwrap_or(default.max_memory),
            max_component_size: size.unwrap_or(default.max_component_size),
            compile_timeout: self.compile_timeout,
            ..default
        }
    }

    pub(in crate::cli) fn checked(&self) -> Result<Limits, clap::Error> {
        let limits = self.limits();
        limits.check().map_err(|error| usage(&error))?;
        Ok(limits)
    }
}
