//! An API server as the source: a watch for each kind, and one desk where everything that they tell comes together.
//!
//! Nothing is told before every kind was listed. An API server that is away changes nothing: the watches ask again, and
//! what they knew stays.

mod connect;
mod demand;
mod desk;
mod object;
mod scope;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use kube::Client;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use translate::Config;
use translate::resources::{Kind, NamespacedName, ObjectKey, Resource};

pub use self::connect::{ConnectError, connect};
use self::demand::Demand;
use self::desk::{Desk, Fetched, Message, Outcome};
use self::scope::Scope;
use self::watch::Watch;
use super::recall::{self, LastGood, Recall};
use super::{Batch, SourceEvent};
use crate::status::Board;

/// The label that names the Service of an EndpointSlice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Messages that watches may be ahead of the desk.
const QUEUE: usize = 256;
/// How long to wait for a single object that somebody names.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// Which objects of a cluster are watched.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// `--watch-namespace`; `None` for all.
    pub namespace: Option<String>,
    /// `--watch-namespace-selector`: the labels of the namespaces that are served.
    pub namespace_selector: Option<String>,
    /// Services that flags name as backends, wherever they are.
    pub backends: Vec<(String, String)>,
    /// The Service whose addresses the statuses show. Nothing is sent to it, so that its slices do not matter.
    pub published: Option<(String, String)>,
}

/// The objects of an API server.
pub struct KubeSource {
    client: Client,
    config: Arc<Config>,
    scopes: Vec<Scope>,
    /// What the flags name.
    named: Vec<ObjectKey>,
    board: Arc<Board>,
    recalls: mpsc::Receiver<Recall>,
    /// The other end, for handles.
    recall: mpsc::Sender<Recall>,
}

/// Asks a [`KubeSource`] for something while it runs.
#[derive(Clone)]
pub struct KubeHandle(mpsc::Sender<Recall>);

/// Somebody who waits for last good versions to be told.
struct Recalled {
    keys: BTreeSet<ObjectKey>,
    /// Objects that are known only when those of the keys have named them.
    named: Vec<Resource>,
    done: oneshot::Sender<()>,
}

/// The watches, each with what asks it for a new list.
struct Watches {
    scopes: Vec<Scope>,
    relist: Vec<Arc<Notify>>,
    is_running: Vec<bool>,
    tasks: JoinSet<()>,
    client: Client,
    config: Arc<Config>,
    demand: Arc<Demand>,
    output: mpsc::Sender<Message>,
}

impl KubeSource {
    /// The objects of this selection. The board learns what the statuses of Ingresses show.
    #[must_use]
    pub fn new(client: Client, config: Config, selection: &Selection, board: Arc<Board>) -> Self {
        let services = selection.backends.iter().chain(&selection.published).map(service);
        let named: Vec<ObjectKey> = config.references().into_iter().chain(services).collect();
        let scopes = scopes(selection, &named);
        let (recall, recalls) = mpsc::channel(1);
        Self { client, config: Arc::new(config), scopes, named, board, recalls, recall }
    }

    /// A handle that outlives [`KubeSource::run`].
    #[must_use]
    pub fn handle(&self) -> KubeHandle {
        KubeHandle(self.recall.clone())
    }

    /// Tells what is there and then what changes, until nobody receives it any more.
    pub async fn run(self, output: mpsc::Sender<SourceEvent>) {
        // The end for handles is kept, so that the other one never closes.
        let Self { client, config, scopes, named, board, mut recalls, recall: _recall } = self;
        let (sender, mut messages) = mpsc::channel(QUEUE);
        let demand = Arc::new(Demand::default());
        let selects = scopes.iter().any(|scope| scope.kind == Kind::Namespace);
        let mut desk = Desk::new(&scopes, Arc::clone(&demand), &named, selects);
        let mut watches = Watches {
            relist: scopes.iter().map(|_| Arc::default()).collect(),
            is_running: vec![false; scopes.len()],
            scopes,
            tasks: JoinSet::new(),
            client,
            config: Arc::clone(&config),
            demand,
            output: sender,
        };
        let mut is_told = false;
        let mut recalled: Vec<Recalled> = Vec::new();
        loop {
            watches.start(&desk);
            let message = tokio::select! {
                Some(message) = messages.recv() => Some(message),
                Some(recall) = recalls.recv() => {
                    recalled.push(Recalled::begin(&mut desk, recall, &config));
                    None
                }
                () = output.closed() => return,
            };
            let noticed = Some(Instant::now());
            message.into_iter().for_each(|message| desk.take(message));
            while let Ok(message) = messages.try_recv() {
                desk.take(message);
            }
            let are_told: Vec<_> = recalled.extract_if(.., |recalled| !desk.awaits(&recalled.keys)).collect();
            let are_told: Vec<_> = are_told.into_iter().map(|recalled| recalled.finish(&mut desk)).collect();
            let Outcome { changes, fetch, relist, shown } = desk.take_outcome();
            board.show(shown);
            fetch.into_iter().for_each(|key| watches.fetch(key));
            relist.into_iter().filter_map(|watch| watches.relist.get(watch)).for_each(|watch| watch.notify_one());
            let changes = changes.into_iter().map(|change| (change, None)).collect();
            let batch = Batch { changes, noticed, ..Batch::default() };
            let batch = (!batch.is_empty()).then_some(SourceEvent::Batch(batch));
            let listed = (!is_told && desk.is_complete()).then_some(SourceEvent::Listed);
            is_told |= listed.is_some();
            for event in batch.into_iter().chain(listed).chain(are_told) {
                if output.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl KubeHandle {
    /// Goes on with last good versions.
    pub(super) async fn recall(&self, recall: Recall) {
        // Without a receiver nothing is read any more.
        let _ = self.0.send(recall).await;
    }
}

impl Recalled {
    /// Puts last good versions on the desk that name others.
    fn begin(desk: &mut Desk, Recall { objects, done }: Recall, config: &Config) -> Self {
        let read = objects.into_iter().filter_map(|LastGood { file: _, object }| recall::read(object, config));
        let read = read.map(|resource| *resource);
        let (named, naming): (Vec<_>, Vec<_>) = read.partition(|resource| Demand::concerns(resource.key().kind));
        let keys = naming.iter().map(Resource::key).collect();
        for resource in naming {
            let references = resource.references(config);
            desk.recall(resource, references);
        }
        Self { keys, named, done }
    }

    /// Puts the others there, when nothing waits any more.
    fn finish(self, desk: &mut Desk) -> SourceEvent {
        for resource in self.named {
            desk.recall(resource, Vec::new());
        }
        SourceEvent::Recalled(self.done)
    }
}

impl Watches {
    /// Starts the watches whose time has come: what others decide about is listed after them.
    fn start(&mut self, desk: &Desk) {
        for (number, scope) in self.scopes.iter().enumerate() {
            let may_start = match scope.kind {
                Kind::Namespace => true,
                Kind::Secret | Kind::ConfigMap => desk.has_listed(|kind| !Demand::concerns(kind)),
                _ => desk.has_listed(|kind| kind == Kind::Namespace),
            };
            let (Some(is_running), Some(relist)) = (self.is_running.get_mut(number), self.relist.get(number)) else {
                continue;
            };
            if may_start && !*is_running {
                *is_running = true;
                let watch = Watch {
                    number,
                    scope: scope.clone(),
                    client: self.client.clone(),
                    config: Arc::clone(&self.config),
                    demand: Arc::clone(&self.demand),
                    relist: Arc::clone(relist),
                    output: self.output.clone(),
                };
                self.tasks.spawn(watch.run());
            }
        }
    }

    /// Asks for an object.
    fn fetch(&self, key: ObjectKey) {
        let (client, config, output) = (self.client.clone(), Arc::clone(&self.config), self.output.clone());
        tokio::spawn(async move {
            let found = match scope::get(&key) {
                Err(_) => Fetched::Absent,
                Ok(request) => match tokio::time::timeout(FETCH_TIMEOUT, client.request::<Value>(request)).await {
                    Ok(Ok(value)) => match object::read(value, key.kind, &config) {
                        Some(object) => Fetched::Found(Box::new(object)),
                        None => Fetched::Absent,
                    },
                    Ok(Err(kube::Error::Api(status))) if status.code == 404 => Fetched::Absent,
                    Ok(Err(_)) | Err(_) => Fetched::Unknown,
                },
            };
            // Nobody is left to tell when this fails.
            let _ = output.send(Message::Fetched { key, found }).await;
        });
    }
}

/// What is watched: every kind in the namespaces of the selection, and outside of them what the flags name.
fn scopes(selection: &Selection, named: &[ObjectKey]) -> Vec<Scope> {
    let namespace = selection.namespace.as_deref();
    let selector = selection.namespace_selector.as_ref();
    let namespaces = selector.map(|labels| Scope { labels: Some(labels.clone()), ..Scope::all(Kind::Namespace, None) });
    let kinds = [Kind::IngressClass, Kind::Ingress, Kind::Service, Kind::EndpointSlice, Kind::ConfigMap, Kind::Secret];
    let all = kinds.into_iter().map(|kind| Scope::all(kind, namespace));
    let mut scopes: Vec<Scope> = namespaces.into_iter().chain(all).collect();
    let outside = named.iter().filter(|key| namespace.is_some_and(|namespace| *namespace != *key.namespace));
    for key in outside {
        scopes.push(match key.kind {
            // The settings name others beside them.
            Kind::ConfigMap => Scope::all(Kind::ConfigMap, Some(&key.namespace)),
            kind => Scope::one(kind, &key.namespace, &key.name),
        });
        if selection.backends.iter().any(|backend| service(backend) == *key) {
            let labels = Some(format!("{SERVICE_NAME}={}", key.name));
            scopes.push(Scope { labels, ..Scope::all(Kind::EndpointSlice, Some(&key.namespace)) });
        }
    }
    scopes.dedup();
    scopes
}

fn service((namespace, name): &(String, String)) -> ObjectKey {
    NamespacedName::new(namespace, name).of_kind(Kind::Service)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(selection: &Selection, named: &[ObjectKey]) -> Vec<String> {
        let name = |scope: Scope| {
            let Scope { kind, namespace, fields, labels } = scope;
            let selectors: Vec<String> = fields.into_iter().chain(labels).collect();
            format!("{kind} {} {}", namespace.unwrap_or_default(), selectors.join(" ")).trim_end().to_owned()
        };
        scopes(selection, named).into_iter().map(name).collect()
    }

    #[test]
    fn a_watched_namespace_is_all_that_is_watched_but_for_what_the_flags_name() {
        let (fallback, edge) = (("edge".to_owned(), "fallback".to_owned()), ("edge".to_owned(), "edge".to_owned()));
        let named = [
            NamespacedName::new("shop", "inside").of_kind(Kind::ConfigMap),
            NamespacedName::new("edge", "settings").of_kind(Kind::ConfigMap),
            NamespacedName::new("edge", "certificate").of_kind(Kind::Secret),
            service(&fallback),
            // Only published: nobody needs its slices, or the right to see them.
            service(&edge),
        ];
        let selection = Selection {
            namespace: Some("shop".to_owned()),
            backends: vec![fallback],
            published: Some(edge),
            ..Selection::default()
        };
        assert_eq!(
            names(&selection, &named),
            [
                "IngressClass",
                "Ingress shop",
                "Service shop",
                "EndpointSlice shop",
                "ConfigMap shop",
                "Secret shop type!=helm.sh/release.v1",
                "ConfigMap edge",
                "Secret edge metadata.name=certificate",
                "Service edge metadata.name=fallback",
                "EndpointSlice edge kubernetes.io/service-name=fallback",
                "Service edge metadata.name=edge",
            ]
        );
    }

    #[test]
    fn namespaces_are_watched_only_to_select_them() {
        assert!(!names(&Selection::default(), &[]).iter().any(|name| name.starts_with("Namespace")));
        let selection = Selection { namespace_selector: Some("edge=yes".to_owned()), ..Selection::default() };
        assert_eq!(names(&selection, &[])[0], "Namespace  edge=yes");
    }
}
