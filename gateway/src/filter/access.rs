//! Who gets through to a rule: nginx's access phase.

use std::sync::Arc;

use http::HeaderValue;
use pingora::http::RequestHeader;
use routing::model::{Satisfy, Verdict};
use routing::{CompiledBasicAuth, CompiledGuards, CompiledRule, ConnectionView, RequestView, Settings};

use super::basic::{Login, PasswordChecker};
use super::external::{Authenticator, Cookies, Grant};
use super::limits::{Counted, LimitTables};
use crate::connection::ConnectionInfo;
use crate::context::Client;
use crate::failure::Failure;

/// Asks the conditions of rules, and keeps what they cost to know.
pub(crate) struct Gatekeeper {
    limits: Arc<LimitTables>,
    passwords: PasswordChecker,
    authenticator: Authenticator,
}

/// Why a request does not get through, and what the client is told beside that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What it is answered with.
    pub failure: Failure,
    /// What the client has to prove.
    pub challenge: Option<HeaderValue>,
    /// Where it is sent instead.
    pub elsewhere: Option<HeaderValue>,
    /// Cookies of the authentication server.
    pub cookies: Cookies,
}

/// What a request takes along that got through.
#[derive(Default)]
pub(crate) struct Admission {
    /// Its place among the requests of its client that are under way.
    #[expect(dead_code, reason = "the place is free again when this is dropped")]
    pub counted: Option<Counted>,
    /// What the authentication server gave it.
    pub grant: Option<Arc<Grant>>,
}

/// What one condition says of a request.
enum Finding {
    Granted(Option<Arc<Grant>>),
    Silent,
    Refused(Refusal),
}

/// What the conditions look at.
pub(crate) struct Visitor<'a> {
    /// The client.
    pub client: Client,
    /// The request.
    pub request: &'a RequestHeader,
    /// The connection that it came on.
    pub connection: &'a ConnectionInfo,
    /// The request as rules see it.
    pub view: RequestView<'a>,
    /// The connection as rules see it.
    pub connection_view: ConnectionView<'a>,
    /// The `X-Request-ID`.
    pub request_id: Option<&'a HeaderValue>,
    /// The settings that it is decided by.
    pub settings: &'a Settings,
    /// The rule that it is for.
    pub rule: &'a CompiledRule,
}

impl Refusal {
    /// A refusal without more words.
    pub(crate) fn of(failure: Failure) -> Self {
        Self { failure, challenge: None, elsewhere: None, cookies: Cookies::default() }
    }
}

impl Gatekeeper {
    /// A gatekeeper that hashes passwords on at most `threads` threads at a time.
    pub(crate) fn new(threads: usize) -> Option<Self> {
        let (passwords, authenticator) = (PasswordChecker::new(threads)?, Authenticator::new()?);
        Some(Self { limits: Arc::new(LimitTables::new()), passwords, authenticator })
    }

    /// What clients have done of late.
    pub(crate) fn limits(&self) -> &Arc<LimitTables> {
        &self.limits
    }

    /// Takes a request past the guards of its rule: first what counts requests, then who is there.
    pub(crate) async fn admit(&self, guards: &CompiledGuards, visitor: &Visitor<'_>) -> Result<Admission, Refusal> {
        let counted = match &guards.limits {
            Some(limits) => self.limits.admit(limits, visitor.client.address).map_err(Refusal::of)?,
            None => None,
        };
        match self.let_in(guards, visitor).await {
            Ok(grant) => Ok(Admission { counted, grant }),
            Err(refusal) => Err(with_signin(refusal, guards, visitor)),
        }
    }

    /// Whether a request gets through, by the conditions of its rule in nginx's order.
    ///
    /// With `satisfy any` the first condition that is fulfilled lets the request through; what was refused before is
    /// remembered, and answered when none is. Of several refusals the one is answered that asks for a login.
    async fn let_in(&self, guards: &CompiledGuards, visitor: &Visitor<'_>) -> Result<Option<Arc<Grant>>, Refusal> {
        let is_any = guards.satisfy() == Satisfy::Any;
        let mut refusal: Option<Refusal> = None;
        let mut granted = None;
        for step in [Step::Addresses, Step::Basic, Step::External] {
            match self.ask(step, guards, visitor).await? {
                Finding::Granted(grant) if is_any => return Ok(grant),
                Finding::Granted(grant) => granted = grant.or(granted),
                Finding::Refused(why) if !is_any => return Err(why),
                Finding::Refused(why) => {
                    let keeps_first = refusal.as_ref().is_some_and(|first| first.failure == Failure::Unauthorized);
                    refusal = if keeps_first { refusal } else { Some(why) };
                }
                Finding::Silent => {}
            }
        }
        refusal.map_or(Ok(granted), Err)
    }

    async fn ask(&self, step: Step, guards: &CompiledGuards, visitor: &Visitor<'_>) -> Result<Finding, Refusal> {
        match step {
            Step::Addresses => Ok(match guards.addresses().verdict(visitor.client.address) {
                Verdict::Granted => Finding::Granted(None),
                Verdict::Silent => Finding::Silent,
                Verdict::Refused => Finding::Refused(Refusal::of(Failure::Forbidden)),
            }),
            Step::Basic => match &guards.basic {
                Some(basic) => self.ask_for_login(basic, visitor).await,
                None => Ok(Finding::Silent),
            },
            Step::External => match &guards.external {
                Some(external) => match self.authenticator.ask(external, visitor).await {
                    Ok(grant) => Ok(Finding::Granted(Some(grant))),
                    // Only its no is a no; a server that says nothing leaves everybody outside.
                    Err(refusal) if is_no(refusal.failure) => Ok(Finding::Refused(refusal)),
                    Err(refusal) => Err(refusal),
                },
                None => Ok(Finding::Silent),
            },
        }
    }

    /// Users that are not there are not an empty list of users: the rule is broken, whatever its other conditions say.
    async fn ask_for_login(&self, basic: &CompiledBasicAuth, visitor: &Visitor<'_>) -> Result<Finding, Refusal> {
        let Some(credentials) = basic.credentials.load().clone() else {
            return Err(Refusal::of(Failure::Denied));
        };
        let is_right = match Login::of(&visitor.request.headers) {
            Some(login) => self.passwords.check(&credentials, login).await.map_err(Refusal::of)?,
            None => false,
        };
        let challenge = Some(basic.challenge.clone());
        let refusal = || Refusal { challenge, ..Refusal::of(Failure::Unauthorized) };
        Ok(if is_right { Finding::Granted(None) } else { Finding::Refused(refusal()) })
    }
}

/// The conditions, in nginx's order.
#[derive(Clone, Copy)]
enum Step {
    Addresses,
    Basic,
    External,
}

fn is_no(failure: Failure) -> bool {
    matches!(failure, Failure::Unauthorized | Failure::Forbidden)
}

/// nginx's `error_page 401` sends whoever is not let in by any condition to the page where they can say who they are.
fn with_signin(refusal: Refusal, guards: &CompiledGuards, visitor: &Visitor<'_>) -> Refusal {
    let external = guards.external.as_ref().filter(|_| refusal.failure == Failure::Unauthorized);
    let elsewhere = external.and_then(|external| external.signin(&visitor.view, &visitor.connection_view));
    Refusal { elsewhere, ..refusal }
}
