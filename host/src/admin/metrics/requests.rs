//! Metrics of HTTP requests.

use std::iter;

use netwasm_http::tally::{BOUNDS, Durations, SCHEMA, Totals};

use super::View;
use super::family::{Family, Histogram, Kind, Native, SeriesValue, Unit, float, of};

/// Returns the metrics of all services' requests.
pub(super) fn families(view: &View) -> Vec<Family> {
    let totals: Vec<(&str, Totals)> = view
        .services
        .iter()
        .filter_map(|it| Some((&*it.name, it.tallies.as_ref()?.totals())))
        .collect();
    let requests = totals.iter().flat_map(|(name, totals)| {
        let protocols = ["HTTP/1", "HTTP/2"].into_iter().zip(&totals.requests);
        protocols.flat_map(move |(protocol, classes)| {
            let classes = classes.iter().zip(1..);
            classes.map(move |(count, class)| {
                let mut labels = of(name);
                labels.push(("protocol".into(), protocol.to_owned()));
                labels.push(("status".into(), format!("{class}xx")));
                (labels, *count)
            })
        })
    });
    let bodies = totals.iter().map(|(name, it)| (of(name), it.bytes));
    let durations = totals
        .iter()
        .map(|(name, it)| (of(name), SeriesValue::Histogram(histogram(it))));
    vec![
        Family::counter(
            "http_requests",
            "HTTP requests that were answered, by class of status; 499 if the client left",
            requests,
        ),
        Family::counter(
            "http_response_body",
            "Bytes of response bodies that were sent",
            bodies,
        )
        .of(Unit::Bytes),
        Family::new(
            "http_request_duration",
            "Time from a request's head to the end of its response",
            Kind::Histogram,
            durations.collect(),
        )
        .of(Unit::Seconds),
    ]
}

fn histogram(totals: &Totals) -> Histogram {
    let seconds = |nanoseconds: u64| float(nanoseconds) / 1e9;
    let bounds = BOUNDS.map(seconds).into_iter();
    let bounds = bounds.chain(iter::once(f64::INFINITY));
    let Durations {
        first,
        counts,
        zero,
    } = totals.exponential();
    Histogram {
        buckets: bounds.zip(totals.durations).collect(),
        sum: seconds(totals.nanoseconds),
        native: Some(Native {
            schema: SCHEMA,
            first,
            counts,
            zero,
            zero_threshold: Durations::ZERO,
        }),
    }
}
