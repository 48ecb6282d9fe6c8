//! The gateway under attack, its one host, and the upstream behind it. Each attack gets a gateway of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::load::{Exchange, Target};
use crate::peers::Gateway;
use crate::tls::Certificate;
use crate::upstream::BULK_PATH;
use crate::{manifests, upstream};

/// The host that is served.
pub(super) const HOST: &str = "bench.example";
/// What its upstream answers with.
const BODY: &str = "x";

/// Where a gateway can be started.
pub(super) struct Site {
    program: PathBuf,
    directory: PathBuf,
    manifests: PathBuf,
    certificate: Certificate,
}

impl Site {
    /// Starts the upstream and writes the manifests.
    pub(super) fn create(program: &Path, directory: &Path) -> anyhow::Result<Self> {
        let manifests = directory.join("manifests");
        std::fs::create_dir(&manifests).context("create a directory")?;
        let certificate = Certificate::generate(&[HOST.to_owned()])?;
        let files = certificate.write(directory)?;
        let documents = [
            manifests::secret("tls", &files.certificate_pem, &files.key_pem),
            manifests::tls_ingress("bench", HOST, "upstream", "tls", &[("ssl-redirect", "false")]),
            manifests::service("upstream"),
            manifests::slice("upstream", upstream::start(BODY)?),
        ];
        std::fs::write(manifests.join("bench.yaml"), manifests::documents(&documents)).context("write manifests")?;
        Ok(Self { program: program.to_owned(), directory: directory.to_owned(), manifests, certificate })
    }

    /// A gateway that serves.
    pub(super) fn gateway(&self) -> anyhow::Result<Gateway> {
        self.serving(Gateway::start(&self.program, &self.manifests, &self.directory, &flags())?)
    }

    /// A gateway that serves, started by a shell after it has done `first`.
    pub(super) fn gateway_after(&self, first: &str) -> anyhow::Result<Gateway> {
        self.serving(Gateway::after(first, &self.program, &self.manifests, &self.directory, &flags())?)
    }

    fn serving(&self, mut gateway: Gateway) -> anyhow::Result<Gateway> {
        gateway.process.wait_until_serving(gateway.address, HOST)?;
        Ok(gateway)
    }

    /// Small requests on so many kept connections.
    pub(super) fn target(&self, gateway: &Gateway, connections: u32) -> anyhow::Result<Target> {
        Ok(Target {
            plain: gateway.address,
            tls: gateway.https,
            client_tls: self.certificate.client("http/1.1", true)?,
            host: HOST.to_owned(),
            path: "/",
            upload: Arc::default(),
            download: BODY.as_bytes().into(),
            exchange: Exchange::Kept,
            connections,
        })
    }
}

/// The access log would measure the disk.
fn flags() -> [String; 1] {
    ["--access-log=off".to_owned()]
}

/// Connects without waiting for long.
pub(super) async fn connect(address: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
    let stream = tokio::time::timeout(super::slow::LIMIT, tokio::net::TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The head of a request for the large body.
pub(super) fn bulk_request() -> Vec<u8> {
    crate::http::request(HOST, BULK_PATH)
}
