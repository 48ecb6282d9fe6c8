//! Every annotation of ingress-nginx 1.15 in one of three states.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use routing::model::HealthCheck;

use super::value::{self, ValueError};
use super::{
    Annotations, access, affinity, balance, basic, canary, client_tls, cors, errors, external, forwarding, limits,
    mirror, proxying, sizes, upstream_tls,
};
use crate::health;
use crate::problem::{Problem, Reason};
use State::{Denies, Done, DoneOrDenies, Warns};

/// An annotation.
#[derive(Clone, Copy, Debug)]
pub struct AnnotationRow {
    /// Its name, without prefix.
    pub name: &'static str,
    /// What becomes of it.
    pub state: State,
}

/// What becomes of an annotation.
#[derive(Clone, Copy, Debug)]
pub enum State {
    /// It works: the parser writes its value into [`Annotations`].
    Done(fn(&str, &mut Annotations) -> Result<(), ValueError>),
    /// The same, but an empty value is not none: the paths of the Ingress answer 503 with this reason.
    DoneOrDenies(fn(&str, &mut Annotations) -> Result<(), ValueError>, &'static str),
    /// It restricts access and does not work: the paths of the Ingress answer 503 with this reason.
    Denies(When, &'static str),
    /// It is harmless when absent: it has no effect, for this reason.
    Warns(&'static str),
}

/// Which values of an annotation restrict access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Every value but the empty one, which is as good as none.
    Set,
    /// A true boolean.
    True,
}

/// Spellings that ingress-nginx still accepts.
const ALIASES: &[(&str, &str)] =
    &[("whitelist-source-range", "allowlist-source-range"), ("limit-whitelist", "limit-allowlist")];

/// The 136 annotations, in the order of ingress-nginx's documentation.
pub const ANNOTATIONS: &[AnnotationRow] = &[
    // Routing, rewrite, redirect.
    row("rewrite-target", Done(|v, a| store(&mut a.rewrite_target, value::rewrite_target(v).map(Some)))),
    row("use-regex", Done(|v, a| store(&mut a.use_regex, value::boolean(v)))),
    row("app-root", Done(|v, a| store(&mut a.app_root, value::app_root(v).map(Some)))),
    row("ssl-redirect", Done(|v, a| store(&mut a.ssl_redirect, value::boolean(v).map(Some)))),
    row("force-ssl-redirect", Done(|v, a| store(&mut a.force_ssl_redirect, value::boolean(v).map(Some)))),
    row("preserve-trailing-slash", Done(|v, a| store(&mut a.preserve_trailing_slash, value::boolean(v).map(Some)))),
    row("permanent-redirect", Done(|v, a| store(&mut a.permanent_redirect, value::redirect_url_or_path(v).map(Some)))),
    row(
        "permanent-redirect-code",
        Done(|v, a| store(&mut a.permanent_redirect_code, value::redirect_code(v).map(Some))),
    ),
    row("temporal-redirect", Done(|v, a| store(&mut a.temporal_redirect, value::redirect_url(v).map(Some)))),
    row("temporal-redirect-code", Done(|v, a| store(&mut a.temporal_redirect_code, value::redirect_code(v).map(Some)))),
    row("from-to-www-redirect", Done(|v, a| store(&mut a.redirects.from_to_www, value::boolean(v)))),
    row("relative-redirects", Done(|v, a| store(&mut a.redirects.relative, value::boolean(v).map(Some)))),
    row("use-port-in-redirects", Done(|v, a| store(&mut a.redirects.with_port, value::boolean(v).map(Some)))),
    row("server-alias", Done(|v, a| store(&mut a.server_alias, value::aliases(v)))),
    row("default-backend", Done(|v, a| store(&mut a.default_backend, value::service_name(v).map(Some)))),
    row("custom-http-errors", Done(|v, a| store(&mut a.errors.statuses, errors::statuses(v).map(Some)))),
    row(
        "disable-proxy-intercept-errors",
        Done(|v, a| store(&mut a.errors.keeps_upstream, value::boolean(v).map(Some))),
    ),
    // Upstream.
    row("backend-protocol", Done(backend_protocol)),
    row("service-upstream", Done(|v, a| store(&mut a.service_upstream, value::boolean(v).map(Some)))),
    row("upstream-vhost", Done(|v, a| store(&mut a.forwarding.vhost, forwarding::vhost(v).map(Some)))),
    row("x-forwarded-prefix", Done(|v, a| store(&mut a.forwarding.prefix, forwarding::prefix(v).map(Some)))),
    row("load-balance", Done(|v, a| store(&mut a.balance.load_balance, balance::algorithm(v).map(Some)))),
    row("upstream-hash-by", Done(|v, a| store(&mut a.balance.hash_by, balance::hash_key(v).map(Some)))),
    row("upstream-hash-by-subset", Done(|v, a| store(&mut a.balance.is_subset, value::boolean(v)))),
    row("upstream-hash-by-subset-size", Done(|v, a| store(&mut a.balance.subset_size, balance::subset_size(v)))),
    row("proxy-connect-timeout", Done(|v, a| store(&mut a.proxying.connect_timeout, proxying::timeout(v).map(Some)))),
    row("proxy-send-timeout", Done(|v, a| store(&mut a.proxying.send_timeout, proxying::timeout(v).map(Some)))),
    row("proxy-read-timeout", Done(|v, a| store(&mut a.proxying.read_timeout, proxying::timeout(v).map(Some)))),
    row("proxy-next-upstream", Done(|v, a| store(&mut a.proxying.next_upstream, proxying::conditions(v).map(Some)))),
    row(
        "proxy-next-upstream-tries",
        Done(|v, a| store(&mut a.proxying.next_upstream_tries, proxying::tries(v).map(Some))),
    ),
    row(
        "proxy-next-upstream-timeout",
        Done(|v, a| store(&mut a.proxying.next_upstream_timeout, proxying::optional_timeout(v).map(Some))),
    ),
    // Bodies are passed on as they come, so that the sizes and numbers of buffers change nothing that can be seen.
    row("proxy-body-size", Done(|v, a| store(&mut a.sizes.request_body, sizes::body_size(v).map(Some)))),
    row("proxy-request-buffering", Done(|v, _| sizes::switch(v).map(drop))),
    row("proxy-buffering", Done(|v, _| sizes::switch(v).map(drop))),
    row("proxy-buffer-size", Done(|v, a| store(&mut a.sizes.response_head, sizes::buffer_size(v).map(Some)))),
    row("proxy-buffers-number", Done(|v, _| value::number(v).map(drop))),
    row("proxy-busy-buffers-size", Done(|v, _| sizes::size(v).map(drop))),
    row("proxy-max-temp-file-size", Done(|v, _| sizes::size(v).map(drop))),
    row("client-body-buffer-size", Done(|v, _| sizes::size(v).map(drop))),
    row("proxy-http-version", Warns("has no effect yet")),
    row("proxy-cookie-domain", Warns("has no effect yet")),
    row("proxy-cookie-path", Warns("has no effect yet")),
    row("proxy-redirect-from", Warns("has no effect yet")),
    row("proxy-redirect-to", Warns("has no effect yet")),
    row("connection-proxy-header", Warns("has no effect yet")),
    row("http2-push-preload", Warns("does nothing: HTTP/2 push is gone from browsers")),
    row("fastcgi-index", Warns("has no effect yet")),
    row("fastcgi-params-configmap", Warns("has no effect yet")),
    row("custom-headers", Done(|v, a| store(&mut a.custom_headers, value::config_map_name(v).map(Some)))),
    // TLS to the upstream.
    row("proxy-ssl-secret", Done(|v, a| store(&mut a.upstream_tls.secret, value::object_name(v).map(Some)))),
    row("proxy-ssl-verify", Done(|v, a| store(&mut a.upstream_tls.verification, upstream_tls::verification(v)))),
    row("proxy-ssl-verify-depth", Warns("has no effect: up to six certificates may stand in between")),
    row("proxy-ssl-name", Done(|v, a| store(&mut a.upstream_tls.name, upstream_tls::name(v).map(Some)))),
    row("proxy-ssl-server-name", Done(|v, a| store(&mut a.upstream_tls.sends_name, sizes::switch(v)))),
    row("proxy-ssl-ciphers", Warns("has no effect: the TLS library has no weak cipher suites")),
    row("proxy-ssl-protocols", Warns("has no effect: TLS 1.2 and 1.3 are spoken")),
    // Client TLS.
    row("ssl-passthrough", Denies(When::True, "TLS is not passed through yet")),
    row("ssl-ciphers", Warns("has no effect yet")),
    row("ssl-prefer-server-ciphers", Warns("has no effect: the order of the gateway always counts")),
    row("auth-tls-secret", Done(|v, a| store(&mut a.client_tls.secret, value::object_name(v).map(Some)))),
    row("auth-tls-verify-client", Done(|v, a| store(&mut a.client_tls.demand, client_tls::demand(v).map(Some)))),
    row("auth-tls-verify-depth", Done(|v, a| store(&mut a.client_tls.depth, client_tls::depth(v).map(Some)))),
    row("auth-tls-error-page", Done(|v, a| store(&mut a.client_tls.error_page, external::page(v).map(Some)))),
    row("auth-tls-pass-certificate-to-upstream", Done(|v, a| store(&mut a.client_tls.told, client_tls::told(v)))),
    row("auth-tls-match-cn", Done(|v, a| store(&mut a.client_tls.subject, client_tls::subject(v).map(Some)))),
    // Authentication and access.
    row("auth-type", Done(auth_type)),
    row("auth-secret", Done(|v, a| store(&mut a.basic.secret, value::object_name(v).map(Some)))),
    row("auth-secret-type", Done(|v, a| store(&mut a.basic.form, basic::form(v).map(Some)))),
    row("auth-realm", Done(|v, a| store(&mut a.basic.realm, basic::realm(v).map(Some)))),
    row("auth-url", Done(|v, a| store(&mut a.external.url, external::url(v).map(Some)))),
    row("auth-signin", Done(|v, a| store(&mut a.external.signin, external::page(v).map(Some)))),
    row(
        "auth-signin-redirect-param",
        Done(|v, a| store(&mut a.external.signin_parameter, external::parameter(v).map(Some))),
    ),
    row("auth-method", Done(|v, a| store(&mut a.external.method, external::method(v).map(Some)))),
    row("auth-response-headers", Done(|v, a| store(&mut a.external.response_headers, external::headers(v)))),
    row("auth-request-redirect", Done(|v, a| store(&mut a.external.redirect, external::redirect(v).map(Some)))),
    row("auth-proxy-set-headers", Done(|v, a| store(&mut a.external.request_headers, value::object_name(v).map(Some)))),
    row("auth-cache-key", Done(|v, a| store(&mut a.external.cache_key, external::cache_key(v).map(Some)))),
    row("auth-cache-duration", Done(|v, a| store(&mut a.external.cache_valid, external::cache_valid(v).map(Some)))),
    row("auth-always-set-cookie", Done(|v, a| store(&mut a.external.cookies, external::cookies(v)))),
    // Connections are always kept, as many as there are, and variables are never shared.
    row("auth-keepalive", Done(|v, _| value::number(v).map(drop))),
    row("auth-keepalive-share-vars", Done(|v, _| value::boolean(v).map(drop))),
    row("auth-keepalive-requests", Done(|v, _| value::number(v).map(drop))),
    row("auth-keepalive-timeout", Done(|v, a| store(&mut a.external.keep_alive, proxying::timeout(v).map(Some)))),
    row("enable-global-auth", Done(|v, a| store(&mut a.external.is_global_on, value::boolean(v).map(Some)))),
    row("satisfy", Done(|v, a| store(&mut a.access.satisfy, access::satisfy(v).map(Some)))),
    row(
        "allowlist-source-range",
        DoneOrDenies(|v, a| store(&mut a.access.allow, access::networks(v).map(Some)), "the list of networks is empty"),
    ),
    row(
        "denylist-source-range",
        DoneOrDenies(|v, a| store(&mut a.access.deny, access::networks(v).map(Some)), "the list of networks is empty"),
    ),
    // CORS.
    row("enable-cors", Done(|v, a| store(&mut a.cors.is_on, value::boolean(v)))),
    row("cors-allow-origin", Done(|v, a| store(&mut a.cors.origins, cors::origins(v).map(Some)))),
    row("cors-allow-methods", Done(|v, a| store(&mut a.cors.methods, cors::methods(v).map(Some)))),
    row("cors-allow-headers", Done(|v, a| store(&mut a.cors.headers, cors::headers(v).map(Some)))),
    row("cors-expose-headers", Done(|v, a| store(&mut a.cors.expose, cors::exposed(v).map(Some)))),
    row("cors-allow-credentials", Done(|v, a| store(&mut a.cors.credentials, value::boolean(v).map(Some)))),
    row("cors-max-age", Done(|v, a| store(&mut a.cors.max_age, cors::max_age(v).map(Some)))),
    // Rate limits.
    row("limit-rps", Done(|v, a| store(&mut a.limits.per_second, limits::limit(v)))),
    row("limit-rpm", Done(|v, a| store(&mut a.limits.per_minute, limits::limit(v)))),
    row("limit-connections", Done(|v, a| store(&mut a.limits.connections, limits::limit(v)))),
    row("limit-burst-multiplier", Done(|v, a| store(&mut a.limits.burst_multiplier, limits::multiplier(v).map(Some)))),
    row("limit-rate", Warns("has no effect yet")),
    row("limit-rate-after", Warns("has no effect yet")),
    row("limit-allowlist", Done(|v, a| store(&mut a.limits.exempt, access::networks(v)))),
    // Session affinity.
    row("affinity", Done(|v, a| store(&mut a.affinity.is_on, affinity::kind(v)))),
    row("affinity-mode", Done(|v, a| store(&mut a.affinity.mode, affinity::mode(v)))),
    row("affinity-canary-behavior", Done(|v, a| store(&mut a.affinity.is_canary_apart, affinity::canary_behavior(v)))),
    row("session-cookie-name", Done(|v, a| store(&mut a.affinity.name, affinity::name(v).map(Some)))),
    row("session-cookie-path", Done(|v, a| store(&mut a.affinity.path, affinity::path(v).map(Some)))),
    row("session-cookie-domain", Done(|v, a| store(&mut a.affinity.domain, affinity::name(v).map(Some)))),
    row("session-cookie-samesite", Done(|v, a| store(&mut a.affinity.same_site, affinity::same_site(v).map(Some)))),
    row(
        "session-cookie-conditional-samesite-none",
        Done(|v, a| store(&mut a.affinity.is_same_site_conditional, value::boolean(v))),
    ),
    row("session-cookie-max-age", Done(|v, a| store(&mut a.affinity.max_age, affinity::seconds(v).map(Some)))),
    row("session-cookie-expires", Done(|v, a| store(&mut a.affinity.expires, affinity::seconds(v).map(Some)))),
    row("session-cookie-secure", Done(|v, a| store(&mut a.affinity.is_secure, value::boolean(v)))),
    row("session-cookie-change-on-failure", Done(|v, a| store(&mut a.affinity.changes_on_failure, value::boolean(v)))),
    // Canary.
    row("canary", Done(|v, a| store(&mut a.canary.is_on, value::boolean(v)))),
    row("canary-by-header", Done(|v, a| store(&mut a.canary.header, canary::header(v).map(Some)))),
    row("canary-by-header-value", Done(|v, a| store(&mut a.canary.value, canary::text(v).map(Some)))),
    row("canary-by-header-pattern", Done(|v, a| store(&mut a.canary.pattern, canary::pattern(v).map(Some)))),
    row("canary-by-cookie", Done(|v, a| store(&mut a.canary.cookie, canary::text(v).map(Some)))),
    row("canary-weight", Done(|v, a| store(&mut a.canary.weight, canary::weight(v)))),
    row("canary-weight-total", Done(|v, a| store(&mut a.canary.total, canary::weight(v).map(NonZeroU32::new)))),
    // Mirror.
    row("mirror-target", Done(|v, a| store(&mut a.mirror.url, mirror::target(v).map(Some)))),
    row("mirror-request-body", Done(|v, a| store(&mut a.mirror.body, mirror::body(v)))),
    row("mirror-host", Done(|v, a| store(&mut a.mirror.host, mirror::host(v).map(Some)))),
    // Observability.
    row("enable-access-log", Done(|v, a| store(&mut a.logged, value::logged(v).map(Some)))),
    row("enable-rewrite-log", Warns("has no effect yet")),
    row("enable-opentelemetry", Warns("has no effect yet")),
    row("opentelemetry-trust-incoming-span", Warns("has no effect yet")),
    row("opentelemetry-operation-name", Warns("has no effect yet")),
    // Web application firewall.
    row("enable-modsecurity", Denies(When::True, "there is no web application firewall")),
    row("enable-owasp-core-rules", Denies(When::True, "there is no web application firewall")),
    row("modsecurity-transaction-id", Warns("does nothing: there is no web application firewall")),
    row("modsecurity-snippet", Denies(When::Set, "text from an object never becomes configuration")),
    // Snippets.
    row("configuration-snippet", Denies(When::Set, "text from an object never becomes configuration")),
    row("server-snippet", Denies(When::Set, "text from an object never becomes configuration")),
    row("auth-snippet", Denies(When::Set, "text from an object never becomes configuration")),
    row("stream-snippet", Denies(When::Set, "text from an object never becomes configuration")),
];

/// The prefix of annotations that ingress-nginx does not know.
const OWN_PREFIX: &str = "penstock.dev/";

/// Annotations that ingress-nginx does not know, under our own prefix only.
pub const OWN_ANNOTATIONS: &[AnnotationRow] = &[
    row("health-check", Done(|v, a| store(&mut a.health_check, health_check(v)))),
    row("passive-ejection", Done(|v, a| store(&mut a.balance.ejection, balance::ejection(v).map(Some)))),
    row("slow-start", Done(|v, a| store(&mut a.balance.slow_start, value::duration(v).map(Some)))),
];

fn health_check(text: &str) -> Result<Option<Arc<HealthCheck>>, ValueError> {
    health::parse(text).map(Some).map_err(ValueError::HealthCheck)
}

/// The row of one of our own annotations, by its whole name.
pub(super) fn find_own(key: &str) -> Option<&'static AnnotationRow> {
    let name = key.strip_prefix(OWN_PREFIX)?;
    OWN_ANNOTATIONS.iter().find(|row| row.name == name)
}

/// The row of an annotation, by its name without prefix.
pub(super) fn find(name: &str) -> Option<&'static AnnotationRow> {
    static BY_NAME: LazyLock<HashMap<&str, &AnnotationRow>> =
        LazyLock::new(|| ANNOTATIONS.iter().map(|row| (row.name, row)).collect());
    BY_NAME.get(name).copied()
}

/// The name that another spelling stands for; every other name stands for itself.
pub(super) fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name)
}

impl AnnotationRow {
    /// Applies a value; returns a problem for its author, without its field.
    pub(super) fn apply(&self, text: &str, annotations: &mut Annotations) -> Result<Option<Problem>, ValueError> {
        let name = self.name;
        let ignored = |why: &str| {
            let message = format_args!("annotation {name} {why}").to_string();
            Ok(Some(Problem::warning(Reason::AnnotationIgnored, "", message)))
        };
        if text.trim().is_empty() {
            if let DoneOrDenies(_, why) = self.state {
                return Ok(Some(deny(annotations, format!("{name}: {why}"))));
            }
            // Charts often leave an empty value behind. To ingress-nginx it is none.
            return ignored("is empty and has no effect");
        }
        match self.state {
            Done(_) | DoneOrDenies(..) if text.contains(['\n', '\r']) => Err(ValueError::LineBreak),
            Done(parse) | DoneOrDenies(parse, _) => {
                let n_denials = annotations.denials.len();
                parse(text, annotations)?;
                Ok(annotations.denials.get(n_denials).map(|why| denied(why, "this Ingress")))
            }
            Denies(when, why) if when.holds(text)? => Ok(Some(deny(annotations, format!("{name}: {why}")))),
            Denies(..) => Ok(None),
            Warns(why) => ignored(why),
        }
    }
}

impl When {
    fn holds(self, text: &str) -> Result<bool, ValueError> {
        match self {
            Self::Set => Ok(true),
            Self::True => value::boolean(text),
        }
    }
}

fn deny(annotations: &mut Annotations, why: String) -> Problem {
    let problem = denied(&why, "this Ingress");
    annotations.denials.push(why.into());
    problem
}

fn denied(why: &str, whose: &str) -> Problem {
    Problem::error(Reason::Denied, "", format_args!("annotation {why}; the paths of {whose} answer 503"))
}

const fn row(name: &'static str, state: State) -> AnnotationRow {
    AnnotationRow { name, state }
}

fn store<T>(place: &mut T, value: Result<T, ValueError>) -> Result<(), ValueError> {
    value.map(|value| *place = value)
}

fn auth_type(text: &str, annotations: &mut Annotations) -> Result<(), ValueError> {
    annotations.basic.is_on = basic::is_basic(text)?;
    if !annotations.basic.is_on {
        annotations.denials.push("auth-type: digest authentication is not spoken here".into());
    }
    Ok(())
}

fn backend_protocol(text: &str, annotations: &mut Annotations) -> Result<(), ValueError> {
    annotations.backend_protocol = value::protocol(text)?;
    if annotations.backend_protocol.is_none() {
        annotations.denials.push("backend-protocol: FastCGI is not spoken here".into());
    }
    Ok(())
}
