//! What a request is matched against, and how the answer is found.
//!
//! This crate owns the model (settings, listeners, hosts, rules, backends, certificates), the order of precedence,
//! the compiled [`Snapshot`] with its publisher, and [`decide`].
//! It must not know Kubernetes, Pingora, tokio, clocks or files: values in, values out.

mod authority;
mod canary;
mod certificate;
mod compile;
mod cookie;
mod credentials;
mod decide;
mod endpoint;
mod explain;
mod flat_table;
mod host;
mod host_table;
mod index;
mod inline_text;
mod lane;
mod live;
mod matcher;
pub mod model;
mod networks;
mod orphan;
pub mod packed;
mod path;
mod precedence;
mod redirect;
mod request;
mod rewrite;
mod ring;
mod session;
mod settings;
mod slot;
mod snapshot;
mod subject;
mod table;
mod template;

pub use authority::{Authority, AuthorityError, Judgement};
pub use certificate::{Certificate, CertificateError, CertificateNames};
pub use compile::{
    CompiledBasicAuth, CompiledClientTls, CompiledCors, CompiledExternalAuth, CompiledGuards, CompiledLimits,
    CompiledMirror, CompiledRoute, CompiledRule, CompiledStream, CompiledUpstreamTls, Conditions, CopyTarget, Question,
    Target, UpstreamTrust,
};
pub use credentials::Credentials;
pub use decide::{Answer, Decision, Plan, Reason, Redirection, decide};
pub use endpoint::{Backend, BackendState, Endpoint};
pub use explain::{BackendShare, Candidate, Explanation, Outcome, Verdict, explain};
pub use host::{HostError, HostName, HostPattern, WildcardDepth};
pub use index::EndpointIndex;
pub use lane::LaneCell;
pub use live::{LiveRouting, Published, Publisher};
pub use matcher::{HeaderMatch, MatchError, QueryMatch, RegexPattern, ValueMatch};
pub use model::{Delta, Model};
pub use networks::{Networks, is_never_a_backend};
pub use orphan::Missing;
pub use path::{PathError, PathMatch, PathPrefix, PathText, normalize_path};
pub use request::{ConnectionView, RequestView, Scheme, origin_form};
pub use rewrite::RewrittenRequest;
pub use ring::HashRing;
pub use session::SessionCookie;
pub use settings::{
    Blocks, CipherSuite, Coding, Compression, HeadLimits, HeaderText, HeaderTextError, LogEscape, LogFormat, LogPart,
    LogVariable, NodePorts, Settings, StreamSettings, TextPattern, TlsSettings, TlsVersions, TrustedProxies,
};
pub use slot::Slot;
pub use snapshot::{CertificateChoice, Snapshot};
pub use subject::subject_and_issuer;
pub use template::{HashKey, Template, TemplateError};
