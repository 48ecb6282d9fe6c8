//! One question and its answer over HTTP/1.1, on connections that are kept apart from those of upstreams.

use std::net::SocketAddr;
use std::sync::Arc;

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use routing::model::AuthServer;
use routing::{CompiledExternalAuth, Endpoint, Scheme};

use super::names::Names;
use super::question::unanswerable;
use crate::exchange::exchange;
use crate::filter::access::Visitor;
use crate::upstream;

/// Idle connections that are kept, over all servers.
const POOL: usize = 2048;
/// A body longer than this is not read, and its connection not used again.
const MAX_BODY: usize = 64 << 10;
/// Servers that are tried: nginx asks the next one where one cannot be reached.
const MAX_ATTEMPTS: usize = 3;

/// Asks over HTTP.
pub(super) struct Exchange {
    connector: Connector,
    names: Names,
}

impl Exchange {
    pub(super) fn new() -> Self {
        Self { connector: Connector::new(Some(ConnectorOptions::new(POOL))), names: Names::new() }
    }

    /// Sends a question and returns the head of the answer, within the time that the rule gives its upstreams.
    pub(super) async fn run(
        &self,
        external: &CompiledExternalAuth,
        host: &str,
        request: RequestHeader,
        visitor: &Visitor<'_>,
    ) -> pingora::Result<ResponseHeader> {
        let timeouts = &visitor.rule.rule.upstream.timeouts;
        let asking = async {
            let mut last = unanswerable("authentication server has no address that may be asked");
            for peer in self.peers(external, host, visitor).await.into_iter().take(MAX_ATTEMPTS) {
                last = exchange(&self.connector, &peer, &request, MAX_BODY).await.map(|answer| answer.head);
                if last.as_ref().map_or_else(|error| !may_repeat(&request, error), |_| true) {
                    break;
                }
            }
            last
        };
        match tokio::time::timeout(timeouts.connect + timeouts.read, asking).await {
            Ok(answered) => answered,
            Err(_) => Error::e_explain(ErrorType::ReadTimedout, "authentication server is too slow"),
        }
    }

    /// The servers to ask, in this order. A connection that was kept may have died: its server is asked once more.
    async fn peers(&self, external: &CompiledExternalAuth, host: &str, visitor: &Visitor<'_>) -> Vec<HttpPeer> {
        let url = &external.auth.url;
        let mut peers = Vec::new();
        if let Some(backend) = &external.backend {
            let endpoints = upstream::candidates(backend, MAX_ATTEMPTS);
            let peer = |endpoint: &Arc<Endpoint>| {
                self.peer(endpoint.key.address, upstream::group(endpoint), host, external, visitor)
            };
            peers.extend(endpoints.iter().map(peer));
        }
        if peers.is_empty() {
            let addresses = match &url.server {
                AuthServer::Address(address) => vec![SocketAddr::new(*address, url.port)],
                _ => self.names.addresses(host, url.port).await,
            };
            let peer = |address| self.peer(address, upstream::NO_GROUP, host, external, visitor);
            peers.extend(addresses.into_iter().map(peer));
        }
        if let [only] = &*peers {
            peers.push(only.clone());
        }
        peers
    }

    fn peer(
        &self,
        address: SocketAddr,
        group: u64,
        host: &str,
        external: &CompiledExternalAuth,
        visitor: &Visitor<'_>,
    ) -> HttpPeer {
        let is_tls = external.auth.url.scheme == Scheme::Https;
        let server_name = if is_tls { host.to_owned() } else { String::new() };
        let mut peer = HttpPeer::new(address, is_tls, server_name);
        peer.group_key = group;
        let timeouts = &visitor.rule.rule.upstream.timeouts;
        let options = &mut peer.options;
        // ingress-nginx verifies nothing here, and has no annotation that would make it.
        options.verify_cert = false;
        options.verify_hostname = false;
        options.connection_timeout = Some(timeouts.connect);
        options.total_connection_timeout = Some(timeouts.connect);
        options.read_timeout = Some(timeouts.read);
        options.write_timeout = Some(timeouts.write);
        options.idle_timeout = Some(external.auth.keep_alive.unwrap_or(visitor.settings.upstream_keepalive_timeout));
        peer
    }
}

/// Whether another server may be asked after an error: one that was not reached has done nothing yet.
fn may_repeat(request: &RequestHeader, error: &Error) -> bool {
    use ErrorType::{ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, ReadTimedout, WriteTimedout};
    match error.etype() {
        ConnectError | ConnectNoRoute | ConnectRefused | ConnectTimedout => true,
        ReadTimedout | WriteTimedout => false,
        _ => request.method.is_idempotent(),
    }
}
