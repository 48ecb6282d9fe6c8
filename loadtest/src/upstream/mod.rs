//! The upstream of all peers, which answers as fast as it can.

mod grpc;
mod http1;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use tokio::net::TcpListener;

pub(crate) use http1::{BULK_PATH, SINK_PATH, WEBSOCKET_PATH, accept, bulk};

/// The gRPC method that answers with what it was sent.
pub(crate) const GRPC_PATH: &str = "/bench.Echo/Unary";

/// Serves HTTP/1.1 at the one address and gRPC in clear text at the other, until the process is told to end.
pub(crate) fn serve(listen: SocketAddr, grpc: SocketAddr, body: &str) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start threads")?;
    runtime.block_on(async {
        let grpc_listener = TcpListener::bind(grpc).await.with_context(|| format!("bind {grpc}"))?;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("bind {listen}"))?;
        tokio::join!(accept(listener, body), grpc::accept(grpc_listener));
        Ok(ExitCode::SUCCESS)
    })
}

/// Starts an upstream on a thread of this process, for as long as it lives, and returns where it listens.
pub(crate) fn start(body: &str) -> anyhow::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start threads")?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).context("bind an upstream")?;
    let address = listener.local_addr().context("bind an upstream")?;
    let body = body.to_owned();
    std::thread::Builder::new()
        .name("upstream".to_owned())
        .spawn(move || runtime.block_on(accept(listener, &body)))
        .context("start threads")?;
    Ok(address)
}

/// Accepts for ever.
async fn each(listener: TcpListener, mut serve: impl FnMut(tokio::net::TcpStream)) {
    loop {
        // Without descriptors there is nobody to talk to until a connection ends.
        match listener.accept().await {
            Ok((stream, _)) if stream.set_nodelay(true).is_ok() => serve(stream),
            _ => tokio::task::yield_now().await,
        }
    }
}
