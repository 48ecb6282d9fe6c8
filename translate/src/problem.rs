//! What is told to the author of an object: where, how bad, why.

use std::fmt;

use serde::Serialize;

/// The longest message, in characters: a value of a megabyte must not become a log line of one.
const MAX_MESSAGE: usize = 1000;

/// Something that the author of an object should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of problem it is.
    pub reason: Reason,
    /// The field, such as `spec.rules[0].host`; empty for the whole object.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something that was asked for does not work.
    Error,
    /// It works, but perhaps not as its author thinks.
    Warning,
}

/// What kind of problem it is: the reason of Events, conditions and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reason {
    /// The object does not have the shape of its kind.
    Malformed,
    /// A value is not one that the field can have.
    InvalidValue,
    /// An annotation has a value that it cannot have.
    AnnotationParsingFailed,
    /// The paths of the object answer 503: it asks for a restriction that cannot be evaluated.
    Denied,
    /// An annotation has no effect here.
    AnnotationIgnored,
    /// An annotation under our prefix that nobody knows.
    AnnotationUnknown,
    /// The object was written for an older API.
    OldVersion,
    /// Something that an API server would refuse was accepted from a file.
    Lenient,
    /// Another object has claimed the same host and path before.
    Conflict,
    /// A Secret is missing, or it holds no certificate.
    CertificateUnavailable,
    /// A certificate is not for the host that it is used for.
    CertificateMismatch,
    /// A Service is missing.
    ServiceNotFound,
    /// A Service has no such port.
    PortNotFound,
    /// A Service has no endpoint that takes requests.
    NoEndpoints,
    /// An address that requests must not be sent to.
    AddressRefused,
    /// The class of the object is not served here.
    ClassNotServed,
    /// Every path of the host is a regular expression because of another object.
    RegexHost,
    /// A key of the ConfigMap that is not known.
    SettingUnknown,
    /// A key of the ConfigMap that has no effect here.
    SettingIgnored,
    /// A kind that nobody knows here.
    KindUnknown,
    /// Two files hold the same object.
    Duplicate,
}

impl Problem {
    /// Something does not work.
    pub fn error(reason: Reason, field: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::new(Severity::Error, reason, field.into(), message.to_string())
    }

    /// Something may not be as its author thinks.
    pub fn warning(reason: Reason, field: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::new(Severity::Warning, reason, field.into(), message.to_string())
    }

    fn new(severity: Severity, reason: Reason, field: String, mut message: String) -> Self {
        if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
            message.truncate(end);
            message.push_str("...");
        }
        Self { severity, reason, field, message }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}
