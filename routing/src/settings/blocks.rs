//! Requests that nobody wants, whatever they are for.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header};
use serde::Serialize;

use super::patterns::TextPattern;
use crate::networks::Networks;

/// Requests that are answered with 403.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Blocks {
    /// `block-cidrs`: those of these clients.
    pub clients: Networks,
    /// `block-user-agents`: those with such a `User-Agent`.
    pub user_agents: Vec<TextPattern>,
    /// `block-referers`: those with such a `Referer`.
    pub referers: Vec<TextPattern>,
}

impl Blocks {
    /// Whether a request is one of them.
    #[must_use]
    pub fn contain(&self, client: IpAddr, headers: &HeaderMap) -> bool {
        let Self { clients, user_agents, referers } = self;
        let has = |name: HeaderName, patterns: &[TextPattern]| {
            !patterns.is_empty() && {
                let value = headers.get(name).map_or(&[][..], |value| value.as_bytes());
                patterns.iter().any(|pattern| pattern.matches(value))
            }
        };
        (!clients.is_empty() && clients.contain(client))
            || has(header::USER_AGENT, user_agents)
            || has(header::REFERER, referers)
    }
}
