//! Metrics, by command.

use super::netwasm::net::metrics::{self, CounterId, GaugeId, HistogramId, Label};
use super::netwasm::net::types::Error;

/// Opens a metric and counts with it:
///
/// - `counter NAME N [LABEL=VALUE...]`
/// - `set NAME N [LABEL=VALUE...]`, `change NAME N [LABEL=VALUE...]`: a gauge
/// - `histogram NAME VALUE BOUND,BOUND... [LABEL=VALUE...]`
/// - `foreign N`: counts with numbers that this instance has not opened
///
/// Returns `None` for anything else.
pub(super) fn count(words: &[&str]) -> Option<Result<(), Error>> {
    let opened = match *words {
        ["counter", name, more, ref rest @ ..] => {
            let counter = metrics::counter(name, "A counter", &labels(rest)?);
            let more = more.parse().ok()?;
            counter.map(|counter| metrics::add(counter, more))
        }
        [what @ ("set" | "change"), name, value, ref rest @ ..] => {
            let gauge = metrics::gauge(name, "A \"gauge\"\nof \\ two lines", &labels(rest)?);
            let value = value.parse().ok()?;
            gauge.map(|gauge| match what {
                "set" => metrics::set(gauge, value),
                _ => metrics::change(gauge, value),
            })
        }
        ["histogram", name, value, bounds, ref rest @ ..] => {
            let bounds = bounds.split(',').map(|bound| bound.parse().ok());
            let bounds: Vec<f64> = bounds.collect::<Option<_>>()?;
            let histogram = metrics::histogram(name, "A histogram", &bounds, &labels(rest)?);
            let value = value.parse().ok()?;
            histogram.map(|histogram| metrics::observe(histogram, value))
        }
        ["foreign", number] => {
            let number = number.parse().ok()?;
            metrics::add(CounterId { number }, 1);
            metrics::set(GaugeId { number }, 1.0);
            metrics::observe(HistogramId { number }, 1.0);
            Ok(())
        }
        _ => return None,
    };
    Some(opened)
}

fn labels(words: &[&str]) -> Option<Vec<Label>> {
    let label = |word: &&str| {
        let (name, value) = word.split_once('=')?;
        Some(Label {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    };
    words.iter().map(label).collect()
}
