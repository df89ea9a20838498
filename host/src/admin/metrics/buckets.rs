//! Metrics of the buckets of `--keyvalue`.

use netwasm_base::meter::Measure;

use super::View;
use super::family::{Family, labelled};

/// Returns the metrics of all services' buckets.
pub(super) fn families(view: &View) -> Vec<Family> {
    let totals: Vec<_> = view
        .services
        .iter()
        .flat_map(|it| {
            let buckets = it.counters.buckets.totals().into_iter();
            buckets.map(|(bucket, totals)| (labelled(&it.name, "bucket", &bucket), totals))
        })
        .collect();
    let of_each = |measure| {
        let rows = totals.iter();
        rows.map(move |(labels, totals)| (labels.clone(), totals.of(measure)))
    };
    vec![
        Family::counter(
            "keyvalue_operations",
            "Operations of guests on buckets of keys and values",
            of_each(Measure::BucketCalls),
        ),
        Family::counter(
            "keyvalue_operations_failed",
            "Those of them that failed",
            of_each(Measure::BucketFailures),
        ),
    ]
}
