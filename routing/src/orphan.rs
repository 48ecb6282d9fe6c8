//! Ingresses that lead to where nobody answers, at the moment of asking: endpoints come and go beside the snapshot.

use std::collections::BTreeSet;

use crate::endpoint::Backend;
use crate::model::Origin;
use crate::snapshot::Snapshot;

/// What is missing where an Ingress leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// There is no such Service, or no such port.
    Service,
    /// The Service has no endpoint that takes requests.
    Endpoint,
}

impl Snapshot {
    /// The namespaces and names of Ingresses with what is missing behind any of their rules, sorted.
    #[must_use]
    pub fn orphans(&self) -> BTreeSet<(&str, &str, Missing)> {
        let hosts = self.listeners.iter().flat_map(|table| table.hosts.iter());
        let rules = hosts.flat_map(|host| host.routes.routes()).map(|route| &route.rule);
        let ingresses = rules.filter(|rule| rule.rule.origin.kind == "Ingress");
        let missing = ingresses.flat_map(|rule| {
            let Origin { namespace, name, .. } = &rule.rule.origin;
            let backends = rule.targets.iter().filter_map(|target| target.backend.as_deref());
            backends.filter_map(missing).map(move |missing| (&**namespace, &**name, missing))
        });
        missing.collect()
    }
}

fn missing(backend: &Backend) -> Option<Missing> {
    let state = backend.state();
    if state.key.is_none() {
        return Some(Missing::Service);
    }
    state.endpoints.is_empty().then_some(Missing::Endpoint)
}
