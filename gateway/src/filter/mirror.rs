//! Copies of requests for the mirror of a rule. Whatever becomes of a copy, its request neither waits nor fails for it.
//!
//! A copy is what the upstream gets, for another server and host. It goes out when its request is whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use routing::model::MirroredBody;
use routing::{CompiledMirror, CompiledRule, CopyTarget};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::copy::copy_request;
use super::request::prepare_request;
use super::servers::{Destination, Servers};
use crate::context::Context;
use crate::gate;
use crate::request_head::{HOST, RequestHead, field_value};
use crate::telemetry::Metrics;

/// Copies of one rule that wait for an answer at a time.
const MAX_OF_RULE: usize = 256;
/// Those of all rules: more would take the sockets of everybody else.
const MAX_COPIES: usize = 4096;
/// Bytes of one body.
const MAX_BODY: usize = 1 << 20;
/// Bytes of all bodies.
const MAX_BODIES: usize = 64 << 20;

/// Marks copies, which are not copied in their turn: a mirror that leads back here would never end.
const MIRRORED_BY: HeaderName = HeaderName::from_static("x-mirrored-by");
const GATEWAY: HeaderValue = HeaderValue::from_static("penstock");

/// Sends copies.
pub(crate) struct Mirrors {
    servers: Arc<Servers>,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// A copy whose body is not whole yet.
pub(crate) struct RequestCopy {
    head: RequestHeader,
    server: String,
    body: BytesMut,
    room: Option<OwnedSemaphorePermit>,
}

impl Mirrors {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        let (places, room) = (Arc::new(Semaphore::new(MAX_COPIES)), Arc::new(Semaphore::new(MAX_BODIES)));
        Self { servers: Arc::new(Servers::new()), metrics, places, room }
    }

    /// Makes the copy of a request that is about to go on, where its rule wants one.
    pub(crate) fn begin(&self, session: &mut Session, context: &mut Context) {
        let Some(mirror) = context.rule.as_ref().and_then(|rule| rule.mirror.as_deref()) else { return };
        let Some(copy) = RequestCopy::new(mirror, session.req_header(), context) else { return };
        // What follows an upgrade is no body.
        let is_upgrade = session.req_header().headers.contains_key(header::UPGRADE);
        let has_body = mirror.mirror.body == MirroredBody::Whole && !is_upgrade && !session.as_mut().is_body_empty();
        if has_body {
            context.copy = Some(Box::new(copy));
        } else {
            self.send(copy, context);
        }
    }

    /// Takes a piece of the body along that has just been counted. When another attempt is made, the body comes again.
    pub(crate) fn gather(&self, context: &mut Context, piece: Option<&Bytes>, is_last: bool) {
        let Some(copy) = &mut context.copy else { return };
        let piece = piece.map_or(&[][..], |piece| piece);
        let begin = context.body_bytes.saturating_sub(piece.len() as u64);
        let n_known = (copy.body.len() as u64).saturating_sub(begin);
        let new = usize::try_from(n_known).ok().and_then(|n_known| piece.get(n_known..)).unwrap_or_default();
        if !copy.take(new, &self.room) {
            context.copy = None;
            self.metrics.mirrored.dropped.inc();
        } else if is_last && let Some(copy) = context.copy.take() {
            self.send(*copy, context);
        }
    }

    fn send(&self, copy: RequestCopy, context: &Context) {
        let (Some(rule), Some(snapshot)) = (&context.rule, &context.snapshot) else { return };
        let Some(places) = self.places_of(rule) else {
            self.metrics.mirrored.dropped.inc();
            return;
        };
        let (rule, idle_timeout) = (Arc::clone(rule), snapshot.settings().upstream_keepalive_timeout);
        let (servers, metrics) = (Arc::clone(&self.servers), Arc::clone(&self.metrics));
        tokio::spawn(async move {
            let outcome = match deliver(&servers, copy, &rule, idle_timeout).await {
                Some(()) => &metrics.mirrored.answered,
                None => &metrics.mirrored.failed,
            };
            outcome.inc();
            drop(places);
        });
    }

    /// A place among the copies of a rule, and among all.
    fn places_of(&self, rule: &CompiledRule) -> Option<[OwnedSemaphorePermit; 2]> {
        let of_rule = rule.mirror.as_ref()?.slot.get_or_init(|| Arc::new(Semaphore::new(MAX_OF_RULE)))?;
        let of_rule = Arc::clone(of_rule).try_acquire_owned().ok()?;
        Some([of_rule, Arc::clone(&self.places).try_acquire_owned().ok()?])
    }
}

/// Sends a copy and reads its answer, which nobody wants to know. `None` when there was none.
async fn deliver(servers: &Servers, copy: RequestCopy, rule: &CompiledRule, idle_timeout: Duration) -> Option<()> {
    let mirror = rule.mirror.as_deref()?;
    let RequestCopy { head, server, body, room: _room } = copy;
    let destination = Destination {
        url: &mirror.mirror.url,
        server: &server,
        backend: mirror.backend.as_ref(),
        timeouts: &rule.rule.upstream.timeouts,
        idle_timeout,
    };
    match servers.ask(&destination, &head, &body.freeze()).await {
        Ok(_) => Some(()),
        Err(error) => {
            // One line for each would let clients flood the log.
            tracing::debug!(url = %mirror.mirror.url, %error, "copy was not answered");
            None
        }
    }
}

impl RequestCopy {
    fn new(mirror: &CompiledMirror, received: &RequestHeader, context: &Context) -> Option<Self> {
        if received.headers.contains_key(MIRRORED_BY) {
            return None;
        }
        let (view, connection_view) = context.views(received, context.connection.as_ref()?);
        let target = mirror.target(&view, &connection_view)?;
        let head = head(&target, received, context).ok()?;
        Some(Self { head, server: target.server.into_owned(), body: BytesMut::new(), room: None })
    }

    /// Whether there was room for a piece of the body.
    fn take(&mut self, piece: &[u8], room: &Arc<Semaphore>) -> bool {
        if self.body.len() + piece.len() > MAX_BODY {
            return false;
        }
        let Some(more) = u32::try_from(piece.len()).ok().and_then(|n| Arc::clone(room).try_acquire_many_owned(n).ok())
        else {
            return false;
        };
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
        self.body.extend_from_slice(piece);
        true
    }
}

fn head(copy: &CopyTarget<'_>, received: &RequestHeader, context: &Context) -> pingora::Result<RequestHeader> {
    let CopyTarget { server: _, target, host } = copy;
    let request = copy_request(received, received.method.clone(), target)?;
    let mut head = RequestHead::of(&request);
    head.insert(HOST, field_value(gate::authority(received))?);
    prepare_request(received, &mut head, context)?;
    // A rewrite is for the upstream.
    head.set_target(target.to_string());
    head.insert(HOST, field_value(&**host)?);
    head.insert(MIRRORED_BY, GATEWAY);
    head.to_pingora()
}
