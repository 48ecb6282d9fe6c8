//! Who gets through to a rule: nginx's access phase.

use http::{HeaderMap, HeaderValue};
use routing::model::{Satisfy, Verdict};
use routing::{CompiledBasicAuth, CompiledGuards};

use super::basic::{Login, PasswordChecker};
use super::limits::{Counted, LimitTables};
use crate::context::Client;
use crate::failure::Failure;

/// Asks the conditions of rules, and keeps what they cost to know.
pub(crate) struct Gatekeeper {
    limits: LimitTables,
    passwords: PasswordChecker,
}

/// Why a request does not get through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is answered with this.
    Failure(Failure),
    /// It is asked to log in.
    Challenge(HeaderValue),
}

/// What one condition says of a request.
enum Finding {
    Granted,
    Silent,
    Refused(Refusal),
}

/// What the conditions look at.
pub(crate) struct Visitor<'a> {
    /// The client.
    pub client: Client,
    /// The headers of the request.
    pub headers: &'a HeaderMap,
}

impl Gatekeeper {
    /// A gatekeeper that hashes passwords on at most `threads` threads at a time.
    pub(crate) fn new(threads: usize) -> Option<Self> {
        Some(Self { limits: LimitTables::new(), passwords: PasswordChecker::new(threads)? })
    }

    /// Takes a request past the guards of its rule: first what counts requests, then who is there.
    pub(crate) async fn admit(
        &self,
        guards: &CompiledGuards,
        visitor: &Visitor<'_>,
    ) -> Result<Option<Counted>, Refusal> {
        let counted = match &guards.limits {
            Some(limits) => self.limits.admit(limits, visitor.client.address).map_err(Refusal::Failure)?,
            None => None,
        };
        self.let_in(guards, visitor).await.map(|()| counted)
    }

    /// Whether a request gets through, by the conditions of its rule in nginx's order.
    ///
    /// With `satisfy any` the first condition that is fulfilled lets the request through; what was refused before is
    /// remembered, and answered when none is. Of several refusals the one is answered that asks for a login.
    async fn let_in(&self, guards: &CompiledGuards, visitor: &Visitor<'_>) -> Result<(), Refusal> {
        let is_any = guards.satisfy() == Satisfy::Any;
        let mut refusal = None;
        for step in [Step::Addresses, Step::Basic] {
            match self.ask(step, guards, visitor).await? {
                Finding::Granted if is_any => return Ok(()),
                Finding::Refused(why) if !is_any => return Err(why),
                Finding::Refused(why) => {
                    let keeps_first = matches!(refusal, Some(Refusal::Challenge(_)));
                    refusal = if keeps_first { refusal } else { Some(why) };
                }
                Finding::Granted | Finding::Silent => {}
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    async fn ask(&self, step: Step, guards: &CompiledGuards, visitor: &Visitor<'_>) -> Result<Finding, Refusal> {
        match step {
            Step::Addresses => Ok(match guards.addresses().verdict(visitor.client.address) {
                Verdict::Granted => Finding::Granted,
                Verdict::Silent => Finding::Silent,
                Verdict::Refused => Finding::Refused(Refusal::Failure(Failure::Forbidden)),
            }),
            Step::Basic => match &guards.basic {
                Some(basic) => self.ask_for_login(basic, visitor).await,
                None => Ok(Finding::Silent),
            },
        }
    }

    /// Users that are not there are not an empty list of users: the rule is broken, whatever its other conditions say.
    async fn ask_for_login(&self, basic: &CompiledBasicAuth, visitor: &Visitor<'_>) -> Result<Finding, Refusal> {
        let Some(credentials) = basic.credentials.load().clone() else {
            return Err(Refusal::Failure(Failure::Denied));
        };
        let is_right = match Login::of(visitor.headers) {
            Some(login) => self.passwords.check(&credentials, login).await.map_err(Refusal::Failure)?,
            None => false,
        };
        Ok(if is_right { Finding::Granted } else { Finding::Refused(Refusal::Challenge(basic.challenge.clone())) })
    }
}

/// The conditions, in nginx's order.
#[derive(Clone, Copy)]
enum Step {
    Addresses,
    Basic,
}
