//! The ConfigMap of `--configmap`: ingress-nginx's keys in one table, each with its parser.
//!
//! `docs/configmap.md` shows the table to users; a test holds it to this one.

mod external;
mod headers;
mod keys;
mod tls;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use routing::model::{Ejection, RetryCondition, SizeLimits, UpstreamPolicy};
use routing::{LogEscape, LogFormat, Networks, Settings};

pub use self::keys::SETTING_KEYS;
use self::tls::Hsts;
use self::value::boolean;
use crate::ingress::annotations::ExternalAnnotations;
use crate::problem::{Problem, Reason};
use crate::resources::{ConfigMap, NamespacedName};

/// All that the ConfigMap says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GlobalSettings {
    /// What holds while requests run.
    pub(crate) runtime: Settings,
    /// What is a default of every Ingress.
    pub(crate) ingress: IngressDefaults,
    /// `retry-non-idempotent`, which adds to the conditions of whichever key sets them.
    retry_non_idempotent: bool,
    /// Keys that make one header together.
    hsts: Hsts,
    /// `add-headers`: the ConfigMap with headers of answers.
    add_headers: Option<NamespacedName>,
    /// `proxy-set-headers`: the ConfigMap with headers of requests.
    proxy_set_headers: Option<NamespacedName>,
    /// `log-format-upstream`.
    log_format: Option<Box<str>>,
    /// `log-format-escape-json`.
    log_escape: LogEscape,
    /// Parts of the value at hand that are not known and were left out.
    unknown: Vec<Box<str>>,
}

/// Defaults of every Ingress, which its annotations override.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IngressDefaults {
    /// `ssl-redirect`.
    pub(crate) ssl_redirect: bool,
    /// `force-ssl-redirect`.
    pub(crate) force_ssl_redirect: bool,
    /// `preserve-trailing-slash`.
    pub(crate) preserve_trailing_slash: bool,
    /// `relative-redirects`.
    pub(crate) relative_redirects: bool,
    /// `use-port-in-redirects`.
    pub(crate) port_in_redirects: bool,
    /// `custom-http-errors`.
    pub(crate) error_statuses: Box<[u16]>,
    /// `disable-proxy-intercept-errors`.
    pub(crate) keeps_upstream_errors: bool,
    /// `http-redirect-code`.
    pub(crate) http_redirect_code: u16,
    /// `limit-req-status-code`: the status of what comes too fast.
    pub(crate) limit_req_status: u16,
    /// `limit-conn-status-code`: the status of what is too much at a time.
    pub(crate) limit_conn_status: u16,
    /// `whitelist-source-range`: who gets through, and with that nobody else; an empty set says nothing.
    pub(crate) allow: Networks,
    /// `denylist-source-range`: who does not get through.
    pub(crate) deny: Networks,
    /// `load-balance`, `proxy-connect-timeout`, `proxy-next-upstream` and their like.
    pub(crate) upstream: Arc<UpstreamPolicy>,
    /// `service-upstream`.
    pub(crate) service_upstream: bool,
    /// `global-allowed-response-headers`: headers that `custom-headers` may set.
    pub(crate) allowed_response_headers: Vec<HeaderName>,
    /// `proxy-body-size` and `proxy-buffer-size`.
    pub(crate) sizes: SizeLimits,
    /// `global-auth-url` and its like: for every Ingress that has no `auth-url` of its own.
    pub(crate) external: ExternalAnnotations,
    /// `no-auth-locations`: paths below these ask nobody who is there.
    pub(crate) no_auth_locations: Vec<Box<str>>,
    /// Why the paths of every Ingress answer 503; empty when they do not.
    pub(crate) denials: Vec<Box<str>>,
}

/// A key of the ConfigMap.
#[derive(Clone, Copy, Debug)]
pub struct SettingKey {
    /// Its name.
    pub name: &'static str,
    /// What becomes of it.
    pub state: SettingState,
    /// What its users should know beside that: where it differs from ingress-nginx; empty for nothing.
    pub note: &'static str,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug)]
pub enum SettingState {
    /// It works, and a change is live at once for all that begins after it.
    Live(Scope, Apply),
    /// It works and restricts access: every Ingress answers 503 while its value cannot be read.
    Restricts(Scope, Apply),
    /// It restricts access and does not work: every Ingress answers 503 while it is set, for this reason.
    Denies(When, &'static str),
    /// It has no effect, for this reason.
    Ignored(&'static str),
}

/// What reads a setting when it begins, and keeps it until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A connection of a client.
    Connection,
    /// A request.
    Request,
}

/// Which values of a key restrict access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Every value but the empty one.
    Set,
    /// A true boolean.
    True,
}

/// Writes a value into the settings; the error says what a value must be.
#[derive(Clone, Copy)]
pub struct Apply(fn(&str, &mut GlobalSettings) -> Result<(), &'static str>);

impl GlobalSettings {
    /// Reads the keys of the ConfigMap over the defaults, with the others that it names. A value that is not one keeps
    /// its default, and is reported.
    pub(crate) fn parse(
        data: Option<&BTreeMap<String, String>>,
        maps: &BTreeMap<NamespacedName, ConfigMap>,
    ) -> (Self, Vec<Problem>) {
        let mut settings = Self::default();
        let mut problems = Vec::new();
        for (name, value) in data.into_iter().flatten() {
            let field = format!("data.{name}");
            let problem = match keys::find(name).map(|key| key.state) {
                None => Some(Problem::warning(
                    Reason::SettingUnknown,
                    field,
                    format_args!("key {name} is not known and has no effect"),
                )),
                Some(SettingState::Ignored(why)) => Some(Problem::warning(
                    Reason::SettingIgnored,
                    field,
                    format_args!("key {name} has no effect: {why}"),
                )),
                Some(SettingState::Denies(when, why)) => when.holds(value.trim()).then(|| {
                    settings.ingress.denials.push(format!("{name}: {why}").into());
                    Problem::error(Reason::Denied, field, format_args!("key {name}: {why}; every Ingress answers 503"))
                }),
                Some(SettingState::Restricts(_, Apply(apply))) => {
                    apply(value.trim(), &mut settings).err().map(|wanted| {
                        let why = format!("{name}: {value:?} is not {wanted}");
                        let problem =
                            Problem::error(Reason::Denied, field, format_args!("key {why}; every Ingress answers 503"));
                        settings.ingress.denials.push(why.into());
                        problem
                    })
                }
                Some(SettingState::Live(_, Apply(apply))) => match apply(value.trim(), &mut settings) {
                    Ok(()) => settings.take_unknown().map(|unknown| {
                        let message = format_args!("key {name}: {unknown} is not known here and has no effect");
                        Problem::warning(Reason::SettingIgnored, field, message)
                    }),
                    Err(wanted) => {
                        let message = format_args!("key {name}: {value:?} is not {wanted}; the default holds");
                        Some(Problem::error(Reason::InvalidValue, field, message))
                    }
                },
            };
            problems.extend(problem);
        }
        if settings.retry_non_idempotent {
            let retries = &mut settings.upstream().retries;
            retries.conditions = retries.conditions.with(RetryCondition::NonIdempotent);
        }
        settings.runtime.stream.connect_timeout = settings.ingress.upstream.timeouts.connect;
        settings.runtime.stream.ejects = settings.ingress.upstream.balance.ejection != Ejection::Off;
        settings.runtime.tls.strict_transport_security = settings.hsts.header();
        let (answers, requests) = (settings.add_headers.as_ref(), settings.proxy_set_headers.as_ref());
        settings.runtime.response_headers = headers::read("add-headers", answers, maps, &mut problems);
        settings.runtime.request_headers = headers::read("proxy-set-headers", requests, maps, &mut problems);
        if let Some(format) = &settings.log_format {
            settings.runtime.log_format = LogFormat::parse(format, settings.log_escape).map(Box::new);
            if settings.runtime.log_format.is_none() {
                let message = "key log-format-upstream: a variable is not known here; the default format holds";
                problems.push(Problem::error(Reason::InvalidValue, "data.log-format-upstream", message));
            }
        }
        (settings, problems)
    }

    /// The way to upstreams, to be changed.
    fn upstream(&mut self) -> &mut UpstreamPolicy {
        Arc::make_mut(&mut self.ingress.upstream)
    }

    /// The ConfigMaps that the settings name.
    pub(crate) fn named_config_maps(&self) -> impl Iterator<Item = &NamespacedName> {
        self.add_headers.iter().chain(&self.proxy_set_headers)
    }

    fn take_unknown(&mut self) -> Option<String> {
        let unknown = std::mem::take(&mut self.unknown);
        (!unknown.is_empty()).then(|| unknown.join(", "))
    }
}

impl Default for IngressDefaults {
    fn default() -> Self {
        Self {
            ssl_redirect: true,
            force_ssl_redirect: false,
            preserve_trailing_slash: false,
            error_statuses: Box::default(),
            keeps_upstream_errors: false,
            relative_redirects: false,
            port_in_redirects: false,
            http_redirect_code: 308,
            limit_req_status: 503,
            limit_conn_status: 503,
            allow: Networks::default(),
            deny: Networks::default(),
            upstream: Arc::default(),
            service_upstream: false,
            allowed_response_headers: Vec::new(),
            sizes: SizeLimits::default(),
            external: ExternalAnnotations::default(),
            no_auth_locations: vec!["/.well-known/acme-challenge".into()],
            denials: Vec::new(),
        }
    }
}

impl When {
    fn holds(self, text: &str) -> bool {
        match self {
            Self::Set => !text.is_empty(),
            // What is no boolean is off in ingress-nginx too.
            Self::True => boolean(text).unwrap_or(false),
        }
    }
}

impl std::fmt::Debug for Apply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Apply")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> (GlobalSettings, Vec<Problem>) {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        GlobalSettings::parse(Some(&data), &BTreeMap::new())
    }

    #[test]
    fn a_key_of_ingress_nginx_means_here_what_it_means_there() {
        let (settings, problems) = parse(&[
            ("ssl-redirect", "false"),
            ("http-redirect-code", "301"),
            ("proxy-real-ip-cidr", "10.0.0.0/8, 192.0.2.1"),
            ("keep-alive", "5"),
            ("client-header-timeout", "20s"),
            ("forwarded-for-header", "X-Client"),
            ("no-tls-redirect-locations", "/a,/b"),
        ]);
        assert_eq!(problems, []);
        assert!(!settings.ingress.ssl_redirect);
        assert_eq!(settings.ingress.http_redirect_code, 301);
        assert!(settings.runtime.trusted_proxies.contain("192.0.2.1".parse().unwrap()));
        assert!(!settings.runtime.trusted_proxies.contain("192.0.2.2".parse().unwrap()));
        assert_eq!(settings.runtime.keep_alive, Duration::from_secs(5));
        assert_eq!(settings.runtime.client_header_timeout, Duration::from_secs(20));
        assert_eq!(settings.runtime.forwarded_for_header, "x-client");
        assert!(settings.runtime.is_exempt_from_tls_redirect("/b/c"));
        assert_eq!(GlobalSettings::parse(None, &BTreeMap::new()).0.runtime, Settings::default());
    }

    #[test]
    fn a_bad_value_is_named_and_keeps_the_default() {
        let (settings, problems) = parse(&[
            ("http-redirect-code", "200"),
            ("keep-alive", "0"),
            ("nonsense", "1"),
            ("proxy-real-ip-cidr", "10.0.0.0/40"),
            ("use-http2", "yes"),
            ("worker-processes", "4"),
        ]);
        assert_eq!(settings, GlobalSettings::parse(None, &BTreeMap::new()).0);
        let reasons: Vec<_> = problems.iter().map(|problem| (problem.field.as_str(), problem.reason)).collect();
        assert_eq!(
            reasons,
            [
                ("data.http-redirect-code", Reason::InvalidValue),
                ("data.keep-alive", Reason::InvalidValue),
                ("data.nonsense", Reason::SettingUnknown),
                ("data.proxy-real-ip-cidr", Reason::InvalidValue),
                ("data.use-http2", Reason::InvalidValue),
                ("data.worker-processes", Reason::SettingIgnored),
            ]
        );
    }

    #[test]
    fn the_table_is_sorted_and_has_each_key_once() {
        assert!(SETTING_KEYS.is_sorted_by(|a, b| a.name < b.name));
    }
}
