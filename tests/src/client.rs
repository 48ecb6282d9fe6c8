//! Clients that say exactly what they send: one connection each, HTTP/1.1 or HTTP/2, plain or TLS.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::Certificate;
use crate::upstream::{Body, Seen};

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The version of the answer.
    pub version: Version,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailer fields.
    pub trailers: HeaderMap,
}

/// One connection to the gateway.
pub struct Client {
    sender: Sender,
    certificate: Option<Vec<u8>>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Answer {
    /// What the echo upstream saw.
    ///
    /// # Panics
    /// When the answer is not an upstream's.
    #[must_use]
    pub fn seen(&self) -> Seen {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not from an upstream: {self:?}"))
    }

    /// The name of the upstream that answered; empty when none did.
    #[must_use]
    pub fn upstream(&self) -> String {
        serde_json::from_slice::<Seen>(&self.body).map(|seen| seen.upstream).unwrap_or_default()
    }

    /// The value of a header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// HTTP/1.1 in plain text.
    pub async fn http1(address: SocketAddr) -> Self {
        Self::try_http1(address).await.unwrap()
    }

    /// The same where connecting may fail.
    pub async fn try_http1(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self::over(connect(address).await?, None, Version::HTTP_11).await)
    }

    /// HTTP/2 in plain text, with prior knowledge.
    pub async fn h2c(address: SocketAddr) -> Self {
        Self::try_h2c(address).await.unwrap()
    }

    /// The same where connecting may fail.
    pub async fn try_h2c(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self::over(connect(address).await?, None, Version::HTTP_2).await)
    }

    /// HTTP/1.1 over TLS; any certificate will do. Without a name no SNI is sent.
    pub async fn https1(address: SocketAddr, name: Option<&str>) -> Self {
        Self::try_https1(address, name).await.unwrap()
    }

    /// The same where connecting or the handshake may fail.
    pub async fn try_https1(address: SocketAddr, name: Option<&str>) -> std::io::Result<Self> {
        Self::tls(address, name, Version::HTTP_11).await
    }

    /// HTTP over TLS by a client that shows a certificate where it is asked for one; nothing without one.
    pub async fn showing(
        address: SocketAddr,
        name: Option<&str>,
        certificate: Option<&Certificate>,
        version: Version,
    ) -> std::io::Result<Self> {
        let (config, shown) = insecure_config();
        let config = match certificate {
            Some(certificate) => config_showing(&config, certificate),
            None => config,
        };
        let (stream, leaf) = tls_stream_by((config, shown), address, name, version).await?;
        Ok(Self::over(stream, Some(leaf), version).await)
    }

    /// HTTP/2 over TLS; any certificate will do. Without a name no SNI is sent.
    pub async fn https2(address: SocketAddr, name: Option<&str>) -> Self {
        Self::tls(address, name, Version::HTTP_2).await.unwrap()
    }

    async fn tls(address: SocketAddr, name: Option<&str>, version: Version) -> std::io::Result<Self> {
        let (stream, certificate) = tls_stream(address, name, version).await?;
        Ok(Self::over(stream, Some(certificate), version).await)
    }

    /// Another handle of the same HTTP/2 connection, for requests at the same time.
    ///
    /// # Panics
    /// On a connection of HTTP/1, which has one request at a time.
    #[must_use]
    pub fn another(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else { panic!("HTTP/1 has one request at a time") };
        Self { sender: Sender::Http2(sender.clone()), certificate: self.certificate.clone() }
    }

    /// HTTP over any stream.
    pub async fn over<S>(stream: S, certificate: Option<Vec<u8>>, version: Version) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        // How the connection ends is seen by the requests on it.
        let sender = if version == Version::HTTP_2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.unwrap();
            tokio::spawn(connection.with_upgrades());
            Sender::Http1(sender)
        };
        Self { sender, certificate }
    }

    /// The leaf that the server showed, as DER.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// The common name of the leaf that the server showed.
    #[must_use]
    pub fn common_name(&self) -> String {
        let der = self.certificate().unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
        let subject = certificate.subject().iter_common_name().next().unwrap();
        subject.as_str().unwrap().to_owned()
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn open<B>(&mut self, request: Request<B>) -> hyper::Result<http::Response<Incoming>>
    where
        B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + Sync + 'static,
    {
        let request = request.map(|body| body.map_err(std::io::Error::other).boxed());
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Whether the connection takes no more requests.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request over HTTP/2 and reads the answer to its end. `None` when the connection was told to go away
    /// before the request left: it belongs on another one then (RFC 9113 section 6.8).
    ///
    /// # Panics
    /// On a connection of HTTP/1.
    pub async fn try_send_before_goaway(&mut self, request: Request<Full<Bytes>>) -> Option<hyper::Result<Answer>> {
        let Sender::Http2(sender) = &mut self.sender else { panic!("HTTP/1 has no GOAWAY") };
        if sender.ready().await.is_err() {
            return None;
        }
        let request = request.map(|body| body.map_err(|never| match never {}).boxed());
        match sender.try_send_request(request).await {
            Ok(response) => Some(read(response).await),
            Err(mut error) => {
                let was_not_taken = error.take_message().is_some() || is_goaway(error.error());
                if was_not_taken { None } else { Some(Err(error.into_error())) }
            }
        }
    }

    /// Sends a request and reads the answer to its end.
    pub async fn try_send<B>(&mut self, request: Request<B>) -> hyper::Result<Answer>
    where
        B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + Sync + 'static,
    {
        read(self.open(request).await?).await
    }

    /// Sends a request and reads the answer to its end.
    ///
    /// # Panics
    /// When the connection breaks.
    pub async fn send<B>(&mut self, request: Request<B>) -> Answer
    where
        B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + Sync + 'static,
    {
        self.try_send(request).await.unwrap()
    }

    /// Asks for a path of a host. Headers come on top.
    pub async fn get(&mut self, host: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let request = self.request("GET", host, target, headers, "");
        self.send(request).await
    }

    /// A request as this connection's version needs it.
    #[must_use]
    pub fn request(
        &self,
        method: &str,
        host: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Request<Full<Bytes>> {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = match self.sender {
            Sender::Http1(_) => request.uri(target).header("host", host),
            Sender::Http2(_) => request.uri(format!("{scheme}://{host}{target}")),
        };
        request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
    }
}

/// Whether a request was not worked on because the server goes away without an error: it only says so about streams that
/// it has not seen.
fn is_goaway(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
}

/// Reads an answer to its end.
async fn read(response: http::Response<Incoming>) -> hyper::Result<Answer> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(Answer { status: head.status, version: head.version, headers: head.headers, body: body.to_bytes(), trailers })
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Else small frames of HTTP/2 wait 40 ms for acknowledgements.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A TLS connection that believes every server, and the leaf that the server showed. Without a name no SNI is sent.
pub async fn tls_stream(
    address: SocketAddr,
    name: Option<&str>,
    version: Version,
) -> std::io::Result<(TlsStream<TcpStream>, Vec<u8>)> {
    tls_stream_by(insecure_config(), address, name, version).await
}

async fn tls_stream_by(
    (mut config, certificate): (ClientConfig, Arc<ShownCertificate>),
    address: SocketAddr,
    name: Option<&str>,
    version: Version,
) -> std::io::Result<(TlsStream<TcpStream>, Vec<u8>)> {
    config.alpn_protocols = vec![if version == Version::HTTP_2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    config.enable_sni = name.is_some();
    let server_name = ServerName::try_from(name.unwrap_or("no.sni").to_owned()).unwrap();
    let stream = connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(server_name, stream).await?;
    let certificate = certificate.0.lock().unwrap().take();
    Ok((stream, certificate.unwrap_or_default()))
}

/// The leaf that a server showed.
#[derive(Debug)]
pub struct ShownCertificate(Mutex<Option<Vec<u8>>>);

/// A configuration that believes every server and notes the certificate that it showed.
#[must_use]
pub fn insecure_config() -> (ClientConfig, Arc<ShownCertificate>) {
    insecure_config_of(rustls::ALL_VERSIONS)
}

/// The same for a client of some versions of TLS only.
#[must_use]
pub fn insecure_config_of(versions: &[&'static SupportedProtocolVersion]) -> (ClientConfig, Arc<ShownCertificate>) {
    insecure_config_by(rustls::crypto::ring::default_provider(), versions)
}

/// The same for a client whose cryptography has this to offer.
#[must_use]
pub fn insecure_config_by(
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> (ClientConfig, Arc<ShownCertificate>) {
    let shown = Arc::new(ShownCertificate(Mutex::new(None)));
    let provider = Arc::new(provider);
    let verifier = Arc::new(Credulous { provider: Arc::clone(&provider), shown: Arc::clone(&shown) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    (config, shown)
}

/// The same configuration with a certificate to show.
fn config_showing(config: &ClientConfig, certificate: &Certificate) -> ClientConfig {
    let chain = CertificateDer::pem_slice_iter(certificate.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let key = config.crypto_provider().key_provider.load_private_key(key).unwrap();
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    config
}

#[derive(Debug)]
struct Credulous {
    provider: Arc<CryptoProvider>,
    shown: Arc<ShownCertificate>,
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.0.lock().unwrap() = Some(leaf.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
