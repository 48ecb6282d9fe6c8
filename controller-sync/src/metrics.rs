//! What the sync loop counts, under ingress-nginx's names where it has them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry};
use routing::Published;

use crate::source::Faults;

/// What the sync loop counts.
pub struct SyncMetrics {
    propagation: Histogram,
    recompiled_hosts: IntCounter,
    rejected_objects: IntGauge,
    stale_objects: IntGauge,
    config_hash: Gauge,
    reloads: IntCounter,
    errors: IntCounter,
    last_successful: IntGauge,
    last_successful_at: Gauge,
}

/// Whether this replica leads, under ingress-nginx's name.
///
/// # Errors
///
/// When the name is taken, which is a fault of this code.
pub fn leadership(registry: &Registry, election: &str) -> prometheus::Result<IntGauge> {
    let options = Opts::new(
        "nginx_ingress_controller_leader_election_status",
        "Whether this replica is the one that writes to the API server",
    );
    let gauge = IntGauge::with_opts(options.const_label("name", election))?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

impl SyncMetrics {
    /// Makes and registers the metrics.
    ///
    /// # Errors
    ///
    /// When a name is taken, which is a fault of this code.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let buckets = vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
        let options = HistogramOpts::new(
            "penstock_propagation_seconds",
            "Time from the moment a change was noticed to the moment it was live",
        );
        let metrics = Self {
            propagation: Histogram::with_opts(options.buckets(buckets))?,
            recompiled_hosts: IntCounter::new("penstock_recompiled_hosts_total", "Hosts that were compiled")?,
            rejected_objects: IntGauge::new(
                "penstock_rejected_objects",
                "Objects whose newest version is refused or cannot be read",
            )?,
            stale_objects: IntGauge::new(
                "penstock_stale_objects",
                "Objects that work in an older version because the newest is refused or cannot be read",
            )?,
            config_hash: Gauge::new(
                "nginx_ingress_controller_config_hash",
                "Hash of the model: equal on all replicas while penstock_stale_objects is 0",
            )?,
            reloads: IntCounter::with_opts(Opts::new(
                "nginx_ingress_controller_success",
                "Configurations that were made live",
            ))?,
            errors: IntCounter::new(
                "nginx_ingress_controller_errors",
                "Changes after which the newest version of some object was not live",
            )?,
            last_successful: IntGauge::new(
                "nginx_ingress_controller_config_last_reload_successful",
                "Whether the newest version of every object is live",
            )?,
            last_successful_at: Gauge::new(
                "nginx_ingress_controller_config_last_reload_successful_timestamp_seconds",
                "When a configuration was last made live, in seconds since 1970",
            )?,
        };
        let Self {
            propagation,
            recompiled_hosts,
            rejected_objects,
            stale_objects,
            config_hash,
            reloads,
            errors,
            last_successful,
            last_successful_at,
        } = &metrics;
        registry.register(Box::new(propagation.clone()))?;
        registry.register(Box::new(recompiled_hosts.clone()))?;
        registry.register(Box::new(rejected_objects.clone()))?;
        registry.register(Box::new(stale_objects.clone()))?;
        registry.register(Box::new(config_hash.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        registry.register(Box::new(last_successful.clone()))?;
        registry.register(Box::new(last_successful_at.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn on_published(&self, published: &Published, digest: u64, noticed: Option<Instant>) {
        if let Some(noticed) = noticed {
            self.propagation.observe(noticed.elapsed().as_secs_f64());
        }
        self.recompiled_hosts.inc_by(u64::try_from(published.recompiled_hosts).unwrap_or(u64::MAX));
        // A float holds 53 bits of it, which is enough to tell two replicas apart.
        self.config_hash.set((digest >> 11) as f64);
        self.reloads.inc();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64());
        self.last_successful_at.set(now.floor());
    }

    /// Objects that are refused, those of them that work in an older version, and what cannot be read at all.
    pub(crate) fn on_refused(&self, refused: usize, stale: usize, faults: Faults) {
        let Faults { n_files, n_objects } = faults;
        let is_successful = refused == 0 && n_files == 0;
        self.errors.inc_by(u64::from(!is_successful));
        self.last_successful.set(i64::from(is_successful));
        self.rejected_objects.set(i64::try_from(refused + n_objects).unwrap_or(i64::MAX));
        // Last of all: who waits for this number finds the others as they are.
        self.stale_objects.set(i64::try_from(stale + n_objects).unwrap_or(i64::MAX));
    }
}
