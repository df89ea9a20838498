//! Questions of the admin interface to a run, and its answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use netwasm_base::counters::Counters;
use netwasm_http::tally::Tallies;
use netwasm_net::of_listener::ListenerCounts;
use netwasm_net::pool::PoolCounts;
use netwasm_net::transport::OpenConnection;

use crate::server::takeover::{Handing, Luggage};

/// Largest number of connections in an answer.
const MOST_CONNECTIONS: usize = 10_000;

/// A question to the run.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Its state.
    View(oneshot::Sender<View>),
    /// The open connections. Each worker answers by itself.
    Connections(mpsc::UnboundedSender<Connections>),
    /// The listeners, for another process.
    HandOver(oneshot::Sender<Result<Luggage, String>>),
    /// Another process serves, and has no use for listeners of these numbers.
    TakenOver {
        /// Its number.
        process: Option<i32>,
        unused: Vec<usize>,
        handing: Handing,
        reply: oneshot::Sender<()>,
    },
    /// The process that has the listeners does not serve.
    GivenUp,
    /// A reload, and how it went: lines that say what has changed.
    Reload(oneshot::Sender<Result<String, String>>),
}

/// State of a run.
#[derive(Debug)]
pub(crate) struct View {
    /// Reason why no connections are accepted; `None` if they are.
    pub(crate) not_ready: Option<&'static str>,
    /// The settings as a configuration file.
    pub(crate) config: String,
    pub(crate) services: Vec<ServiceView>,
    pub(crate) listeners: Vec<ListenerView>,
    /// Number of threads that serve connections.
    pub(crate) workers: usize,
    /// Generations that were replaced and have connections left.
    pub(crate) retiring: usize,
    /// Workers of generations that were replaced that have failed.
    pub(crate) retired_failed: u64,
    /// Reloads that replaced something or nothing, and those that failed.
    pub(crate) reloads: [u64; 2],
    pub(crate) draining: bool,
    /// Numbers of spans by what became of them, if there is a receiver.
    pub(crate) spans: Option<[(&'static str, u64); 3]>,
}

/// State of a service.
#[derive(Debug)]
pub(crate) struct ServiceView {
    pub(crate) name: String,
    pub(crate) component: String,
    pub(crate) generation: u64,
    /// Time at which this generation began.
    pub(crate) since: Instant,
    pub(crate) counters: Arc<Counters>,
    /// Use of the pools at present.
    pub(crate) pools: PoolCounts,
    pub(crate) tallies: Option<Arc<Tallies>>,
    /// Servers of its upstream groups.
    pub(crate) upstreams: Vec<ServerView>,
}

/// A server of an upstream group.
#[derive(Debug)]
pub(crate) struct ServerView {
    /// The group's name.
    pub(crate) group: String,
    /// The server's address.
    pub(crate) server: String,
    /// True if it gets requests: it is not down, nor left out.
    pub(crate) up: bool,
    /// Requests under way there.
    pub(crate) active: usize,
    /// Checks that have failed.
    pub(crate) checks_failed: u64,
}

/// State of a listener.
#[derive(Debug)]
pub(crate) struct ListenerView {
    pub(crate) service: String,
    pub(crate) url: String,
    pub(crate) counts: Arc<ListenerCounts>,
}

/// The open connections of a worker.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) service: String,
    pub(crate) generation: u64,
    pub(crate) open: Vec<OpenConnection>,
}

/// Returns an object with the connections of all workers.
pub(super) fn connections_in_json(all: &[Connections], complete: bool) -> Value {
    let total: usize = all.iter().map(|of| of.open.len()).sum();
    let each = all
        .iter()
        .flat_map(|of| of.open.iter().map(move |it| (of, it)));
    let mut listed: Vec<_> = each.collect();
    // The oldest ones are of most interest.
    listed.sort_by_key(|(_, it)| std::cmp::Reverse(it.open_for));
    let seconds = |time: Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;
    let listed = listed.into_iter().take(MOST_CONNECTIONS).map(|(of, it)| {
        json!({
            "service": of.service,
            "generation": of.generation,
            "peer": it.peer,
            "stage": it.stage,
            "seconds": seconds(it.open_for),
            "silent_seconds": seconds(it.silent_for),
            "queued_bytes": it.queued,
        })
    });
    json!({
        "total": total,
        // False if a worker was too busy to answer.
        "complete": complete,
        "connections": listed.collect::<Vec<_>>(),
    })
}
