//! Servers that rules name by a URL: where they are, and what one of them answers to a request of the gateway's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use routing::model::{ServerUrl, Timeouts, UrlServer};
use routing::{Backend, Endpoint, Scheme};

use super::names::Names;
use crate::exchange::exchange;
use crate::upstream;

/// Idle connections that are kept, over all servers.
const POOL: usize = 2048;
/// A body longer than this is not read, and its connection not used again.
const MAX_BODY: usize = 64 << 10;
/// Servers that are tried: nginx asks the next one where one cannot be reached.
const MAX_ATTEMPTS: usize = 3;

/// Reaches servers.
pub(super) struct Servers {
    connector: Connector,
    names: Names,
}

/// Where one request goes.
pub(super) struct Destination<'a> {
    /// What the rule says.
    pub(super) url: &'a ServerUrl,
    /// The name or the address that the URL comes out as.
    pub(super) server: &'a str,
    /// The backend, where it is one.
    pub(super) backend: Option<&'a Arc<Backend>>,
    /// How long anything may take.
    pub(super) timeouts: &'a Timeouts,
    /// How long its connection is kept afterwards.
    pub(super) idle_timeout: Duration,
}

impl Servers {
    pub(super) fn new() -> Self {
        Self { connector: Connector::new(Some(ConnectorOptions::new(POOL))), names: Names::new() }
    }

    /// Sends a request and returns the head of the answer, within the time that the rule gives its upstreams.
    pub(super) async fn ask(
        &self,
        to: &Destination<'_>,
        request: &RequestHeader,
        body: &Bytes,
    ) -> pingora::Result<ResponseHeader> {
        let asking = async {
            let mut last = Error::e_explain(ErrorType::InternalError, "server has no address that may be asked");
            for peer in self.peers(to).await.into_iter().take(MAX_ATTEMPTS) {
                last = exchange(&self.connector, &peer, request, body, MAX_BODY).await.map(|answer| answer.head);
                if last.as_ref().map_or_else(|error| !may_repeat(request, error), |_| true) {
                    break;
                }
            }
            last
        };
        match tokio::time::timeout(to.timeouts.connect + to.timeouts.read, asking).await {
            Ok(answered) => answered,
            Err(_) => Error::e_explain(ErrorType::ReadTimedout, "server is too slow"),
        }
    }

    /// The servers to ask, in this order. A connection that was kept may have died: its server is asked once more.
    async fn peers(&self, to: &Destination<'_>) -> Vec<HttpPeer> {
        let mut peers = Vec::new();
        if let Some(backend) = to.backend {
            let endpoints = upstream::candidates(backend, MAX_ATTEMPTS);
            let peer = |endpoint: &Arc<Endpoint>| to.peer(endpoint.key.address, upstream::group(endpoint));
            peers.extend(endpoints.iter().map(peer));
        }
        if peers.is_empty() {
            let addresses = match &to.url.server {
                UrlServer::Address(address) => vec![SocketAddr::new(*address, to.url.port)],
                _ => self.names.addresses(to.server, to.url.port).await,
            };
            peers.extend(addresses.into_iter().map(|address| to.peer(address, upstream::NO_GROUP)));
        }
        if let [only] = &*peers {
            peers.push(only.clone());
        }
        peers
    }
}

impl Destination<'_> {
    fn peer(&self, address: SocketAddr, group: u64) -> HttpPeer {
        let is_tls = self.url.scheme == Scheme::Https;
        let server_name = if is_tls { self.server.to_owned() } else { String::new() };
        let mut peer = HttpPeer::new(address, is_tls, server_name);
        peer.group_key = group;
        let options = &mut peer.options;
        // ingress-nginx verifies nothing here, and has no annotation that would make it.
        options.verify_cert = false;
        options.verify_hostname = false;
        options.connection_timeout = Some(self.timeouts.connect);
        options.total_connection_timeout = Some(self.timeouts.connect);
        options.read_timeout = Some(self.timeouts.read);
        options.write_timeout = Some(self.timeouts.write);
        options.idle_timeout = Some(self.idle_timeout);
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
