//! Lines about a run: its listeners, and how its services went.

use std::io::{self, Write};

use netwasm_base::counters::Counters;

use crate::logging::{LogOptions, Verbosity};

use super::service::Serving;

/// Prints the addresses of the listeners on standard output, in one write, so
/// that a reader never sees half a line. A quiet run prints none.
pub(super) fn announce(urls: &[String], log: LogOptions) -> io::Result<()> {
    if log.verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let lines: String = urls
        .iter()
        .map(|url| format!("listening {url}\n"))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        // The program that started this one may not read its output.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Logs how a service went: the connections that it accepted, and all other
/// counts that are not zero.
pub(super) fn report(service: &Serving, is_named: bool, workers_failed: usize) {
    let counters: &Counters = &service.run.net.counters;
    let some = |count: u64| Some(count).filter(|count| *count > 0);
    let several = |count: usize| Some(count).filter(|count| *count > 0);
    tracing::info!(
        service = is_named.then_some(&*service.config.guest.name),
        accepted = counters.connections_accepted.get(),
        made = some(counters.connections_made.get()),
        closed = some(counters.connections_closed.get()),
        lost = some(counters.connections_lost.get()),
        reclaimed = some(counters.connections_reclaimed.get()),
        waited = some(counters.connections_waited.get()),
        left_behind = some(counters.left_behind.get()),
        left_behind_ended = some(counters.left_behind_ended.get()),
        handshakes_failed = some(counters.handshakes_failed.get()),
        proxies_refused = some(counters.proxies_refused.get()),
        clients_refused = some(counters.clients_refused.get()),
        datagrams = some(counters.datagrams_received.get()),
        requests = some(counters.requests.get()),
        requests_refused = some(counters.requests_refused.get()),
        responses_refused = some(counters.responses_refused.get()),
        websockets = some(counters.websockets_opened.get()),
        forwards_failed = some(counters.forwards_failed.get()),
        forwards_refused = some(counters.forwards_refused.sum()),
        upstreams_left_out = some(counters.upstreams_left_out.get()),
        upstreams_down = some(counters.upstreams_down.get()),
        files_failed = some(counters.files_failed.get()),
        traps = some(counters.traps.get()),
        denied = some(counters.denied.get()),
        instances_failed = some(counters.instances_failed.get()),
        aborted = several(service.aborted),
        workers_failed = several(workers_failed),
        "ended"
    );
}
