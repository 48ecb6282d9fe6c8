//! The gRPC health checking protocol (`grpc.health.v1.Health/Check`), which `pingora-load-balancing` does not have.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::lb::Backend;
use pingora::lb::health_check::HealthCheck;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

/// The message `HealthCheckResponse { status: SERVING }` with its frame: not compressed, two bytes, field 1 is 1.
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 0x08, 1];
/// An answer that is longer is none.
const MAX_ANSWER: usize = 1024;

/// Asks a gRPC server whether a service of it is well.
pub(super) struct GrpcHealthCheck {
    request: Bytes,
    timeout: Duration,
    connector: Connector,
}

impl GrpcHealthCheck {
    /// An empty name asks for the server as a whole.
    pub(super) fn new(service: &str, timeout: Duration) -> Self {
        Self { request: request(service), timeout, connector: Connector::new(None) }
    }
}

#[async_trait]
impl HealthCheck for GrpcHealthCheck {
    async fn check(&self, target: &Backend) -> pingora::Result<()> {
        let Some(address) = target.addr.as_inet() else {
            return Error::e_explain(ErrorType::InternalError, "not an address of the internet");
        };
        let mut peer = HttpPeer::new(address, false, String::new());
        peer.options.set_http_version(2, 2);
        peer.options.connection_timeout = Some(self.timeout);
        peer.options.total_connection_timeout = Some(self.timeout);
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        session.set_read_timeout(Some(self.timeout));
        session.set_write_timeout(Some(self.timeout));
        let mut header = RequestHeader::build("POST", b"/grpc.health.v1.Health/Check", None)?;
        header.insert_header("Host", address.to_string())?;
        header.insert_header("Content-Type", "application/grpc")?;
        header.insert_header("TE", "trailers")?;
        session.write_request_header(Box::new(header)).await?;
        session.write_request_body(self.request.clone(), true).await?;
        session.read_response_header().await?;
        let mut answer = BytesMut::new();
        while let Some(piece) = session.read_response_body().await? {
            answer.put(piece);
            if answer.len() > MAX_ANSWER {
                break;
            }
        }
        if *answer == SERVING { Ok(()) } else { Error::e_explain(ErrorType::InvalidHTTPHeader, "not serving") }
    }

    /// Thresholds are the caller's.
    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

/// The message `HealthCheckRequest { service }` with its frame.
fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        // Field 1, a text, and its length in groups of seven bits.
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.put_u8(u8::try_from(length).unwrap_or_default());
        message.put(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or_default());
    frame.put(message);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_framed_message() {
        assert_eq!(*request(""), [0, 0, 0, 0, 0]);
        assert_eq!(*request("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        assert_eq!(request(&"x".repeat(300))[..9], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02, b'x']);
    }
}
