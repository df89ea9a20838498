//! Metrics of the run as a whole, and of its process.

use std::fs;

use crate::logging;

use super::View;
use super::family::{Family, Kind, Labels, SeriesValue, Unit, number};

/// Returns the metrics of the run.
pub(super) fn families(view: &View) -> Vec<Family> {
    let none = Labels::new;
    let one_if = |is: bool| f64::from(u8::from(is));
    let version = vec![("version".into(), env!("CARGO_PKG_VERSION").to_owned())];
    let [done, failed] = view.reloads;
    let result = |name: &str| vec![("result".into(), name.to_owned())];
    let mut all = vec![
        Family::gauge("build_info", "Version of netwasm", [(version, 1.0)]),
        Family::gauge(
            "ready",
            "1 while connections are accepted",
            [(none(), one_if(view.not_ready.is_none()))],
        ),
        Family::gauge(
            "draining",
            "1 while the run ends",
            [(none(), one_if(view.draining))],
        ),
        Family::gauge(
            "workers",
            "Threads that serve connections",
            [(none(), number(view.workers))],
        ),
        Family::gauge(
            "generations_retiring",
            "Generations of services that were replaced and have not ended",
            [(none(), number(view.retiring))],
        ),
        Family::counter(
            "reloads",
            "Reloads of settings and components",
            [(result("done"), done), (result("failed"), failed)],
        ),
        Family::counter(
            "retired_workers_failed",
            "Workers of generations that were replaced that have failed",
            [(none(), view.retired_failed)],
        ),
        Family::counter(
            "log_lines_dropped",
            "Lines of the log that nobody read in time",
            [(none(), logging::dropped())],
        ),
    ];
    if let Some(spans) = view.spans {
        all.push(Family::counter(
            "trace_spans",
            "Spans, and reports of guests, by what became of them: sent, not taken, or dropped",
            spans.map(|(name, count)| (result(name), count)),
        ));
    }
    all.extend(process());
    all
}

/// Returns what the system tells of the process: proc_pid_stat(5).
fn process() -> Vec<Family> {
    let gauge = |name, help, value| Family::gauge(name, help, [(Labels::new(), value)]);
    let mut all = Vec::new();
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory's own.
        let open = entries.count().saturating_sub(1);
        all.push(gauge("process_open_fds", "Open descriptors", number(open)));
    }
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may have spaces.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<f64> = rest
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    let field = |place: usize| fields.get(place - 3).copied();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        let seconds = SeriesValue::Number((user + system) / ticks);
        let series = vec![(Labels::new(), seconds)];
        let family = Family::new("process_cpu", "CPU time used", Kind::Counter, series);
        all.push(family.of(Unit::Seconds));
    }
    if let Some(threads) = field(20) {
        all.push(gauge("process_threads", "Threads", threads));
    }
    if let Some(pages) = field(24) {
        let bytes = pages * number(rustix::param::page_size());
        let family = gauge("process_resident_memory", "Resident memory", bytes);
        all.push(family.of(Unit::Bytes));
    }
    all
}
