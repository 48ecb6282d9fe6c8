//! The loop that makes resources live: changes in, snapshots out.
//!
//! A change is applied at once. Changes that arrive while an earlier one is compiled are taken together afterwards:
//! there is no fixed delay, and no queue that grows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use routing::model::{BackendModel, BackendRef, EndpointAddress};
use routing::{Delta, Endpoint, LiveRouting, Publisher};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use translate::resources::{Kind, NamespacedName, ObjectKey};
use translate::{Change, ClassDecision, Config, Translator};

use crate::admission::{self, Judgement};
use crate::metrics::SyncMetrics;
use crate::report::Reporter;
use crate::resolve::{Resolved, Resolver};
use crate::source::recall::{LastGood, Unread};
use crate::source::{Batch, Faults, SourceEvent};
use crate::status::{Board, Classes, Verdict};

/// What the loop can be asked for.
#[derive(Debug)]
pub enum SyncRequest {
    /// The model as JSON, private keys redacted.
    Dump(oneshot::Sender<String>),
    /// What would become of an Ingress. Unanswered before there is a model.
    Review(Box<Value>, oneshot::Sender<Judgement>),
    /// The hash of the model.
    Digest(oneshot::Sender<u64>),
    /// The endpoints of all backends.
    Endpoints(oneshot::Sender<Vec<Arc<Endpoint>>>),
    /// The versions that are live of objects whose newest cannot be used: of those that are refused, and of these.
    LastGood(Vec<Unread>, oneshot::Sender<Vec<LastGood>>),
}

/// Translates what sources tell, and publishes what it amounts to.
pub struct Sync {
    translator: Translator,
    publisher: Publisher,
    reporter: Reporter,
    metrics: SyncMetrics,
    on_published: Box<dyn Fn() + Send>,
    /// Where authors of objects of an API server are told; `None` for files.
    board: Option<Arc<Board>>,
    /// Names that backends stand for, to be looked up.
    names: BTreeMap<BackendRef, BTreeSet<Box<str>>>,
    /// What cannot be read by the latest batch.
    faults: Faults,
    is_listed: bool,
    /// Those who wait until what was told so far is live.
    recalled: Vec<oneshot::Sender<()>>,
    pending: Vec<Batch>,
    /// When the first of what is pending came.
    noticed: Option<Instant>,
}

impl Sync {
    /// A loop that publishes to `live` and calls `on_published` after each publication.
    #[must_use]
    pub fn new(
        config: Config,
        live: Arc<LiveRouting>,
        metrics: SyncMetrics,
        on_published: impl Fn() + Send + 'static,
    ) -> Self {
        Self {
            translator: Translator::new(config),
            publisher: Publisher::new(live),
            reporter: Reporter::default(),
            metrics,
            on_published: Box::new(on_published),
            board: None,
            names: BTreeMap::new(),
            faults: Faults::default(),
            is_listed: false,
            recalled: Vec::new(),
            pending: Vec::new(),
            noticed: None,
        }
    }

    /// Also tells this board what becomes of Ingresses, and what is wrong with ConfigMaps.
    #[must_use]
    pub fn with_board(self, board: Arc<Board>) -> Self {
        Self { board: Some(board), ..self }
    }

    /// Runs until the source ends. Only three things can happen: the source tells something, a name has other addresses,
    /// somebody asks.
    pub async fn run(mut self, mut events: mpsc::Receiver<SourceEvent>, mut requests: mpsc::Receiver<SyncRequest>) {
        let (mut resolver, mut resolved) = Resolver::start();
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { return };
                    self.take(event);
                    while let Ok(event) = events.try_recv() {
                        self.take(event);
                    }
                    if self.is_listed {
                        self.publish(&mut resolver);
                        // Whoever waited for it may be gone.
                        for done in self.recalled.drain(..) {
                            let _ = done.send(());
                        }
                    }
                }
                Some(Resolved { name, addresses }) = resolved.recv() => {
                    self.publisher.set_addresses(&name, &addresses);
                    (self.on_published)();
                }
                Some(request) = requests.recv() => self.answer(request),
            }
        }
    }

    /// Whoever asked may be gone.
    fn answer(&mut self, request: SyncRequest) {
        let model = self.publisher.model();
        match request {
            SyncRequest::Dump(answer) => drop(answer.send(serde_json::to_string_pretty(model).unwrap_or_default())),
            SyncRequest::Review(object, answer) => {
                if !model.listeners.is_empty() {
                    drop(answer.send(admission::judge(&mut self.translator, *object)));
                }
            }
            SyncRequest::Digest(answer) => drop(answer.send(model.digest())),
            SyncRequest::Endpoints(answer) => drop(answer.send(self.publisher.endpoints())),
            SyncRequest::LastGood(unread, answer) => drop(answer.send(self.last_good(unread))),
        }
    }

    fn last_good(&self, unread: Vec<Unread>) -> Vec<LastGood> {
        let mut keys: BTreeMap<ObjectKey, Option<PathBuf>> =
            self.translator.stale().map(|key| (key.clone(), None)).collect();
        keys.extend(unread.into_iter().map(|Unread { key, file }| (key, Some(file))));
        let encode = |(key, file)| Some(LastGood { file, object: self.translator.last_good(&key)? });
        keys.into_iter().filter_map(encode).collect()
    }

    /// Before everything was listed nothing is published: a part would be taken for the whole.
    fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Batch(batch) => {
                self.noticed.get_or_insert_with(|| batch.noticed.unwrap_or_else(Instant::now));
                self.pending.push(batch);
            }
            SourceEvent::Listed => self.is_listed = true,
            SourceEvent::Recalled(done) => self.recalled.push(done),
        }
    }

    fn publish(&mut self, resolver: &mut Resolver) {
        let mut changes = Vec::new();
        let noticed = self.noticed.take();
        for batch in std::mem::take(&mut self.pending) {
            self.reporter.take(&batch);
            self.faults = batch.faults;
            changes.extend(batch.changes.into_iter().map(|(change, _)| change));
        }
        let is_first = self.publisher.model().listeners.is_empty();
        if changes.is_empty() && !is_first {
            return self.count_refused();
        }
        let written = if self.board.is_some() && !is_first { written(&changes) } else { BTreeSet::new() };
        let update = self.translator.apply(changes);
        let is_change = update.delta != Delta::default();
        if is_change || is_first {
            let published = self.publisher.publish(&update.delta);
            self.metrics.on_published(&published, self.publisher.model().digest(), noticed);
            (self.on_published)();
            tracing::debug!(
                generation = published.generation,
                recompiled_hosts = published.recompiled_hosts,
                changed_backends = published.changed_backends,
                "published"
            );
        }
        self.follow_names(&update.delta, resolver);
        let verdicts = self.verdicts(&update.touched);
        let is_foreign = |key: &ObjectKey| verdicts.get(key) == Some(&Verdict::Foreign);
        let mut problems = self.reporter.report(&self.translator, &update.touched, is_foreign);
        if let Some(board) = &self.board {
            for (key, verdict) in &verdicts {
                let problems = problems.remove(key).unwrap_or_default();
                board.judge(&key.namespaced_name(), *verdict, written.contains(key), problems);
            }
            for (key, problems) in problems.into_iter().filter(|(key, _)| key.kind == Kind::ConfigMap) {
                board.warn(&key.namespaced_name(), problems);
            }
        }
        self.count_refused();
    }

    /// What becomes of the Ingresses of an API server among these objects.
    fn verdicts(&self, touched: &BTreeSet<ObjectKey>) -> BTreeMap<ObjectKey, Verdict> {
        let Some(board) = &self.board else { return BTreeMap::new() };
        let ingresses = touched.iter().filter(|key| key.kind == Kind::Ingress);
        ingresses.map(|key| (key.clone(), self.verdict(board, &key.namespaced_name()))).collect()
    }

    fn verdict(&self, board: &Board, ingress: &NamespacedName) -> Verdict {
        match self.translator.class_of(ingress) {
            Some(ClassDecision::Served) => Verdict::Served,
            Some(ClassDecision::NotServed(_)) => Verdict::Foreign,
            None => {
                let Classes { name, annotation } = board.classes_of(ingress);
                let is_ours = self.translator.serves_class(name.as_deref(), annotation.as_deref());
                if is_ours { Verdict::Refused } else { Verdict::Foreign }
            }
        }
    }

    fn count_refused(&self) {
        let (refused, stale) = self.translator.n_refused();
        self.metrics.on_refused(refused, stale, self.faults);
    }

    fn follow_names(&mut self, delta: &Delta, resolver: &mut Resolver) {
        let mut is_changed = false;
        for (reference, model) in &delta.backends {
            let names = model.as_deref().map(names).unwrap_or_default();
            is_changed |= if names.is_empty() {
                self.names.remove(reference).is_some()
            } else {
                self.names.insert(reference.clone(), names.clone()) != Some(names)
            };
        }
        if is_changed {
            resolver.follow(self.names.values().flatten().cloned().collect());
        }
    }
}

/// The Ingresses that have a new version which can be used.
fn written(changes: &[Change]) -> BTreeSet<ObjectKey> {
    let key = |change: &Change| match change {
        Change::Apply(resource, _) => Some(resource.key()).filter(|key| key.kind == Kind::Ingress),
        Change::Refuse(..) | Change::Recall(_) | Change::Remove(_) => None,
    };
    changes.iter().filter_map(key).collect()
}

fn names(model: &BackendModel) -> BTreeSet<Box<str>> {
    let name = |address: &EndpointAddress| match address {
        EndpointAddress::Name { name, .. } => Some(name.clone()),
        EndpointAddress::Socket(_) => None,
    };
    model.endpoints.iter().filter_map(|endpoint| name(&endpoint.address)).collect()
}
