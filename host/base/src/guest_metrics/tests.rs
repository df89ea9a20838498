//! Tests of metrics that guests make.

use super::*;

const WRONG: Result<u32, ConnectionError> = Err(ConnectionError::InvalidArgument);

fn labels(all: &[(&str, &str)]) -> Labels {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    all.iter().map(owned).collect()
}

fn open(
    metrics: &GuestMetrics,
    name: &str,
    kind: Kind,
    with: &[(&str, &str)],
) -> Result<u32, ConnectionError> {
    let opened = metrics.open(name.to_owned(), "", kind, labels(with), 10);
    opened.map(|series| series.number)
}

#[test]
fn a_name_with_its_labels_is_one_series_whoever_opens_it() {
    let metrics = GuestMetrics::default();
    let both = [("b", "2"), ("a", "1")];
    let first = open(&metrics, "hits", Kind::Counter, &both);
    let again = open(
        &metrics,
        "hits_total",
        Kind::Counter,
        &[("a", "1"), ("b", "2")],
    );
    assert_eq!((first, again), (Ok(0), Ok(0)));
    assert_eq!(open(&metrics, "hits", Kind::Counter, &[]), Ok(1));
    assert_eq!(
        open(&metrics, "hits", Kind::Gauge, &both),
        Err(ConnectionError::InvalidState)
    );
    assert_eq!(
        open(&metrics, "hits", Kind::Gauge, &[("c", "3")]),
        Err(ConnectionError::InvalidState)
    );
}

#[test]
fn names_and_labels_are_what_prometheus_takes() {
    let metrics = GuestMetrics::default();
    let long = "x".repeat(65);
    for name in ["", "1a", "a-b", "a b", "é", "a_sum", "a_bucket", &long] {
        assert_eq!(open(&metrics, name, Kind::Counter, &[]), WRONG, "{name}");
    }
    let long = "x".repeat(129);
    for with in [
        &[("service", "x")][..],
        &[("__a", "x")],
        &[("le", "x")],
        &[("a-b", "x")],
        &[("", "x")],
        &[("a", "x"), ("a", "y")],
        &[("a", long.as_str())],
        &[("a", ""); 9],
    ] {
        assert_eq!(open(&metrics, "a", Kind::Counter, with), WRONG, "{with:?}");
    }
    for bounds in [
        vec![],
        vec![1.0, 1.0],
        vec![2.0, 1.0],
        vec![f64::NAN],
        vec![1.0, f64::INFINITY],
        (0..33).map(f64::from).collect(),
    ] {
        let kind = Kind::Histogram(bounds);
        assert_eq!(open(&metrics, "a", kind, &[]), WRONG);
    }
    assert!(metrics.all().is_empty());
}

#[test]
fn no_service_has_more_than_it_may() {
    let metrics = GuestMetrics::default();
    let kind = Kind::Histogram((0..7).map(f64::from).collect());
    assert_eq!(open(&metrics, "sizes", kind.clone(), &[]), Ok(0));
    assert_eq!(open(&metrics, "one", Kind::Gauge, &[]), Ok(1));
    assert_eq!(open(&metrics, "two", Kind::Gauge, &[]), Ok(2));
    let third = open(&metrics, "three", Kind::Gauge, &[]);
    assert!(
        matches!(third, Err(ConnectionError::LimitExceeded(_))),
        "{third:?}"
    );
    assert_eq!(open(&metrics, "sizes", kind, &[]), Ok(0), "it is there");
}

#[test]
fn two_services_that_use_one_name_mean_one_kind() {
    let families = Arc::<Families>::default();
    let one = GuestMetrics::among(&families);
    let other = GuestMetrics::among(&families);
    assert_eq!(open(&one, "hits", Kind::Counter, &[]), Ok(0));
    assert_eq!(
        open(&other, "hits", Kind::Gauge, &[]),
        Err(ConnectionError::InvalidState)
    );
    assert_eq!(open(&other, "hits", Kind::Counter, &[]), Ok(0));
    drop((one, other));
    let third = GuestMetrics::among(&families);
    assert_eq!(
        open(&third, "hits", Kind::Gauge, &[]),
        Ok(0),
        "they are gone"
    );
}

#[test]
fn values_are_counted_below_the_bounds_that_they_fit() {
    let metrics = GuestMetrics::default();
    let kind = Kind::Histogram(vec![1.0, 2.5]);
    let opened = metrics.open("sizes".to_owned(), "a\n\"b\"", kind, Labels::new(), 10);
    let series = opened.expect("a histogram");
    for value in [-1.0, 1.0, 1.1, 2.5, 2.6, f64::NAN] {
        series.observe(value);
    }
    series.add(7);
    series.set(7.0);
    let (counts, sum) = (vec![2, 2, 1], 6.2);
    assert_eq!(series.reading(), Reading::Histogram { counts, sum });
    assert_eq!(series.family.help, "a 'b'");
    let opened = metrics.open("level".to_owned(), "", Kind::Gauge, Labels::new(), 10);
    let series = opened.expect("a gauge");
    series.set(2.0);
    series.change(-3.5);
    assert_eq!(series.reading(), Reading::Gauge(-1.5));
}
