//! The flags of topics.

use std::time::Duration;

use clap::Args;

use netwasm_base::config::{EventLimits, TopicsServer};

use super::values::{TimeOrNone, count, size, time, time_or_none};

#[derive(Args, Debug)]
#[command(next_help_heading = "Topics")]
pub(super) struct TopicFlags {
    /// Join topics with those of other processes, over redis://HOST:PORT
    #[arg(long = "topics", value_name = "SERVER", hide_short_help = true)]
    pub(super) server: Option<TopicsServer>,
    /// Messages of a topic kept for returning readers
    #[arg(long, value_name = "N", value_parser = count, default_value = "256")]
    #[arg(hide_short_help = true)]
    events_kept: usize,
    /// Their size
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256KiB")]
    #[arg(hide_short_help = true)]
    events_kept_size: usize,
    /// How long they are kept without subscribers
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "60s")]
    #[arg(hide_short_help = true)]
    events_kept_time: Duration,
    /// Send readers a comment after this much silence
    #[arg(long, value_name = "TIME", value_parser = time_or_none, default_value = "15s")]
    #[arg(hide_short_help = true)]
    events_heartbeat: TimeOrNone,
}

impl TopicFlags {
    pub(super) fn limits(&self) -> EventLimits {
        EventLimits {
            kept: self.events_kept,
            kept_size: self.events_kept_size,
            kept_time: self.events_kept_time,
            heartbeat: self.events_heartbeat.0,
        }
    }
}
