//! Names that `from-to-www-redirect` sends to a host: with `www.` before it, or without.

use std::collections::BTreeSet;
use std::sync::Arc;

use routing::model::{
    Filter, Host, Order, Origin, Rank, Redirect, RedirectTarget, RedirectWhen, Route, RouteMatch, Rule,
};
use routing::{HostPattern, PathMatch, PathPrefix};

use super::Translator;
use crate::index::twins;
use crate::ingress::annotations::www_twin;
use crate::ingress::{Ingress, translate_host};
use crate::problem::{Problem, Reason};

impl Translator {
    /// The host that a name is sent to, and the oldest Ingress that wants it so. A name that is a host is none.
    pub(super) fn twin_of(&self, name: &HostPattern) -> Option<(HostPattern, &Ingress)> {
        if self.index.is_ruled(name) {
            return None;
        }
        let owner = self.oldest(self.index.of_twin(name))?;
        www_twin(name).map(|host| (host, owner))
    }

    /// What a twin does: it sends everybody to its host.
    pub(super) fn translate_twin(&self, name: &HostPattern, host: &HostPattern, owner: &Ingress) -> Host {
        let origin = Origin {
            kind: "Ingress",
            namespace: owner.meta.namespace.clone(),
            name: owner.meta.name.clone(),
            place: "from-to-www-redirect".into(),
        };
        let redirect = Redirect {
            when: RedirectWhen::Always,
            to: RedirectTarget::Host(host.to_string().into()),
            status: self.settings.ingress.http_redirect_code,
        };
        let rule = Rule {
            path: "/".into(),
            host: name.to_string().into(),
            filters: Arc::new([Filter::Redirect(redirect)]),
            ..Rule::new(origin, Vec::new())
        };
        let matches = RouteMatch::path(PathMatch::Prefix(PathPrefix::new("/")));
        let rank = Rank { order: Order::Ingress, created: owner.meta.created, rule: 0, entry: 0 };
        let tls = translate_host(&self.neighbours(host)).host.tls;
        let tls = tls.filter(|tls| self.has_certificate_for_alias(name, Some(tls)));
        Host { tls, client_tls: None, routes: [Route { matches, rank, rule: Arc::new(rule) }].into() }
    }

    /// The names that are sent to any of these hosts.
    pub(super) fn twins_of(&self, hosts: &BTreeSet<HostPattern>) -> Vec<HostPattern> {
        let twins = hosts.iter().filter_map(www_twin);
        twins.filter(|twin| self.index.of_twin(twin).next().is_some()).collect()
    }

    /// Tells why a name is not sent to a host of its Ingress.
    pub(super) fn twin_problems(&self, ingress: &Ingress, problems: &mut Vec<Problem>) {
        for twin in twins(ingress) {
            let Some(ruler) = self.oldest(self.index.of_host(&twin)) else { continue };
            let message = format!("from-to-www-redirect: {twin} is a host of Ingress {}", ruler.meta.key());
            problems.push(Problem::warning(Reason::Conflict, "metadata.annotations", message));
        }
    }
}
