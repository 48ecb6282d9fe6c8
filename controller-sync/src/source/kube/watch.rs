//! One watch: the list, then what changes, for ever.
//!
//! The loop is our own because three things must not stop it: an object that cannot be read, an API server that does not
//! stream lists, and one whose versions have gone back (a restored etcd). A list is told when it is complete, and only
//! then.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, TryStreamExt};
use kube::Client;
use kube::core::{Status, WatchEvent};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use translate::Config;

use super::demand::Demand;
use super::desk::Message;
use super::object::{Object, key_of, read, resource_version};
use super::scope::Scope;
use crate::backoff::Backoff;

/// How long a watch may say nothing before it begins again. An API server sends a bookmark each minute, but none of a kind
/// of which nothing has happened since its start: after silence, the next answer tells whether anybody is there, whatever
/// the kernel thinks of the connection.
const SILENCE: Duration = Duration::from_secs(75);
/// A watch that ends sooner has failed, whatever it says.
const SHORTEST: Duration = Duration::from_secs(1);
/// The annotation of the bookmark that ends the list of a watch.
const LIST_ENDS: &str = "k8s.io/initial-events-end";

/// A watch, and whom it tells.
pub(super) struct Watch {
    pub(super) number: usize,
    pub(super) scope: Scope,
    pub(super) client: Client,
    pub(super) config: Arc<Config>,
    pub(super) demand: Arc<Demand>,
    /// Asks for a new list.
    pub(super) relist: Arc<Notify>,
    pub(super) output: mpsc::Sender<Message>,
}

/// Why a watch has to begin again.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("{0}")]
    Client(#[from] kube::Error),
    #[error("{0}")]
    Request(#[from] kube::core::request::Error),
    #[error("the API server says: {}", .0.message)]
    Status(Box<Status>),
    #[error("nothing was heard for {SILENCE:?}")]
    Silent,
    #[error("the list ended in the middle")]
    Cut,
    #[error("the version that the watch began at is not available")]
    Expired,
    /// Nobody listens.
    #[error("the source has ended")]
    Ended,
}

/// Where a watch stands.
#[derive(Default)]
struct State {
    /// The version after which it goes on; `None` before the first list, and when that is too old.
    version: Option<String>,
    /// The last watch broke off: the API server that is back may have less than the one before.
    broke_off: bool,
    /// The API server does not stream lists.
    has_only_pages: bool,
    backoff: Backoff,
    /// What was logged last.
    complaint: Option<String>,
}

impl Watch {
    /// Runs until nobody listens.
    pub(super) async fn run(self) {
        let mut state = State::default();
        loop {
            let began = Instant::now();
            let turned = tokio::select! {
                turned = self.turn(&mut state) => turned,
                () = self.relist.notified() => {
                    state.version = None;
                    continue;
                }
            };
            match turned {
                // The API server ends a watch after some minutes.
                Ok(()) if began.elapsed() > SHORTEST => continue,
                Ok(()) => {}
                Err(WatchError::Ended) => return,
                // What is missing is in the next list.
                Err(error @ WatchError::Expired) => {
                    tracing::info!(kind = %self.scope.kind, reason = %error, "everything is listed again");
                    state.version = None;
                }
                Err(error) => {
                    state.broke_off = true;
                    self.complain(&mut state, error.to_string());
                }
            }
            tokio::time::sleep(state.backoff.next()).await;
        }
    }

    /// Each failure once, as long as it stays the same.
    fn complain(&self, state: &mut State, text: String) {
        if state.complaint.as_ref() != Some(&text) {
            tracing::warn!(kind = %self.scope.kind, error = %text, "watch is interrupted, the last state stays");
            state.complaint = Some(text);
        }
    }

    fn works(&self, state: &mut State) {
        state.backoff.reset();
        if state.complaint.take().is_some() {
            tracing::info!(kind = %self.scope.kind, "watch is back");
        }
    }

    async fn turn(&self, state: &mut State) -> Result<(), WatchError> {
        let Some(version) = state.version.clone() else { return self.list(state).await };
        if state.broke_off {
            self.check_version(&version).await?;
            state.broke_off = false;
        }
        let events = timely(self.client.request_events::<Value>(self.scope.watch(&version)?)).await?;
        self.works(state);
        let mut events = pin!(events);
        while let Some(event) = self.next(events.as_mut(), state).await? {
            self.take(event, state).await?;
        }
        Ok(())
    }

    /// The next event of a watch; `None` at its end, and when nothing was heard for long: either the connection is dead, or
    /// nothing has happened since the API server started, which then sends no bookmarks. Another watch tells.
    async fn next(
        &self,
        mut events: Pin<&mut impl Stream<Item = kube::Result<WatchEvent<Value>>>>,
        state: &mut State,
    ) -> Result<Option<WatchEvent<Value>>, WatchError> {
        match timely(events.try_next()).await.map_err(expired) {
            Err(WatchError::Silent) => {
                tracing::debug!(kind = %self.scope.kind, "nothing was heard, the watch begins again");
                state.broke_off = true;
                Ok(None)
            }
            heard => heard,
        }
    }

    /// A watch from a version that is not there yet is silent until it is, and misses what happens before: where etcd was
    /// restored from an older state, what is known has to be listed again. Versions of one kind can be compared
    /// (KEP-5504).
    async fn check_version(&self, version: &str) -> Result<(), WatchError> {
        let list: Value = timely(self.client.request(self.scope.newest()?)).await?;
        let newest = resource_version(&list).and_then(|newest| newest.parse::<u128>().ok());
        match (newest, version.parse::<u128>()) {
            (Some(newest), Ok(version)) if newest < version => Err(WatchError::Expired),
            _ => Ok(()),
        }
    }

    async fn take(&self, event: WatchEvent<Value>, state: &mut State) -> Result<(), WatchError> {
        match event {
            WatchEvent::Added(value) | WatchEvent::Modified(value) => {
                state.version = resource_version(&value).map(str::to_owned);
                if let Some(object) = self.read(value) {
                    self.tell(Message::Changed { watch: self.number, object: Box::new(object) }).await?;
                }
            }
            WatchEvent::Deleted(value) => {
                state.version = resource_version(&value).map(str::to_owned);
                if let Some(key) = key_of(&value, self.scope.kind) {
                    self.tell(Message::Gone { watch: self.number, key }).await?;
                }
            }
            WatchEvent::Bookmark(bookmark) => state.version = Some(bookmark.metadata.resource_version),
            WatchEvent::Error(status) => return Err(expired(WatchError::Status(status))),
        }
        Ok(())
    }

    // === the list ===

    async fn list(&self, state: &mut State) -> Result<(), WatchError> {
        if !state.has_only_pages {
            match self.stream_list(state).await {
                Err(error) if is_refused(&error) => state.has_only_pages = true,
                other => return other,
            }
        }
        self.page_list(state).await
    }

    /// The list as the beginning of a watch, which then goes on.
    async fn stream_list(&self, state: &mut State) -> Result<(), WatchError> {
        let began = self.demand.now();
        let events = timely(self.client.request_events::<Value>(self.scope.stream()?)).await?;
        let mut events = pin!(events);
        let mut objects = Some(Vec::new());
        loop {
            let Some(list) = &mut objects else {
                match self.next(events.as_mut(), state).await? {
                    Some(event) => self.take(event, state).await?,
                    None => return Ok(()),
                }
                continue;
            };
            let Some(event) = timely(events.try_next()).await.map_err(expired)? else { return Err(WatchError::Cut) };
            match event {
                WatchEvent::Added(value) | WatchEvent::Modified(value) => list.extend(self.read(value)),
                WatchEvent::Bookmark(bookmark) if bookmark.metadata.annotations.contains_key(LIST_ENDS) => {
                    let objects = objects.take().unwrap_or_default();
                    self.tell(Message::Listed { watch: self.number, objects, began }).await?;
                    state.version = Some(bookmark.metadata.resource_version);
                    self.works(state);
                }
                WatchEvent::Error(status) => return Err(expired(WatchError::Status(status))),
                WatchEvent::Bookmark(_) | WatchEvent::Deleted(_) => {}
            }
        }
    }

    /// The list in pages, for API servers that cannot stream it.
    async fn page_list(&self, state: &mut State) -> Result<(), WatchError> {
        let began = self.demand.now();
        let mut objects = Vec::new();
        let mut continued: Option<String> = None;
        loop {
            let mut page: Value =
                timely(self.client.request(self.scope.list(continued.as_deref())?)).await.map_err(expired)?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                objects.extend(items.into_iter().filter_map(|value| self.read(value)));
            }
            let next = page.pointer("/metadata/continue").and_then(Value::as_str);
            continued = next.filter(|token| !token.is_empty()).map(str::to_owned);
            if continued.is_none() {
                state.version = resource_version(&page).map(str::to_owned);
                break;
            }
        }
        self.works(state);
        self.tell(Message::Listed { watch: self.number, objects, began }).await
    }

    /// Reads an object, unless nobody wants it.
    fn read(&self, value: Value) -> Option<Object> {
        let key = key_of(&value, self.scope.kind)?;
        if self.demand.wants(&key) { read(value, self.scope.kind, &self.config) } else { None }
    }

    async fn tell(&self, message: Message) -> Result<(), WatchError> {
        self.output.send(message).await.map_err(|_| WatchError::Ended)
    }
}

/// Waits for an answer, but not for ever.
async fn timely<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, WatchError> {
    tokio::time::timeout(SILENCE, answer).await.map_err(|_| WatchError::Silent)?.map_err(WatchError::Client)
}

fn status_of(error: &WatchError) -> Option<&Status> {
    match error {
        WatchError::Client(kube::Error::Api(status)) | WatchError::Status(status) => Some(status),
        _ => None,
    }
}

/// Tells apart what a new list mends: versions that were compacted away (410), and versions that the API server has not
/// reached (`ResourceVersionTooLarge`), which it never will when etcd was restored from an older state.
fn expired(error: WatchError) -> WatchError {
    let Some(status) = status_of(&error) else { return error };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let is_ahead = causes.into_iter().any(|cause| cause.reason == "ResourceVersionTooLarge");
    if status.code == 410 || is_ahead { WatchError::Expired } else { error }
}

/// Whether the API server does not know, or does not allow, a list as the beginning of a watch.
fn is_refused(error: &WatchError) -> bool {
    status_of(error)
        .is_some_and(|status| matches!(status.code, 400 | 422) && status.message.contains("sendInitialEvents"))
}
