//! Who of all replicas writes to the API server: the holder of a Lease.
//!
//! Clocks of different machines are never compared: a lease is over when nobody has renewed it for its duration by the
//! clock of the one who watches it, which is client-go's rule.

use std::time::{Duration, Instant};

use kube::Client;
use kube::core::Request;
use kube::core::params::{GetParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

/// Which Lease, and who asks for it.
#[derive(Clone, Debug)]
pub struct Election {
    /// The namespace of the Lease.
    pub namespace: String,
    /// Its name (`--election-id`).
    pub name: String,
    /// Who asks: the name of the pod.
    pub identity: String,
    /// How long a lease holds without being renewed (`--election-ttl`).
    pub ttl: Duration,
}

/// What a Lease says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lease {
    holder: String,
    /// Changes with every renewal.
    version: String,
    transitions: i64,
    acquired: Value,
}

/// What to do about the Lease now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is nobody's, or its holder has gone.
    Take,
    /// It is ours: keep it.
    Renew,
    /// It is somebody's who is alive.
    Wait,
}

/// What one replica has seen of the Lease.
struct Candidate {
    identity: String,
    ttl: Duration,
    /// The last version, and since when it is the last.
    seen: Option<(Lease, Instant)>,
    /// When it was last made or kept ours.
    renewed: Option<Instant>,
}

impl Candidate {
    fn new(election: &Election) -> Self {
        Self { identity: election.identity.clone(), ttl: election.ttl, seen: None, renewed: None }
    }

    fn see(&mut self, lease: Lease, now: Instant) -> Step {
        let is_new = self.seen.as_ref().is_none_or(|(seen, _)| *seen != lease);
        let since = match &self.seen {
            Some((_, since)) if !is_new => *since,
            _ => now,
        };
        let step = if lease.holder == self.identity {
            Step::Renew
        } else if lease.holder.is_empty() || now.saturating_duration_since(since) >= self.ttl {
            Step::Take
        } else {
            Step::Wait
        };
        if step != Step::Renew {
            self.renewed = None;
        }
        self.seen = Some((lease, since));
        step
    }

    fn renew(&mut self, lease: Lease, asked: Instant) {
        self.renewed = Some(asked);
        self.seen = Some((lease, asked));
    }

    /// Whether nobody else can have taken it yet. Others count from a later moment than we do.
    fn leads(&self, now: Instant) -> bool {
        self.renewed.is_some_and(|renewed| now.saturating_duration_since(renewed) < self.ttl * 2 / 3)
    }
}

impl Election {
    /// Takes part until told to leave; says whether this replica leads. Leaving, it gives the lease back if it has it,
    /// and stays to see for a moment whether somebody takes it: the answer is whether nobody did.
    pub(super) async fn run(
        self,
        client: Client,
        leads: watch::Sender<bool>,
        mut leave: oneshot::Receiver<oneshot::Sender<bool>>,
    ) {
        let mut candidate = Candidate::new(&self);
        loop {
            let interval = self.ttl / 6;
            let attempt = tokio::time::timeout(interval * 2, self.attempt(&client, &mut candidate));
            if let Ok(Err(error)) = attempt.await {
                tracing::debug!(%error, "the Lease cannot be read or written");
            }
            let is_leader = candidate.leads(Instant::now());
            if leads.send_if_modified(|leads| std::mem::replace(leads, is_leader) != is_leader) {
                tracing::info!(is_leader, lease = self.name, "leadership has changed");
            }
            tokio::select! {
                // Replicas that were started together must not ask together.
                () = tokio::time::sleep(interval.mul_f64(0.9 + fastrand::f64() / 5.0)) => {}
                answer = &mut leave => {
                    let is_last = is_leader && self.hand_back(&client, &candidate).await;
                    if let Ok(answer) = answer {
                        let _ = answer.send(is_last);
                    }
                    return;
                }
            }
        }
    }

    async fn attempt(&self, client: &Client, candidate: &mut Candidate) -> kube::Result<()> {
        let asked = Instant::now();
        let current = self.get(client).await?;
        let step = candidate.see(current.as_ref().map(read).unwrap_or_default(), asked);
        if step == Step::Wait {
            return Ok(());
        }
        let seen = candidate.seen.as_ref().map(|(lease, _)| lease.clone()).unwrap_or_default();
        let now = now();
        let (transitions, acquired) = match step {
            Step::Renew => (seen.transitions, seen.acquired),
            _ => (seen.transitions + i64::from(current.is_some()), json!(now)),
        };
        let spec = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.ttl.as_secs().max(1),
            "acquireTime": acquired,
            "renewTime": now,
            "leaseTransitions": transitions,
        });
        let written = self.write(client, current.is_some(), &seen.version, &spec).await?;
        candidate.renew(read(&written), asked);
        Ok(())
    }

    /// Gives the lease back, if the API server lets it. Whether nobody has taken it since.
    async fn hand_back(&self, client: &Client, candidate: &Candidate) -> bool {
        self.release(client, candidate).await.unwrap_or_else(|error| {
            tracing::warn!(%error, lease = self.name, "the Lease is not given back: this replica clears no status");
            false
        })
    }

    /// Gives the lease back. Whether nobody has taken it after a moment in which everybody who waits has asked.
    async fn release(&self, client: &Client, candidate: &Candidate) -> kube::Result<bool> {
        let Some((seen, _)) = &candidate.seen else { return Ok(false) };
        let spec = json!({
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "acquireTime": seen.acquired,
            "renewTime": now(),
            "leaseTransitions": seen.transitions,
        });
        self.write(client, true, &seen.version, &spec).await?;
        let deadline = Instant::now() + self.ttl / 3;
        while Instant::now() < deadline {
            tokio::time::sleep(self.ttl / 24).await;
            if self.get(client).await?.is_some_and(|lease| !read(&lease).holder.is_empty()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn get(&self, client: &Client) -> kube::Result<Option<Value>> {
        let request = self.request().get(&self.name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
        match client.request(request).await {
            Ok(lease) => Ok(Some(lease)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the Lease, unless somebody else has written it since that version. What others have given it stays, such as
    /// the labels by which an installer knows its own.
    async fn write(&self, client: &Client, exists: bool, version: &str, spec: &Value) -> kube::Result<Value> {
        let request = if exists {
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": spec});
            self.request().patch(&self.name, &PatchParams::default(), &Patch::Merge(patch))
        } else {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": self.name, "namespace": self.namespace},
                "spec": spec,
            });
            self.request().create(&PostParams::default(), lease.to_string().into_bytes())
        };
        client.request(request.map_err(kube::Error::BuildRequest)?).await
    }

    fn request(&self) -> Request {
        Request::new(format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace))
    }
}

fn read(lease: &Value) -> Lease {
    let text = |path: &str| lease.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    Lease {
        holder: text("/spec/holderIdentity"),
        version: text("/metadata/resourceVersion"),
        transitions: lease.pointer("/spec/leaseTransitions").and_then(Value::as_i64).unwrap_or_default(),
        acquired: lease.pointer("/spec/acquireTime").cloned().unwrap_or_default(),
    }
}

/// For people only: nobody decides by it.
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(12);

    fn candidate() -> Candidate {
        Candidate { identity: "us".to_owned(), ttl: TTL, seen: None, renewed: None }
    }

    fn lease(holder: &str, version: u32) -> Lease {
        Lease { holder: holder.to_owned(), version: version.to_string(), transitions: 0, acquired: Value::Null }
    }

    #[test]
    fn a_lease_of_nobody_is_taken_at_once() {
        assert_eq!(candidate().see(Lease::default(), Instant::now()), Step::Take);
        assert_eq!(candidate().see(lease("", 7), Instant::now()), Step::Take);
    }

    #[test]
    fn a_lease_is_over_when_it_was_not_renewed_for_its_duration_by_our_own_clock() {
        let mut candidate = candidate();
        let start = Instant::now();
        assert_eq!(candidate.see(lease("them", 1), start), Step::Wait);
        assert_eq!(candidate.see(lease("them", 1), start + TTL / 2), Step::Wait);
        assert_eq!(candidate.see(lease("them", 2), start + TTL), Step::Wait, "it was renewed");
        assert_eq!(candidate.see(lease("them", 2), start + TTL * 2 - Duration::from_millis(1)), Step::Wait);
        assert_eq!(candidate.see(lease("them", 2), start + TTL * 2), Step::Take);
    }

    #[test]
    fn a_leader_that_cannot_renew_stops_before_others_may_begin() {
        let mut candidate = candidate();
        let start = Instant::now();
        candidate.renew(lease("us", 1), start);
        assert!(candidate.leads(start + TTL / 2));
        assert!(!candidate.leads(start + TTL * 2 / 3));
        assert_eq!(candidate.see(lease("us", 1), start + TTL * 2), Step::Renew);
    }

    #[test]
    fn a_leader_that_sees_another_holder_leads_no_more() {
        let mut candidate = candidate();
        let start = Instant::now();
        candidate.renew(lease("us", 1), start);
        assert_eq!(candidate.see(lease("them", 2), start), Step::Wait);
        assert!(!candidate.leads(start));
    }
}
