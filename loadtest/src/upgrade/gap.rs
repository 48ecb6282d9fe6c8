//! A server with a gap: what the load must see, or its zero means nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::client::Target;
use super::load::Load;
use crate::{report, upstream};

/// For how long nobody listens.
const GAP: Duration = Duration::from_millis(50);
/// Requests before the gap, and after it.
const N_AROUND: u64 = 1000;

/// Sends the load to a server that is away for a moment, and fails when no request is lost by it.
pub(super) fn is_seen(rate: u32) -> anyhow::Result<()> {
    let (leave, left) = oneshot::channel();
    let (back, is_back) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start threads")?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).context("bind a server")?;
    let address = listener.local_addr().context("bind a server")?;
    let body = move || {
        runtime.block_on(async {
            let listener = go_away(listener, left).await;
            let _ = back.send(());
            upstream::accept(listener?, "a").await;
            anyhow::Ok(())
        })
    };
    std::thread::Builder::new().name("gap".to_owned()).spawn(body).context("start threads")?;
    let hosts = Arc::new(["gap.example".to_owned()]);
    let load = Load::start(Target { http: address, https: None, hosts }, rate)?;
    load.wait_until(N_AROUND);
    let n_before = load.n_ended();
    // It is gone only when the thread has ended.
    let _ = leave.send(());
    is_back.recv().context("the server does not come back")?;
    load.wait_until(load.n_ended() + N_AROUND);
    let findings = load.stop()?;
    let (n_lost, n_requests) = (findings.lost.len(), findings.n_requests());
    if n_lost == 0 {
        bail!("the load does not see that nobody listened for {GAP:?}: {n_requests} requests, {n_before} before");
    }
    report::line(&format!("the load sees that a server does not listen for {GAP:?}: {n_lost} of {n_requests} lost"));
    Ok(())
}

/// Serves until it is told to leave, and listens at the same address again after the gap. Connections live on.
async fn go_away(listener: TcpListener, left: oneshot::Receiver<()>) -> anyhow::Result<TcpListener> {
    let address: SocketAddr = listener.local_addr().context("bind a server")?;
    tokio::select! {
        () = upstream::accept(listener, "a") => {}
        _ = left => {}
    }
    tokio::time::sleep(GAP).await;
    TcpListener::bind(address).await.context("listen again")
}
