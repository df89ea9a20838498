//! The metrics that an instance has opened, and their host functions, for both
//! kinds of guests.

use std::collections::BTreeMap;
use std::sync::Arc;

use netwasm_base::error::ConnectionError;
use netwasm_base::guest_metrics::{Kind, Series};

use crate::bindings::netwasm::net::metrics::{CounterId, GaugeId, HistogramId, Host, Label};
use crate::bindings::netwasm::net::types::Error as WitError;
use crate::convert::called;
use crate::local::Env;

/// The metrics of an instance, by their numbers. They are the service's, which
/// has no more than `--max-metrics` of them.
#[derive(Debug)]
pub(crate) struct Measures {
    env: Arc<Env>,
    opened: BTreeMap<u32, Arc<Series>>,
}

impl Measures {
    pub(crate) fn new(env: &Arc<Env>) -> Self {
        Self {
            env: Arc::clone(env),
            opened: BTreeMap::new(),
        }
    }

    /// Opens a metric of the service, and returns its number.
    ///
    /// # Errors
    /// Fails as [`netwasm_base::guest_metrics::GuestMetrics::open`] does.
    fn open(
        &mut self,
        name: String,
        help: &str,
        kind: Kind,
        labels: Vec<Label>,
    ) -> Result<u32, WitError> {
        let net = &self.env.net;
        let metrics = &net.counters.of_guest;
        let labels = labels.into_iter().map(|it| (it.name, it.value)).collect();
        let most = net.limits.max_metrics;
        let series = metrics.open(name, help, kind, labels, most);
        let series = series.inspect_err(|error| {
            if matches!(error, ConnectionError::LimitExceeded(_)) && metrics.is_news() {
                tracing::warn!(
                    guest = %net.guest,
                    "the guest wants metrics of more than {most} values: the others are not \
                     counted (--max-metrics)"
                );
            }
        });
        let series = series.map_err(called)?;
        let number = series.number;
        self.opened.insert(number, series);
        Ok(number)
    }

    /// Counts with a metric, if the instance has opened it.
    fn count(&self, number: u32, count: impl FnOnce(&Series)) {
        if let Some(series) = self.opened.get(&number) {
            count(series);
        }
    }
}

impl Host for Measures {
    fn counter(
        &mut self,
        name: String,
        help: String,
        labels: Vec<Label>,
    ) -> wasmtime::Result<Result<CounterId, WitError>> {
        let opened = self.open(name, &help, Kind::Counter, labels);
        Ok(opened.map(|number| CounterId { number }))
    }

    fn gauge(
        &mut self,
        name: String,
        help: String,
        labels: Vec<Label>,
    ) -> wasmtime::Result<Result<GaugeId, WitError>> {
        let opened = self.open(name, &help, Kind::Gauge, labels);
        Ok(opened.map(|number| GaugeId { number }))
    }

    fn histogram(
        &mut self,
        name: String,
        help: String,
        bounds: Vec<f64>,
        labels: Vec<Label>,
    ) -> wasmtime::Result<Result<HistogramId, WitError>> {
        let opened = self.open(name, &help, Kind::Histogram(bounds), labels);
        Ok(opened.map(|number| HistogramId { number }))
    }

    fn add(&mut self, counter: CounterId, more: u64) -> wasmtime::Result<()> {
        self.count(counter.number, |series| series.add(more));
        Ok(())
    }

    fn set(&mut self, gauge: GaugeId, value: f64) -> wasmtime::Result<()> {
        self.count(gauge.number, |series| series.set(value));
        Ok(())
    }

    fn change(&mut self, gauge: GaugeId, by: f64) -> wasmtime::Result<()> {
        self.count(gauge.number, |series| series.change(by));
        Ok(())
    }

    fn observe(&mut self, histogram: HistogramId, value: f64) -> wasmtime::Result<()> {
        self.count(histogram.number, |series| series.observe(value));
        Ok(())
    }
}
