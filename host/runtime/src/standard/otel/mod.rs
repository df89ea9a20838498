//! `wasi:otel`: spans, records of logs, and metrics of guests, for the receiver of
//! `--otlp`.
//!
//! ```text
//!   on-end, on-emit, export (places in the guest's memory)
//!            | Reader: as far as there is room; of a request that is sampled
//!            v
//!   messages (netwasm-otlp), encoded --> Tracer::report --> the exporter's queue
//! ```
//!
//! Without `--otlp`, every call is accepted, and nothing is read.

mod logs;
mod metrics;
mod reading;
mod spans;
mod values;

use wasmtime::component::Linker;

use super::Guest;

/// Versions of the draft, whose types are the same ones. (Those of `0.2.0-draft`
/// are, since December 2025: values of attributes were a variant before.)
const VERSIONS: [&str; 3] = ["0.2.0-draft", "0.2.0-rc.1", "0.2.0-rc.2"];

/// Room for a span or a record, in bytes.
const MOST_TEXT: usize = 64 << 10;

/// Room for metrics that are exported at once, in bytes.
const MOST_METRICS: usize = 512 << 10;

pub(super) fn add_to_linker<T: Guest>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    for version in VERSIONS {
        let name = |interface| format!("wasi:otel/{interface}@{version}");
        // It has only types.
        linker.instance(&name("types"))?;
        spans::define(&mut linker.instance(&name("tracing"))?)?;
        logs::define(&mut linker.instance(&name("logs"))?)?;
        metrics::define(&mut linker.instance(&name("metrics"))?)?;
    }
    Ok(())
}
