//! HTTP/2 over TLS: requests and unary gRPC calls, several at a time on one connection.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, header};

use super::http1::connect;
use super::{Counters, Samples, TIMEOUT, Target, wrong};

/// Bytes of a body that may be under way, for a stream and for a connection.
const WINDOW: u32 = 8 << 20;

/// Asks on all streams of one connection until one of them fails.
pub(super) async fn converse(
    target: &Arc<Target>,
    streams: u32,
    is_grpc: bool,
    counters: &Arc<Counters>,
) -> io::Result<()> {
    let stream = connect(target.tls).await?;
    let stream = tokio::time::timeout(TIMEOUT, target.client_tls.connect(&target.host, stream)).await??;
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let request = Arc::new(request(target, is_grpc)?);
    let tasks: Vec<_> = (0..streams)
        .map(|_| {
            let ask = Stream {
                sender: sender.clone(),
                target: Arc::clone(target),
                request: Arc::clone(&request),
                is_grpc,
                counters: Arc::clone(counters),
            };
            tokio::spawn(ask.ask())
        })
        .collect();
    let mut result = Ok(());
    for task in tasks {
        let asked = task.await.map_err(io::Error::other).flatten();
        result = result.and(asked);
    }
    connection.abort();
    result
}

fn request(target: &Target, is_grpc: bool) -> io::Result<Request<()>> {
    let uri = format!("https://{}{}", target.host, target.path);
    let request = if is_grpc {
        Request::post(uri).header(header::CONTENT_TYPE, "application/grpc").header(header::TE, "trailers")
    } else {
        Request::get(uri).header(header::USER_AGENT, "loadtest").header(header::ACCEPT, "*/*")
    };
    request.body(()).map_err(io::Error::other)
}

/// One of the streams, each of which is many in the sense of RFC 9113.
struct Stream {
    sender: SendRequest<Bytes>,
    target: Arc<Target>,
    request: Arc<Request<()>>,
    is_grpc: bool,
    counters: Arc<Counters>,
}

impl Stream {
    async fn ask(self) -> io::Result<()> {
        let mut samples = Samples::new(&self.counters);
        while !self.counters.is_over() {
            let since = Instant::now();
            tokio::time::timeout(TIMEOUT, self.exchange()).await??;
            samples.answered(since);
        }
        Ok(())
    }

    async fn exchange(&self) -> io::Result<()> {
        let mut sender = self.sender.clone().ready().await.map_err(io::Error::other)?;
        let has_body = !self.target.upload.is_empty();
        let (answer, mut body) =
            sender.send_request(Request::clone(&self.request), !has_body).map_err(io::Error::other)?;
        if has_body {
            let upload = Bytes::copy_from_slice(&self.target.upload);
            body.send_data(upload, true).map_err(io::Error::other)?;
        }
        let answer = answer.await.map_err(io::Error::other)?;
        if answer.status() != 200 {
            return Err(wrong(format!("answer {}", answer.status())));
        }
        let mut body = answer.into_body();
        let mut rest: &[u8] = &self.target.download;
        while let Some(data) = body.data().await {
            let data = data.map_err(io::Error::other)?;
            body.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
            rest = rest.strip_prefix(&data[..]).ok_or_else(|| wrong("the body of another answer"))?;
        }
        if !rest.is_empty() {
            return Err(wrong("an answer without its end"));
        }
        let trailers = body.trailers().await.map_err(io::Error::other)?;
        let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        if self.is_grpc && status.is_none_or(|status| status != "0") {
            return Err(wrong(format!("gRPC status {status:?}")));
        }
        Ok(())
    }
}
