//! What is to be told to the authors of objects: gathered from where it was found, for one object at a time.

use std::collections::{BTreeMap, BTreeSet};

use routing::HostPattern;
use routing::model::{BackendRef, CertificateRef, ServerVerification, Transport};
use serde_json::Value;

use super::Translator;
use super::affected::Affected;
use crate::class::ClassDecision;
use crate::index::{backend_refs, credentials_ref, upstream_tls};
use crate::ingress::Ingress;
use crate::problem::{Problem, Reason};
use crate::resources::{Kind, NamespacedName, ObjectKey};

/// What was found, by what it was found about.
#[derive(Default)]
pub(super) struct Conditions {
    /// What the last version of an object was refused for, or warned about.
    pub(super) reports: BTreeMap<ObjectKey, Report>,
    pub(super) of_hosts: BTreeMap<HostPattern, Vec<(NamespacedName, Problem)>>,
    pub(super) of_backends: BTreeMap<BackendRef, Vec<Problem>>,
    /// About the ConfigMap that is live.
    pub(super) of_settings: Vec<Problem>,
    /// About the ConfigMaps of TCP and UDP services.
    pub(super) of_streams: BTreeMap<Transport, Vec<Problem>>,
}

/// What an object says by itself.
pub(super) struct Report {
    pub(super) problems: Vec<Problem>,
    pub(super) is_refused: bool,
}

impl Translator {
    /// Everything that the author of an object should know now, sorted.
    #[must_use]
    pub fn problems(&self, key: &ObjectKey) -> Vec<Problem> {
        let report = self.conditions.reports.get(key);
        let ingress = self.store.ingresses.get(&key.namespaced_name()).filter(|_| key.kind == Kind::Ingress);
        if let Some(ingress) = ingress
            && !report.is_some_and(|report| report.is_refused)
            && let ClassDecision::NotServed(why) = self.decide_class(ingress)
        {
            // What annotations mean to another controller is none of our business.
            return vec![Problem::warning(Reason::ClassNotServed, "", format_args!("not served: {why}"))];
        }
        let mut problems: Vec<Problem> = report.map(|report| report.problems.clone()).unwrap_or_default();
        if key.kind == Kind::ConfigMap && self.is_settings(&key.namespaced_name()) {
            problems.extend(self.conditions.of_settings.iter().cloned());
        }
        if key.kind == Kind::ConfigMap {
            self.stream_problems(&key.namespaced_name(), &mut problems);
        }
        if let Some(ingress) = ingress {
            self.ingress_problems(ingress, &mut problems);
        }
        problems.sort();
        problems.dedup();
        problems
    }

    /// What is to be said about an Ingress by itself and among those of its hosts, sorted; nothing about the Services and
    /// Secrets that it refers to.
    pub(super) fn route_problems(&self, key: &ObjectKey) -> Vec<Problem> {
        let report = self.conditions.reports.get(key);
        let mut problems: Vec<Problem> = report.map(|report| report.problems.clone()).unwrap_or_default();
        if let Some(ingress) = self.store.ingresses.get(&key.namespaced_name()) {
            self.host_problems(ingress, &mut problems);
        }
        problems.sort();
        problems.dedup();
        problems
    }

    /// Every object that there is something to say about, or whose version is not the one that is live.
    pub fn reported(&self) -> impl Iterator<Item = ObjectKey> {
        let refused = self.conditions.reports.keys().cloned();
        let ingresses = self.store.ingresses.keys().map(|name| name.of_kind(Kind::Ingress));
        let settings = self
            .store
            .config_maps
            .keys()
            .filter(|name| self.is_settings(name) || self.is_stream_map(name))
            .map(|name| name.of_kind(Kind::ConfigMap));
        refused.chain(ingresses).chain(settings).collect::<BTreeSet<_>>().into_iter()
    }

    /// How many objects are refused, and how many of them still work in an older version.
    #[must_use]
    pub fn n_refused(&self) -> (usize, usize) {
        let refused = self.conditions.reports.values().filter(|report| report.is_refused);
        (refused.count(), self.stale().count())
    }

    /// The objects whose newest version is refused and that still work in an older one, sorted.
    pub fn stale(&self) -> impl Iterator<Item = &ObjectKey> {
        let refused = self.conditions.reports.iter().filter(|(_, report)| report.is_refused);
        refused.map(|(key, _)| key).filter(|key| self.store.holds(key))
    }

    /// The version of an object that is live, in a form that is read as the same. It holds what is secret in a Secret.
    #[must_use]
    pub fn last_good(&self, key: &ObjectKey) -> Option<Value> {
        self.store.encode(key)
    }

    pub(super) fn report(&mut self, key: ObjectKey, problems: Vec<Problem>, is_refused: bool, affected: &mut Affected) {
        affected.touched.insert(key.clone());
        if problems.is_empty() && !is_refused {
            self.conditions.reports.remove(&key);
        } else {
            self.conditions.reports.insert(key, Report { problems, is_refused });
        }
    }

    fn ingress_problems(&self, ingress: &Ingress, problems: &mut Vec<Problem>) {
        if let ClassDecision::NotServed(why) = self.decide_class(ingress) {
            problems.push(Problem::warning(Reason::ClassNotServed, "", format_args!("not served: {why}")));
            return;
        }
        self.host_problems(ingress, problems);
        self.backend_problems(ingress, problems);
        // A canary adds a backend, and nothing else.
        if !ingress.annotations.canary.is_on {
            self.certificate_problems(ingress, problems);
            self.credentials_problems(ingress, problems);
            self.authority_problems(ingress, problems);
        }
    }

    fn host_problems(&self, ingress: &Ingress, problems: &mut Vec<Problem>) {
        let key = ingress.meta.key();
        for host in ingress.hosts() {
            let of_host = self.conditions.of_hosts.get(host).into_iter().flatten();
            problems.extend(of_host.filter(|(author, _)| *author == key).map(|(_, problem)| problem.clone()));
            if ingress.annotations.canary.is_on && !self.index.is_ruled(host) {
                let message =
                    format_args!("the canary has no effect: no other Ingress has host {:?}", host.to_string())
                        .to_string();
                problems.push(Problem::warning(Reason::AnnotationIgnored, "", message));
            }
        }
        if !ingress.annotations.canary.is_on {
            self.alias_problems(ingress, problems);
            self.twin_problems(ingress, problems);
        }
    }

    fn backend_problems(&self, ingress: &Ingress, problems: &mut Vec<Problem>) {
        for backend in backend_refs(ingress).collect::<BTreeSet<_>>() {
            let refusal = self.refusal(&NamespacedName::new(&backend.namespace, &backend.service), Kind::Service);
            let of_backend = self.conditions.of_backends.get(&backend).into_iter().flatten();
            problems.extend(of_backend.map(|problem| match &refusal {
                Some(why) if problem.reason == Reason::ServiceNotFound => {
                    Problem { message: why.clone(), ..problem.clone() }
                }
                _ => problem.clone(),
            }));
        }
    }

    fn credentials_problems(&self, ingress: &Ingress, problems: &mut Vec<Problem>) {
        let Some(reference) = credentials_ref(ingress) else { return };
        let name = NamespacedName { namespace: reference.namespace.clone(), name: reference.name.clone() };
        let field = "metadata.annotations[auth-secret]";
        match self.store.credentials(&reference) {
            None => {
                let why = match self.refusal(&name, Kind::Secret) {
                    Some(why) => why,
                    None if self.store.secrets.contains_key(&name) => format!("Secret {name} has no key \"auth\""),
                    None => format!("Secret {name} does not exist"),
                };
                let message = format_args!("{why}; the paths of this Ingress answer 503").to_string();
                problems.push(Problem::error(Reason::Denied, field, message));
            }
            Some(users) if users.n_unusable() > 0 => {
                let message = format_args!(
                    "the hashes of {} users in Secret {name} are neither bcrypt nor apr1 nor SHA: they cannot log in",
                    users.n_unusable()
                )
                .to_string();
                problems.push(Problem::warning(Reason::InvalidValue, field, message));
            }
            Some(_) => {}
        }
    }

    fn authority_problems(&self, ingress: &Ingress, problems: &mut Vec<Problem>) {
        let clients = ingress.annotations.client_tls.resolve(&ingress.meta.namespace).ok().flatten();
        let clients = clients.map(|clients| ("auth-tls-secret", "hosts", clients.authority));
        let tls = upstream_tls(ingress);
        let shows_itself = tls.secret.as_ref().is_some_and(|secret| self.store.certificate(secret).is_some());
        let needs_authority = tls.verification == ServerVerification::Authority || !shows_itself;
        let upstreams = tls.authority().filter(|_| needs_authority);
        let upstreams = upstreams.map(|authority| ("proxy-ssl-secret", "paths", authority));
        for (annotation, whose, reference) in clients.into_iter().chain(upstreams) {
            let Err(why) = self.store.authority(&reference) else { continue };
            let name = NamespacedName { namespace: reference.namespace.clone(), name: reference.name.clone() };
            let why = self.refusal(&name, Kind::Secret).unwrap_or(why);
            let message = format_args!("{why}; the {whose} of this Ingress answer 503").to_string();
            problems.push(Problem::error(Reason::Denied, format!("metadata.annotations[{annotation}]"), message));
        }
    }

    /// Why an object cannot be used although it is there.
    fn refusal(&self, name: &NamespacedName, kind: Kind) -> Option<String> {
        let report = self.conditions.reports.get(&name.of_kind(kind)).filter(|report| report.is_refused)?;
        report.problems.first().map(|problem| format!("{kind} {name} cannot be used: {problem}"))
    }

    fn certificate_problems(&self, ingress: &Ingress, problems: &mut Vec<Problem>) {
        for (index, tls) in ingress.tls.iter().enumerate() {
            let Some(secret) = &tls.secret else { continue };
            let field = format!("spec.tls[{index}].secretName");
            let name = NamespacedName { namespace: ingress.meta.namespace.clone(), name: secret.clone() };
            let reference = CertificateRef { namespace: name.namespace.clone(), name: name.name.clone() };
            let Some(certificate) = self.store.certificate(&reference) else {
                let why = match self.refusal(&name, Kind::Secret) {
                    Some(why) => why,
                    None if self.store.secrets.contains_key(&name) => format!("Secret {name} holds no certificate"),
                    None => format!("Secret {name} does not exist"),
                };
                let message = format_args!("{why}; the default certificate is presented").to_string();
                problems.push(Problem::warning(Reason::CertificateUnavailable, field, message));
                continue;
            };
            for host in tls.hosts.iter().filter(|host| !certificate.names.cover(host)) {
                let message = format_args!(
                    "the certificate in Secret {name} is not for host {host}; the default certificate is presented"
                )
                .to_string();
                problems.push(Problem::warning(Reason::CertificateMismatch, field.clone(), message));
            }
        }
    }
}
