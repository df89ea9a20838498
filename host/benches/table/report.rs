//! The table that people read, and the file for programs.

use std::fs;
use std::io::{self, Write};

use serde_json::json;

use crate::measure::median;
use crate::peers::Peer;
use crate::work::{Done, Outcome, Plan, Row, Target, Unit};

const HEADER: [&str; 7] = [
    "work", "netwasm", "native", "ratio", "target", "asyncio", "uvloop",
];

/// Writes the table, as Markdown.
pub(crate) fn print(out: &mut impl Write, plan: &Plan, results: &[Done<'_>]) -> io::Result<()> {
    let rows: Vec<_> = results
        .iter()
        .flat_map(|done| done.work.rows.iter().map(|row| cells(done, row)))
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([HEADER[column].len()])
            .max()
            .unwrap_or_default()
    };
    let widths: [usize; HEADER.len()] = std::array::from_fn(width);
    let mut line = |cells: [&str; HEADER.len()]| {
        for (cell, width) in cells.iter().zip(widths) {
            write!(out, "| {cell:width$} ")?;
        }
        writeln!(out, "|")
    };
    line(HEADER)?;
    line(["---"; HEADER.len()])?;
    for row in &rows {
        line(row.each_ref().map(String::as_str))?;
    }
    writeln!(out)?;
    writeln!(out, "{}.", machine(plan))?;
    writeln!(
        out,
        "Operations a second, then the server's CPU time per operation; ratio: native's CPU time \
         by netwasm's, with the extremes of single rounds. Medians of {} rounds of {:?}.",
        plan.rounds, plan.time
    )?;
    let samples = results
        .iter()
        .flat_map(|done| &done.outcomes)
        .flat_map(|all| &all.samples);
    let waited: Vec<f64> = samples.filter_map(|sample| sample.waited).collect();
    if !waited.is_empty() {
        let most = waited.iter().copied().fold(0.0, f64::max);
        writeln!(
            out,
            "Other programs held the server's core for {:.1} % of the time (median; at most {:.1} %).",
            median(waited) * 100.0,
            most * 100.0,
        )?;
    }
    Ok(())
}

fn cells(done: &Done<'_>, row: &Row) -> [String; HEADER.len()] {
    let unit = done.work.unit();
    let of = |peer: Peer| done.outcomes.iter().find(|outcome| outcome.peer == peer);
    let cell = |outcome: Option<&Outcome>| outcome.map(|outcome| figure(outcome, unit));
    let native = best_native(done);
    let ours = of(row.peer);
    let ratio = native
        .zip(ours)
        .and_then(|(native, ours)| ratio(native, ours));
    let target = match row.target {
        Target::Ratio(ratio) => format!("{ratio:.2}"),
        Target::Cost(most) => cost(most, unit),
    };
    [
        row.title.to_owned(),
        cell(ours).unwrap_or_default(),
        cell(native).unwrap_or_default(),
        ratio.unwrap_or_default(),
        target,
        cell(of(Peer::Asyncio)).unwrap_or_default(),
        cell(of(Peer::Uvloop)).unwrap_or_default(),
    ]
}

/// The variant of the tokio program that did it at the least cost.
fn best_native<'a>(done: &'a Done<'_>) -> Option<&'a Outcome> {
    done.outcomes
        .iter()
        .filter(|outcome| matches!(outcome.peer, Peer::Native { .. }) && outcome.failure.is_none())
        .min_by(|a, b| median_cost(a).total_cmp(&median_cost(b)))
}

fn median_cost(outcome: &Outcome) -> f64 {
    median(outcome.samples.iter().map(|sample| sample.cost))
}

/// The ratio of the medians, and the least and the greatest of a round.
fn ratio(native: &Outcome, ours: &Outcome) -> Option<String> {
    if ours.failure.is_some() {
        return None;
    }
    let rounds = native.samples.iter().zip(&ours.samples);
    let ratios = rounds.map(|(native, ours)| native.cost / ours.cost);
    let (least, greatest) = ratios.fold((f64::MAX, f64::MIN), |(least, most), r| {
        (least.min(r), most.max(r))
    });
    let ratio = median_cost(native) / median_cost(ours);
    Some(format!("{ratio:.2} ({least:.2}..{greatest:.2})"))
}

fn figure(outcome: &Outcome, unit: Unit) -> String {
    if outcome.failure.is_some() {
        return "failed".to_owned();
    }
    let cost = cost(median_cost(outcome), unit);
    let rates: Vec<f64> = outcome
        .samples
        .iter()
        .filter_map(|sample| sample.rate)
        .collect();
    if rates.is_empty() {
        cost
    } else {
        format!("{}/s {cost}", thousands(median(rates)))
    }
}

fn cost(cost: f64, unit: Unit) -> String {
    match unit {
        Unit::CpuTime if cost < 100e-6 => format!("{:.2} µs", cost * 1e6),
        Unit::CpuTime => format!("{:.0} µs", cost * 1e6),
        Unit::Time => format!("{:.1} ms", cost * 1e3),
        Unit::Memory => format!("{:.1} KiB", cost / 1024.0),
    }
}

fn thousands(rate: f64) -> String {
    let rate = rate.round() as u64;
    if rate < 1000 {
        rate.to_string()
    } else {
        format!("{},{:03}", rate / 1000, rate % 1000)
    }
}

fn machine(plan: &Plan) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!(
        "{}, {} cores, Linux {}; server on core {}, load generator on core {}",
        model.map_or("CPU unknown", |(_, model)| model),
        cpuinfo
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count(),
        read("/proc/sys/kernel/osrelease").trim(),
        plan.cores.server,
        plan.cores.load,
    )
}

/// Writes every sample. Costs are in seconds, or bytes for memory.
pub(crate) fn write_json(out: impl Write, plan: &Plan, results: &[Done<'_>]) -> io::Result<()> {
    let outcome = |outcome: &Outcome| {
        json!({
            "peer": outcome.peer.to_string(),
            "samples": outcome.samples,
            "failure": outcome.failure,
        })
    };
    let works: Vec<_> = results
        .iter()
        .map(|done| {
            let outcomes: Vec<_> = done.outcomes.iter().map(outcome).collect();
            json!({ "work": done.work.name, "servers": outcomes })
        })
        .collect();
    let report = json!({
        "machine": machine(plan),
        "rounds": plan.rounds,
        "seconds": plan.time.as_secs_f64(),
        "works": works,
    });
    serde_json::to_writer_pretty(out, &report).map_err(io::Error::other)
}
