//! Real HTTP servers as upstreams. They tell in JSON what they got, and count it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::certificate::Certificate;

/// The body of an upstream's answer.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// An answer in the making.
pub type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// What an upstream saw of a request, as its answer says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The name of the upstream.
    pub upstream: String,
    /// The method.
    pub method: String,
    /// The path and the query, as received.
    pub target: String,
    /// The version, such as `HTTP/1.1`.
    pub version: String,
    /// The host that the request was for (`Host`, or `:authority`).
    pub host: String,
    /// The header fields, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Seen {
    /// The value of a header that must be there at most once.
    ///
    /// # Panics
    /// When it is there twice.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(header, _)| header == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {:?}", self.headers);
        value
    }
}

/// A server on a loopback address; it ends when it is dropped.
pub struct Upstream {
    address: SocketAddr,
    counts: Arc<Counts>,
    task: AbortHandle,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

impl Upstream {
    /// A server that tells what it saw, by HTTP/1.1 and HTTP/2 with prior knowledge. The query `status=N` makes it
    /// answer with that status.
    pub async fn echo(name: &str) -> Self {
        Self::start(None, echo(name)).await
    }

    /// The same on a socket that the test has bound, such as that of an upstream which is gone.
    pub fn echo_at(name: &str, listener: TcpListener) -> Self {
        Self::on(listener, None, echo(name))
    }

    /// The same over TLS, HTTP/2 by ALPN.
    pub async fn echo_tls(name: &str, certificate: &Certificate) -> Self {
        Self::start(Some(acceptor(certificate, None)), echo(name)).await
    }

    /// The same, for clients only for whom an authority (PEM) vouches.
    pub async fn echo_mutual_tls(name: &str, certificate: &Certificate, authority: &str) -> Self {
        Self::start(Some(acceptor(certificate, Some(authority))), echo(name)).await
    }

    /// A server with answers of the test's own.
    pub async fn with<H>(handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
    {
        Self::start(None, handler).await
    }

    async fn start<H>(tls: Option<TlsAcceptor>, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
    {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), tls, handler)
    }

    /// The same on a socket that the test has bound, perhaps over TLS.
    pub fn on<H>(listener: TcpListener, tls: Option<TlsAcceptor>, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
    {
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&counts), Arc::new(handler))).abort_handle();
        Self { address, counts, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn n_connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// How many requests it has got.
    #[must_use]
    pub fn n_requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address on which nothing listens.
pub async fn refusing_address() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    listener.local_addr().unwrap()
}

/// A body of one piece.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body of `length` zeros, made while it is sent.
pub fn zeros(length: usize) -> Body {
    static PIECE: [u8; 64 << 10] = [0; 64 << 10];
    let pieces = (0..length).step_by(PIECE.len()).map(move |at| &PIECE[..PIECE.len().min(length - at)]);
    let frames = pieces.map(|piece| Ok(Frame::data(Bytes::from_static(piece))));
    StreamBody::new(futures_util::stream::iter(frames)).boxed()
}

/// A body that the test sends piece by piece. It is cut off when the sender is dropped before the body is.
pub fn fed() -> (Sender<Bytes, std::io::Error>, Body) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed())
}

async fn accept<H>(listener: TcpListener, tls: Option<TlsAcceptor>, counts: Arc<Counts>, handler: Arc<H>)
where
    H: Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
{
    // The connections end with the listener.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        counts.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(serve(stream, tls.clone(), Arc::clone(&counts), Arc::clone(&handler)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<H>(stream: TcpStream, tls: Option<TlsAcceptor>, counts: Arc<Counts>, handler: Arc<H>)
where
    H: Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
{
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        counts.requests.fetch_add(1, Ordering::SeqCst);
        let answering = handler(request);
        async move { Ok::<_, std::convert::Infallible>(answering.await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // How a connection ends is the gateway's business.
    match tls {
        None => drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await),
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
            }
        }
    }
}

/// What makes a server one of TLS: a certificate and, where clients need one too, the authority (PEM) of theirs.
#[must_use]
pub fn acceptor(certificate: &Certificate, clients: Option<&str>) -> TlsAcceptor {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::server::WebPkiClientVerifier;
    let chain = CertificateDer::pem_slice_iter(certificate.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn echo(name: &str) -> impl Fn(Request<Incoming>) -> Answering + Send + Sync + 'static {
    let name = name.to_owned();
    move |request| {
        let name = name.clone();
        Box::pin(async move { tell(name, request).await })
    }
}

/// The answer that tells what the request was.
pub async fn tell(name: String, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        // The client went away in the middle of its request.
        return Response::builder().status(StatusCode::BAD_REQUEST).body(full("incomplete")).unwrap();
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let host = head.uri.authority().map(|authority| authority.to_string());
    let host = host.or_else(|| head.headers.get("host").map(|host| text(host.as_bytes())));
    let query = head.uri.query().unwrap_or_default();
    let status = query.split('&').find_map(|pair| pair.strip_prefix("status=")).and_then(|code| code.parse().ok());
    let seen = Seen {
        upstream: name,
        method: head.method.to_string(),
        target: head.uri.path_and_query().map(|target| target.to_string()).unwrap_or_default(),
        version: format!("{:?}", head.version),
        host: host.unwrap_or_default(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
        body: text(&body.to_bytes()),
    };
    Response::builder()
        .status(status.unwrap_or(StatusCode::OK))
        .header("content-type", "application/json")
        .body(full(serde_json::to_vec(&seen).unwrap()))
        .unwrap()
}
