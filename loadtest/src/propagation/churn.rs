//! Changes of other Ingresses, at a fixed rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tests::Cluster;
use tests::cluster::collection;
use tokio::task::JoinSet;

use super::scene;

/// Connections over which they are made.
const N_CONNECTIONS: u32 = 4;

/// Changes that are under way.
pub(super) struct Churn {
    tasks: JoinSet<()>,
    is_over: Arc<AtomicBool>,
    n_made: Arc<AtomicU64>,
    began: Instant,
}

impl Churn {
    /// Starts to make `rate` changes a second, as far as the API server takes them.
    pub(super) fn start(cluster: &Arc<Cluster>, n_ingresses: u32, rate: u32) -> Self {
        let (is_over, n_made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let pause = Duration::from_secs(1) * N_CONNECTIONS / rate;
        let mut tasks = JoinSet::new();
        for _ in 0..N_CONNECTIONS {
            let (cluster, is_over, n_made) = (Arc::clone(cluster), Arc::clone(&is_over), Arc::clone(&n_made));
            tasks.spawn(async move {
                let mut session = cluster.session().await;
                let mut ticks = tokio::time::interval(pause);
                while !is_over.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let number = fastrand::u32(..n_ingresses);
                    let target = format!("{}/{}", collection("Ingress", "default"), scene::name(number));
                    let service = if fastrand::bool() { "a" } else { "b" };
                    let patch = scene::rules(&scene::host(number), service);
                    session.send("PATCH", &target, "application/merge-patch+json", &patch.to_string()).await;
                    n_made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { tasks, is_over, n_made, began: Instant::now() }
    }

    /// Ends them. How many there were a second.
    pub(super) async fn end(self) -> f64 {
        self.is_over.store(true, Ordering::Relaxed);
        let seconds = self.began.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "changes are fewer than 2^52")]
        let rate = self.n_made.load(Ordering::Relaxed) as f64 / seconds;
        self.tasks.join_all().await;
        rate
    }
}
