//! The ConfigMap of `--configmap`: ingress-nginx's keys in one table, each with its parser.

use std::collections::BTreeMap;
use std::time::Duration;

use routing::{Networks, Settings, TrustedProxies};

use crate::ingress::annotations;
use crate::problem::{Problem, Reason};

/// All that the ConfigMap says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GlobalSettings {
    /// What holds while requests run.
    pub(crate) runtime: Settings,
    /// What is a default of every Ingress.
    pub(crate) ingress: IngressDefaults,
}

/// Defaults of every Ingress, which its annotations override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IngressDefaults {
    /// `ssl-redirect`.
    pub(crate) ssl_redirect: bool,
    /// `force-ssl-redirect`.
    pub(crate) force_ssl_redirect: bool,
    /// `preserve-trailing-slash`.
    pub(crate) preserve_trailing_slash: bool,
    /// `http-redirect-code`.
    pub(crate) http_redirect_code: u16,
    /// `whitelist-source-range`: who gets through, and with that nobody else; an empty set says nothing.
    pub(crate) allow: Networks,
    /// `denylist-source-range`: who does not get through.
    pub(crate) deny: Networks,
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
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug)]
pub enum SettingState {
    /// It works, and a change is live at once.
    Live(Apply),
    /// It works and restricts access: every Ingress answers 503 while its value cannot be read.
    Restricts(Apply),
    /// It restricts access and does not work: every Ingress answers 503 while it is set, for this reason.
    Denies(When, &'static str),
    /// It has no effect, for this reason.
    Ignored(&'static str),
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

/// The keys that are known.
pub const SETTING_KEYS: &[SettingKey] = &[
    live("client-body-timeout", |v, s| seconds(v).map(|v| s.runtime.client_body_timeout = v)),
    live("client-header-timeout", |v, s| seconds(v).map(|v| s.runtime.client_header_timeout = v)),
    live("compute-full-forwarded-for", |v, s| boolean(v).map(|v| s.runtime.compute_full_forwarded_for = v)),
    live("disable-access-log", |v, s| boolean(v).map(|v| s.runtime.disable_access_log = v)),
    live("force-ssl-redirect", |v, s| boolean(v).map(|v| s.ingress.force_ssl_redirect = v)),
    live("forwarded-for-header", |v, s| header(v).map(|v| s.runtime.forwarded_for_header = v)),
    live("generate-request-id", |v, s| boolean(v).map(|v| s.runtime.generate_request_id = v)),
    live("http-redirect-code", |v, s| redirect_code(v).map(|v| s.ingress.http_redirect_code = v)),
    live("http2-max-concurrent-streams", |v, s| positive(v).map(|v| s.runtime.http2_max_concurrent_streams = v)),
    live("keep-alive", |v, s| seconds(v).map(|v| s.runtime.keep_alive = v)),
    live("keep-alive-requests", |v, s| positive(v).map(|v| s.runtime.keep_alive_requests = v)),
    live("no-tls-redirect-locations", |v, s| locations(v).map(|v| s.runtime.no_tls_redirect_locations = v)),
    live("preserve-trailing-slash", |v, s| boolean(v).map(|v| s.ingress.preserve_trailing_slash = v)),
    live("proxy-real-ip-cidr", |v, s| networks(v).map(|v| s.runtime.trusted_proxies = v)),
    live("ssl-redirect", |v, s| boolean(v).map(|v| s.ingress.ssl_redirect = v)),
    live("upstream-keepalive-timeout", |v, s| seconds(v).map(|v| s.runtime.upstream_keepalive_timeout = v)),
    live("use-forwarded-headers", |v, s| boolean(v).map(|v| s.runtime.use_forwarded_headers = v)),
    live("use-http2", |v, s| boolean(v).map(|v| s.runtime.use_http2 = v)),
    restricts("denylist-source-range", |v, s| address_set(v).map(|v| s.ingress.deny = v)),
    restricts("whitelist-source-range", |v, s| address_set(v).map(|v| s.ingress.allow = v)),
    denies("block-cidrs", When::Set, "access lists are not evaluated yet"),
    denies("block-referers", When::Set, "access lists are not evaluated yet"),
    denies("block-user-agents", When::Set, "access lists are not evaluated yet"),
    denies("enable-modsecurity", When::True, "there is no web application firewall"),
    denies("enable-owasp-modsecurity-crs", When::True, "there is no web application firewall"),
    denies("global-auth-url", When::Set, "external authentication is not evaluated yet"),
    ignored("worker-processes", "threads are set by --threads"),
    ignored("worker-shutdown-timeout", "the drain limit is set by --drain-timeout"),
    ignored("reuse-port", "there is one set of sockets, shared by all threads"),
];

impl GlobalSettings {
    /// Reads the keys of the ConfigMap over the defaults. A value that is not one keeps its default, and is reported.
    pub(crate) fn parse(data: Option<&BTreeMap<String, String>>) -> (Self, Vec<Problem>) {
        let mut settings = Self { runtime: Settings::default(), ingress: IngressDefaults::default() };
        let mut problems = Vec::new();
        for (name, value) in data.into_iter().flatten() {
            let field = format!("data.{name}");
            let problem = match SETTING_KEYS.iter().find(|key| key.name == name).map(|key| key.state) {
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
                Some(SettingState::Restricts(Apply(apply))) => apply(value.trim(), &mut settings).err().map(|wanted| {
                    let why = format!("{name}: {value:?} is not {wanted}");
                    let problem =
                        Problem::error(Reason::Denied, field, format_args!("key {why}; every Ingress answers 503"));
                    settings.ingress.denials.push(why.into());
                    problem
                }),
                Some(SettingState::Live(Apply(apply))) => apply(value.trim(), &mut settings).err().map(|wanted| {
                    Problem::error(
                        Reason::InvalidValue,
                        field,
                        format_args!("key {name}: {value:?} is not {wanted}; the default holds"),
                    )
                }),
            };
            problems.extend(problem);
        }
        (settings, problems)
    }
}

impl Default for IngressDefaults {
    fn default() -> Self {
        Self {
            ssl_redirect: true,
            force_ssl_redirect: false,
            preserve_trailing_slash: false,
            http_redirect_code: 308,
            allow: Networks::default(),
            deny: Networks::default(),
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

const fn live(name: &'static str, apply: fn(&str, &mut GlobalSettings) -> Result<(), &'static str>) -> SettingKey {
    SettingKey { name, state: SettingState::Live(Apply(apply)) }
}

const fn restricts(name: &'static str, apply: fn(&str, &mut GlobalSettings) -> Result<(), &'static str>) -> SettingKey {
    SettingKey { name, state: SettingState::Restricts(Apply(apply)) }
}

const fn denies(name: &'static str, when: When, why: &'static str) -> SettingKey {
    SettingKey { name, state: SettingState::Denies(when, why) }
}

const fn ignored(name: &'static str, why: &'static str) -> SettingKey {
    SettingKey { name, state: SettingState::Ignored(why) }
}

// === values ===

fn boolean(text: &str) -> Result<bool, &'static str> {
    annotations::boolean(text).map_err(|_| "\"true\" or \"false\"")
}

/// A number of seconds; the unit `s` may stand behind it.
fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or("a number of seconds from 1 to 86400")
}

fn positive(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|number| *number > 0).ok_or("a number from 1 up")
}

fn redirect_code(text: &str) -> Result<u16, &'static str> {
    text.parse().ok().filter(|code| matches!(code, 301 | 302 | 307 | 308)).ok_or("301, 302, 307 or 308")
}

fn header(text: &str) -> Result<http::HeaderName, &'static str> {
    text.parse().map_err(|_| "the name of a header")
}

fn locations(text: &str) -> Result<Vec<Box<str>>, &'static str> {
    let locations = text.split(',').map(str::trim).filter(|location| !location.is_empty());
    let is_path = |location: &&str| location.starts_with('/');
    if locations.clone().all(|location| is_path(&location)) {
        Ok(locations.map(Into::into).collect())
    } else {
        Err("a list of paths, separated by commas")
    }
}

fn networks(text: &str) -> Result<TrustedProxies, &'static str> {
    let networks = text.split(',').map(str::trim).filter(|network| !network.is_empty());
    let parsed: Option<Vec<ipnet::IpNet>> = networks
        .map(|network| {
            network.parse().ok().or_else(|| network.parse().ok().map(|address: std::net::IpAddr| address.into()))
        })
        .collect();
    parsed.map(TrustedProxies::new).ok_or("a list of networks in CIDR form, separated by commas")
}

/// The networks of an access list; no value is none.
fn address_set(text: &str) -> Result<Networks, &'static str> {
    if text.is_empty() {
        return Ok(Networks::default());
    }
    annotations::networks(text).map_err(|_| "a list of networks in CIDR form, separated by commas")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> (GlobalSettings, Vec<Problem>) {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        GlobalSettings::parse(Some(&data))
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
        assert_eq!(GlobalSettings::parse(None).0.runtime, Settings::default());
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
        assert_eq!(settings, GlobalSettings::parse(None).0);
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
        let live = |key: &&SettingKey| matches!(key.state, SettingState::Live(_));
        assert!(SETTING_KEYS.iter().filter(live).is_sorted_by(|a, b| a.name < b.name));
        let mut names: Vec<_> = SETTING_KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTING_KEYS.len());
    }
}
