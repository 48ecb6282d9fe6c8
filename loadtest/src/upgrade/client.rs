//! The connections of a load: kept and new ones, HTTP/1 and HTTP/2, in plain text and over TLS. What goes wrong is told
//! with the time at which the connection was opened, so that somebody else can say whose fault it may be.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

use super::tls;

/// For how long a connection without requests is used again. A server that leaves closes idle ones after a few seconds,
/// and a request that is on its way then is lost by nobody's fault.
const MAX_IDLE: Duration = Duration::from_secs(2);
/// A request without an answer is given up then; it has failed long before.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of a connection of HTTP/2 at a time, less than the gateway allows: what the client queued by itself when a
/// GOAWAY comes never left, but its error does not say so.
const MAX_STREAMS: usize = 100;

/// How a request reaches the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// HTTP/1.1 over kept connections.
    Kept,
    /// HTTP/1.1 over a connection of its own.
    New,
    /// HTTP/2 over one connection, and another one after a GOAWAY.
    Http2,
    /// The same over TLS.
    Http2Tls,
    /// HTTP/1.1 over TLS, with a handshake of its own.
    NewTls,
}

/// Where requests go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) http: SocketAddr,
    /// Without it, all requests are in plain text.
    pub(super) https: Option<SocketAddr>,
    /// The hosts that are asked for, in no order.
    pub(super) hosts: Arc<[String]>,
}

/// When a connection was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

/// Why a request has no right answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// `None` when there was no connection.
    pub(super) opened: Option<Opened>,
    pub(super) text: String,
}

/// All connections of a load.
pub(super) struct Clients {
    target: Target,
    http1_tls: TlsConnector,
    http2_tls: TlsConnector,
    /// Kept connections of HTTP/1 that no request is on, with the time of their last one.
    idle: Mutex<Vec<(Instant, Http1)>>,
    http2: tokio::sync::Mutex<Option<Http2>>,
    http2_over_tls: tokio::sync::Mutex<Option<Http2>>,
    streams: [Semaphore; 2],
}

struct Http1 {
    sender: http1::SendRequest<Empty<Bytes>>,
    opened: Opened,
}

#[derive(Clone)]
struct Http2 {
    sender: http2::SendRequest<Empty<Bytes>>,
    opened: Opened,
}

/// Either kind of stream.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

// === impl Lane ===

impl Lane {
    pub(super) const ALL: [Self; 5] = [Self::Kept, Self::New, Self::Http2, Self::Http2Tls, Self::NewTls];

    /// The share of requests, of twenty: most browsers keep their connections.
    fn share(self) -> u64 {
        match self {
            Self::Kept => 7,
            Self::New => 2,
            Self::Http2 => 6,
            Self::Http2Tls => 4,
            Self::NewTls => 1,
        }
    }

    /// The lane of a request by its number.
    pub(super) fn of(number: u64) -> Self {
        // Seven has no divisor in common with twenty: the lanes alternate.
        let mut turn = number.wrapping_mul(7) % 20;
        for lane in Self::ALL {
            match turn.checked_sub(lane.share()) {
                Some(rest) => turn = rest,
                None => return lane,
            }
        }
        Self::Kept
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kept => "HTTP/1.1, kept connections",
            Self::New => "HTTP/1.1, new connections",
            Self::Http2 => "HTTP/2",
            Self::Http2Tls => "HTTP/2 over TLS",
            Self::NewTls => "HTTP/1.1, new TLS connections",
        }
    }
}

// === impl Clients ===

impl Clients {
    pub(super) fn new(target: Target) -> anyhow::Result<Self> {
        Ok(Self {
            target,
            http1_tls: tls::connector("http/1.1")?,
            http2_tls: tls::connector("h2")?,
            idle: Mutex::default(),
            http2: tokio::sync::Mutex::default(),
            http2_over_tls: tokio::sync::Mutex::default(),
            streams: [const { Semaphore::const_new(MAX_STREAMS) }; 2],
        })
    }

    /// One request. Without TLS in the target, every lane is one of HTTP/1 in plain text.
    pub(super) async fn request(&self, lane: Lane) -> Result<(), Failure> {
        let Some(host) = fastrand::choice(&*self.target.hosts) else { return Ok(()) };
        let https = self.target.https;
        let request = async {
            match (lane, https) {
                (Lane::Kept, _) => self.over_kept(host).await,
                (Lane::NewTls, Some(https)) => {
                    let (stream, opened) = connect(https, Some((&self.http1_tls, host))).await?;
                    Http1::over(stream, opened).await?.send(host).await.map(drop)
                }
                (Lane::Http2, Some(_)) => self.over_http2(&self.http2, false, host).await,
                (Lane::Http2Tls, Some(_)) => {
                    // One connection, so one name: another host would be misdirected.
                    let host = self.target.hosts.first().unwrap_or(host);
                    self.over_http2(&self.http2_over_tls, true, host).await
                }
                (Lane::New, _) | (_, None) => {
                    let (stream, opened) = connect(self.target.http, None).await?;
                    Http1::over(stream, opened).await?.send(host).await.map(drop)
                }
            }
        };
        let given_up = |_| Err(Failure { opened: None, text: format!("no answer after {TIMEOUT:?}") });
        tokio::time::timeout(TIMEOUT, request).await.unwrap_or_else(given_up)
    }

    async fn over_kept(&self, host: &str) -> Result<(), Failure> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = |(used, client): (Instant, Http1)| {
            (used.elapsed() < MAX_IDLE && !client.sender.is_closed()).then_some(client)
        };
        let kept = idle().pop();
        let mut client = match kept.and_then(usable) {
            Some(client) => client,
            None => {
                let (stream, opened) = connect(self.target.http, None).await?;
                Http1::over(stream, opened).await?
            }
        };
        let is_last = client.send(host).await?;
        if !is_last {
            idle().push((Instant::now(), client));
        }
        Ok(())
    }

    /// A request that goes over another connection as often as one was told to go away before it left.
    async fn over_http2(
        &self,
        current: &tokio::sync::Mutex<Option<Http2>>,
        is_tls: bool,
        host: &str,
    ) -> Result<(), Failure> {
        let scheme = if is_tls { "https" } else { "http" };
        let [plain, over_tls] = &self.streams;
        // It is never closed.
        let _turn = if is_tls { over_tls } else { plain }.acquire().await;
        loop {
            let Http2 { mut sender, opened } = {
                let mut current = current.lock().await;
                match current.as_ref().filter(|client| !client.sender.is_closed()) {
                    Some(client) => client.clone(),
                    None => current.insert(self.open_http2(is_tls, host).await?).clone(),
                }
            };
            let failed = |error: &hyper::Error| Failure::after(opened, error);
            if sender.ready().await.is_err() {
                continue;
            }
            let request = Request::get(format!("{scheme}://{host}/")).body(Empty::new());
            let request = request.map_err(|error| Failure { opened: Some(opened), text: error.to_string() })?;
            match sender.try_send_request(request).await {
                Ok(response) => return judge(response, opened).await.map(drop),
                Err(mut error) => {
                    if error.take_message().is_none() && !is_goaway(error.error()) {
                        return Err(failed(error.error()));
                    }
                }
            }
            // The next round sees that it is closed.
            tokio::task::yield_now().await;
        }
    }

    async fn open_http2(&self, is_tls: bool, host: &str) -> Result<Http2, Failure> {
        let (stream, opened) = match self.target.https.filter(|_| is_tls) {
            Some(https) => connect(https, Some((&self.http2_tls, host))).await?,
            None => connect(self.target.http, None).await?,
        };
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| Failure::after(opened, &error))?;
        // How the connection ends is seen by the requests on it.
        tokio::spawn(connection);
        Ok(Http2 { sender, opened })
    }
}

// === impl Http1 ===

impl Http1 {
    async fn over(stream: Box<dyn Stream>, opened: Opened) -> Result<Self, Failure> {
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| Failure::after(opened, &error))?;
        tokio::spawn(connection);
        Ok(Self { sender, opened })
    }

    /// One request. Returns whether the connection ends with its answer.
    async fn send(&mut self, host: &str) -> Result<bool, Failure> {
        let request = Request::get("/").header(header::HOST, host).body(Empty::new());
        let request = request.map_err(|error| Failure { opened: Some(self.opened), text: error.to_string() })?;
        let failed = |error| Failure::after(self.opened, &error);
        self.sender.ready().await.map_err(failed)?;
        let response = self.sender.send_request(request).await.map_err(failed)?;
        judge(response, self.opened).await
    }
}

// === impl Failure ===

impl Failure {
    fn after(opened: Opened, error: &hyper::Error) -> Self {
        Self { opened: Some(opened), text: format!("{error:?}") }
    }
}

/// Opens a connection, over TLS where there is a connector.
async fn connect(
    address: SocketAddr,
    tls: Option<(&TlsConnector, &str)>,
) -> Result<(Box<dyn Stream>, Opened), Failure> {
    let began = Instant::now();
    let refused = |error: std::io::Error| Failure { opened: None, text: format!("connect: {error}") };
    let stream = TcpStream::connect(address).await.map_err(refused)?;
    let opened = Opened { began, ended: Instant::now() };
    let broken = |error: std::io::Error| Failure { opened: Some(opened), text: format!("handshake: {error}") };
    // Else small frames of HTTP/2 wait 40 ms for acknowledgements.
    stream.set_nodelay(true).map_err(broken)?;
    let Some((connector, host)) = tls else { return Ok((Box::new(stream), opened)) };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| broken(std::io::Error::other(error)))?;
    let stream = connector.connect(name, stream).await.map_err(broken)?;
    Ok((Box::new(stream), opened))
}

/// Reads an answer, which must be one of the upstreams'. Returns whether the connection ends with it.
async fn judge(response: Response<Incoming>, opened: Opened) -> Result<bool, Failure> {
    let wrong = |text: String| Failure { opened: Some(opened), text };
    let is_last = response.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| Failure::after(opened, &error))?.to_bytes();
    match &body[..] {
        b"a" | b"b" if status == StatusCode::OK => Ok(is_last),
        other => Err(wrong(format!("{status}: {}", String::from_utf8_lossy(other.get(..40).unwrap_or(other))))),
    }
}

/// Whether a request was not worked on because the server goes away without an error: it only says so about streams that
/// it has not seen (RFC 9113 section 6.8).
fn is_goaway(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_has_its_share_of_twenty_requests() {
        for lane in Lane::ALL {
            let n_requests = (1000..1020).filter(|number| Lane::of(*number) == lane).count();
            assert_eq!(u64::try_from(n_requests).unwrap(), lane.share(), "{lane:?}");
        }
        assert_eq!(Lane::ALL.map(Lane::share).iter().sum::<u64>(), 20);
    }
}
