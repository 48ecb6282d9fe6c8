//! HTTP/1.1, plain and over TLS, on connections that are kept and on new ones.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Counters, Exchange, Samples, TIMEOUT, Target, certificate_host, wrong};
use crate::http;

/// Asks on one connection until it ends.
pub(super) async fn kept(target: &Target, counters: &Arc<Counters>) -> io::Result<()> {
    let mut stream = connect(target.plain).await?;
    let mut samples = Samples::new(counters);
    let request = request(target);
    let mut received = Vec::with_capacity(16 << 10);
    while !counters.is_over() {
        let since = Instant::now();
        let is_last = exchange(&mut stream, &request, &mut received, target).await?;
        samples.answered(since);
        if is_last {
            break;
        }
    }
    Ok(())
}

/// Asks on one connection after the other.
pub(super) async fn new_connection(target: &Target, counters: &Arc<Counters>) -> io::Result<()> {
    let mut samples = Samples::new(counters);
    let request = request(target);
    let mut received = Vec::with_capacity(16 << 10);
    while !counters.is_over() {
        let since = Instant::now();
        let mut stream = connect(target.plain).await?;
        exchange(&mut stream, &request, &mut received, target).await?;
        samples.answered(since);
    }
    Ok(())
}

/// Asks on one TLS connection after the other. Whether they resume a session is the client's configuration.
pub(super) async fn new_tls(target: &Target, counters: &Arc<Counters>) -> io::Result<()> {
    let mut samples = Samples::new(counters);
    let mut host = target.host.clone();
    let mut request = request(target);
    let mut received = Vec::with_capacity(16 << 10);
    while !counters.is_over() {
        if let Exchange::HandshakeOfAny { hosts } = target.exchange {
            host = certificate_host(fastrand::u32(0..hosts));
            request = http::request(&host, target.path);
        }
        let since = Instant::now();
        over_tls(target, &host, &request, &mut received).await?;
        samples.answered(since);
    }
    Ok(())
}

/// Whether the host of the target is answered over TLS, with a certificate of its name.
pub(crate) fn is_answered_over_tls(target: &Target) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .and_then(|runtime| runtime.block_on(over_tls(target, &target.host, &request(target), &mut Vec::new())))
        .is_ok()
}

/// Asks on a TLS connection of its own.
async fn over_tls(target: &Target, host: &str, request: &[u8], received: &mut Vec<u8>) -> io::Result<()> {
    let stream = connect(target.tls).await?;
    let mut stream = tokio::time::timeout(TIMEOUT, target.client_tls.connect(host, stream)).await??;
    exchange(&mut stream, request, received, target).await?;
    Ok(())
}

/// A TCP connection that sends at once what it is given.
pub(super) async fn connect(address: std::net::SocketAddr) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(TIMEOUT, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The whole request of a target.
pub(super) fn request(target: &Target) -> Vec<u8> {
    if target.upload.is_empty() {
        return http::request(&target.host, target.path);
    }
    let mut request = http::post(&target.host, target.path, target.upload.len());
    request.extend_from_slice(&target.upload);
    request
}

/// Asks and reads one answer, which must be the right one; tells whether the connection ends with it.
pub(super) async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
    received: &mut Vec<u8>,
    target: &Target,
) -> io::Result<bool> {
    received.clear();
    let exchange = async {
        stream.write_all(request).await?;
        stream.flush().await?;
        loop {
            if stream.read_buf(received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(is_last) = is_answered(received, &target.download)? {
                return Ok(is_last);
            }
        }
    };
    tokio::time::timeout(TIMEOUT, exchange).await?
}

/// Whether the connection ends with the answer that was received; `None` when there is more of it to come.
pub(super) fn is_answered(received: &[u8], right: &[u8]) -> io::Result<Option<bool>> {
    let Some(head) = http::head(received)? else { return Ok(None) };
    if head.status != 200 || head.body != right.len() {
        return Err(wrong(format!("answer {} with {} bytes", head.status, head.body)));
    }
    let Some(body) = received.get(head.length..head.length + head.body) else { return Ok(None) };
    if body != right {
        return Err(wrong("the body of another answer"));
    }
    Ok(Some(head.is_last))
}
