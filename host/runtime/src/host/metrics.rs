use crate::bindings::netwasm::net::metrics::{CounterId, GaugeId, HistogramId, Host, Label};
use crate::bindings::netwasm::net::types::Error as WitError;
use crate::state::State;

impl Host for State {
    fn counter(
        &mut self,
        name: String,
        help: String,
        labels: Vec<Label>,
    ) -> wasmtime::Result<Result<CounterId, WitError>> {
        self.measures.counter(name, help, labels)
    }

    fn gauge(
        &mut self,
        name: String,
        help: String,
        labels: Vec<Label>,
    ) -> wasmtime::Result<Result<GaugeId, WitError>> {
        self.measures.gauge(name, help, labels)
    }

    fn histogram(
        &mut self,
        name: String,
        help: String,
        bounds: Vec<f64>,
        labels: Vec<Label>,
    ) -> wasmtime::Result<Result<HistogramId, WitError>> {
        self.measures.histogram(name, help, bounds, labels)
    }

    fn add(&mut self, counter: CounterId, more: u64) -> wasmtime::Result<()> {
        self.measures.add(counter, more)
    }

    fn set(&mut self, gauge: GaugeId, value: f64) -> wasmtime::Result<()> {
        self.measures.set(gauge, value)
    }

    fn change(&mut self, gauge: GaugeId, by: f64) -> wasmtime::Result<()> {
        self.measures.change(gauge, by)
    }

    fn observe(&mut self, histogram: HistogramId, value: f64) -> wasmtime::Result<()> {
        self.measures.observe(histogram, value)
    }
}
