//! How to connect to an endpoint, in Pingora's terms.

use std::time::Duration;

use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::HttpPeer;
use routing::model::{AppProtocol, UpstreamPolicy, UpstreamProtocol};
use routing::{Endpoint, Scheme, Settings};

use super::endpoint::state;

/// Requests that one HTTP/2 connection to an upstream carries at a time.
const MAX_HTTP2_STREAMS: usize = 128;
/// A dead peer is noticed after this time without traffic, plus a few probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/1.1 over TLS.
    Http1Tls,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// HTTP/2 over TLS.
    Http2Tls,
}

impl Protocol {
    /// Whether it is HTTP/1.1, of which a connection can change to another protocol (RFC 9110 section 7.8).
    pub(crate) fn is_http1(self) -> bool {
        matches!(self, Self::Http1 | Self::Http1Tls)
    }
}

/// What is spoken: what the rule says, else what the Service says, else HTTP/1.1.
#[must_use]
pub(crate) fn protocol(policy: &UpstreamPolicy, service: Option<AppProtocol>, client: Scheme) -> Protocol {
    match (policy.protocol, service) {
        (Some(UpstreamProtocol::Http), _) | (None, None | Some(AppProtocol::Http)) => Protocol::Http1,
        (Some(UpstreamProtocol::Https), _) | (None, Some(AppProtocol::Https)) => Protocol::Http1Tls,
        (Some(UpstreamProtocol::H2c), _) | (None, Some(AppProtocol::H2c)) => Protocol::Http2,
        (Some(UpstreamProtocol::H2), _) => Protocol::Http2Tls,
        (Some(UpstreamProtocol::Auto), _) => match client {
            Scheme::Http => Protocol::Http1,
            Scheme::Https => Protocol::Http1Tls,
        },
    }
}

/// Describes the connection to an endpoint. Nothing in it waits for ever.
#[must_use]
pub(crate) fn peer(
    endpoint: &Endpoint,
    protocol: Protocol,
    policy: &UpstreamPolicy,
    settings: &Settings,
) -> Box<HttpPeer> {
    let is_tls = matches!(protocol, Protocol::Http1Tls | Protocol::Http2Tls);
    // TLS of Pingora takes no empty name; for an address it sends none.
    let server_name = match &policy.tls.server_name {
        Some(name) if is_tls => String::from(&**name),
        None if is_tls => endpoint.key.address.ip().to_string(),
        _ => String::new(),
    };
    let mut peer = Box::new(HttpPeer::new(endpoint.key.address, is_tls, server_name));
    peer.group_key = group_key(endpoint, protocol);
    let options = &mut peer.options;
    // ingress-nginx verifies nothing unless `proxy-ssl-verify` asks for it.
    options.verify_cert = false;
    options.verify_hostname = false;
    if matches!(protocol, Protocol::Http2 | Protocol::Http2Tls) {
        options.set_http_version(2, 2);
        options.max_h2_streams = MAX_HTTP2_STREAMS;
    }
    let timeouts = &policy.timeouts;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.read_timeout = Some(timeouts.read);
    options.write_timeout = Some(timeouts.write);
    options.idle_timeout = Some(settings.upstream_keepalive_timeout);
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: KEEPALIVE_IDLE,
        interval: Duration::from_secs(10),
        count: 3,
        user_timeout: Duration::ZERO,
    });
    peer
}

/// Which pooled connections a request may use: those to this very endpoint, in this protocol. The server name is part of
/// Pingora's own key.
fn group_key(endpoint: &Endpoint, protocol: Protocol) -> u64 {
    state(endpoint).number << 2 | protocol as u64
}
