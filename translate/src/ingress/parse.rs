//! How an Ingress is read: every problem of an object at once, each with its field.

use std::sync::Arc;

use k8s_openapi::api::networking::v1 as networking;
use routing::model::PortRef;
use routing::{HostPattern, PathMatch, PathPrefix, RegexPattern, WildcardDepth, normalize_path};

use super::annotations::{self, Annotations};
use super::{Ingress, IngressBackend, IngressPath, IngressRule, IngressTls, PathForm, PathKind};
use crate::config::Config;
use crate::problem::{Problem, Reason};
use crate::resources::Meta;

/// Collects the problems of one object, so that its author sees all of them at once.
#[derive(Default)]
pub(super) struct Problems {
    /// What refuses the object.
    pub(super) errors: Vec<Problem>,
    /// What does not: its paths may answer 503, though.
    pub(super) warnings: Vec<Problem>,
}

// === impl Ingress ===

impl Ingress {
    /// Reads an Ingress.
    ///
    /// # Errors
    ///
    /// Every problem of an object that is refused: for a bad host, path, port or annotation.
    pub fn parse(object: &networking::Ingress, config: &Config) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let networking::Ingress { metadata, spec, status: _ } = object;
        let empty = networking::IngressSpec::default();
        let networking::IngressSpec { default_backend, ingress_class_name, rules, tls } =
            spec.as_ref().unwrap_or(&empty);
        let mut problems = Problems::default();
        let meta = Meta::new(metadata, true);
        let annotations = Annotations::parse(metadata.annotations.as_ref(), &config.annotation_prefixes, &mut problems);
        let annotations = if problems.errors.is_empty() {
            deny_what_cannot_be_had(annotations, &meta, &mut problems)
        } else {
            // What seems to be missing may be what could not be read.
            annotations
        };
        let rules = rules.iter().flatten().enumerate();
        let rules: Vec<_> =
            rules.filter_map(|(index, rule)| parse_rule(rule, index, &annotations, &mut problems)).collect();
        let tls = tls.iter().flatten().enumerate();
        let tls: Vec<_> = tls.map(|(index, tls)| parse_tls(tls, index, &mut problems)).collect();
        let default_backend = default_backend
            .as_ref()
            .and_then(|backend| parse_backend(backend, "spec.defaultBackend", "it is left out", &mut problems));
        if rules.is_empty() {
            if default_backend.is_none() && problems.errors.is_empty() {
                problems.error(Reason::Malformed, "spec", "spec has neither rules nor a Service as default backend");
            }
            warn_without_rules(&annotations, &mut problems);
        }
        let class_annotation = metadata.annotations.as_ref().and_then(|all| all.get(annotations::CLASS));
        let ingress = Self {
            meta,
            class_annotation: class_annotation.map(|class| class.as_str().into()),
            class_name: ingress_class_name.as_deref().filter(|name| !name.is_empty()).map(Into::into),
            default_backend,
            rules: rules.into(),
            tls: tls.into(),
            annotations,
        };
        let Problems { mut errors, warnings } = problems;
        if errors.is_empty() {
            return Ok((ingress, warnings));
        }
        errors.extend(warnings);
        Err(errors)
    }
}

/// A restriction that annotations ask for together and that cannot be had closes the paths of the Ingress.
fn deny_what_cannot_be_had(
    mut annotations: Arc<Annotations>,
    meta: &Meta,
    problems: &mut Problems,
) -> Arc<Annotations> {
    let basic = annotations.basic.resolve(&meta.namespace).err();
    let upstream_tls = annotations.upstream_tls.resolve(&meta.namespace).err();
    for why in basic.into_iter().chain(upstream_tls) {
        let message = format_args!("annotation {why}; the paths of this Ingress answer 503").to_string();
        problems.warnings.push(Problem::error(Reason::Denied, "metadata.annotations", message));
        Arc::make_mut(&mut annotations).denials.push(why.into());
    }
    if let Err(why) = annotations.client_tls.resolve(&meta.namespace) {
        let message = format_args!("annotation {why}; the paths of every Ingress of its hosts answer 503").to_string();
        problems.warnings.push(Problem::error(Reason::Denied, "metadata.annotations", message));
        Arc::make_mut(&mut annotations).host_denials.push(why.into());
    }
    for (leader, is_led, followers) in annotations.followers() {
        for follower in followers.into_iter().filter(|_| !is_led) {
            let message = format_args!("annotation {follower} has no effect without {leader}").to_string();
            problems.warning(Reason::AnnotationIgnored, "metadata.annotations", message);
        }
    }
    annotations
}

/// ingress-nginx applies these to what a rule says, of which there is nothing.
fn warn_without_rules(annotations: &Annotations, problems: &mut Problems) {
    for (name, is_set) in [
        ("app-root", annotations.app_root.is_some()),
        ("force-ssl-redirect", annotations.force_ssl_redirect == Some(true)),
        ("permanent-redirect", annotations.permanent_redirect.is_some()),
        ("rewrite-target", annotations.rewrite_target.is_some()),
        ("server-alias", !annotations.server_alias.is_empty()),
        ("temporal-redirect", annotations.temporal_redirect.is_some()),
        ("use-regex", annotations.use_regex),
    ] {
        if is_set {
            let message = format_args!("annotation {name} has no effect on an Ingress without rules").to_string();
            problems.warning(Reason::AnnotationIgnored, "metadata.annotations", message);
        }
    }
}

fn parse_rule(
    rule: &networking::IngressRule,
    index: usize,
    annotations: &Annotations,
    problems: &mut Problems,
) -> Option<IngressRule> {
    let networking::IngressRule { host, http } = rule;
    let field = format!("spec.rules[{index}]");
    let host = HostPattern::parse(host.as_deref().unwrap_or_default(), WildcardDepth::One);
    let host = problems.check(host, Reason::InvalidValue, || format!("{field}.host"));
    let paths = http.iter().flat_map(|http| &http.paths).enumerate();
    let paths: Vec<_> = paths
        .filter_map(|(place, path)| parse_path(path, &format!("{field}.http.paths[{place}]"), annotations, problems))
        .collect();
    Some(IngressRule { host: host?, paths: paths.into() })
}

fn parse_path(
    path: &networking::HTTPIngressPath,
    field: &str,
    annotations: &Annotations,
    problems: &mut Problems,
) -> Option<IngressPath> {
    let networking::HTTPIngressPath { backend, path, path_type } = path;
    let written = path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let kind = match path_type.as_str() {
        "Exact" => PathKind::Exact,
        "Prefix" => PathKind::Prefix,
        "ImplementationSpecific" | "" => PathKind::ImplementationSpecific,
        other => {
            let message = format_args!("{other:?} is not one of Exact, Prefix, ImplementationSpecific").to_string();
            problems.error(Reason::InvalidValue, &format!("{field}.pathType"), message);
            // The object is refused, so that any kind serves to read on.
            PathKind::ImplementationSpecific
        }
    };
    let backend = parse_backend(backend, &format!("{field}.backend"), "requests are answered with 503", problems);
    let path_field = || format!("{field}.path");
    if !written.starts_with('/') {
        problems.error(
            Reason::InvalidValue,
            &path_field(),
            format_args!("path {written:?} does not start with a slash"),
        );
        return None;
    }
    if annotations.forces_regex(written) {
        let pattern = RegexPattern::ingress_location(written);
        let pattern = problems.check(pattern, Reason::InvalidValue, path_field)?;
        check_captures(annotations, &pattern, field, problems);
        return Some(IngressPath { path: written.into(), form: PathForm::Regex(pattern), kind, backend });
    }
    let normalized = problems.check(normalize_path(written), Reason::InvalidValue, path_field)?;
    if kind != PathKind::ImplementationSpecific && normalized != written {
        let message = format_args!("path is matched in its normal form, {normalized:?}").to_string();
        problems.warning(Reason::InvalidValue, &path_field(), message);
    }
    let literal = match kind {
        PathKind::Exact => PathMatch::Exact((*normalized).into()),
        PathKind::Prefix | PathKind::ImplementationSpecific => PathMatch::Prefix(PathPrefix::new(&normalized)),
    };
    Some(IngressPath { path: written.into(), form: PathForm::Literal(literal), kind, backend })
}

/// A rewrite that uses a group which the path does not have would silently drop part of every URL.
fn check_captures(annotations: &Annotations, pattern: &RegexPattern, field: &str, problems: &mut Problems) {
    let Some(target) = &annotations.rewrite_target else { return };
    if target.highest_group() > pattern.n_groups() {
        let message = format_args!(
            "rewrite-target {:?} uses group ${}, which path {:?} does not have: it is empty",
            target.as_str(),
            target.highest_group(),
            pattern.as_str(),
        )
        .to_string();
        problems.warning(Reason::InvalidValue, &format!("{field}.path"), message);
    }
}

fn parse_backend(
    backend: &networking::IngressBackend,
    field: &str,
    otherwise: &str,
    problems: &mut Problems,
) -> Option<IngressBackend> {
    let networking::IngressBackend { resource, service } = backend;
    let Some(networking::IngressServiceBackend { name, port }) = service else {
        let message = match resource {
            Some(resource) => {
                format!("backends of kind {} are not supported: {otherwise}", resource.kind)
            }
            None => format!("backend names no Service: {otherwise}"),
        };
        problems.warning(Reason::ServiceNotFound, field, message);
        return None;
    };
    if name.is_empty() {
        problems.error(Reason::InvalidValue, &format!("{field}.service.name"), "name is missing");
        return None;
    }
    let port = port.as_ref().and_then(|port| match port {
        networking::ServiceBackendPort { name: Some(name), number: None | Some(0) } if !name.is_empty() => {
            Some(PortRef::Name(name.as_str().into()))
        }
        networking::ServiceBackendPort { name: _, number } => {
            number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0).map(PortRef::Number)
        }
    });
    let Some(port) = port else {
        let message = "port must have a name, or a number from 1 to 65535";
        problems.error(Reason::InvalidValue, &format!("{field}.service.port"), message);
        return None;
    };
    Some(IngressBackend { service: name.as_str().into(), port })
}

fn parse_tls(tls: &networking::IngressTLS, index: usize, problems: &mut Problems) -> IngressTls {
    let networking::IngressTLS { hosts, secret_name } = tls;
    let hosts = hosts.iter().flatten().enumerate().filter_map(|(place, host)| {
        let parsed = HostPattern::parse(host, WildcardDepth::One);
        problems.check(parsed, Reason::InvalidValue, || format!("spec.tls[{index}].hosts[{place}]"))
    });
    IngressTls {
        hosts: hosts.collect(),
        secret: secret_name.as_deref().filter(|name| !name.is_empty()).map(Into::into),
    }
}

// === impl Problems ===

impl Problems {
    fn error(&mut self, reason: Reason, field: &str, message: impl std::fmt::Display) {
        self.errors.push(Problem::error(reason, field, message));
    }

    fn warning(&mut self, reason: Reason, field: &str, message: impl std::fmt::Display) {
        self.warnings.push(Problem::warning(reason, field, message));
    }

    fn check<T, E: std::fmt::Display>(
        &mut self,
        result: Result<T, E>,
        reason: Reason,
        field: impl FnOnce() -> String,
    ) -> Option<T> {
        result.map_err(|error| self.error(reason, &field(), error)).ok()
    }
}
