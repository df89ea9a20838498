//! `wasi:otel/metrics`: metrics of guests. They are the guest's own: what it counts
//! with `netwasm:net/metrics` is the host's.

use netwasm_base::trace::{SignalKind, Tracer};
use netwasm_otlp::attributes::KeyValue;
use netwasm_otlp::metrics::{
    BucketCounts, ExemplarPoint, ExemplarValue, ExponentialPoint, ExponentialPoints, GaugePoints,
    HistogramPoint, HistogramPoints, Metric, MetricPoints, NumberPoint, PointValue, ScopeMetrics,
    SumPoints,
};
use prost::Message as _;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, WasmList, WasmStr};

use super::reading::{AttributeOfGuest, Reader, ResourceOfGuest, ScopeOfGuest, Unread, WallTime};
use super::{Guest, MOST_METRICS};

/// Tells a guest that its metrics are not taken.
const NOT_TAKEN: &str = "the host takes no more telemetry at present, or its receiver has no URL \
                         for metrics (--otlp)";

/// `resource-metrics`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct MetricsOfGuest {
    #[component(name = "resource")]
    _resource: ResourceOfGuest,
    #[component(name = "scope-metrics")]
    scopes: WasmList<MetricsOfScope>,
}

/// `scope-metrics`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct MetricsOfScope {
    scope: ScopeOfGuest,
    metrics: WasmList<MetricOfGuest>,
}

/// `metric`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct MetricOfGuest {
    name: WasmStr,
    description: WasmStr,
    unit: WasmStr,
    data: DataOfMetric,
}

/// `metric-data`. Each number says by itself of which type it is.
#[derive(ComponentType, Lift)]
#[component(variant)]
enum DataOfMetric {
    #[component(name = "f64-gauge")]
    GaugeF64(GaugeOfGuest),
    #[component(name = "f64-sum")]
    SumF64(SumOfGuest),
    #[component(name = "f64-histogram")]
    HistogramF64(HistogramOfGuest),
    #[component(name = "f64-exponential-histogram")]
    ExponentialF64(ExponentialOfGuest),
    #[component(name = "u64-gauge")]
    GaugeU64(GaugeOfGuest),
    #[component(name = "u64-sum")]
    SumU64(SumOfGuest),
    #[component(name = "u64-histogram")]
    HistogramU64(HistogramOfGuest),
    #[component(name = "u64-exponential-histogram")]
    ExponentialU64(ExponentialOfGuest),
    #[component(name = "s64-gauge")]
    GaugeS64(GaugeOfGuest),
    #[component(name = "s64-sum")]
    SumS64(SumOfGuest),
    #[component(name = "s64-histogram")]
    HistogramS64(HistogramOfGuest),
    #[component(name = "s64-exponential-histogram")]
    ExponentialS64(ExponentialOfGuest),
}

/// `gauge`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct GaugeOfGuest {
    #[component(name = "data-points")]
    points: WasmList<NumberOfGuest>,
    #[component(name = "start-time")]
    begun: Option<WallTime>,
    time: WallTime,
}

/// `sum`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct SumOfGuest {
    #[component(name = "data-points")]
    points: WasmList<NumberOfGuest>,
    #[component(name = "start-time")]
    begun: WallTime,
    time: WallTime,
    temporality: Temporality,
    #[component(name = "is-monotonic")]
    is_monotonic: bool,
}

/// `gauge-data-point` and `sum-data-point`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct NumberOfGuest {
    attributes: WasmList<AttributeOfGuest>,
    value: NumberOfMetric,
    exemplars: WasmList<ExemplarOfGuest>,
}

/// `histogram`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct HistogramOfGuest {
    #[component(name = "data-points")]
    points: WasmList<HistogramPointOfGuest>,
    #[component(name = "start-time")]
    begun: WallTime,
    time: WallTime,
    temporality: Temporality,
}

/// `histogram-data-point`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct HistogramPointOfGuest {
    attributes: WasmList<AttributeOfGuest>,
    count: u64,
    bounds: WasmList<f64>,
    #[component(name = "bucket-counts")]
    bucket_counts: WasmList<u64>,
    min: Option<NumberOfMetric>,
    max: Option<NumberOfMetric>,
    sum: NumberOfMetric,
    exemplars: WasmList<ExemplarOfGuest>,
}

/// `exponential-histogram`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct ExponentialOfGuest {
    #[component(name = "data-points")]
    points: WasmList<ExponentialPointOfGuest>,
    #[component(name = "start-time")]
    begun: WallTime,
    time: WallTime,
    temporality: Temporality,
}

/// `exponential-histogram-data-point`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct ExponentialPointOfGuest {
    attributes: WasmList<AttributeOfGuest>,
    count: u64,
    min: Option<NumberOfMetric>,
    max: Option<NumberOfMetric>,
    sum: NumberOfMetric,
    scale: i8,
    #[component(name = "zero-count")]
    zero_count: u64,
    #[component(name = "positive-bucket")]
    positive: BucketsOfGuest,
    #[component(name = "negative-bucket")]
    negative: BucketsOfGuest,
    #[component(name = "zero-threshold")]
    zero_threshold: f64,
    exemplars: WasmList<ExemplarOfGuest>,
}

/// `exponential-bucket`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct BucketsOfGuest {
    offset: i32,
    counts: WasmList<u64>,
}

/// `exemplar`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct ExemplarOfGuest {
    #[component(name = "filtered-attributes")]
    attributes: WasmList<AttributeOfGuest>,
    time: WallTime,
    value: NumberOfMetric,
    #[component(name = "span-id")]
    span_id: WasmStr,
    #[component(name = "trace-id")]
    trace_id: WasmStr,
}

/// `temporality`.
#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "a guest's number becomes one of them")
)]
enum Temporality {
    #[component(name = "cumulative")]
    Cumulative,
    #[component(name = "delta")]
    Delta,
    #[component(name = "low-memory")]
    LowMemory,
}

impl Temporality {
    /// Returns the number that OTLP has for it. `low-memory` means differences of
    /// what only grows, as counters and histograms do.
    fn number(self, grows: bool) -> i32 {
        match self {
            Self::Delta => 1,
            Self::LowMemory if grows => 1,
            Self::LowMemory | Self::Cumulative => 2,
        }
    }
}

/// `metric-number`.
#[derive(ComponentType, Lift, Clone, Copy)]
#[component(variant)]
enum NumberOfMetric {
    #[component(name = "f64")]
    Float(f64),
    #[component(name = "s64")]
    Signed(i64),
    #[component(name = "u64")]
    Unsigned(u64),
}

impl NumberOfMetric {
    #[expect(
        clippy::cast_precision_loss,
        reason = "OTLP has these numbers as floats, too"
    )]
    fn float(self) -> f64 {
        match self {
            Self::Float(number) => number,
            Self::Signed(number) => number as f64,
            Self::Unsigned(number) => number as f64,
        }
    }

    /// Returns the number if OTLP has it as a whole one.
    fn whole(self) -> Option<i64> {
        match self {
            Self::Float(_) => None,
            Self::Signed(number) => Some(number),
            Self::Unsigned(number) => i64::try_from(number).ok(),
        }
    }

    fn of_point(self) -> PointValue {
        let float = || PointValue::Double(self.float());
        self.whole().map_or_else(float, PointValue::Int)
    }

    fn of_exemplar(self) -> ExemplarValue {
        let float = || ExemplarValue::Double(self.float());
        self.whole().map_or_else(float, ExemplarValue::Int)
    }
}

pub(super) fn define<T: Guest>(interface: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    interface.func_wrap(
        "export",
        |store: StoreContextMut<'_, T>, (metrics,): (MetricsOfGuest,)| {
            Ok((export(store, &metrics)?,))
        },
    )
}

/// Reports metrics, all or none of them, and then says why. Without a receiver there
/// is nobody to want them, which is no error.
fn export<T: Guest>(
    store: StoreContextMut<'_, T>,
    metrics: &MetricsOfGuest,
) -> wasmtime::Result<Result<(), String>> {
    let Some(tracer) = store.data().env().net.tracer.clone() else {
        return Ok(Ok(()));
    };
    match Reader::new(store, MOST_METRICS).each(&metrics.scopes, Reader::metrics) {
        Ok(scopes) => {
            let scopes: Vec<_> = scopes.iter().map(ScopeMetrics::encode_to_vec).collect();
            if scopes.iter().map(Vec::len).sum::<usize>() > MOST_METRICS {
                return Ok(too_large(&tracer));
            }
            Ok(match tracer.report(SignalKind::Metrics, scopes) {
                true => Ok(()),
                false => Err(NOT_TAKEN.to_owned()),
            })
        }
        Err(Unread::TooLarge) => Ok(too_large(&tracer)),
        Err(Unread::Trap(error)) => Err(error),
    }
}

fn too_large(tracer: &Tracer) -> Result<(), String> {
    tracer.lose();
    let most = MOST_METRICS >> 10;
    Err(format!("there are more than {most} KiB of metrics"))
}

impl<T: 'static> Reader<'_, T> {
    fn metrics(&mut self, metrics: &MetricsOfScope) -> Result<ScopeMetrics, Unread> {
        let (scope, schema_url) = self.scope(&metrics.scope)?;
        Ok(ScopeMetrics {
            scope: Some(scope),
            metrics: self.each(&metrics.metrics, Self::metric)?,
            schema_url,
        })
    }

    fn metric(&mut self, metric: &MetricOfGuest) -> Result<Metric, Unread> {
        use DataOfMetric as Data;
        let data = match &metric.data {
            Data::GaugeF64(gauge) | Data::GaugeU64(gauge) | Data::GaugeS64(gauge) => {
                let times = (gauge.begun, gauge.time);
                let data_points = self.numbers(&gauge.points, times)?;
                MetricPoints::Gauge(GaugePoints { data_points })
            }
            Data::SumF64(sum) | Data::SumU64(sum) | Data::SumS64(sum) => {
                MetricPoints::Sum(SumPoints {
                    data_points: self.numbers(&sum.points, (Some(sum.begun), sum.time))?,
                    aggregation_temporality: sum.temporality.number(sum.is_monotonic),
                    is_monotonic: sum.is_monotonic,
                })
            }
            Data::HistogramF64(all) | Data::HistogramU64(all) | Data::HistogramS64(all) => {
                let times = (all.begun.nanoseconds(), all.time.nanoseconds());
                MetricPoints::Histogram(HistogramPoints {
                    data_points: self.each(&all.points, |it, point| it.histogram(point, times))?,
                    aggregation_temporality: all.temporality.number(true),
                })
            }
            Data::ExponentialF64(all) | Data::ExponentialU64(all) | Data::ExponentialS64(all) => {
                let times = (all.begun.nanoseconds(), all.time.nanoseconds());
                MetricPoints::Exponential(ExponentialPoints {
                    data_points: self
                        .each(&all.points, |it, point| it.exponential(point, times))?,
                    aggregation_temporality: all.temporality.number(true),
                })
            }
        };
        Ok(Metric {
            name: self.text(&metric.name)?,
            description: self.text(&metric.description)?,
            unit: self.text(&metric.unit)?,
            data: Some(data),
        })
    }

    fn numbers(
        &mut self,
        points: &WasmList<NumberOfGuest>,
        (begun, time): (Option<WallTime>, WallTime),
    ) -> Result<Vec<NumberPoint>, Unread> {
        let begun = begun.map(WallTime::nanoseconds).unwrap_or_default();
        self.each(points, |reader, point| {
            Ok(NumberPoint {
                start_time_unix_nano: begun,
                time_unix_nano: time.nanoseconds(),
                exemplars: reader.each(&point.exemplars, Self::exemplar)?,
                attributes: reader.identifying(&point.attributes)?,
                value: Some(point.value.of_point()),
            })
        })
    }

    fn histogram(
        &mut self,
        point: &HistogramPointOfGuest,
        (begun, time): (u64, u64),
    ) -> Result<HistogramPoint, Unread> {
        Ok(HistogramPoint {
            start_time_unix_nano: begun,
            time_unix_nano: time,
            count: point.count,
            sum: Some(point.sum.float()),
            bucket_counts: self.all(&point.bucket_counts)?,
            explicit_bounds: self.all(&point.bounds)?,
            exemplars: self.each(&point.exemplars, Self::exemplar)?,
            attributes: self.identifying(&point.attributes)?,
            min: point.min.map(NumberOfMetric::float),
            max: point.max.map(NumberOfMetric::float),
        })
    }

    fn exponential(
        &mut self,
        point: &ExponentialPointOfGuest,
        (begun, time): (u64, u64),
    ) -> Result<ExponentialPoint, Unread> {
        Ok(ExponentialPoint {
            attributes: self.identifying(&point.attributes)?,
            start_time_unix_nano: begun,
            time_unix_nano: time,
            count: point.count,
            sum: Some(point.sum.float()),
            scale: point.scale.into(),
            zero_count: point.zero_count,
            positive: Some(self.buckets(&point.positive)?),
            negative: Some(self.buckets(&point.negative)?),
            exemplars: self.each(&point.exemplars, Self::exemplar)?,
            min: point.min.map(NumberOfMetric::float),
            max: point.max.map(NumberOfMetric::float),
            zero_threshold: point.zero_threshold,
        })
    }

    fn buckets(&mut self, buckets: &BucketsOfGuest) -> Result<BucketCounts, Unread> {
        Ok(BucketCounts {
            offset: buckets.offset,
            bucket_counts: self.all(&buckets.counts)?,
        })
    }

    fn exemplar(&mut self, exemplar: &ExemplarOfGuest) -> Result<ExemplarPoint, Unread> {
        let span = self.span_id(&exemplar.span_id)?;
        let trace = self.trace_id(&exemplar.trace_id)?;
        Ok(ExemplarPoint {
            time_unix_nano: exemplar.time.nanoseconds(),
            span_id: span.map(|it| it.to_vec()).unwrap_or_default(),
            trace_id: trace.map(|it| it.to_vec()).unwrap_or_default(),
            filtered_attributes: self.identifying(&exemplar.attributes)?,
            value: Some(exemplar.value.of_exemplar()),
        })
    }

    /// Returns all attributes of a point: without one of them, it would be of
    /// another series.
    fn identifying(
        &mut self,
        attributes: &WasmList<AttributeOfGuest>,
    ) -> Result<Vec<KeyValue>, Unread> {
        self.each(attributes, Self::attribute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_whole_where_otlp_has_it() {
        assert_eq!(
            NumberOfMetric::Float(1.0).of_point(),
            PointValue::Double(1.0)
        );
        assert_eq!(NumberOfMetric::Signed(-1).of_point(), PointValue::Int(-1));
        let most = NumberOfMetric::Unsigned(i64::MAX.unsigned_abs());
        assert_eq!(most.of_exemplar(), ExemplarValue::Int(i64::MAX));
        let beyond = NumberOfMetric::Unsigned(1 << 63).of_point();
        assert_eq!(beyond, PointValue::Double(9_223_372_036_854_775_808.0));
    }

    #[test]
    fn what_is_a_difference_is_told() {
        for (temporality, growing, other) in [
            (Temporality::Cumulative, 2, 2),
            (Temporality::Delta, 1, 1),
            (Temporality::LowMemory, 1, 2),
        ] {
            assert_eq!(temporality.number(true), growing);
            assert_eq!(temporality.number(false), other);
        }
    }
}
