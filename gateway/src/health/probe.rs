//! One question to one endpoint, by the checks of `pingora-load-balancing`.

use std::net::SocketAddr;

use pingora::http::RequestHeader;
use pingora::lb::Backend;
use pingora::lb::health_check::{self, HttpHealthCheck, TcpHealthCheck};
use pingora::{Error, ErrorType};
use routing::model::{HealthCheck, Probe};

use super::grpc::GrpcHealthCheck;

/// Asks endpoints one question.
pub(super) struct Prober(Box<dyn health_check::HealthCheck + Send + Sync>);

/// Prepares a question.
pub(super) fn prober(check: &HealthCheck) -> Prober {
    let timeout = Some(check.timeout);
    match &check.probe {
        Probe::Http { path, host, is_tls } => {
            let mut http = HttpHealthCheck::new(host, *is_tls);
            // The parser of the annotation lets through what can stand in a request line.
            if let Ok(mut request) = RequestHeader::build("GET", path.as_bytes(), None) {
                let named = request.insert_header("Host", &**host);
                let named = named.and_then(|()| request.insert_header("User-Agent", "penstock-health-check"));
                if named.is_ok() {
                    http.req = request;
                }
            }
            let options = &mut http.peer_template.options;
            options.verify_cert = false;
            options.verify_hostname = false;
            options.connection_timeout = timeout;
            options.total_connection_timeout = timeout;
            options.read_timeout = timeout;
            options.write_timeout = timeout;
            http.validator = Some(Box::new(|response| match response.status.as_u16() {
                200..400 => Ok(()),
                status => Error::e_explain(ErrorType::HTTPStatus(status), "health check"),
            }));
            Prober(Box::new(http))
        }
        Probe::Tcp => {
            let mut tcp = TcpHealthCheck::new();
            tcp.peer_template.options.connection_timeout = timeout;
            Prober(tcp)
        }
        Probe::Grpc { service } => Prober(Box::new(GrpcHealthCheck::new(service, check.timeout))),
    }
}

impl Prober {
    /// Whether the endpoint is well; the error says why it is not.
    pub(super) async fn ask(&self, address: SocketAddr) -> pingora::Result<()> {
        let addr = pingora::protocols::l4::socket::SocketAddr::Inet(address);
        let backend = Backend { addr, weight: 1, ext: http::Extensions::new() };
        self.0.check(&backend).await
    }
}
