//! Which host a name stands for: its own, or that of an Ingress whose annotation `server-alias` lists it.

use std::collections::BTreeSet;

use routing::HostPattern;
use routing::model::{CertificateRef, HostTls};

use super::Translator;
use crate::ingress::Ingress;
use crate::problem::{Problem, Reason};
use crate::resources::NamespacedName;

impl Translator {
    /// The host that a name stands for: itself when an Ingress has a rule for it, else the host that it is an alias of.
    pub(super) fn real_host(&self, name: &HostPattern) -> Option<HostPattern> {
        if self.index.is_ruled(name) || *name == HostPattern::Any {
            return Some(name.clone());
        }
        self.alias_owner(name).map(|(_, host)| host.clone())
    }

    /// An alias shows what its host does, so it changes with it.
    pub(super) fn close_over_aliases(&self, hosts: &mut BTreeSet<HostPattern>) {
        let aliases: Vec<HostPattern> = self.aliases_of(hosts.iter()).cloned().collect();
        hosts.extend(aliases);
    }

    /// The aliases and twins whose TLS depends on these certificates: a host may have its certificate from one Ingress and its
    /// aliases from another.
    pub(super) fn aliases_with(&self, certificates: &BTreeSet<CertificateRef>) -> BTreeSet<HostPattern> {
        if self.default_certificate().is_some_and(|default| certificates.contains(&default)) {
            return self.index.aliases().chain(self.index.twins()).cloned().collect();
        }
        let users = certificates.iter().flat_map(|certificate| self.ingresses(self.index.of_certificate(certificate)));
        let hosts: BTreeSet<HostPattern> = users.flat_map(Ingress::hosts).cloned().collect();
        let twins = self.twins_of(&hosts);
        self.aliases_of(hosts.iter()).cloned().chain(twins).collect()
    }

    /// The names that any Ingress of these hosts wants as aliases.
    fn aliases_of<'a>(&'a self, hosts: impl Iterator<Item = &'a HostPattern>) -> impl Iterator<Item = &'a HostPattern> {
        let ingresses = hosts.flat_map(|host| self.ingresses(self.index.of_host(host)));
        ingresses.flat_map(|ingress| &ingress.annotations.server_alias)
    }

    /// Whether an alias has TLS. ingress-nginx gives it that of its host only where the certificate is for the alias too:
    /// a name that browsers would refuse over HTTPS is not redirected there.
    pub(super) fn has_certificate_for_alias(&self, alias: &HostPattern, tls: Option<&HostTls>) -> bool {
        let Some(HostTls::Terminate(certificates)) = tls else { return tls.is_some() };
        let default = self.default_certificate();
        let mut certificates = certificates.iter().chain(&default);
        certificates.any(|reference| self.store.certificate(reference).is_some_and(|found| found.names.cover(alias)))
    }

    /// Tells why an alias does not stand for a host of its Ingress.
    pub(super) fn alias_problems(&self, ingress: &Ingress, problems: &mut Vec<Problem>) {
        for alias in &ingress.annotations.server_alias {
            let why = if let Some((host, _)) = self.twin_of(alias) {
                format!("it is sent to host {host}")
            } else if let Some(ruler) = self.oldest(self.index.of_host(alias)) {
                if ingress.rules.iter().any(|rule| rule.host == *alias) {
                    continue;
                }
                format!("it is a host of Ingress {}", ruler.meta.key())
            } else if let Some((owner, host)) = self.alias_owner(alias) {
                if owner.meta.key() == ingress.meta.key() {
                    continue;
                }
                format!("it stands for host {host} of Ingress {}", owner.meta.key())
            } else if let Some((host, giver)) =
                ingress.rules.iter().find_map(|rule| Some((&rule.host, self.alias_giver(&rule.host)?)))
            {
                format!("host {host} has its aliases from Ingress {}", giver.meta.key())
            } else {
                continue;
            };
            let message = format_args!("alias {alias} has no effect: {why}").to_string();
            problems.push(Problem::warning(Reason::Conflict, "metadata.annotations", message));
        }
    }

    /// The oldest Ingress that may have a name as an alias, and the host that the name stands for then: of several, the
    /// one that nginx would read first.
    fn alias_owner(&self, alias: &HostPattern) -> Option<(&Ingress, &HostPattern)> {
        let mut owners: Vec<&Ingress> = self.ingresses(self.index.of_alias(alias)).collect();
        owners.sort_by(|a, b| a.precedence(b));
        owners.into_iter().find_map(|owner| {
            let is_giver =
                |host: &&HostPattern| self.alias_giver(host).is_some_and(|giver| giver.meta.key() == owner.meta.key());
            owner.rules.iter().map(|rule| &rule.host).filter(is_giver).min().map(|host| (owner, host))
        })
    }

    /// The Ingress that a host has its aliases from: the oldest one with any, as in ingress-nginx.
    fn alias_giver(&self, host: &HostPattern) -> Option<&Ingress> {
        let givers = self.ingresses(self.index.of_host(host));
        givers.filter(|ingress| !ingress.annotations.server_alias.is_empty()).min_by(|a, b| a.precedence(b))
    }

    pub(super) fn oldest<'a>(&'a self, names: impl Iterator<Item = &'a NamespacedName>) -> Option<&'a Ingress> {
        self.ingresses(names).min_by(|a, b| a.precedence(b))
    }

    fn ingresses<'a>(&'a self, names: impl Iterator<Item = &'a NamespacedName>) -> impl Iterator<Item = &'a Ingress> {
        names.filter_map(|name| self.store.ingresses.get(name)).map(|ingress| &**ingress)
    }
}
