//! Counters of rules, under the names and labels of ingress-nginx.
//!
//! A rule keeps a handle to its counters, so a request looks nothing up. Labels come from the configuration, never from
//! the request: a method that is not registered counts as `OTHER`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto;

use super::family::{family, pairs};
use super::histogram::{AtomicHistogram, LENGTHS, SECONDS, SIZES};

/// Pairs of method and status that a rule keeps apart; more share the last place.
const N_CELLS: usize = 32;
/// How long the counters of a rule that is gone are still shown, so that an edit does not reset them.
const RETENTION: Duration = Duration::from_secs(600);
/// The prefix of ingress-nginx's metrics.
const PREFIX: &str = "nginx_ingress_controller_";
const REQUESTS_HELP: &str = "The number of client requests";

/// What tells the counters of rules apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RouteLabels {
    /// The namespace of the object that the rule is from.
    pub namespace: Box<str>,
    /// Its name.
    pub ingress: Box<str>,
    /// The Service that requests go to; empty for none.
    pub service: Box<str>,
    /// The path of the rule, not of the request.
    pub path: Box<str>,
    /// The host of the rule; empty for every host.
    pub host: Box<str>,
    /// The Service that is an alternative to the first, for canaries.
    pub canary: Box<str>,
}

/// What a request came to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// Its method.
    pub method: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// From the first byte of the request to the last of the answer.
    pub duration: Duration,
    /// Bytes of the request, head and body.
    pub request_bytes: usize,
    /// Bytes of the answer.
    pub response_bytes: usize,
    /// What the upstream did, if there was one.
    pub upstream: Option<UpstreamOutcome>,
}

/// What an upstream did.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamOutcome {
    /// How long connecting took.
    pub connect: Option<Duration>,
    /// When the head of the answer was there.
    pub header: Option<Duration>,
    /// When the whole answer was there.
    pub response: Duration,
}

/// Counters of one rule.
pub struct RouteMetrics {
    labels: RouteLabels,
    cells: [OnceLock<Box<Cell>>; N_CELLS],
}

/// Counters of one rule, method and status.
struct Cell {
    method: &'static str,
    status: u16,
    requests: AtomicU64,
    request_duration: AtomicHistogram,
    response_duration: AtomicHistogram,
    header_duration: AtomicHistogram,
    connect_duration: AtomicHistogram,
    request_size: AtomicHistogram,
    response_size: AtomicHistogram,
    bytes_sent: AtomicHistogram,
}

/// The counters of all rules.
pub(super) struct RouteRegistry {
    known: Mutex<HashMap<RouteLabels, Known>>,
}

struct Known {
    metrics: Arc<RouteMetrics>,
    last_used: Instant,
}

// === impl RouteMetrics ===

impl RouteMetrics {
    fn new(labels: RouteLabels) -> Self {
        Self { labels, cells: [const { OnceLock::new() }; N_CELLS] }
    }

    /// Counts a request.
    pub fn observe(&self, outcome: &Outcome<'_>) {
        let method = known_method(outcome.method);
        let Some(cell) = self.cell(method, outcome.status) else { return };
        cell.requests.fetch_add(1, Ordering::Relaxed);
        cell.request_duration.observe(outcome.duration.as_secs_f64());
        cell.request_size.observe(outcome.request_bytes as f64);
        cell.response_size.observe(outcome.response_bytes as f64);
        cell.bytes_sent.observe(outcome.response_bytes as f64);
        if let Some(UpstreamOutcome { connect, header, response }) = outcome.upstream {
            cell.response_duration.observe(response.as_secs_f64());
            if let Some(header) = header {
                cell.header_duration.observe(header.as_secs_f64());
            }
            if let Some(connect) = connect {
                cell.connect_duration.observe(connect.as_secs_f64());
            }
        }
    }

    /// Finds or makes the cell, starting at the place that the status suggests.
    fn cell(&self, method: &'static str, status: u16) -> Option<&Cell> {
        let start = usize::from(status) + method.len() * 7;
        let places = (0..N_CELLS).map(|step| &self.cells[(start + step) % N_CELLS]);
        let mut last = None;
        for place in places {
            let cell = place.get_or_init(|| Box::new(Cell::new(method, status)));
            if cell.status == status && cell.method == method {
                return Some(cell);
            }
            last = Some(&**cell);
        }
        last
    }
}

// === impl Cell ===

impl Cell {
    fn new(method: &'static str, status: u16) -> Self {
        Self {
            method,
            status,
            requests: AtomicU64::new(0),
            request_duration: AtomicHistogram::new(SECONDS),
            response_duration: AtomicHistogram::new(SECONDS),
            header_duration: AtomicHistogram::new(SECONDS),
            connect_duration: AtomicHistogram::new(SECONDS),
            request_size: AtomicHistogram::new(LENGTHS),
            response_size: AtomicHistogram::new(LENGTHS),
            bytes_sent: AtomicHistogram::new(SIZES),
        }
    }

    /// Name, help and value of each histogram.
    fn histograms(&self) -> [(&'static str, &'static str, &AtomicHistogram); 7] {
        [
            (
                "request_duration_seconds",
                "Time from the first byte of a request to the last of its answer",
                &self.request_duration,
            ),
            ("response_duration_seconds", "Time until the upstream had answered completely", &self.response_duration),
            (
                "header_duration_seconds",
                "Time until the head of the upstream's answer was there",
                &self.header_duration,
            ),
            ("connect_duration_seconds", "Time to connect to the upstream", &self.connect_duration),
            ("request_size", "Bytes of requests, head and body", &self.request_size),
            ("response_size", "Bytes of answers", &self.response_size),
            ("bytes_sent", "Bytes sent to clients (deprecated: use response_size)", &self.bytes_sent),
        ]
    }
}

// === impl RouteRegistry ===

impl RouteRegistry {
    pub(super) fn new() -> Self {
        Self { known: Mutex::new(HashMap::new()) }
    }

    /// The counters for these labels. Called once for each compiled rule that takes a request.
    pub(super) fn route(&self, labels: RouteLabels) -> Arc<RouteMetrics> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(labels).or_insert_with_key(|labels| Known {
            metrics: Arc::new(RouteMetrics::new(labels.clone())),
            last_used: Instant::now(),
        });
        Arc::clone(&entry.metrics)
    }

    /// All counters, without those of rules that have been gone for long.
    fn all(&self) -> Vec<Arc<RouteMetrics>> {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, route| {
            if Arc::strong_count(&route.metrics) > 1 {
                route.last_used = now;
            }
            now.duration_since(route.last_used) < RETENTION
        });
        known.values().map(|route| Arc::clone(&route.metrics)).collect()
    }
}

/// Shows the counters of all rules to the scraper.
pub(super) struct RouteCollector {
    registry: Arc<RouteRegistry>,
    /// The registry of the process tells collectors apart by this.
    desc: Desc,
}

impl RouteCollector {
    pub(super) fn new(registry: Arc<RouteRegistry>) -> prometheus::Result<Self> {
        let name = format!("{PREFIX}requests");
        let desc = Desc::new(name, REQUESTS_HELP.to_owned(), Vec::new(), HashMap::new())?;
        Ok(Self { registry, desc })
    }
}

impl Collector for RouteCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut requests = family(format!("{PREFIX}requests"), REQUESTS_HELP, proto::MetricType::COUNTER);
        let mut histograms: Vec<proto::MetricFamily> = Vec::new();
        let mut routes = self.registry.all();
        routes.sort_by(|a, b| cmp_key(&a.labels).cmp(&cmp_key(&b.labels)));
        for route in routes {
            for cell in route.cells.iter().filter_map(OnceLock::get) {
                let labels = label_pairs(&route.labels, cell);
                let mut counter = proto::Counter::default();
                counter.set_value(cell.requests.load(Ordering::Relaxed) as f64);
                let mut metric = proto::Metric::from_label(labels.clone());
                metric.set_counter(counter);
                requests.mut_metric().push(metric);
                for (index, (name, help, histogram)) in cell.histograms().into_iter().enumerate() {
                    if histograms.len() <= index {
                        histograms.push(family(format!("{PREFIX}{name}"), help, proto::MetricType::HISTOGRAM));
                    }
                    let proto = histogram.to_proto();
                    if proto.get_sample_count() > 0
                        && let Some(family) = histograms.get_mut(index)
                    {
                        let mut metric = proto::Metric::from_label(labels.clone());
                        metric.set_histogram(proto);
                        family.mut_metric().push(metric);
                    }
                }
            }
        }
        let families = std::iter::once(requests).chain(histograms);
        families.filter(|family| !family.get_metric().is_empty()).collect()
    }
}

/// An order of the series that does not change from scrape to scrape.
fn cmp_key(labels: &RouteLabels) -> (&str, &str, &str, &str) {
    (&labels.host, &labels.path, &labels.namespace, &labels.ingress)
}

fn label_pairs(labels: &RouteLabels, cell: &Cell) -> Vec<proto::LabelPair> {
    let status = cell.status.to_string();
    // Sorted by name, as the text format wants it.
    pairs(&[
        ("canary", &labels.canary),
        ("host", &labels.host),
        ("ingress", &labels.ingress),
        ("method", cell.method),
        ("namespace", &labels.namespace),
        ("path", &labels.path),
        ("service", &labels.service),
        ("status", &status),
    ])
}

/// The methods of the HTTP registry that are seen in practice; others must not make new series.
fn known_method(method: &str) -> &'static str {
    const METHODS: [&str; 9] = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];
    METHODS.into_iter().find(|known| *known == method).unwrap_or("OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(method: &str, status: u16) -> Outcome<'_> {
        Outcome {
            method,
            status,
            duration: Duration::from_millis(3),
            request_bytes: 100,
            response_bytes: 1000,
            upstream: None,
        }
    }

    fn series(families: &[proto::MetricFamily], name: &str) -> usize {
        families.iter().filter(|family| family.name() == name).map(|family| family.get_metric().len()).sum()
    }

    #[test]
    fn requests_are_counted_by_method_and_status() {
        let registry = Arc::new(RouteRegistry::new());
        let route = registry.route(RouteLabels { ingress: "web".into(), ..RouteLabels::default() });
        for (method, status) in [("GET", 200), ("GET", 200), ("POST", 200), ("GET", 404)] {
            route.observe(&outcome(method, status));
        }
        let families = RouteCollector::new(registry).unwrap().collect();
        assert_eq!(series(&families, "nginx_ingress_controller_requests"), 3);
        assert_eq!(series(&families, "nginx_ingress_controller_request_duration_seconds"), 3);
        assert_eq!(series(&families, "nginx_ingress_controller_connect_duration_seconds"), 0);
    }

    #[test]
    fn what_a_client_sends_makes_no_new_series() {
        let registry = Arc::new(RouteRegistry::new());
        let route = registry.route(RouteLabels::default());
        for number in 0..10_000_u16 {
            route.observe(&outcome(&format!("M{number}"), 200));
        }
        // An upstream that answers with every status there is fills the places of the rule and no more.
        for status in 100..999 {
            route.observe(&outcome("GET", status));
        }
        let families = RouteCollector::new(registry).unwrap().collect();
        assert_eq!(series(&families, "nginx_ingress_controller_requests"), N_CELLS);
    }
}
