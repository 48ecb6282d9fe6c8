//! The registry of all metrics of the process, and the ones that belong to no rule.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use routing::model::{ListenerKey, Transport};
use routing::{LiveRouting, Missing, Snapshot};

use super::access_log::AccessLog;
use super::family::{family, pairs, sample, single};
use super::process::ProcessCollector;
use super::routes::{RouteCollector, RouteLabels, RouteMetrics, RouteRegistry};
use crate::connections::Connections;
use crate::failure::Failure;

/// Who this process is, in the labels that every series of ingress-nginx has.
#[derive(Clone, Debug, Default)]
pub struct PodIdentity {
    /// `controller_class`.
    pub class: String,
    /// `controller_namespace` (`POD_NAMESPACE`).
    pub namespace: String,
    /// `controller_pod` (`POD_NAME`).
    pub pod: String,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    routes: Arc<RouteRegistry>,
    n_requests: Arc<AtomicU64>,
    answers: IntCounterVec,
    /// Connections that were closed at once because there were too many.
    pub connections_refused: IntCounter,
    /// Errors of accept().
    pub accept_errors: IntCounter,
    /// TLS handshakes that failed, by reason.
    pub handshake_failures: IntCounterVec,
    /// Connections closed because they did not begin with the PROXY header that they must begin with.
    pub proxy_header_failures: IntCounter,
    /// Connections to upstreams that a request used, by whether they were new.
    pub upstream_connections: UpstreamConnections,
    /// Retries of requests.
    pub retries: Retries,
    /// Copies of requests for mirrors.
    pub mirrored: Mirrored,
    streams: IntCounterVec,
    /// Endpoints that were taken out of the rotation because they failed.
    pub ejections: IntCounter,
    /// Endpoints that active checks find up.
    pub checked_up: IntGauge,
    /// Endpoints that active checks find down.
    pub checked_down: IntGauge,
}

/// Retries of requests.
pub struct Retries {
    /// Those that were made.
    pub made: IntCounter,
    /// Those that would have been, had the budget allowed it.
    pub over_budget: IntCounter,
}

/// Copies of requests for mirrors.
pub struct Mirrored {
    /// Those that the mirror answered, whatever it said.
    pub answered: IntCounter,
    /// Those that it did not.
    pub failed: IntCounter,
    /// Those that were not sent: too many were under way, or the body was too long.
    pub dropped: IntCounter,
}

/// Connections and sessions of one port of a TCP or UDP service.
pub struct StreamCounters {
    /// Those that were passed on to an endpoint.
    pub connected: IntCounter,
    /// Those for which there was none.
    pub unreachable: IntCounter,
}

/// Connections to upstreams that a request used.
pub struct UpstreamConnections {
    /// New ones.
    pub new: IntCounter,
    /// Kept ones.
    pub reused: IntCounter,
}

impl Metrics {
    /// Makes and registers all metrics.
    ///
    /// # Errors
    ///
    /// When two of them have one name, which is a fault of this code.
    pub fn new(
        identity: &PodIdentity,
        live: Arc<LiveRouting>,
        connections: Arc<Connections>,
        access_log: Option<Arc<AccessLog>>,
    ) -> prometheus::Result<Self> {
        let labels: HashMap<String, String> = [
            ("controller_class", &identity.class),
            ("controller_namespace", &identity.namespace),
            ("controller_pod", &identity.pod),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect();
        let registry = Registry::new_custom(None, Some(labels))?;
        let routes = Arc::new(RouteRegistry::new());
        let n_requests = Arc::new(AtomicU64::new(0));
        registry.register(Box::new(RouteCollector::new(Arc::clone(&routes))?))?;
        registry.register(Box::new(ProcessCollector::new(connections, Arc::clone(&n_requests))?))?;
        let name = "penstock_snapshot_generation".to_owned();
        let desc = Desc::new(name, "The number of the live snapshot".to_owned(), Vec::new(), HashMap::new())?;
        registry.register(Box::new(LiveCollector { live, access_log, class: identity.class.clone(), desc }))?;
        let upstream = counters(
            &registry,
            "penstock_upstream_connections_total",
            "Connections to upstreams that requests used, by whether they were new",
            "kind",
        )?;
        let retries = counters(
            &registry,
            "penstock_upstream_retries_total",
            "Requests that were given to another endpoint, or would have been, had the retry budget allowed it",
            "outcome",
        )?;
        let mirrored = counters(
            &registry,
            "penstock_mirrored_requests_total",
            "Copies of requests for mirrors, by what became of them",
            "outcome",
        )?;
        let streams = IntCounterVec::new(
            Opts::new("penstock_streams_total", "Connections of TCP services and sessions of UDP services, by port"),
            &["transport", "port", "outcome"],
        )?;
        registry.register(Box::new(streams.clone()))?;
        let checked = IntGaugeVec::new(
            Opts::new("penstock_health_check_endpoints", "Endpoints that are actively checked, by what was found"),
            &["state"],
        )?;
        registry.register(Box::new(checked.clone()))?;
        Ok(Self {
            checked_up: checked.with_label_values(&["up"]),
            checked_down: checked.with_label_values(&["down"]),
            retries: Retries {
                made: retries.with_label_values(&["made"]),
                over_budget: retries.with_label_values(&["over_budget"]),
            },
            mirrored: Mirrored {
                answered: mirrored.with_label_values(&["answered"]),
                failed: mirrored.with_label_values(&["failed"]),
                dropped: mirrored.with_label_values(&["dropped"]),
            },
            streams,
            ejections: counter(
                &registry,
                "penstock_endpoint_ejections_total",
                "Endpoints that were left out for a while because they failed",
            )?,
            answers: counters(
                &registry,
                "penstock_gateway_answers_total",
                "Requests that the gateway answered by itself or gave up, by reason",
                "reason",
            )?,
            connections_refused: counter(
                &registry,
                "penstock_connections_refused_total",
                "Connections closed at once because too many were open",
            )?,
            accept_errors: counter(&registry, "penstock_accept_errors_total", "Errors of accept()")?,
            handshake_failures: counters(
                &registry,
                "penstock_tls_handshake_failures_total",
                "TLS handshakes with clients that failed, by reason",
                "reason",
            )?,
            proxy_header_failures: counter(
                &registry,
                "penstock_proxy_header_failures_total",
                "Connections closed for want of a PROXY header",
            )?,
            upstream_connections: UpstreamConnections {
                new: upstream.with_label_values(&["new"]),
                reused: upstream.with_label_values(&["reused"]),
            },
            registry,
            routes,
            n_requests,
        })
    }

    /// Where others register what they count.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The counters of a rule.
    #[must_use]
    pub fn route(&self, labels: RouteLabels) -> Arc<RouteMetrics> {
        self.routes.route(labels)
    }

    /// The counters of a port.
    #[must_use]
    pub fn stream(&self, listener: &ListenerKey) -> StreamCounters {
        let transport = match listener.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        let port = listener.address.port().to_string();
        let counter = |outcome| self.streams.with_label_values(&[transport, &port, outcome]);
        StreamCounters { connected: counter("connected"), unreachable: counter("unreachable") }
    }

    /// Counts a request.
    pub fn count_request(&self) {
        self.n_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests since the start.
    #[must_use]
    pub fn n_requests(&self) -> u64 {
        self.n_requests.load(Ordering::Relaxed)
    }

    /// Counts an answer of the gateway itself.
    pub fn count_failure(&self, failure: Failure) {
        self.answers.with_label_values(&[failure.label()]).inc();
    }

    /// Everything in the text format of Prometheus.
    ///
    /// # Errors
    ///
    /// When a metric has no value, which is a fault of this code.
    pub fn encode(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

/// Shows what the snapshot of the moment says: its number, its certificates, the Ingresses that lead nowhere, and what
/// the access log lost.
struct LiveCollector {
    live: Arc<LiveRouting>,
    access_log: Option<Arc<AccessLog>>,
    /// `controller_class`, which the series of certificates have a second time.
    class: String,
    /// The registry tells collectors apart by this.
    desc: Desc,
}

impl Collector for LiveCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let snapshot = self.live.pin();
        let generation = snapshot.generation() as f64;
        let dropped = self.access_log.as_ref().map_or(0, |log| log.n_dropped()) as f64;
        let mut families = vec![
            single("penstock_snapshot_generation", "The number of the live snapshot", MetricType::GAUGE, generation),
            single("penstock_access_log_dropped_total", "Lines that the access log lost", MetricType::COUNTER, dropped),
        ];
        let mut expiry = family(
            "nginx_ingress_controller_ssl_expire_time_seconds",
            "End of validity of the certificate of a host, in seconds since 1970",
            MetricType::GAUGE,
        );
        let mut info =
            family("nginx_ingress_controller_ssl_certificate_info", "The certificate of a host", MetricType::GAUGE);
        for (host, reference, certificate) in snapshot.certificates() {
            let host = host.to_string();
            let common = [
                ("class", &*self.class),
                ("host", host.as_str()),
                ("identifier", &certificate.fingerprint),
                ("namespace", &reference.namespace),
                ("secret_name", &reference.name),
            ];
            expiry.mut_metric().push(sample(pairs(&common), MetricType::GAUGE, certificate.not_after as f64));
            let details = [
                ("issuer_common_name", &*certificate.issuer_common_name),
                ("issuer_organization", &certificate.issuer_organization),
                ("public_key_algorithm", &certificate.public_key_algorithm),
                ("serial_number", &certificate.serial_number),
            ];
            info.mut_metric().push(sample(pairs(&[&common[..], &details[..]].concat()), MetricType::GAUGE, 1.0));
        }
        let orphans = orphans(&snapshot);
        families.extend([expiry, info, orphans].into_iter().filter(|family| !family.get_metric().is_empty()));
        families
    }
}

/// A series for each Ingress and what it lacks, as long as it does: with ten thousand that lack nothing, zeros would be
/// most of what there is to read.
fn orphans(snapshot: &Snapshot) -> MetricFamily {
    let mut family = family(
        "nginx_ingress_controller_orphan_ingress",
        "Ingresses that lead to a Service which is not there or has no endpoint",
        MetricType::GAUGE,
    );
    for (namespace, ingress, missing) in snapshot.orphans() {
        let missing = match missing {
            Missing::Service => "no-service",
            Missing::Endpoint => "no-endpoint",
        };
        let labels = [("namespace", namespace), ("ingress", ingress), ("type", missing)];
        family.mut_metric().push(sample(pairs(&labels), MetricType::GAUGE, 1.0));
    }
    family
}
