//! External authentication: asks the server of a rule about a request, and remembers what it said where it may.
//!
//! Whatever goes wrong on the way denies: only an answer of 2xx lets a request through. The questions of a gateway are
//! not asked about in their turn, so that a rule which leads to itself ends with a refusal, and not with all sockets.

mod answer;
mod question;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ring::hmac;
use ring::rand::SystemRandom;
use routing::{CompiledExternalAuth, CompiledRule, Question};
use tokio::sync::Semaphore;

use self::answer::Answer;
pub(crate) use self::answer::{Cookies, Grant};
use super::access::{Refusal, Visitor};
use super::cache::{Cache, CacheKey};
use super::servers::{Destination, Servers};
use crate::failure::Failure;
use crate::request_head::RequestHead;

/// Answers that are remembered, over all rules.
const REMEMBERED: usize = 16_384;
/// Questions that wait for an answer at a time. More than these would take the sockets of everybody else.
const MAX_ASKING: usize = 8192;

/// Asks authentication servers.
pub(crate) struct Authenticator {
    servers: Servers,
    key: hmac::Key,
    remembered: Cache<Arc<Remembered>>,
    places: Semaphore,
}

/// An answer, and how long it holds.
struct Remembered {
    answer: Arc<Answer>,
    until: Instant,
}

/// Replaces what a client says in the headers that are the authentication server's to set, also where it was not asked.
pub(super) fn edit_request(rule: &CompiledRule, grant: Option<&Grant>, request: &mut RequestHead<'_>) {
    let Some(external) = rule.guards.as_ref().and_then(|guards| guards.external.as_ref()) else { return };
    request.remove_all(&external.auth.response_headers);
    for (name, value) in grant.into_iter().flat_map(|grant| &grant.headers) {
        request.append(name.clone(), value.clone());
    }
}

impl Authenticator {
    /// An authenticator that knows no answer yet. `None` without a source of randomness.
    pub(crate) fn new() -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        let (remembered, places) = (Cache::new(REMEMBERED), Semaphore::new(MAX_ASKING));
        Some(Self { servers: Servers::new(), key, remembered, places })
    }

    /// What the server of a rule says of a request.
    pub(crate) async fn ask(
        &self,
        external: &CompiledExternalAuth,
        visitor: &Visitor<'_>,
    ) -> Result<Arc<Grant>, Refusal> {
        let unavailable = || Refusal::of(Failure::AuthUnavailable);
        let question = external.question(&visitor.view, &visitor.connection_view).ok_or_else(unavailable)?;
        let key = question.cache_key.as_deref().map(|key| self.name_of(&external.scope, key));
        if let Some(known) = key.and_then(|key| self.remembered.get(&key)).filter(|known| Instant::now() < known.until)
        {
            return known.answer.verdict();
        }
        if question::is_question(visitor.request) {
            return Err(unavailable());
        }
        let Ok(_place) = self.places.try_acquire() else { return Err(Refusal::of(Failure::Overloaded)) };
        let answer = self.exchange(external, &question, visitor).await.map_err(|error| {
            // One line for each would let clients flood the log.
            tracing::debug!(url = %external.auth.url, %error, "authentication server did not answer");
            unavailable()
        })?;
        let answer = Arc::new(answer);
        if let (Some(key), Some(cache)) = (key, &external.auth.cache)
            && let Some(time) = answer.time_to_hold(cache)
        {
            let remembered = Remembered { answer: Arc::clone(&answer), until: Instant::now() + time };
            self.remembered.put(key, Arc::new(remembered));
        }
        answer.verdict()
    }

    async fn exchange(
        &self,
        external: &CompiledExternalAuth,
        question: &Question<'_>,
        visitor: &Visitor<'_>,
    ) -> pingora::Result<Answer> {
        let request = question::request(question, visitor)?;
        let destination = Destination {
            url: &external.auth.url,
            server: &question.host,
            backend: external.backend.as_ref(),
            timeouts: &visitor.rule.rule.upstream.timeouts,
            idle_timeout: external.auth.keep_alive.unwrap_or(visitor.settings.upstream_keepalive_timeout),
        };
        let response = self.servers.ask(&destination, &request, &Bytes::new()).await?;
        Ok(Answer::new(&response, &external.auth))
    }

    fn name_of(&self, scope: &[u8], key: &str) -> CacheKey {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&scope.len().to_le_bytes());
        context.update(scope);
        context.update(key.as_bytes());
        // HMAC-SHA256 has 32 bytes.
        context.sign().as_ref().try_into().unwrap_or_default()
    }
}
