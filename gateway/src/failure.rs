//! Every answer of the gateway itself, in one table: nothing else picks a status.

use pingora::{Error, ErrorSource, ErrorType};
use routing::Reason;

use crate::framing::Violation;

/// Why the gateway answers by itself, or gives a request up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No host fits.
    HostNotFound,
    /// The host has no route that fits.
    RouteNotFound,
    /// The rule asks for a restriction that cannot be evaluated.
    Denied,
    /// The client is not one of those who get through.
    Forbidden,
    /// The client did not say who it is, or not truly.
    Unauthorized,
    /// The client does not show the certificate that its host demands.
    CertificateMissing,
    /// The connection was made for another host, whose clients need not show as much.
    Misdirected,
    /// Whoever should know who the client is did not say so.
    AuthUnavailable,
    /// The client sends too much at a time; the status is a setting.
    Limited {
        /// The status.
        status: u16,
    },
    /// Too many requests wait for something that takes long, or memory runs short.
    Overloaded,
    /// The reference to the backend cannot be followed.
    BackendInvalid,
    /// The rewritten path cannot be forwarded.
    RewriteInvalid,
    /// The backend does not exist, or has no endpoint that takes requests.
    NoEndpoints,
    /// No endpoint could be connected to.
    ConnectFailed,
    /// Connecting took too long.
    ConnectTimeout,
    /// The TLS handshake with the upstream failed.
    UpstreamTls,
    /// The upstream broke the connection or did not speak HTTP.
    UpstreamBroken,
    /// The upstream took too long.
    UpstreamTimeout,
    /// The request is malformed or ambiguous.
    RequestMalformed,
    /// The target of the request is too long.
    TargetTooLong,
    /// The head of the request is too large.
    HeadTooLarge,
    /// The body of the request is larger than the rule allows.
    BodyTooLarge,
    /// The head of the upstream's answer is larger than the rule allows.
    UpstreamHeadTooLarge,
    /// The method is not served.
    MethodNotAllowed,
    /// The client took too long to send its request.
    RequestTimeout,
    /// The client went away.
    ClientClosed,
    /// A fault of the gateway.
    Internal,
}

impl Failure {
    /// The status that is answered; 499 is nginx's mark for a client that is gone, and goes to the log only.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Limited { status } => status,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::HostNotFound | Self::RouteNotFound => 404,
            Self::CertificateMissing | Self::RequestMalformed | Self::RewriteInvalid => 400,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Misdirected => 421,
            Self::HeadTooLarge => 431,
            Self::ClientClosed => 499,
            Self::AuthUnavailable | Self::BackendInvalid | Self::Internal => 500,
            Self::ConnectFailed | Self::UpstreamTls | Self::UpstreamBroken | Self::UpstreamHeadTooLarge => 502,
            Self::Denied | Self::NoEndpoints | Self::Overloaded => 503,
            Self::ConnectTimeout | Self::UpstreamTimeout => 504,
        }
    }

    /// The `reason` label of metrics and access log.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::HostNotFound => "host_not_found",
            Self::RouteNotFound => "route_not_found",
            Self::Denied => "denied",
            Self::Forbidden => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::CertificateMissing => "certificate_missing",
            Self::Misdirected => "misdirected",
            Self::AuthUnavailable => "auth_unavailable",
            Self::Limited { .. } => "limited",
            Self::Overloaded => "overloaded",
            Self::BackendInvalid => "backend_invalid",
            Self::RewriteInvalid => "rewrite_invalid",
            Self::NoEndpoints => "no_endpoints",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::UpstreamTls => "upstream_tls",
            Self::UpstreamBroken => "upstream_broken",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::RequestMalformed => "request_malformed",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::UpstreamHeadTooLarge => "upstream_head_too_large",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::ClientClosed => "client_closed",
            Self::Internal => "internal",
        }
    }

    /// Whether the connection to the client may carry another request: not when it is unclear where this one ends, and not
    /// when there is too much to do already.
    #[must_use]
    pub fn keeps_connection(self) -> bool {
        !matches!(
            self,
            Self::RequestMalformed
                | Self::TargetTooLong
                | Self::HeadTooLarge
                | Self::BodyTooLarge
                | Self::MethodNotAllowed
                | Self::Overloaded
                | Self::RequestTimeout
                | Self::ClientClosed
        )
    }

    /// Reads an error of Pingora.
    #[must_use]
    pub fn of_error(error: &Error) -> Self {
        use ErrorType::{
            ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, ConnectionClosed, InvalidCert,
            InvalidHTTPHeader, ReadError, ReadTimedout, TLSHandshakeFailure, TLSHandshakeTimedout, WriteError,
            WriteTimedout,
        };
        match (error.esource(), error.etype()) {
            (ErrorSource::Upstream, ConnectTimedout | TLSHandshakeTimedout) => Self::ConnectTimeout,
            (ErrorSource::Upstream, ConnectRefused | ConnectNoRoute | ConnectError) => Self::ConnectFailed,
            (ErrorSource::Upstream, TLSHandshakeFailure | InvalidCert) => Self::UpstreamTls,
            (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => Self::UpstreamTimeout,
            (ErrorSource::Upstream, _) => Self::UpstreamBroken,
            (ErrorSource::Downstream, ReadTimedout) => Self::RequestTimeout,
            (ErrorSource::Downstream, ReadError | WriteError | WriteTimedout | ConnectionClosed) => Self::ClientClosed,
            (ErrorSource::Downstream, InvalidHTTPHeader) => Self::RequestMalformed,
            (ErrorSource::Downstream, _) => Self::RequestMalformed,
            (ErrorSource::Internal | ErrorSource::Unset, _) => Self::Internal,
        }
    }

    /// Reads the reason of a decision; `None` for answers that are no failure.
    #[must_use]
    pub fn of_reason(reason: Reason) -> Option<Self> {
        match reason {
            Reason::HostNotFound => Some(Self::HostNotFound),
            Reason::RouteNotFound => Some(Self::RouteNotFound),
            Reason::Denied => Some(Self::Denied),
            Reason::BackendInvalid => Some(Self::BackendInvalid),
            Reason::RewriteInvalid => Some(Self::RewriteInvalid),
            Reason::Health | Reason::Direct | Reason::Preflight => None,
        }
    }
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Malformed => Self::RequestMalformed,
            Violation::TargetTooLong => Self::TargetTooLong,
            Violation::HeadTooLarge => Self::HeadTooLarge,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_pingora_has_one_failure() {
        for (source, kind, failure) in [
            (ErrorSource::Upstream, ErrorType::ConnectRefused, Failure::ConnectFailed),
            (ErrorSource::Upstream, ErrorType::ConnectTimedout, Failure::ConnectTimeout),
            (ErrorSource::Upstream, ErrorType::ReadTimedout, Failure::UpstreamTimeout),
            (ErrorSource::Upstream, ErrorType::ConnectionClosed, Failure::UpstreamBroken),
            (ErrorSource::Upstream, ErrorType::InvalidHTTPHeader, Failure::UpstreamBroken),
            (ErrorSource::Downstream, ErrorType::ConnectionClosed, Failure::ClientClosed),
            (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader, Failure::RequestMalformed),
            (ErrorSource::Downstream, ErrorType::ReadTimedout, Failure::RequestTimeout),
            (ErrorSource::Internal, ErrorType::InternalError, Failure::Internal),
        ] {
            let error = Error::create(kind, source, None, None);
            assert_eq!(Failure::of_error(&error), failure, "{error}");
        }
    }
}
