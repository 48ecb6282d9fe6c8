//! Global settings that hold while the gateway runs (the ConfigMap of `--configmap`).

mod blocks;
mod compression;
mod head;
mod headers;
mod log_format;
mod patterns;
mod stream;
mod tls;

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use serde::{Serialize, Serializer};

pub use self::blocks::Blocks;
pub use self::compression::{Coding, Compression};
pub use self::head::HeadLimits;
pub use self::headers::{HeaderText, HeaderTextError};
pub use self::log_format::{LogEscape, LogFormat, LogPart, LogVariable};
pub use self::patterns::TextPattern;
pub use self::stream::StreamSettings;
pub use self::tls::{CipherSuite, TlsSettings, TlsVersions};
use crate::model::CertificateRef;

/// Settings that the data plane reads for connections and requests. The names in the comments are the keys of
/// ingress-nginx's ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// `no-tls-redirect-locations`: paths below these are not redirected to HTTPS.
    pub no_tls_redirect_locations: Vec<Box<str>>,
    /// `use-forwarded-headers`: believes `X-Forwarded-*` of trusted proxies.
    pub use_forwarded_headers: bool,
    /// `compute-full-forwarded-for`: appends to a trusted proxy's list instead of replacing it.
    pub compute_full_forwarded_for: bool,
    /// `forwarded-for-header`: the header that names the client.
    #[serde(serialize_with = "header_name")]
    pub forwarded_for_header: HeaderName,
    /// `enable-real-ip`: believes the address of the client in `forwarded-for-header`, and nothing else, of trusted
    /// proxies.
    pub enable_real_ip: bool,
    /// `use-proxy-protocol`: every connection begins with a PROXY header.
    pub use_proxy_protocol: bool,
    /// `proxy-protocol-header-timeout`: for the whole of it.
    #[serde(serialize_with = "whole_seconds")]
    pub proxy_protocol_header_timeout: Duration,
    /// `proxy-real-ip-cidr`: peers whose forwarded headers and PROXY headers are believed.
    pub trusted_proxies: TrustedProxies,
    /// `generate-request-id`: gives requests without `X-Request-ID` a random one.
    pub generate_request_id: bool,
    /// `use-http2`: offers HTTP/2 by ALPN and accepts it with prior knowledge in plain text.
    pub use_http2: bool,
    /// `client-header-timeout`: for the whole head of a request, from its first byte, and for a TLS handshake.
    #[serde(serialize_with = "whole_seconds")]
    pub client_header_timeout: Duration,
    /// `client-body-timeout`: between two reads of a request body, and between two writes of an answer.
    #[serde(serialize_with = "whole_seconds")]
    pub client_body_timeout: Duration,
    /// `keep-alive`: how long an idle connection stays open.
    #[serde(serialize_with = "whole_seconds")]
    pub keep_alive: Duration,
    /// `large-client-header-buffers`, `client-header-buffer-size`.
    pub head: HeadLimits,
    /// `ignore-invalid-headers`: drops headers whose names have other characters than letters, digits and dashes.
    pub ignore_invalid_headers: bool,
    /// `enable-underscores-in-headers`: takes underscores in names for valid.
    pub underscores_in_headers: bool,
    /// `keep-alive-requests`: how many requests one HTTP/1 connection may carry.
    pub keep_alive_requests: u32,
    /// `http2-max-concurrent-streams`.
    pub http2_max_concurrent_streams: u32,
    /// `upstream-keepalive-timeout`: how long an idle connection to an upstream stays open.
    #[serde(serialize_with = "whole_seconds")]
    pub upstream_keepalive_timeout: Duration,
    /// `disable-access-log`.
    pub disable_access_log: bool,
    /// `log-format-upstream`, `log-format-escape-json`; `None` for ingress-nginx's own format.
    pub log_format: Option<Box<LogFormat>>,
    /// `skip-access-log-urls`: requests for these are not logged.
    pub skip_access_log: Vec<TextPattern>,
    /// `block-cidrs`, `block-user-agents`, `block-referers`.
    pub blocks: Blocks,
    /// `proxy-set-headers`: headers of requests to upstreams.
    pub request_headers: Vec<HeaderText>,
    /// `proxy-add-original-uri-header`: tells upstreams the target as it was received.
    pub original_uri_header: bool,
    /// `add-headers`: headers of every answer.
    pub response_headers: Vec<HeaderText>,
    /// Which answers are compressed.
    pub compression: Compression,
    /// `hide-headers`: headers that upstreams' answers lose.
    #[serde(serialize_with = "header_names")]
    pub hide_headers: Vec<HeaderName>,
    /// `allow-backend-server-header`: lets the `Server` header of upstreams through.
    pub upstream_server_header: bool,
    /// `server-tokens`: names the gateway in `Server`.
    pub server_header: bool,
    /// The ports of nodes that clients may come by; `None` when there are none.
    pub node_ports: Option<NodePorts>,
    /// Streams of TCP and sessions of UDP.
    pub stream: StreamSettings,
    /// TLS towards clients.
    pub tls: TlsSettings,
    /// The certificate for names that no host claims (`--default-ssl-certificate`); `None` for a self-signed one.
    pub default_certificate: Option<CertificateRef>,
}

/// Ports of every node that lead to the gateway (`nodePort` of the Service that publishes it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NodePorts {
    /// To what it speaks in plain text.
    pub http: u16,
    /// To TLS.
    pub https: u16,
}

/// Networks whose peers are believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrustedProxies(Vec<IpNet>);

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            no_tls_redirect_locations: vec!["/.well-known/acme-challenge".into()],
            use_forwarded_headers: false,
            compute_full_forwarded_for: false,
            forwarded_for_header: HeaderName::from_static("x-forwarded-for"),
            enable_real_ip: false,
            use_proxy_protocol: false,
            proxy_protocol_header_timeout: Duration::from_secs(5),
            trusted_proxies: TrustedProxies::new(vec![
                IpNet::from(ipnet::Ipv4Net::default()),
                IpNet::from(ipnet::Ipv6Net::default()),
            ]),
            generate_request_id: true,
            use_http2: true,
            // Shorter than ingress-nginx's 60 s: a slow head must not hold a connection that long at the edge.
            client_header_timeout: Duration::from_secs(10),
            client_body_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(75),
            head: HeadLimits::default(),
            ignore_invalid_headers: true,
            underscores_in_headers: false,
            keep_alive_requests: 1000,
            http2_max_concurrent_streams: 128,
            upstream_keepalive_timeout: Duration::from_secs(60),
            disable_access_log: false,
            log_format: None,
            skip_access_log: Vec::new(),
            blocks: Blocks::default(),
            request_headers: Vec::new(),
            original_uri_header: false,
            response_headers: Vec::new(),
            compression: Compression::default(),
            hide_headers: Vec::new(),
            upstream_server_header: false,
            server_header: false,
            node_ports: None,
            stream: StreamSettings::default(),
            tls: TlsSettings::default(),
            default_certificate: None,
        }
    }
}

impl Settings {
    /// Whether a path stays on HTTP although its host has a certificate.
    #[must_use]
    pub fn is_exempt_from_tls_redirect(&self, path: &str) -> bool {
        self.no_tls_redirect_locations.iter().any(|location| path.starts_with(&**location))
    }
}

// === impl TrustedProxies ===

impl TrustedProxies {
    /// A set of networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether `peer` is in one of them.
    #[must_use]
    pub fn contain(&self, peer: IpAddr) -> bool {
        // An IPv4 peer of a dual-stack socket has an IPv6 address.
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }
}

fn header_name<S: Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

fn header_names<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}

fn whole_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}s", duration.as_secs()))
}
