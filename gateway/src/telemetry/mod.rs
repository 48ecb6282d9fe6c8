//! What the gateway tells about itself: metrics and the access log. Nothing here may slow a request down.

mod access_log;
mod access_record;
mod family;
mod histogram;
mod log_line;
mod metrics;
mod process;
mod routes;
mod rule;
mod time;

pub use access_log::{AccessLog, AccessLogFormat};
pub(crate) use access_record::{AccessRecord, AttemptRecord, RequestDetails, UpstreamRecord};
pub(crate) use metrics::StreamCounters;
pub use metrics::{Metrics, PodIdentity};
pub(crate) use routes::{Outcome, RouteMetrics, UpstreamOutcome};
pub(crate) use rule::RuleMetrics;
