//! The table that people read, and the file for programs.

use std::fs;
use std::io::{self, Write};

use serde_json::json;

use crate::measure::median;
use crate::peers::Peer;
use crate::work::{BULK, Beside, Done, Outcome, Plan, Rival, Row, Sample, Target, Unit};

const HEADER: [&str; 7] = [
    "work", "netwasm", "rival", "ratio", "target", "asyncio", "uvloop",
];

const BESIDE: [&str; 8] = [
    "small requests",
    "bulk",
    "netwasm",
    "rival",
    "p50",
    "p99",
    "most",
    "carried",
];

/// Writes the tables as Markdown.
pub(crate) fn print(out: &mut impl Write, plan: &Plan, results: &[Done<'_>]) -> io::Result<()> {
    let (beside, alone): (Vec<_>, Vec<_>) = results
        .iter()
        .flat_map(|done| done.work.rows.iter().map(move |row| (done, row)))
        .partition(|(done, _)| done.work.unit() == Unit::Beside);
    let python = plan.peers.python_version.as_deref().unwrap_or_default();
    let rows: Vec<_> = alone
        .iter()
        .map(|(done, row)| cells(done, row, python))
        .collect();
    lines(out, HEADER, &rows)?;
    let rows: Vec<_> = beside
        .iter()
        .flat_map(|(done, row)| beside_cells(done, row))
        .collect();
    if !rows.is_empty() {
        lines(out, BESIDE, &rows)?;
        writeln!(
            out,
            "Small requests beside bulk connections: the median, the 99th percentile and the most \
             in ms, then what the bulk carries (MiB, round trips of 128 KiB in TLS, datagrams or calls a second); ratio: \
             netwasm's by the rival's."
        )?;
    }
    writeln!(out, "{}.", machine(plan))?;
    writeln!(
        out,
        "Operations a second, then the server's CPU time per operation; ratio: the rival's CPU time \
         by netwasm's, or netwasm's throughput by the rival's, with the extremes of single rounds; \
         in brackets that of the others. Medians of {} rounds of {:?}.",
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

/// Writes one table, and an empty line.
fn lines<const N: usize>(
    out: &mut impl Write,
    header: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([header[column].len()])
            .max()
            .unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut line = |cells: [&str; N]| {
        for (cell, width) in cells.iter().zip(widths) {
            write!(out, "| {cell:width$} ")?;
        }
        writeln!(out, "|")
    };
    line(header)?;
    line(["---"; N])?;
    for row in rows {
        line(row.each_ref().map(String::as_str))?;
    }
    writeln!(out)
}

/// Returns the table rows of one server beside bulk connections.
fn beside_cells(done: &Done<'_>, row: &Row) -> Vec<[String; BESIDE.len()]> {
    let ours = done
        .outcomes
        .iter()
        .find(|outcome| outcome.peer == row.peer);
    let rival = row.rival.and_then(|rival| outcome(done, rival));
    let mut rows = Vec::new();
    for index in 0..BULK.len() {
        let Some(ours) = ours.and_then(|outcome| beside(outcome, index)) else {
            continue;
        };
        let rival = rival.and_then(|outcome| beside(outcome, index));
        let ratio = |of: fn(&Beside) -> f64| match &rival {
            Some(rival) => format!("{:.2}", of(&ours) / of(rival)),
            None => String::new(),
        };
        rows.push([
            row.title.to_owned(),
            ours.connections.to_string(),
            beside_figure(&ours),
            rival.as_ref().map(beside_figure).unwrap_or_default(),
            ratio(|it| it.p50),
            ratio(|it| it.p99),
            ratio(|it| it.most),
            ratio(|it| it.rate),
        ]);
    }
    rows
}

/// Returns the medians over a server's rounds.
fn beside(outcome: &Outcome, index: usize) -> Option<Beside> {
    let seen = outcome.samples.iter().filter_map(|it| it.beside.get(index));
    let connections = seen.clone().next()?.connections;
    let of = |value: fn(&Beside) -> f64| median(seen.clone().map(value));
    Some(Beside {
        connections,
        rate: of(|it| it.rate),
        p50: of(|it| it.p50),
        p99: of(|it| it.p99),
        most: of(|it| it.most),
    })
}

fn beside_figure(seen: &Beside) -> String {
    let Beside { p50, p99, most, .. } = seen;
    let ms = 1e3;
    format!(
        "{:.2}, {:.2}, {:.1}; {}/s",
        p50 * ms,
        p99 * ms,
        most * ms,
        thousands(seen.rate)
    )
}

/// Returns the table row of one server. `python` is the version of the machine's
/// own.
fn cells(done: &Done<'_>, row: &Row, python: &str) -> [String; HEADER.len()] {
    let unit = done.work.unit();
    let of = |peer: Peer| done.outcomes.iter().find(|outcome| outcome.peer == peer);
    let rival = row.rival.and_then(|rival| outcome(done, rival));
    let ours = of(row.peer);
    let ratio = rival.zip(ours).map(|(rival, ours)| match row.target {
        Target::Rate(_) => with_extremes(ours, rival, |sample| sample.rate.unwrap_or(f64::NAN)),
        _ => with_extremes(rival, ours, |sample| sample.cost),
    });
    let target = match row.target {
        Target::Ratio(ratio) | Target::Rate(ratio) => format!("{ratio:.2}"),
        Target::Cost(most) => cost(most, unit),
        Target::Report => String::new(),
    };
    let other = |peer: Peer| {
        let Some(other) = of(peer) else {
            return String::new();
        };
        let figure = figure(other, unit);
        match ours.and_then(|ours| ratio_of_medians(other, ours, |sample| sample.cost)) {
            Some(ratio) => format!("{figure} ({ratio:.2})"),
            None => figure,
        }
    };
    let named = |name: Rival| {
        let version = match (name, rival.map(|rival| rival.peer)) {
            (Rival::Python, _) => format!(" {python}"),
            (_, Some(Peer::Library(library))) => format!(" ({})", library.name()),
            _ => String::new(),
        };
        match rival {
            Some(rival) => format!("{name}{version}: {}", figure(rival, unit)),
            None => format!("{name}: not here"),
        }
    };
    [
        row.title.to_owned(),
        ours.map(|ours| figure(ours, unit)).unwrap_or_default(),
        row.rival.map(named).unwrap_or_default(),
        ratio.flatten().unwrap_or_default(),
        target,
        other(Peer::Asyncio),
        other(Peer::Uvloop),
    ]
}

fn outcome<'a>(done: &'a Done<'_>, rival: Rival) -> Option<&'a Outcome> {
    let is_rival = |peer: Peer| match rival {
        Rival::Native => matches!(peer, Peer::Native { .. } | Peer::Library(_)),
        Rival::Wasmtime => matches!(peer, Peer::Wasmtime { .. }),
        Rival::Serve(other) | Rival::Guest(other) => peer == other,
        Rival::Nginx => peer == Peer::Nginx,
        Rival::Bun => peer == Peer::Bun,
        Rival::Python => peer == Peer::Asyncio,
    };
    done.outcomes
        .iter()
        .filter(|outcome| is_rival(outcome.peer) && outcome.failure.is_none())
        .min_by(|a, b| median_cost(a).total_cmp(&median_cost(b)))
}

fn median_cost(outcome: &Outcome) -> f64 {
    median(outcome.samples.iter().map(|sample| sample.cost))
}

/// Formats the ratio of the medians, with the least and the greatest of a
/// round.
fn with_extremes(
    over: &Outcome,
    under: &Outcome,
    value: impl Fn(&Sample) -> f64,
) -> Option<String> {
    let ratio = ratio_of_medians(over, under, &value)?;
    let rounds = over.samples.iter().zip(&under.samples);
    let ratios = rounds.map(|(over, under)| value(over) / value(under));
    let (least, greatest) = ratios.fold((f64::MAX, f64::MIN), |(least, most), r| {
        (least.min(r), most.max(r))
    });
    Some(format!("{ratio:.2} ({least:.2}..{greatest:.2})"))
}

fn ratio_of_medians(
    over: &Outcome,
    under: &Outcome,
    value: impl Fn(&Sample) -> f64,
) -> Option<f64> {
    if over.failure.is_some() || under.failure.is_some() {
        return None;
    }
    let median = |outcome: &Outcome| median(outcome.samples.iter().map(&value));
    Some(median(over) / median(under))
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
        Unit::Time | Unit::Beside => format!("{:.1} ms", cost * 1e3),
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
    let congestion_control = read("/proc/sys/net/ipv4/tcp_congestion_control");
    let congestion_control = match congestion_control.trim() {
        "cubic" => "cubic".to_owned(),
        // It distorts bulk transfers of all servers, and at random.
        "bbr" => "bbr, which paces even over loopback (`sysctl \
                  net.ipv4.tcp_congestion_control=cubic` is Linux's own default)"
            .to_owned(),
        other => format!("{other}, not Linux's own default, cubic"),
    };
    format!(
        "{}, {} cores, Linux {}, TCP congestion control {congestion_control}; server on core {}, \
         load generator on core {}",
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

/// Writes every sample as JSON. Costs are in seconds, or in bytes for memory.
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
