//! A bare Pingora proxy: what Pingora itself costs. It must stay as small as this.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use async_trait::async_trait;
use clap::Args;
use pingora::listeners::tls::TlsSettings;
use pingora::protocols::ALPN;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

#[derive(Args)]
#[command(version = "Pingora 0.9.1")]
pub(crate) struct BareFlags {
    #[arg(long)]
    listen: SocketAddr,
    /// Where it listens for TLS, if it does
    #[arg(long, requires_all = ["certificate", "key"])]
    listen_tls: Option<SocketAddr>,
    #[arg(long)]
    certificate: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
    #[arg(long)]
    upstream: SocketAddr,
    /// The upstream of what is gRPC, if that is another one
    #[arg(long)]
    grpc: Option<SocketAddr>,
    #[arg(long)]
    threads: usize,
}

struct Bare {
    upstream: SocketAddr,
    grpc: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, session: &mut Session, _context: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        if session.req_header().headers.get("content-type").is_some_and(|of_body| of_body == "application/grpc") {
            let mut peer = HttpPeer::new(self.grpc, false, String::new());
            peer.options.alpn = ALPN::H2;
            return Ok(Box::new(peer));
        }
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

/// Serves until the process is told to end.
pub(crate) fn serve(flags: BareFlags) -> anyhow::Result<ExitCode> {
    let conf = ServerConf { threads: flags.threads, grace_period_seconds: Some(0), ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let proxy = Bare { upstream: flags.upstream, grpc: flags.grpc.unwrap_or(flags.upstream) };
    let mut service = http_proxy_service(&server.configuration, proxy);
    service.add_tcp(&flags.listen.to_string());
    if let (Some(listen), Some(certificate), Some(key)) = (flags.listen_tls, flags.certificate, flags.key) {
        let mut tls = TlsSettings::intermediate(&certificate.to_string_lossy(), &key.to_string_lossy())?;
        tls.enable_h2();
        service.add_tls_with_settings(&listen.to_string(), None, tls);
    }
    server.add_service(service);
    server.run_forever()
}
