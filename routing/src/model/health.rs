//! Active health checks of the endpoints of a backend.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// How the endpoints of a backend are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// How often.
    #[serde(serialize_with = "seconds")]
    pub interval: Duration,
    /// How long an answer may take.
    #[serde(serialize_with = "seconds")]
    pub timeout: Duration,
    /// So many failures in a row take an endpoint out.
    pub fall: NonZeroU32,
    /// So many successes in a row bring it back.
    pub rise: NonZeroU32,
}

/// What an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// `GET`; any status from 200 to 399 is well, as for the kubelet.
    Http {
        /// The path.
        path: Box<str>,
        /// The `Host` header.
        host: Box<str>,
        /// Whether by HTTPS, whose certificate is not verified.
        is_tls: bool,
    },
    /// Whether a connection can be made.
    Tcp,
    /// The gRPC health checking protocol, in plain text.
    Grpc {
        /// The name of the service; empty for the server as a whole.
        service: Box<str>,
    },
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}s", duration.as_secs_f64()))
}
