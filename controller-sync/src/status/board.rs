//! What is known about the Ingresses of the API server beside their meaning: what their statuses show, whether they are
//! served, and what there is to tell their authors and those of ConfigMaps. Written by the source and the sync loop, read
//! by those who write to the API server at a pace of their own: neither of the former ever waits for one of the latter.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use translate::Problem;
use translate::resources::{Kind, NamespacedName, ObjectKey};

use super::Address;

/// The annotation that names the class of an Ingress where the field does not.
const CLASS: &str = "kubernetes.io/ingress.class";
/// News that wait for a writer. Whatever comes on top pushes out the oldest.
const MAX_NEWS: usize = 1000;
/// The problems of one object that are told at a time: an object of a megabyte can have as many mistakes as it has lines,
/// and others wait behind them.
const MAX_PROBLEMS: usize = 10;

/// What is known about the Ingresses of the API server.
#[derive(Debug)]
pub struct Board {
    cards: Mutex<BTreeMap<NamespacedName, Card>>,
    /// The UIDs of ConfigMaps.
    maps: Mutex<BTreeMap<NamespacedName, Box<str>>>,
    news: Mutex<VecDeque<News>>,
    /// The Service whose addresses are published.
    publish_service: Option<NamespacedName>,
    published: watch::Sender<Option<Vec<Address>>>,
    changed: Notify,
    has_news: Notify,
}

/// What is known about an Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) uid: Box<str>,
    pub(super) shown: Vec<Address>,
    pub(super) standing: Standing,
    pub(super) class: Classes,
}

/// The classes that an Ingress names: readable also where the rest of it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Classes {
    /// `spec.ingressClassName`.
    pub(crate) name: Option<Box<str>>,
    /// The annotation `kubernetes.io/ingress.class`.
    pub(crate) annotation: Option<Box<str>>,
}

/// What the sync loop makes of an Ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Served,
    /// It is ours, and no version of it was ever good.
    Refused,
    Foreign,
}

/// Whether an Ingress is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is another controller's, or not looked at yet.
    #[default]
    Foreign,
    Served,
    /// It was served by this process, and is not any more.
    Released,
}

/// What the API server shows of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) uid: Box<str>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) class: Classes,
}

/// Something that the author of an object should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) object: ObjectKey,
    pub(super) uid: Box<str>,
    pub(super) what: What,
}

/// What there is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A new version is live.
    Synced,
    /// Something is wrong with it.
    Problem(Problem),
}

impl Classes {
    /// Those of an Ingress, whatever else is in it.
    pub(crate) fn of(ingress: &Value) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(Into::into);
        let annotations = ingress.pointer("/metadata/annotations");
        let annotation = annotations.and_then(|annotations| annotations.get(CLASS));
        Self { name: text(ingress.pointer("/spec/ingressClassName")), annotation: text(annotation) }
    }
}

impl Board {
    /// An empty board. With a Service its addresses are followed.
    #[must_use]
    pub fn new(publish_service: Option<&(String, String)>) -> Self {
        Self {
            cards: Mutex::default(),
            maps: Mutex::default(),
            news: Mutex::default(),
            publish_service: publish_service.map(|(namespace, name)| NamespacedName::new(namespace, name)),
            published: watch::Sender::new(None),
            changed: Notify::new(),
            has_news: Notify::new(),
        }
    }

    /// The API server shows something else of these objects; `None` for those that are gone.
    pub(crate) fn show(&self, shown: Vec<(ObjectKey, Option<Shown>)>) {
        if shown.is_empty() {
            return;
        }
        let mut cards = self.cards.lock();
        for (key, shown) in shown {
            let name = key.namespaced_name();
            match (key.kind, shown) {
                (Kind::Service, shown) if self.publish_service.as_ref() == Some(&name) => {
                    self.published.send_replace(shown.map(|shown| shown.addresses));
                }
                (Kind::ConfigMap, Some(shown)) => drop(self.maps.lock().insert(name, shown.uid)),
                (Kind::ConfigMap, None) => drop(self.maps.lock().remove(&name)),
                (Kind::Ingress, None) => drop(cards.remove(&name)),
                (Kind::Ingress, Some(Shown { uid, addresses, class })) => {
                    let card = cards.entry(name).or_default();
                    if card.uid != uid {
                        *card = Card { uid, ..Card::default() };
                    }
                    card.shown = addresses;
                    card.class = class;
                }
                _ => {}
            }
        }
        drop(cards);
        self.changed.notify_one();
    }

    /// The classes that an Ingress names.
    pub(crate) fn classes_of(&self, ingress: &NamespacedName) -> Classes {
        self.cards.lock().get(ingress).map(|card| card.class.clone()).unwrap_or_default()
    }

    /// The sync loop has looked at an Ingress. Whether it has a new version, and what is new to say about it, becomes
    /// news.
    pub(crate) fn judge(&self, ingress: &NamespacedName, verdict: Verdict, is_new: bool, problems: Vec<Problem>) {
        let mut cards = self.cards.lock();
        let Some(card) = cards.get_mut(ingress) else { return };
        card.standing = match (verdict, card.standing) {
            (Verdict::Served, _) => Standing::Served,
            (_, Standing::Served) => Standing::Released,
            (_, standing) => standing,
        };
        let uid = card.uid.clone();
        drop(cards);
        self.changed.notify_one();
        let synced = (verdict == Verdict::Served && is_new).then_some(What::Synced);
        // What an Ingress of another controller says is none of our business.
        let problems = problems.into_iter().filter(|_| verdict != Verdict::Foreign);
        self.tell(&ingress.of_kind(Kind::Ingress), &uid, synced, problems);
    }

    /// There is something new to say about a ConfigMap.
    pub(crate) fn warn(&self, map: &NamespacedName, problems: Vec<Problem>) {
        let Some(uid) = self.maps.lock().get(map).cloned() else { return };
        self.tell(&map.of_kind(Kind::ConfigMap), &uid, None, problems.into_iter());
    }

    fn tell(&self, object: &ObjectKey, uid: &str, first: Option<What>, problems: impl Iterator<Item = Problem>) {
        let news = first.into_iter().chain(problems.take(MAX_PROBLEMS).map(What::Problem));
        let mut waiting = self.news.lock();
        waiting.extend(news.map(|what| News { object: object.clone(), uid: uid.into(), what }));
        let excess = waiting.len().saturating_sub(MAX_NEWS);
        waiting.drain(..excess);
        drop(waiting);
        self.has_news.notify_one();
    }

    /// A status was written: nobody needs to wait until it is seen.
    pub(super) fn wrote(&self, ingress: &NamespacedName, uid: &str, addresses: Vec<Address>) {
        if let Some(card) = self.cards.lock().get_mut(ingress).filter(|card| *card.uid == *uid) {
            card.shown = addresses;
        }
    }

    /// The Ingresses whose cards are like that.
    pub(super) fn select(&self, is_wanted: impl Fn(&Card) -> bool) -> Vec<(NamespacedName, Card)> {
        let cards = self.cards.lock();
        cards.iter().filter(|(_, card)| is_wanted(card)).map(|(name, card)| (name.clone(), card.clone())).collect()
    }

    /// Waits until some card may be another.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// These addresses are published, whatever Services say.
    pub(super) fn publish(&self, addresses: Vec<Address>) {
        self.published.send_replace(Some(addresses));
    }

    /// The addresses that lead to the gateway; `None` while they are not known.
    pub(super) fn published(&self) -> watch::Receiver<Option<Vec<Address>>> {
        self.published.subscribe()
    }

    /// Waits until there are news.
    pub(super) async fn has_news(&self) {
        self.has_news.notified().await;
    }

    /// Whether there are news.
    pub(super) fn is_newsworthy(&self) -> bool {
        !self.news.lock().is_empty()
    }

    /// The oldest of the news.
    pub(super) fn take_news(&self) -> Option<News> {
        self.news.lock().pop_front()
    }

    /// Somebody else tells the news.
    pub(super) fn drop_news(&self) {
        self.news.lock().clear();
    }
}
