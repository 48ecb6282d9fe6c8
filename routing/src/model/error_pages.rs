//! Error pages: which answers of a rule are replaced, and who serves what replaces them (nginx `error_page`).

use serde::Serialize;

use super::backend::BackendRef;

/// Which answers of a rule are replaced, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorPages {
    /// The statuses, 400 to 599.
    pub statuses: Box<[u16]>,
    /// Which answers.
    pub scope: ErrorScope,
    /// Who serves the pages: the first that has endpoints.
    pub backends: Box<[BackendRef]>,
}

/// Which answers with a status are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorScope {
    /// Those of upstreams, and of the gateway itself (nginx `proxy_intercept_errors on`).
    All,
    /// Those of the gateway itself.
    OwnAnswers,
}

impl ErrorPages {
    /// Whether an answer of the gateway itself is replaced.
    #[must_use]
    pub fn cover(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }

    /// Whether an answer of an upstream is replaced.
    #[must_use]
    pub fn cover_upstream(&self, status: u16) -> bool {
        self.scope == ErrorScope::All && self.cover(status)
    }
}
