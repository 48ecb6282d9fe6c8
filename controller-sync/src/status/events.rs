//! Events on Ingresses and ConfigMaps: what `kubectl describe` shows, in the words of ingress-nginx where it has them.
//!
//! The leader tells them, at a rate that no flood of changes exceeds. Repeated ones are counted in one object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use kube::core::Request;
use kube::core::params::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use translate::Problem;
use translate::resources::Kind;
use xxhash_rust::xxh3::xxh3_64;

use super::Board;
use super::board::{News, What};
use super::bucket::Bucket;
use super::leader::now;

/// Who tells, in the column `From`.
const SOURCE: &str = "penstock";
/// How many Events are remembered to count their repetitions.
const MAX_TOLD: usize = 1000;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest message of an Event, in bytes.
const MAX_MESSAGE: usize = 1024;

/// Tells the news of a board.
pub(super) struct Recorder {
    client: Client,
    board: Arc<Board>,
    /// How often each Event was told, by its name.
    told: BTreeMap<(String, String), u32>,
    bucket: Bucket,
}

impl Recorder {
    pub(super) fn new(client: Client, board: Arc<Board>) -> Self {
        Self { client, board, told: BTreeMap::new(), bucket: Bucket::full(Instant::now()) }
    }

    /// Runs until nobody leads any more.
    pub(super) async fn run(mut self, mut leadership: watch::Receiver<bool>) {
        let mut was_leader = false;
        loop {
            let is_leader = *leadership.borrow_and_update();
            let mut next = None;
            if is_leader {
                next = self.tell_some().await;
            } else if was_leader {
                self.board.drop_news();
            }
            was_leader = is_leader;
            let rest = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.board.has_news() => {}
                changed = leadership.changed() => if changed.is_err() { return },
                () = rest => {}
            }
        }
    }

    /// Tells what may be told now; returns when there is more to tell.
    async fn tell_some(&mut self) -> Option<Instant> {
        while self.board.is_newsworthy() {
            if let Err(next) = self.bucket.take(Instant::now()) {
                return Some(next);
            }
            let news = self.board.take_news()?;
            match tokio::time::timeout(TIMEOUT, self.tell(&news)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(object = %news.object, %error, "Event is not written"),
                Err(_) => tracing::warn!(object = %news.object, "Event is not written in time"),
            }
        }
        None
    }

    async fn tell(&mut self, news: &News) -> kube::Result<()> {
        let (kind, reason, message) = words(&news.what);
        let namespace = news.object.namespace.to_string();
        let hash = xxh3_64(format!("{} {reason} {message}", news.uid).as_bytes());
        let name = format!("{}.{hash:016x}", news.object.name);
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/events"));
        let now = now();
        let key = (namespace.clone(), name.clone());
        if let Some(count) = self.told.get(&key).map(|count| count + 1) {
            let patch = json!({"count": count, "lastTimestamp": seconds(&now)});
            let patched = request.patch(&name, &PatchParams::default(), &Patch::Merge(patch));
            match self.client.request::<Value>(patched.map_err(kube::Error::BuildRequest)?).await {
                Ok(_) => {
                    self.told.insert(key, count);
                    return Ok(());
                }
                // API servers forget Events after an hour.
                Err(kube::Error::Api(status)) if status.code == 404 => drop(self.told.remove(&key)),
                Err(error) => return Err(error),
            }
        }
        let api_version = if news.object.kind == Kind::Ingress { "networking.k8s.io/v1" } else { "v1" };
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": api_version, "kind": news.object.kind.as_str(),
                "namespace": namespace, "name": news.object.name, "uid": news.uid,
            },
            "type": kind, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": seconds(&now), "lastTimestamp": seconds(&now),
            "source": {"component": SOURCE}, "reportingComponent": SOURCE, "reportingInstance": "",
        });
        let created = request.create(&PostParams::default(), event.to_string().into_bytes());
        match self.client.request::<Value>(created.map_err(kube::Error::BuildRequest)?).await {
            // A leader before us has told it.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => drop(other?),
        }
        if self.told.len() >= MAX_TOLD {
            self.told.pop_first();
        }
        self.told.insert(key, 1);
        Ok(())
    }
}

/// The time of an Event has no fractions.
fn seconds(now: &str) -> String {
    now.split('.').next().map_or_else(String::new, |seconds| format!("{seconds}Z"))
}

/// Type, reason and message.
fn words(what: &What) -> (&'static str, String, String) {
    match what {
        What::Synced => ("Normal", "Sync".to_owned(), "Scheduled for sync".to_owned()),
        What::Problem(problem) => {
            let Problem { reason, .. } = problem;
            let mut message = problem.to_string();
            let end = (0..=MAX_MESSAGE.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
            message.truncate(end.unwrap_or_default());
            ("Warning", format!("{reason:?}"), message)
        }
    }
}

#[cfg(test)]
mod tests {
    use translate::Reason;

    use super::*;

    #[test]
    fn a_warning_names_the_reason_and_the_field() {
        let problem =
            Problem::error(Reason::CertificateUnavailable, "spec.tls[0].secretName", "Secret a/b does not exist");
        let (kind, reason, message) = words(&What::Problem(problem));
        assert_eq!((kind, &*reason), ("Warning", "CertificateUnavailable"));
        assert_eq!(message, "spec.tls[0].secretName: Secret a/b does not exist");
    }

    #[test]
    fn a_message_fits_into_an_event() {
        let problem = Problem::error(Reason::InvalidValue, "ü".repeat(900), "é".repeat(900));
        assert!(words(&What::Problem(problem)).2.len() <= MAX_MESSAGE);
    }

    #[test]
    fn times_of_events_are_whole_seconds() {
        assert_eq!(seconds("2026-11-21T10:00:00.123456Z"), "2026-11-21T10:00:00Z");
    }
}
