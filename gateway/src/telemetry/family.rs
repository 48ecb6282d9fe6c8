//! Metric families that are put together when they are scraped.

use prometheus::proto;

/// A family without series.
pub(super) fn family(name: impl Into<String>, help: &str, kind: proto::MetricType) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family
}

/// One value of a counter or gauge.
pub(super) fn sample(labels: Vec<proto::LabelPair>, kind: proto::MetricType, value: f64) -> proto::Metric {
    let mut metric = proto::Metric::from_label(labels);
    if kind == proto::MetricType::COUNTER {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

/// A family with one value.
pub(super) fn single(name: impl Into<String>, help: &str, kind: proto::MetricType, value: f64) -> proto::MetricFamily {
    let mut family = family(name, help, kind);
    family.mut_metric().push(sample(Vec::new(), kind, value));
    family
}

/// Labels as the exposition has them.
pub(super) fn pairs(labels: &[(&str, &str)]) -> Vec<proto::LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}
