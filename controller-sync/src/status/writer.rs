//! Writes the statuses of Ingresses: only what differs, only as the leader, and never faster than an API server likes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use kube::Client;
use kube::core::Request;
use kube::core::params::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use translate::resources::NamespacedName;

use super::board::{Card, Standing};
use super::events::Recorder;
use super::{Address, Board, Election, Publish};

/// Writes at a time.
const CONCURRENCY: usize = 8;
/// How long a write may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long to leave an Ingress alone after a write that somebody has undone or refused, at first.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Who writes, in `managedFields`.
const MANAGER: &str = "penstock";

/// What is written back to the API server.
pub struct Statuses {
    /// The client.
    pub client: Client,
    /// What is known about the Ingresses.
    pub board: Arc<Board>,
    /// Who of all replicas writes.
    pub election: Election,
    /// The addresses; `None` to write no statuses (`--update-status=false`).
    pub publish: Option<Publish>,
    /// Whether the last replica clears the statuses (`--update-status-on-shutdown`).
    pub clear: bool,
    /// Tells whether this replica leads.
    pub on_leadership: Box<dyn Fn(bool) + Send>,
}

/// Ends the writing.
pub struct StatusesHandle {
    leave: oneshot::Sender<oneshot::Sender<bool>>,
    clear: Option<Clear>,
}

/// What it takes to clear the statuses.
struct Clear {
    client: Client,
    board: Arc<Board>,
}

/// Statuses that were written lately, to leave them alone for a while.
#[derive(Default)]
struct Pauses(BTreeMap<NamespacedName, Pause>);

struct Pause {
    until: Instant,
    length: Duration,
}

impl Statuses {
    /// Starts to write, on the runtime of the caller.
    #[must_use]
    pub fn start(self) -> StatusesHandle {
        let Self { client, board, election, publish, clear, on_leadership } = self;
        let (leads, leadership) = watch::channel(false);
        let (leave, leaving) = oneshot::channel();
        tokio::spawn(election.run(client.clone(), leads, leaving));
        tokio::spawn(Recorder::new(client.clone(), Arc::clone(&board)).run(leadership.clone()));
        tokio::spawn(report_leadership(leadership.clone(), on_leadership));
        let may_clear = clear && publish.is_some();
        if let Some(publish) = publish {
            let addresses = publish.follow(&client, &board);
            let writer = Writer { client: client.clone(), board: Arc::clone(&board), pauses: Pauses::default() };
            tokio::spawn(writer.run(leadership, addresses));
        }
        StatusesHandle { leave, clear: may_clear.then_some(Clear { client, board }) }
    }
}

impl StatusesHandle {
    /// Stops to write, and gives the lease back. Nothing is cleared: another process is this replica now.
    pub async fn retire(self) {
        self.stop().await;
    }

    /// Stops to write, gives the lease back, and clears the statuses if no other replica takes over.
    pub async fn leave(mut self) {
        let clear = self.clear.take();
        let is_last = self.stop().await;
        let Some(Clear { client, board }) = clear.filter(|_| is_last) else { return };
        let served = board.select(|card| card.standing == Standing::Served && !card.shown.is_empty());
        tracing::info!(n_ingresses = served.len(), "the last replica leaves and clears the statuses");
        let clear = |(name, card): (NamespacedName, Card)| {
            let client = client.clone();
            async move { (write(&client, &name, &card.uid, &[]).await, name) }
        };
        stream::iter(served)
            .map(clear)
            .buffer_unordered(CONCURRENCY)
            .for_each(|(result, name)| async move {
                if let Err(error) = result {
                    tracing::warn!(ingress = %name, error, "status is not cleared");
                }
            })
            .await;
    }

    /// Whether nobody has taken over what this replica did.
    async fn stop(self) -> bool {
        let (answer, is_last) = oneshot::channel();
        self.leave.send(answer).is_ok() && is_last.await.unwrap_or_default()
    }
}

async fn report_leadership(mut leadership: watch::Receiver<bool>, on_leadership: Box<dyn Fn(bool) + Send>) {
    loop {
        let is_leader = *leadership.borrow_and_update();
        on_leadership(is_leader);
        if leadership.changed().await.is_err() {
            return on_leadership(false);
        }
    }
}

// === the writer ===

struct Writer {
    client: Client,
    board: Arc<Board>,
    pauses: Pauses,
}

impl Writer {
    /// Runs until nobody leads any more. Four things can happen: a card, the addresses or the leadership is another, or
    /// a pause is over.
    async fn run(
        mut self,
        mut leadership: watch::Receiver<bool>,
        mut addresses: watch::Receiver<Option<Vec<Address>>>,
    ) {
        loop {
            let is_leader = *leadership.borrow_and_update();
            let wanted = addresses.borrow_and_update().clone();
            let retry = match wanted.filter(|_| is_leader) {
                Some(wanted) => self.write_all(&wanted).await,
                None => None,
            };
            let pause = async {
                match retry {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.board.changed() => {}
                changed = addresses.changed() => if changed.is_err() { return },
                changed = leadership.changed() => if changed.is_err() { return },
                () = pause => {}
            }
        }
    }

    /// Writes what differs; returns when there is more to do.
    async fn write_all(&mut self, wanted: &[Address]) -> Option<Instant> {
        let now = Instant::now();
        self.pauses.forget(now);
        let differing = self.board.select(|card| target(card, wanted).is_some());
        let (paused, due): (Vec<_>, Vec<_>) =
            differing.into_iter().partition(|(name, _)| self.pauses.until(name).is_some_and(|until| until > now));
        let write_one = |(name, card): (NamespacedName, Card)| {
            let client = self.client.clone();
            let target = target(&card, wanted).unwrap_or_default().to_vec();
            async move { (write(&client, &name, &card.uid, &target).await, name, card.uid, target) }
        };
        let mut written = stream::iter(due).map(write_one).buffer_unordered(CONCURRENCY);
        let mut retry: Option<Instant> = paused.iter().filter_map(|(name, _)| self.pauses.until(name)).min();
        while let Some((result, name, uid, target)) = written.next().await {
            let until = self.pauses.add(&name, Instant::now());
            match result {
                Ok(()) => self.board.wrote(&name, &uid, target),
                Err(error) => {
                    tracing::warn!(ingress = %name, error, "status is not written, to be tried again");
                    retry = retry.into_iter().chain([until]).min();
                }
            }
        }
        retry
    }
}

/// What the status of an Ingress is to show; `None` to leave it alone. One that was released keeps what others write.
fn target<'a>(card: &Card, wanted: &'a [Address]) -> Option<&'a [Address]> {
    match card.standing {
        Standing::Served => (card.shown != wanted).then_some(wanted),
        Standing::Released => (!wanted.is_empty() && card.shown == wanted).then_some(&[]),
        Standing::Foreign => None,
    }
}

/// Writes a status. The UID keeps it from another Ingress of the same name.
async fn write(client: &Client, ingress: &NamespacedName, uid: &str, addresses: &[Address]) -> Result<(), String> {
    let NamespacedName { namespace, name } = ingress;
    let entries: Vec<Value> = addresses.iter().map(Address::to_json).collect();
    let patch = json!({"metadata": {"uid": uid}, "status": {"loadBalancer": {"ingress": entries}}});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let request = Request::new(format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses"))
        .patch_subresource("status", name, &params, &Patch::Merge(patch))
        .map_err(|error| error.to_string())?;
    match tokio::time::timeout(TIMEOUT, client.request::<Value>(request)).await {
        Ok(Ok(_)) => Ok(()),
        // Whoever is gone needs no status.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(kube::Error::Api(status))) => Err(status.message),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {TIMEOUT:?}")),
    }
}

impl Pauses {
    fn until(&self, name: &NamespacedName) -> Option<Instant> {
        self.0.get(name).map(|pause| pause.until)
    }

    /// Each write in a row doubles the pause after it.
    fn add(&mut self, name: &NamespacedName, now: Instant) -> Instant {
        let pause = self.0.entry(name.clone()).or_insert(Pause { until: now, length: FIRST_PAUSE / 2 });
        pause.length = (pause.length * 2).min(LONGEST_PAUSE);
        pause.until = now + pause.length.mul_f64(0.5 + fastrand::f64() / 2.0);
        pause.until
    }

    /// Forgets whom nobody has written for long.
    fn forget(&mut self, now: Instant) {
        self.0.retain(|_, pause| now < pause.until + pause.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(standing: Standing, shown: &[&str]) -> Card {
        Card { standing, shown: shown.iter().map(|text| Address::parse(text)).collect(), ..Card::default() }
    }

    #[test]
    fn only_what_differs_is_written_and_never_what_is_another_controllers() {
        let wanted = [Address::parse("192.0.2.1")];
        let target = |standing, shown: &[&str]| target(&card(standing, shown), &wanted).map(<[Address]>::len);
        assert_eq!(target(Standing::Served, &[]), Some(1));
        assert_eq!(target(Standing::Served, &["192.0.2.1"]), None);
        assert_eq!(target(Standing::Foreign, &["192.0.2.1"]), None);
        assert_eq!(target(Standing::Released, &["192.0.2.1"]), Some(0));
        assert_eq!(target(Standing::Released, &["192.0.2.9"]), None);
    }

    #[test]
    fn whoever_undoes_a_status_again_and_again_is_answered_ever_more_slowly() {
        let (mut pauses, name, mut now) = (Pauses::default(), NamespacedName::new("a", "b"), Instant::now());
        let mut lengths = Vec::new();
        for _ in 0..10 {
            let until = pauses.add(&name, now);
            lengths.push(until - now);
            now = until;
            pauses.forget(now);
        }
        assert!(lengths[0] <= FIRST_PAUSE, "{lengths:?}");
        assert!(lengths[9] >= LONGEST_PAUSE / 2, "{lengths:?}");
        pauses.forget(now + LONGEST_PAUSE);
        assert_eq!(pauses.until(&name), None);
    }
}
