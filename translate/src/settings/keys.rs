//! Every key of ingress-nginx 1.15's ConfigMap, and what becomes of it.

use routing::LogEscape;

use super::Scope::{Connection, Request};
use super::external::{
    auth_headers, auth_method, auth_redirect, auth_url, cache_key, cache_valid, cookies, parameter, signin,
};
use super::headers::reference;
use super::tls::{ciphers, protocols};
use super::value::{
    address_set, algorithm, body, boolean, buffer, conditions, count, ejection, error_code, error_statuses,
    head_buffers, header, header_names, level, locations, media_types, networks, number, patterns, positive,
    positive_time, redirect_code, retry_time, seconds, slow_start, text, time,
};
use super::{Apply, GlobalSettings, Scope, SettingKey, SettingState, When};

const STREAMED: &str = "bodies are passed on as they come, and held nowhere";
const LATER: &str = "it is not there yet";
const SNIPPET: &str = "snippets are raw nginx configuration, which is never evaluated, and may restrict access";
const LOG_FILES: &str = "logs are written to the standard output and error of the process";
const SYSLOG: &str = "logs are written to standard output, from where a collector takes them";
const STREAM_LOG: &str = "streams of TCP and UDP are counted, and not logged";
const TYPED: &str = "annotations have types: none becomes configuration text, and snippets are always denied";
const NGINX_TABLES: &str = "it sizes tables of nginx, which are as large as they need to be here";
const TRACING: &str = "traces are not exported yet";
const OLD_TRACING: &str = "ingress-nginx has dropped it for OpenTelemetry";
const DESCRIPTORS: &str = "the limit follows from the file descriptors that the process may have";

/// The keys that are known, sorted.
pub const SETTING_KEYS: &[SettingKey] = &[
    ignored("access-log-params", LOG_FILES),
    ignored("access-log-path", LOG_FILES),
    live("add-headers", Request, |v, s| reference(v).map(|v| s.add_headers = v)),
    live("allow-backend-server-header", Request, |v, s| boolean(v).map(|v| s.runtime.upstream_server_header = v)),
    ignored("allow-cross-namespace-resources", "what an object refers to is looked for in its own namespace"),
    ignored("allow-snippet-annotations", TYPED),
    ignored("annotation-value-word-blocklist", TYPED),
    ignored("annotations-risk-level", TYPED),
    ignored("app-root", LATER),
    ignored("bind-address", "addresses are set by --http and --https"),
    restricts("block-cidrs", Request, |v, s| address_set(v).map(|v| s.runtime.blocks.clients = v)).note("For every request: an annotation with an access list does not replace it, as it does in nginx."),
    restricts("block-referers", Request, |v, s| patterns(v).map(|v| s.runtime.blocks.referers = v)),
    restricts("block-user-agents", Request, |v, s| patterns(v).map(|v| s.runtime.blocks.user_agents = v)),
    live("brotli-level", Request, |v, s| level(v, 11).map(|v| s.runtime.compression.brotli.level = v)),
    live("brotli-min-length", Request, |v, s| number(v).map(|v| s.runtime.compression.brotli.min_length = v.into())),
    live("brotli-types", Request, |v, s| media_types(v).map(|v| s.runtime.compression.brotli.types = v)),
    ignored("client-body-buffer-size", STREAMED),
    live("client-body-timeout", Request, |v, s| seconds(v).map(|v| s.runtime.client_body_timeout = v)),
    ignored("client-header-buffer-size", "a head is held as a whole: large-client-header-buffers is its limit"),
    live("client-header-timeout", Connection, |v, s| seconds(v).map(|v| s.runtime.client_header_timeout = v))
        .note("10 seconds by default, and for the whole head: a slow one must not hold a connection for a minute."),
    live("compute-full-forwarded-for", Request, |v, s| boolean(v).map(|v| s.runtime.compute_full_forwarded_for = v)),
    live("custom-http-errors", Request, |v, s| error_statuses(v).map(|v| s.ingress.error_statuses = v))
        .note("Served by the global default backend; without one, answers stay as they are."),
    ignored("debug-connections", "ingress-nginx reads it for its own log of errors"),
    ignored("default-type", LATER),
    restricts("denylist-source-range", Request, |v, s| address_set(v).map(|v| s.ingress.deny = v)),
    live("disable-access-log", Request, |v, s| boolean(v).map(|v| s.runtime.disable_access_log = v)),
    live("disable-http-access-log", Request, |v, s| boolean(v).map(|v| s.runtime.disable_access_log = v)),
    ignored("disable-ipv6", "addresses are set by --http and --https"),
    ignored("disable-ipv6-dns", "names are looked up as the system does"),
    live("disable-proxy-intercept-errors", Request, |v, s| boolean(v).map(|v| s.ingress.keeps_upstream_errors = v)),
    ignored("disable-stream-access-log", STREAM_LOG),
    ignored("enable-access-log-for-default-backend", "the default backend is logged as every other one"),
    ignored("enable-aio-write", "nothing is written to files"),
    ignored("enable-auth-access-log", "requests to an authentication service are not logged"),
    live("enable-brotli", Request, |v, s| boolean(v).map(|v| s.runtime.compression.brotli.enabled = v)),
    denies("enable-modsecurity", When::True, "there is no web application firewall"),
    ignored("enable-multi-accept", "connections are accepted one by one"),
    ignored("enable-ocsp", "certificates are presented without a stapled OCSP answer"),
    ignored("enable-opentelemetry", TRACING),
    denies("enable-owasp-modsecurity-crs", When::True, "there is no web application firewall"),
    live("enable-real-ip", Request, |v, s| boolean(v).map(|v| s.runtime.enable_real_ip = v)),
    ignored("enable-serial-reloads", "nothing is reloaded"),
    ignored("enable-syslog", SYSLOG),
    live("enable-underscores-in-headers", Request, |v, s| boolean(v).map(|v| s.runtime.underscores_in_headers = v)),
    live("enable-zstd", Request, |v, s| boolean(v).map(|v| s.runtime.compression.zstd.enabled = v)).note("Not a key of ingress-nginx."),
    ignored("error-log-level", "the level is set by RUST_LOG"),
    ignored("error-log-path", LOG_FILES),
    live("force-ssl-redirect", Request, |v, s| boolean(v).map(|v| s.ingress.force_ssl_redirect = v)),
    live("forwarded-for-header", Request, |v, s| header(v).map(|v| s.runtime.forwarded_for_header = v)),
    ignored("forwarded-for-proxy-protocol-header", "nginx needs a header to pass the chain on to itself"),
    live("generate-request-id", Request, |v, s| boolean(v).map(|v| s.runtime.generate_request_id = v)),
    ignored("geoip2-autoreload-in-minutes", "the database that it needs is not read"),
    live("global-allowed-response-headers", Request, |v, s| header_names(v).map(|v| s.ingress.allowed_response_headers = v)),
    live("global-auth-always-set-cookie", Request, |v, s| cookies(v).map(|v| s.ingress.external.cookies = v)),
    restricts("global-auth-cache-duration", Request, |v, s| cache_valid(v).map(|v| s.ingress.external.cache_valid = v)),
    restricts("global-auth-cache-key", Request, |v, s| cache_key(v).map(|v| s.ingress.external.cache_key = v)),
    restricts("global-auth-method", Request, |v, s| auth_method(v).map(|v| s.ingress.external.method = v)),
    restricts("global-auth-request-redirect", Request, |v, s| auth_redirect(v).map(|v| s.ingress.external.redirect = v)),
    restricts("global-auth-response-headers", Request, |v, s| auth_headers(v).map(|v| s.ingress.external.response_headers = v)),
    restricts("global-auth-signin", Request, |v, s| signin(v).map(|v| s.ingress.external.signin = v)),
    restricts("global-auth-signin-redirect-param", Request, |v, s| parameter(v).map(|v| s.ingress.external.signin_parameter = v)),
    denies("global-auth-snippet", When::Set, SNIPPET),
    restricts("global-auth-url", Request, |v, s| auth_url(v).map(|v| s.ingress.external.url = v)).note("For every Ingress without `auth-url`, unless `enable-global-auth` is false."),
    ignored("grpc-buffer-size-kb", "bodies are never held back"),
    ignored("gzip-disable", "old browsers that it is for are gone"),
    live("gzip-level", Request, |v, s| level(v, 9).map(|v| s.runtime.compression.gzip.level = v)),
    live("gzip-min-length", Request, |v, s| number(v).map(|v| s.runtime.compression.gzip.min_length = v.into())),
    live("gzip-types", Request, |v, s| media_types(v).map(|v| s.runtime.compression.gzip.types = v)),
    live("hide-headers", Request, |v, s| header_names(v).map(|v| s.runtime.hide_headers = v)),
    live("hsts", Request, |v, s| boolean(v).map(|v| s.hsts.enabled = v)),
    live("hsts-include-subdomains", Request, |v, s| boolean(v).map(|v| s.hsts.include_subdomains = v)),
    live("hsts-max-age", Request, |v, s| number(v).map(|v| s.hsts.max_age = v)),
    live("hsts-preload", Request, |v, s| boolean(v).map(|v| s.hsts.preload = v)),
    ignored("http-access-log-path", LOG_FILES),
    live("http-redirect-code", Request, |v, s| redirect_code(v).map(|v| s.ingress.http_redirect_code = v)),
    denies("http-snippet", When::Set, SNIPPET),
    live("http2-max-concurrent-streams", Connection, |v, s| {
        positive(v).map(|v| s.runtime.http2_max_concurrent_streams = v)
    }),
    ignored("http2-max-field-size", "ingress-nginx has dropped it: use large-client-header-buffers"),
    ignored("http2-max-header-size", "ingress-nginx has dropped it: use large-client-header-buffers"),
    ignored("http2-max-requests", "ingress-nginx has dropped it: use keep-alive-requests"),
    live("ignore-invalid-headers", Request, |v, s| boolean(v).map(|v| s.runtime.ignore_invalid_headers = v)),
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
    live("large-client-header-buffers", Connection, |v, s| head_buffers(v).map(|v| s.runtime.head = v)).note("By default a target may take 8k and a head 60k. Whatever the value: 414 for the target, 431 for the rest, and 128 headers at most."),
    live("limit-conn-status-code", Request, |v, s| error_code(v).map(|v| s.ingress.limit_conn_status = v)),
    ignored("limit-conn-zone-variable", "connections are limited by client address"),
    ignored("limit-rate", LATER),
    ignored("limit-rate-after", LATER),
    live("limit-req-status-code", Request, |v, s| error_code(v).map(|v| s.ingress.limit_req_status = v)),
    live("load-balance", Request, |v, s| algorithm(v).map(|v| s.upstream().balance.algorithm = v)),
    denies("location-snippet", When::Set, SNIPPET),
    live("log-format-escape-json", Request, |v, s| boolean(v).map(|v| s.log_escape = if v { LogEscape::Json } else { LogEscape::Default })),
    ignored("log-format-escape-none", "what a client sends is always escaped"),
    ignored("log-format-stream", STREAM_LOG),
    live("log-format-upstream", Request, |v, s| text(v).map(|v| s.log_format = v)).note("For --access-log text. Credentials ($http_authorization, $http_cookie, $sent_http_set_cookie) are not variables here."),
    ignored("lua-shared-dicts", NGINX_TABLES),
    ignored("main-snippet", "snippets are raw nginx configuration, which is never evaluated"),
    ignored("map-hash-bucket-size", NGINX_TABLES),
    ignored("max-worker-connections", DESCRIPTORS),
    ignored("max-worker-open-files", DESCRIPTORS),
    ignored("modsecurity-snippet", "there is no web application firewall"),
    ignored("nginx-status-ipv4-whitelist", "/nginx_status is on the admin address only"),
    ignored("nginx-status-ipv6-whitelist", "/nginx_status is on the admin address only"),
    restricts("no-auth-locations", Request, |v, s| locations(v).map(|v| s.ingress.no_auth_locations = v)).note("For basic authentication too, as in ingress-nginx."),
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
    live("proxy-add-original-uri-header", Request, |v, s| boolean(v).map(|v| s.runtime.original_uri_header = v)),
    live("proxy-body-size", Request, |v, s| body(v).map(|v| s.ingress.sizes.request_body = v)),
    live("proxy-buffer-size", Request, |v, s| buffer(v).map(|v| s.ingress.sizes.response_head = v)).note("It is the limit of the head of an HTTP/1 answer; a larger one answers 502."),
    ignored("proxy-buffering", STREAMED),
    ignored("proxy-buffers-number", STREAMED),
    ignored("proxy-busy-buffers-size", STREAMED),
    live("proxy-connect-timeout", Request, |v, s| seconds(v).map(|v| s.upstream().timeouts.connect = v)),
    ignored("proxy-cookie-domain", LATER),
    ignored("proxy-cookie-path", LATER),
    ignored("proxy-headers-hash-bucket-size", NGINX_TABLES),
    ignored("proxy-headers-hash-max-size", NGINX_TABLES),
    ignored("proxy-http-version", LATER),
    ignored("proxy-max-temp-file-size", STREAMED),
    live("proxy-next-upstream", Request, |v, s| conditions(v).map(|v| s.upstream().retries.conditions = v)),
    live("proxy-next-upstream-timeout", Request, |v, s| retry_time(v).map(|v| s.upstream().retries.timeout = v)),
    live("proxy-next-upstream-tries", Request, |v, s| count(v).map(|v| s.upstream().retries.tries = v)),
    live("proxy-protocol-header-timeout", Connection, |v, s| seconds(v).map(|v| s.runtime.proxy_protocol_header_timeout = v)),
    live("proxy-read-timeout", Request, |v, s| seconds(v).map(|v| s.upstream().timeouts.read = v)),
    live("proxy-real-ip-cidr", Request, |v, s| networks(v).map(|v| s.runtime.trusted_proxies = v)),
    ignored("proxy-redirect-from", LATER),
    ignored("proxy-redirect-to", LATER),
    ignored("proxy-request-buffering", STREAMED),
    live("proxy-send-timeout", Request, |v, s| seconds(v).map(|v| s.upstream().timeouts.write = v)),
    live("proxy-set-headers", Request, |v, s| reference(v).map(|v| s.proxy_set_headers = v)).note("Values may have the variables that redirects know. Host and the headers that frame a message are not set."),
    ignored("proxy-ssl-location-only", "TLS towards upstreams is set for each path, never for a server"),
    live("proxy-stream-next-upstream", Connection, |v, s| boolean(v).map(|v| s.runtime.stream.next_upstream = v)),
    live("proxy-stream-next-upstream-timeout", Connection, |v, s| {
        time(v).map(|v| s.runtime.stream.next_upstream_timeout = Some(v).filter(|time| !time.is_zero()))
    }),
    live("proxy-stream-next-upstream-tries", Connection, |v, s| count(v).map(|v| s.runtime.stream.next_upstream_tries = v)),
    live("proxy-stream-responses", Connection, |v, s| count(v).map(|v| s.runtime.stream.responses = v)),
    live("proxy-stream-timeout", Connection, |v, s| positive_time(v).map(|v| s.runtime.stream.timeout = v)).note("Connections to endpoints have proxy-connect-timeout, where nginx has a minute."),
    live("relative-redirects", Request, |v, s| boolean(v).map(|v| s.ingress.relative_redirects = v)),
    live("retry-non-idempotent", Request, |v, s| boolean(v).map(|v| s.retry_non_idempotent = v)),
    ignored("reuse-port", "there is one set of sockets, shared by all threads"),
    ignored("server-name-hash-bucket-size", NGINX_TABLES),
    ignored("server-name-hash-max-size", NGINX_TABLES),
    denies("server-snippet", When::Set, SNIPPET),
    live("server-tokens", Request, |v, s| boolean(v).map(|v| s.runtime.server_header = v)).note("It names Penstock, without a version."),
    live("service-upstream", Request, |v, s| boolean(v).map(|v| s.ingress.service_upstream = v)),
    live("skip-access-log-urls", Request, |v, s| patterns(v).map(|v| s.runtime.skip_access_log = v)),
    ignored("ssl-buffer-size", "records are as large as what there is to write"),
    live("ssl-ciphers", Connection, ciphers).note("The suites of TLS 1.2 with ECDHE and AES-GCM or ChaCha20, in this order of preference; other names are left out with a warning. Those of TLS 1.3 are always on."),
    ignored("ssl-dh-param", "there are no cipher suites with DHE"),
    ignored("ssl-early-data", "early data can be replayed, and is never accepted"),
    ignored("ssl-ecdh-curve", "TLS is not done by OpenSSL: curves are chosen by the TLS library"),
    live("ssl-protocols", Connection, protocols).note("TLS 1.2 and 1.3 only: a name of an older version is left out with a warning."),
    live("ssl-redirect", Request, |v, s| boolean(v).map(|v| s.ingress.ssl_redirect = v)),
    live("ssl-reject-handshake", Connection, |v, s| boolean(v).map(|v| s.runtime.tls.reject_unknown_names = v)),
    live("ssl-session-cache", Connection, |v, s| boolean(v).map(|v| s.runtime.tls.session_cache = v)),
    ignored("ssl-session-cache-size", "sessions are counted, not measured"),
    ignored("ssl-session-ticket-key", "the key of tickets is made at random, and changes every six hours"),
    live("ssl-session-tickets", Connection, |v, s| boolean(v).map(|v| s.runtime.tls.session_tickets = v)),
    ignored("ssl-session-timeout", "a session ends when newer ones take its place"),
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
    live("use-gzip", Request, |v, s| boolean(v).map(|v| s.runtime.compression.gzip.enabled = v)).note("Answers of HTTP/1 upstreams, with status 200, 403 or 404; brotli before zstd before gzip."),
    live("use-http2", Connection, |v, s| boolean(v).map(|v| s.runtime.use_http2 = v)),
    live("use-port-in-redirects", Request, |v, s| boolean(v).map(|v| s.ingress.port_in_redirects = v)),
    live("use-proxy-protocol", Connection, |v, s| boolean(v).map(|v| s.runtime.use_proxy_protocol = v)),
    ignored("variables-hash-bucket-size", NGINX_TABLES),
    ignored("variables-hash-max-size", NGINX_TABLES),
    restricts("whitelist-source-range", Request, |v, s| address_set(v).map(|v| s.ingress.allow = v)),
    ignored("worker-cpu-affinity", "threads run where the scheduler puts them"),
    ignored("worker-processes", "threads are set by --threads"),
    ignored("worker-shutdown-timeout", "the drain limit is set by --drain-timeout"),
    live("zstd-level", Request, |v, s| level(v, 19).map(|v| s.runtime.compression.zstd.level = v)).note("Not a key of ingress-nginx."),
    live("zstd-min-length", Request, |v, s| number(v).map(|v| s.runtime.compression.zstd.min_length = v.into())).note("Not a key of ingress-nginx."),
    live("zstd-types", Request, |v, s| media_types(v).map(|v| s.runtime.compression.zstd.types = v)).note("Not a key of ingress-nginx."),
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
