//! One connection of a TCP service: bytes pass both ways as they come, and each side's end is passed on by itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ppp::v1;
use routing::model::ListenerKey;
use routing::{CompiledStream, Settings, StreamSettings};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional};
use tokio::net::TcpStream;

use super::{Activity, Attempts, counters, cut};
use crate::clock;
use crate::listener::Shared;
use crate::proxy_header::{self, RelayedEnds};
use crate::telemetry::Metrics;
use crate::upstream;

/// Serves one connection from its first byte to its last.
pub(crate) async fn serve(shared: Arc<Shared>, listener: ListenerKey, client: TcpStream, peer: SocketAddr) {
    let handle = shared.connections.open();
    handle.begin_tunnel();
    let (stream, settings) = {
        let snapshot = shared.live.pin();
        // It may be gone since the connection was accepted.
        let Some(stream) = snapshot.stream(&listener) else { return };
        (Arc::clone(stream), Arc::clone(snapshot.settings()))
    };
    tokio::select! {
        () = pass(&shared.metrics, listener, client, peer, stream, settings) => {}
        () = cut(&handle) => {}
    }
}

async fn pass(
    metrics: &Metrics,
    listener: ListenerKey,
    mut client: TcpStream,
    peer: SocketAddr,
    stream: Arc<CompiledStream>,
    settings: Arc<Settings>,
) {
    let _ = client.set_nodelay(true);
    let mut ends = client.local_addr().ok().map(|server| RelayedEnds { client: peer, server });
    if stream.route.expects_proxy_header {
        match proxy_header::read(&mut client, settings.proxy_protocol_header_timeout).await {
            Ok(relayed) => ends = relayed.filter(|_| settings.trusted_proxies.contain(peer.ip())).or(ends),
            Err(error) => {
                metrics.proxy_header_failures.inc();
                tracing::debug!(%listener, %peer, %error, "no PROXY header");
                return;
            }
        }
    }
    let counters = counters(&stream, &listener, metrics);
    let Some(mut upstream) = connect(&stream, &settings.stream, metrics).await else {
        counters.unreachable.inc();
        tracing::debug!(%listener, %peer, origin = %stream.route.origin.place, "no endpoint can be reached");
        return;
    };
    counters.connected.inc();
    let header = stream.route.sends_proxy_header.then(|| header(ends));
    let timeout = settings.stream.timeout;
    // What is configured from now on must not wait for this connection to be freed.
    drop((stream, settings));
    if let Some(header) = header
        && upstream.write_all(header.as_bytes()).await.is_err()
    {
        return;
    }
    relay(&mut client, &mut upstream, timeout).await;
}

/// A connection to the first endpoint that takes one.
async fn connect(stream: &CompiledStream, settings: &StreamSettings, metrics: &Metrics) -> Option<TcpStream> {
    let mut attempts = Attempts::new(stream, settings, metrics)?;
    while let Some(endpoint) = attempts.next() {
        let address = endpoint.key.address;
        match tokio::time::timeout(settings.connect_timeout, TcpStream::connect(address)).await {
            Ok(Ok(upstream)) => {
                upstream::succeed(&endpoint, clock::now());
                let _ = upstream.set_nodelay(true);
                return Some(upstream);
            }
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "endpoint cannot be reached");
                attempts.fail(endpoint, &error);
            }
            Err(_) => {
                tracing::debug!(%address, "endpoint cannot be reached in time");
                attempts.fail(endpoint, &io::ErrorKind::TimedOut.into());
            }
        }
    }
    None
}

/// Passes bytes both ways until both sides have ended, one has broken, or nothing has passed for too long.
async fn relay(client: &mut TcpStream, upstream: &mut TcpStream, timeout: Duration) {
    let activity = Activity::begin();
    let is_broken = {
        let (mut client, mut upstream) = (Watched(client, &activity), Watched(upstream, &activity));
        tokio::select! {
            copied = copy_bidirectional(&mut client, &mut upstream) => copied.is_err(),
            () = activity.cease(timeout) => false,
        }
    };
    if is_broken {
        // What one side broke off must not look to the other like an end.
        for socket in [client, upstream] {
            let _ = SockRef::from(&*socket).set_linger(Some(Duration::ZERO));
        }
    }
}

/// The PROXY header of version 1, as nginx writes it.
fn header(ends: Option<RelayedEnds>) -> String {
    let Some(RelayedEnds { client, server }) = ends else { return "PROXY UNKNOWN\r\n".to_owned() };
    let [client, server] = [client, server].map(|end| SocketAddr::new(end.ip().to_canonical(), end.port()));
    let addresses = match (client.ip(), server.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => v1::Addresses::new_tcp4(from, to, client.port(), server.port()),
        (from, to) => v1::Addresses::new_tcp6(mapped(from), mapped(to), client.port(), server.port()),
    };
    addresses.to_string()
}

fn mapped(address: IpAddr) -> std::net::Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// One side of a connection that tells when something passes.
struct Watched<'a>(&'a mut TcpStream, &'a Activity);

impl AsyncRead for Watched<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut *self.0).poll_read(cx, buffer))?;
        self.1.touch();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n_written = ready!(Pin::new(&mut *self.0).poll_write(cx, bytes))?;
        self.1.touch();
        Poll::Ready(Ok(n_written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_the_ends_in_one_family() {
        let ends = |client: &str, server: &str| RelayedEnds {
            client: client.parse().unwrap(),
            server: server.parse().unwrap(),
        };
        for (ends, expected) in [
            (Some(ends("192.0.2.1:1", "198.51.100.2:80")), "PROXY TCP4 192.0.2.1 198.51.100.2 1 80\r\n"),
            (Some(ends("[::ffff:192.0.2.1]:1", "198.51.100.2:80")), "PROXY TCP4 192.0.2.1 198.51.100.2 1 80\r\n"),
            (Some(ends("[2001:db8::1]:1", "[2001:db8::2]:80")), "PROXY TCP6 2001:db8::1 2001:db8::2 1 80\r\n"),
            (Some(ends("192.0.2.1:1", "[2001:db8::2]:80")), "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 80\r\n"),
            (None, "PROXY UNKNOWN\r\n"),
        ] {
            let header = header(ends);
            assert_eq!(header, expected);
            assert!(proxy_header::parse(header.as_bytes()).is_ok());
        }
    }
}
