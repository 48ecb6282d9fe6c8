//! Every key of ingress-nginx 1.15's ConfigMap, and what becomes of it.

use super::Scope::{Connection, Request};
use super::value::{
    address_set, algorithm, boolean, conditions, count, ejection, header, locations, networks, positive, redirect_code,
    retry_time, seconds, slow_start,
};
use super::{Apply, GlobalSettings, Scope, SettingKey, SettingState, When};

const LATER: &str = "it is not there yet";
const SNIPPET: &str = "snippets are raw nginx configuration, which is never evaluated, and may restrict access";
const LOG_FILES: &str = "logs are written to the standard output and error of the process";
const SYSLOG: &str = "logs are written to standard output, from where a collector takes them";
const STREAMS: &str = "streams of TCP and UDP are not proxied yet";
const TYPED: &str = "annotations have types: none becomes configuration text, and snippets are always denied";
const NGINX_TABLES: &str = "it sizes tables of nginx, which are as large as they need to be here";
const TRACING: &str = "traces are not exported yet";
const OLD_TRACING: &str = "ingress-nginx has dropped it for OpenTelemetry";
const DESCRIPTORS: &str = "the limit follows from the file descriptors that the process may have";

/// The keys that are known, sorted.
pub const SETTING_KEYS: &[SettingKey] = &[
    ignored("access-log-params", LOG_FILES),
    ignored("access-log-path", LOG_FILES),
    ignored("add-headers", LATER),
    ignored("allow-backend-server-header", LATER),
    ignored("allow-cross-namespace-resources", "what an object refers to is looked for in its own namespace"),
    ignored("allow-snippet-annotations", TYPED),
    ignored("annotation-value-word-blocklist", TYPED),
    ignored("annotations-risk-level", TYPED),
    ignored("app-root", LATER),
    ignored("bind-address", "addresses are set by --http and --https"),
    denies("block-cidrs", When::Set, "access lists are not evaluated yet"),
    denies("block-referers", When::Set, "access lists are not evaluated yet"),
    denies("block-user-agents", When::Set, "access lists are not evaluated yet"),
    ignored("brotli-level", LATER),
    ignored("brotli-min-length", LATER),
    ignored("brotli-types", LATER),
    ignored("client-body-buffer-size", LATER),
    live("client-body-timeout", Request, |v, s| seconds(v).map(|v| s.runtime.client_body_timeout = v)),
    ignored("client-header-buffer-size", LATER),
    live("client-header-timeout", Connection, |v, s| seconds(v).map(|v| s.runtime.client_header_timeout = v))
        .note("10 seconds by default, and for the whole head: a slow one must not hold a connection for a minute."),
    live("compute-full-forwarded-for", Request, |v, s| boolean(v).map(|v| s.runtime.compute_full_forwarded_for = v)),
    ignored("custom-http-errors", LATER),
    ignored("debug-connections", "ingress-nginx reads it for its own log of errors"),
    ignored("default-type", LATER),
    restricts("denylist-source-range", Request, |v, s| address_set(v).map(|v| s.ingress.deny = v)),
    live("disable-access-log", Request, |v, s| boolean(v).map(|v| s.runtime.disable_access_log = v)),
    live("disable-http-access-log", Request, |v, s| boolean(v).map(|v| s.runtime.disable_access_log = v)),
    ignored("disable-ipv6", "addresses are set by --http and --https"),
    ignored("disable-ipv6-dns", "names are looked up as the system does"),
    ignored("disable-proxy-intercept-errors", LATER),
    ignored("disable-stream-access-log", STREAMS),
    ignored("enable-access-log-for-default-backend", "the default backend is logged as every other one"),
    ignored("enable-aio-write", "nothing is written to files"),
    ignored("enable-auth-access-log", "requests to an authentication service are not logged"),
    ignored("enable-brotli", LATER),
    denies("enable-modsecurity", When::True, "there is no web application firewall"),
    ignored("enable-multi-accept", "connections are accepted one by one"),
    ignored("enable-ocsp", "certificates are presented without a stapled OCSP answer"),
    ignored("enable-opentelemetry", TRACING),
    denies("enable-owasp-modsecurity-crs", When::True, "there is no web application firewall"),
    ignored("enable-real-ip", LATER),
    ignored("enable-serial-reloads", "nothing is reloaded"),
    ignored("enable-syslog", SYSLOG),
    ignored("enable-underscores-in-headers", LATER),
    ignored("error-log-level", "the level is set by RUST_LOG"),
    ignored("error-log-path", LOG_FILES),
    live("force-ssl-redirect", Request, |v, s| boolean(v).map(|v| s.ingress.force_ssl_redirect = v)),
    live("forwarded-for-header", Request, |v, s| header(v).map(|v| s.runtime.forwarded_for_header = v)),
    ignored("forwarded-for-proxy-protocol-header", LATER),
    live("generate-request-id", Request, |v, s| boolean(v).map(|v| s.runtime.generate_request_id = v)),
    ignored("geoip2-autoreload-in-minutes", "the database that it needs is not read"),
    ignored("global-allowed-response-headers", LATER),
    ignored("global-auth-always-set-cookie", LATER),
    ignored("global-auth-cache-duration", LATER),
    ignored("global-auth-cache-key", LATER),
    ignored("global-auth-method", LATER),
    ignored("global-auth-request-redirect", LATER),
    ignored("global-auth-response-headers", LATER),
    ignored("global-auth-signin", LATER),
    ignored("global-auth-signin-redirect-param", LATER),
    ignored("global-auth-snippet", "snippets are raw nginx configuration, which is never evaluated"),
    denies("global-auth-url", When::Set, "external authentication is not evaluated yet"),
    ignored("grpc-buffer-size-kb", "bodies are never held back"),
    ignored("gzip-disable", "old browsers that it is for are gone"),
    ignored("gzip-level", LATER),
    ignored("gzip-min-length", LATER),
    ignored("gzip-types", LATER),
    ignored("hide-headers", LATER),
    ignored("hsts", LATER),
    ignored("hsts-include-subdomains", LATER),
    ignored("hsts-max-age", LATER),
    ignored("hsts-preload", LATER),
    ignored("http-access-log-path", LOG_FILES),
    live("http-redirect-code", Request, |v, s| redirect_code(v).map(|v| s.ingress.http_redirect_code = v)),
    denies("http-snippet", When::Set, SNIPPET),
    live("http2-max-concurrent-streams", Connection, |v, s| {
        positive(v).map(|v| s.runtime.http2_max_concurrent_streams = v)
    }),
    ignored("http2-max-field-size", "ingress-nginx has dropped it: use large-client-header-buffers"),
    ignored("http2-max-header-size", "ingress-nginx has dropped it: use large-client-header-buffers"),
    ignored("http2-max-requests", "ingress-nginx has dropped it: use keep-alive-requests"),
    ignored("ignore-invalid-headers", LATER),
    ignored("jaeger-baggage-header", OLD_TRACING),
    ignored("jaeger-collector-host", OLD_TRACING),
    ignored("jaeger-collector-port", OLD_TRACING),
    ignored("jaeger-debug-header", OLD_TRACING),
    ignored("jaeger-endpoint", OLD_TRACING),
    ignored("jaeger-propagation-format", OLD_TRACING),
    ignored("jaeger-sampler-host", OLD_TRACING),
    ignored("jaeger-sampler-param", OLD_TRACING),
    ignored("jaeger-sampler-port", OLD_TRACING),
    ignored("jaeger-sampler-type", OLD_TRACING),
    ignored("jaeger-service-name", OLD_TRACING),
    ignored("jaeger-trace-baggage-header-prefix", OLD_TRACING),
    ignored("jaeger-trace-context-header-name", OLD_TRACING),
    live("keep-alive", Connection, |v, s| seconds(v).map(|v| s.runtime.keep_alive = v)),
    live("keep-alive-requests", Connection, |v, s| positive(v).map(|v| s.runtime.keep_alive_requests = v)),
    ignored("large-client-header-buffers", LATER),
    ignored("limit-conn-status-code", LATER),
    ignored("limit-conn-zone-variable", "connections are limited by client address"),
    ignored("limit-rate", LATER),
    ignored("limit-rate-after", LATER),
    ignored("limit-req-status-code", LATER),
    live("load-balance", Request, |v, s| algorithm(v).map(|v| s.upstream().balance.algorithm = v)),
    denies("location-snippet", When::Set, SNIPPET),
    ignored("log-format-escape-json", LATER),
    ignored("log-format-escape-none", LATER),
    ignored("log-format-stream", STREAMS),
    ignored("log-format-upstream", LATER),
    ignored("lua-shared-dicts", NGINX_TABLES),
    ignored("main-snippet", "snippets are raw nginx configuration, which is never evaluated"),
    ignored("map-hash-bucket-size", NGINX_TABLES),
    ignored("max-worker-connections", DESCRIPTORS),
    ignored("max-worker-open-files", DESCRIPTORS),
    ignored("modsecurity-snippet", "there is no web application firewall"),
    ignored("nginx-status-ipv4-whitelist", "/nginx_status is on the admin address only"),
    ignored("nginx-status-ipv6-whitelist", "/nginx_status is on the admin address only"),
    ignored("no-auth-locations", LATER),
    live("no-tls-redirect-locations", Request, |v, s| locations(v).map(|v| s.runtime.no_tls_redirect_locations = v)),
    ignored("opentelemetry-config", TRACING),
    ignored("opentelemetry-operation-name", TRACING),
    ignored("opentelemetry-trust-incoming-span", TRACING),
    ignored("otel-max-export-batch-size", TRACING),
    ignored("otel-max-queuesize", TRACING),
    ignored("otel-sampler", TRACING),
    ignored("otel-sampler-parent-based", TRACING),
    ignored("otel-sampler-ratio", TRACING),
    ignored("otel-schedule-delay-millis", TRACING),
    ignored("otel-service-name", TRACING),
    ignored("otlp-collector-host", TRACING),
    ignored("otlp-collector-port", TRACING),
    live("penstock-passive-ejection", Request, |v, s| ejection(v).map(|v| s.upstream().balance.ejection = v))
        .note("Ours: on, off or 5xx; what takes an endpoint out of the rotation for a while."),
    live("penstock-slow-start", Request, |v, s| slow_start(v).map(|v| s.upstream().balance.slow_start = v))
        .note("Ours: a duration such as 30s, in which a new endpoint gets less than its share."),
    live("preserve-trailing-slash", Request, |v, s| boolean(v).map(|v| s.ingress.preserve_trailing_slash = v)),
    ignored("proxy-add-original-uri-header", LATER),
    ignored("proxy-body-size", LATER),
    ignored("proxy-buffer-size", LATER),
    ignored("proxy-buffering", LATER),
    ignored("proxy-buffers-number", LATER),
    ignored("proxy-busy-buffers-size", LATER),
    live("proxy-connect-timeout", Request, |v, s| seconds(v).map(|v| s.upstream().timeouts.connect = v)),
    ignored("proxy-cookie-domain", LATER),
    ignored("proxy-cookie-path", LATER),
    ignored("proxy-headers-hash-bucket-size", NGINX_TABLES),
    ignored("proxy-headers-hash-max-size", NGINX_TABLES),
    ignored("proxy-http-version", LATER),
    ignored("proxy-max-temp-file-size", LATER),
    live("proxy-next-upstream", Request, |v, s| conditions(v).map(|v| s.upstream().retries.conditions = v)),
    live("proxy-next-upstream-timeout", Request, |v, s| retry_time(v).map(|v| s.upstream().retries.timeout = v)),
    live("proxy-next-upstream-tries", Request, |v, s| count(v).map(|v| s.upstream().retries.tries = v)),
    ignored("proxy-protocol-header-timeout", LATER),
    live("proxy-read-timeout", Request, |v, s| seconds(v).map(|v| s.upstream().timeouts.read = v)),
    live("proxy-real-ip-cidr", Request, |v, s| networks(v).map(|v| s.runtime.trusted_proxies = v)),
    ignored("proxy-redirect-from", LATER),
    ignored("proxy-redirect-to", LATER),
    ignored("proxy-request-buffering", LATER),
    live("proxy-send-timeout", Request, |v, s| seconds(v).map(|v| s.upstream().timeouts.write = v)),
    ignored("proxy-set-headers", LATER),
    ignored("proxy-ssl-location-only", "TLS towards upstreams is set for each path, never for a server"),
    ignored("proxy-stream-next-upstream", STREAMS),
    ignored("proxy-stream-next-upstream-timeout", STREAMS),
    ignored("proxy-stream-next-upstream-tries", STREAMS),
    ignored("proxy-stream-responses", STREAMS),
    ignored("proxy-stream-timeout", STREAMS),
    ignored("relative-redirects", LATER),
    live("retry-non-idempotent", Request, |v, s| boolean(v).map(|v| s.retry_non_idempotent = v)),
    ignored("reuse-port", "there is one set of sockets, shared by all threads"),
    ignored("server-name-hash-bucket-size", NGINX_TABLES),
    ignored("server-name-hash-max-size", NGINX_TABLES),
    denies("server-snippet", When::Set, SNIPPET),
    ignored("server-tokens", LATER),
    live("service-upstream", Request, |v, s| boolean(v).map(|v| s.ingress.service_upstream = v)),
    ignored("skip-access-log-urls", LATER),
    ignored("ssl-buffer-size", "records are as large as what there is to write"),
    ignored("ssl-ciphers", LATER),
    ignored("ssl-dh-param", "there are no cipher suites with DHE"),
    ignored("ssl-early-data", "early data can be replayed, and is never accepted"),
    ignored("ssl-ecdh-curve", "TLS is not done by OpenSSL: curves are chosen by the TLS library"),
    ignored("ssl-protocols", LATER),
    live("ssl-redirect", Request, |v, s| boolean(v).map(|v| s.ingress.ssl_redirect = v)),
    ignored("ssl-reject-handshake", LATER),
    ignored("ssl-session-cache", LATER),
    ignored("ssl-session-cache-size", "sessions are counted, not measured"),
    ignored("ssl-session-ticket-key", "keys of tickets are made at random, and change"),
    ignored("ssl-session-tickets", LATER),
    ignored("ssl-session-timeout", LATER),
    ignored("stream-access-log-path", LOG_FILES),
    ignored("stream-snippet", "snippets are raw nginx configuration, which is never evaluated"),
    ignored("strict-validate-path-type", TYPED),
    ignored("syslog-host", SYSLOG),
    ignored("syslog-port", SYSLOG),
    ignored("upstream-hash-by", LATER),
    ignored("upstream-hash-by-subset", LATER),
    ignored("upstream-hash-by-subset-size", LATER),
    ignored("upstream-keepalive-connections", "the pool is shared by all upstreams and as large as descriptors allow"),
    ignored("upstream-keepalive-requests", LATER),
    ignored("upstream-keepalive-time", LATER),
    live("upstream-keepalive-timeout", Request, |v, s| seconds(v).map(|v| s.runtime.upstream_keepalive_timeout = v)),
    live("use-forwarded-headers", Request, |v, s| boolean(v).map(|v| s.runtime.use_forwarded_headers = v)),
    ignored("use-geoip", "the database that it needs is not read"),
    ignored("use-geoip2", "the database that it needs is not read"),
    ignored("use-gzip", LATER),
    live("use-http2", Connection, |v, s| boolean(v).map(|v| s.runtime.use_http2 = v)),
    ignored("use-port-in-redirects", LATER),
    ignored("use-proxy-protocol", LATER),
    ignored("variables-hash-bucket-size", NGINX_TABLES),
    ignored("variables-hash-max-size", NGINX_TABLES),
    restricts("whitelist-source-range", Request, |v, s| address_set(v).map(|v| s.ingress.allow = v)),
    ignored("worker-cpu-affinity", "threads run where the scheduler puts them"),
    ignored("worker-processes", "threads are set by --threads"),
    ignored("worker-shutdown-timeout", "the drain limit is set by --drain-timeout"),
];

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static SettingKey> {
    SETTING_KEYS.binary_search_by(|key| key.name.cmp(name)).ok().map(|at| &SETTING_KEYS[at])
}

// === rows ===

const fn live(
    name: &'static str,
    scope: Scope,
    apply: fn(&str, &mut GlobalSettings) -> Result<(), &'static str>,
) -> SettingKey {
    SettingKey { name, state: SettingState::Live(scope, Apply(apply)), note: "" }
}

const fn restricts(
    name: &'static str,
    scope: Scope,
    apply: fn(&str, &mut GlobalSettings) -> Result<(), &'static str>,
) -> SettingKey {
    SettingKey { name, state: SettingState::Restricts(scope, Apply(apply)), note: "" }
}

const fn denies(name: &'static str, when: When, why: &'static str) -> SettingKey {
    SettingKey { name, state: SettingState::Denies(when, why), note: "" }
}

const fn ignored(name: &'static str, why: &'static str) -> SettingKey {
    SettingKey { name, state: SettingState::Ignored(why), note: "" }
}

impl SettingKey {
    const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
}
