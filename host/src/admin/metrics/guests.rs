//! The metrics that guests make.

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use netwasm_base::guest_metrics::{Kind as GuestKind, Reading, Series};

use super::View;
use super::family::{Family, Histogram, Kind, Labels, SeriesValue, of};

/// Returns the metrics of all services' guests, ordered by name.
pub(super) fn families(view: &View) -> Vec<Family> {
    let mut families: BTreeMap<String, Vec<(&str, Arc<Series>)>> = BTreeMap::new();
    for service in &view.services {
        for series in service.counters.of_guest.all() {
            let all = families.entry(series.family.name.clone()).or_default();
            all.push((&service.name, series));
        }
    }
    let family = |(name, all): (String, Vec<(&str, Arc<Series>)>)| {
        let (_, first) = all.first()?;
        let kind = match &first.family.kind {
            GuestKind::Counter => Kind::Counter,
            GuestKind::Gauge => Kind::Gauge,
            GuestKind::Histogram(_) => Kind::Histogram,
        };
        let rows = all
            .iter()
            .map(|(service, it)| (labels(service, it), value(it)));
        Some(Family {
            name: format!("guest_{name}").into(),
            help: first.family.help.clone().into(),
            unit: None,
            kind,
            series: rows.collect(),
        })
    };
    families.into_iter().filter_map(family).collect()
}

fn labels(service: &str, series: &Series) -> Labels {
    let mut labels = of(service);
    let own = series.labels.iter();
    labels.extend(own.map(|(name, value)| (name.clone().into(), value.clone())));
    labels
}

fn value(series: &Series) -> SeriesValue {
    match (series.reading(), &series.family.kind) {
        (Reading::Counter(count), _) => SeriesValue::Count(count),
        (Reading::Gauge(number), _) => SeriesValue::Number(number),
        (Reading::Histogram { counts, sum }, GuestKind::Histogram(bounds)) => {
            let bounds = bounds.iter().copied();
            let bounds = bounds.chain(iter::once(f64::INFINITY));
            SeriesValue::Histogram(Histogram {
                buckets: bounds.zip(counts).collect(),
                sum,
                native: None,
            })
        }
        (Reading::Histogram { sum, .. }, _) => SeriesValue::Number(sum),
    }
}
