//! Metrics in OpenMetrics, or in Prometheus's older text format.

use std::fmt;
use std::fs;
use std::iter;

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body_util::Full;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use netwasm_base::counters::{Counter, Counters};
use netwasm_http::tally::{BOUNDS, Totals};

use crate::logging;

use super::{View, no_answer, of_type};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers a scrape.
pub(super) fn response(view: View, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let accepts = headers.get_all(header::ACCEPT).iter();
    let accepts = accepts.filter_map(|value| value.to_str().ok());
    let open = accepts
        .flat_map(|value| value.split(','))
        .any(is_open_metrics);
    let mut registry = Registry::with_prefix("netwasm");
    registry.register_collector(Box::new(view));
    let mut body = String::new();
    let encoded = match open {
        true => text::encode(&mut body, &registry),
        false => prometheus_text::encode(&mut body, &registry),
    };
    match encoded {
        Ok(()) if open => of_type(OPEN_METRICS, body),
        Ok(()) => of_type(PROMETHEUS, body),
        Err(_) => no_answer(),
    }
}

/// True if an item of `Accept` asks for OpenMetrics: RFC 9110, section 12.5.1.
fn is_open_metrics(item: &str) -> bool {
    let mut parts = item.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let refused = parts.any(|part| match part.split_once('=') {
        Some((name, weight)) => {
            name.trim().eq_ignore_ascii_case("q") && weight.trim().parse() == Ok(0.0)
        }
        None => false,
    });
    media.eq_ignore_ascii_case("application/openmetrics-text") && !refused
}

/// Counters of services, by name.
type Field = fn(&Counters) -> &Counter;

const COUNTERS: [(&str, &str, Field); 19] = [
    (
        "connections_accepted",
        "Connections that peers opened",
        |it| &it.connections_accepted,
    ),
    ("connections_made", "Connections that guests opened", |it| {
        &it.connections_made
    }),
    (
        "connections_closed",
        "Connections that ended in order",
        |it| &it.connections_closed,
    ),
    (
        "connections_lost",
        "Connections that did not end in order",
        |it| &it.connections_lost,
    ),
    (
        "connections_reclaimed",
        "Idle connections closed for new ones (max-connections)",
        |it| &it.connections_reclaimed,
    ),
    (
        "connections_waited",
        "Times that a new connection had to wait (max-connections)",
        |it| &it.connections_waited,
    ),
    (
        "left_behind",
        "Times that an async guest went on when nobody waited for it",
        |it| &it.left_behind,
    ),
    (
        "left_behind_ended",
        "Times that such a guest was ended",
        |it| &it.left_behind_ended,
    ),
    (
        "handshakes_failed",
        "TLS handshakes with peers that failed",
        |it| &it.handshakes_failed,
    ),
    (
        "proxies_refused",
        "Connections of proxies without a usable PROXY header",
        |it| &it.proxies_refused,
    ),
    (
        "clients_refused",
        "Connections and requests of clients that were turned away",
        |it| &it.clients_refused,
    ),
    ("datagrams_received", "Datagrams handed to guests", |it| {
        &it.datagrams_received
    }),
    ("requests_handled", "HTTP requests handed to guests", |it| {
        &it.requests
    }),
    (
        "requests_refused",
        "HTTP requests answered without a guest: malformed, too large, or too slow",
        |it| &it.requests_refused,
    ),
    (
        "responses_refused",
        "Responses of guests that were not sent, or not completely, by the guest's fault",
        |it| &it.responses_refused,
    ),
    (
        "instances_failed",
        "Instances that could not be made",
        |it| &it.instances_failed,
    ),
    (
        "files_failed",
        "Files that exist but could not be opened or read",
        |it| &it.files_failed,
    ),
    ("traps", "Instances that trapped", |it| &it.traps),
    (
        "operations_denied",
        "Operations of guests that the policy denied",
        |it| &it.denied,
    ),
];

/// Labels of a metric.
type Labels = Vec<(&'static str, String)>;

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.encode_run(&mut encoder)?;
        self.encode_services(&mut encoder)?;
        self.encode_requests(&mut encoder)
    }
}

impl View {
    fn encode_run(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        gauges(
            encoder,
            "build_info",
            "Version of netwasm",
            [(version, 1.0)],
        )?;
        let none = Labels::new;
        let ready = f64::from(u8::from(self.not_ready.is_none()));
        for (name, help, value) in [
            ("ready", "1 while connections are accepted", ready),
            (
                "draining",
                "1 while the run ends",
                f64::from(u8::from(self.draining)),
            ),
            (
                "workers",
                "Threads that serve connections",
                number(self.workers),
            ),
            (
                "generations_retiring",
                "Generations of services that were replaced and have not ended",
                number(self.retiring),
            ),
        ] {
            gauges(encoder, name, help, [(none(), value)])?;
        }
        let [done, failed] = self.reloads;
        let result = |name: &str| vec![("result", name.to_owned())];
        counters(
            encoder,
            "reloads",
            "Reloads of settings and components",
            [(result("done"), done), (result("failed"), failed)],
        )?;
        counters(
            encoder,
            "retired_workers_failed",
            "Workers of generations that were replaced that have failed",
            [(none(), self.retired_failed)],
        )?;
        counters(
            encoder,
            "log_lines_dropped",
            "Lines of the log that nobody read in time",
            [(none(), logging::dropped())],
        )?;
        for (name, help, unit, value) in process() {
            let grows = name == "process_cpu";
            let kind = if grows {
                MetricType::Counter
            } else {
                MetricType::Gauge
            };
            let metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            match grows {
                true => ConstCounter::new(value).encode(metric)?,
                false => ConstGauge::new(value).encode(metric)?,
            }
        }
        Ok(())
    }

    fn encode_services(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let of = |name: &str| vec![("service", name.to_owned())];
        let generations = self.services.iter().map(|it| {
            let mut labels = of(&it.name);
            labels.push(("component", it.component.clone()));
            #[expect(clippy::cast_precision_loss, reason = "no run has so many")]
            let generation = it.generation as f64;
            (labels, generation)
        });
        gauges(
            encoder,
            "service_generation",
            "Number of the generation that serves new connections",
            generations,
        )?;
        let ages = self.services.iter().map(|it| {
            let age = it.since.elapsed().as_secs_f64();
            (of(&it.name), age)
        });
        let mut metric = encoder.encode_descriptor(
            "service_generation_age",
            "Time since that generation began",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (labels, age) in ages {
            ConstGauge::new(age).encode(metric.encode_family(&labels)?)?;
        }
        let open = self.services.iter().map(|it| {
            let counters = &it.counters;
            let ended = counters.connections_closed.get() + counters.connections_lost.get();
            let begun = counters.connections_accepted.get() + counters.connections_made.get();
            #[expect(clippy::cast_precision_loss, reason = "no run has so many")]
            let open = begun.saturating_sub(ended) as f64;
            (of(&it.name), open)
        });
        gauges(
            encoder,
            "connections_open",
            "Connections that are open",
            open,
        )?;
        for (name, help, field) in COUNTERS {
            let rows = self
                .services
                .iter()
                .map(|it| (of(&it.name), field(&it.counters).get()));
            counters(encoder, name, help, rows)?;
        }
        let listeners = self.listeners.iter().map(|it| {
            let mut labels = of(&it.service);
            labels.push(("listener", it.url.clone()));
            (labels, it.accepted)
        });
        counters(
            encoder,
            "listener_accepted",
            "Connections accepted by a listener",
            listeners,
        )
    }

    fn encode_requests(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let totals: Vec<(&str, Totals)> = self
            .services
            .iter()
            .filter_map(|it| Some((&*it.name, it.tallies.as_ref()?.totals())))
            .collect();
        let rows = totals.iter().flat_map(|(name, totals)| {
            let protocols = ["HTTP/1", "HTTP/2"].into_iter().zip(&totals.requests);
            protocols.flat_map(move |(protocol, classes)| {
                let classes = classes.iter().zip(1..);
                classes.map(move |(count, class)| {
                    let labels = vec![
                        ("service", (*name).to_owned()),
                        ("protocol", protocol.to_owned()),
                        ("status", format!("{class}xx")),
                    ];
                    (labels, *count)
                })
            })
        });
        counters(
            encoder,
            "http_requests",
            "HTTP requests that were answered, by class of status; 499 if the client left",
            rows,
        )?;
        let bytes = totals
            .iter()
            .map(|(name, it)| (vec![("service", (*name).to_owned())], it.bytes));
        let mut metric = encoder.encode_descriptor(
            "http_response_body",
            "Bytes of response bodies that were sent",
            Some(&Unit::Bytes),
            MetricType::Counter,
        )?;
        for (labels, bytes) in bytes {
            ConstCounter::new(bytes).encode(metric.encode_family(&labels)?)?;
        }
        let mut metric = encoder.encode_descriptor(
            "http_request_duration",
            "Time from a request's head to the end of its response",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (name, totals) in &totals {
            let labels = vec![("service", (*name).to_owned())];
            #[expect(clippy::cast_precision_loss, reason = "a rounded sum is good enough")]
            let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
            let bounds = BOUNDS
                .map(seconds)
                .into_iter()
                .chain(iter::once(f64::INFINITY));
            let buckets: Vec<_> = bounds.zip(totals.durations).collect();
            let count = totals.durations.iter().sum();
            metric.encode_family(&labels)?.encode_histogram::<Labels>(
                seconds(totals.nanoseconds),
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = (Labels, u64)>,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in rows {
        ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = (Labels, f64)>,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in rows {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "no process has so many")]
fn number(count: usize) -> f64 {
    count as f64
}

/// Returns what the system tells of the process: proc_pid_stat(5).
fn process() -> Vec<(&'static str, &'static str, Option<Unit>, f64)> {
    let mut all = Vec::new();
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory's own.
        let open = entries.count().saturating_sub(1);
        all.push(("process_open_fds", "Open descriptors", None, number(open)));
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
        all.push((
            "process_cpu",
            "CPU time used",
            Some(Unit::Seconds),
            (user + system) / ticks,
        ));
    }
    if let Some(threads) = field(20) {
        all.push(("process_threads", "Threads", None, threads));
    }
    if let Some(pages) = field(24) {
        all.push((
            "process_resident_memory",
            "Resident memory",
            Some(Unit::Bytes),
            pages * number(rustix::param::page_size()),
        ));
    }
    all
}
