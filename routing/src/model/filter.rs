//! Filters: what is done to a request before it goes on, and to the answer before it goes back.

use std::num::NonZeroU32;

use http::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

use super::url::ServerUrl;
use crate::request::Scheme;
use crate::template::Template;

/// One step of a rule. Steps run in the order of the rule; the first that answers ends it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// Answers 503 with a reason: the rule asks for a restriction that cannot be evaluated, so nobody gets through.
    Deny(Box<str>),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Answers without an upstream.
    Respond(DirectResponse),
    /// Answers that nothing is here, as where no host fits.
    NotFound,
    /// Changes the host or the path that the upstream sees.
    Rewrite(Rewrite),
    /// Changes request headers.
    RequestHeaders(HeaderEdits),
    /// Changes response headers.
    ResponseHeaders(HeaderEdits),
    /// Sends a copy of the request elsewhere.
    Mirror(Mirror),
    /// Answers cross-origin preflights and marks answers.
    Cors(Cors),
}

/// A redirect.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Redirect {
    /// Which requests are redirected.
    pub when: RedirectWhen,
    /// Where to.
    pub to: RedirectTarget,
    /// The status, 300 to 399.
    pub status: u16,
}

/// Which requests a redirect is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RedirectWhen {
    /// All of the rule.
    Always,
    /// Those for exactly this path.
    PathIs(Box<str>),
    /// Those in plain text, but for the paths that the settings exempt (`no-tls-redirect-locations`): ingress-nginx
    /// `force-ssl-redirect`.
    PlainText,
    /// The same, for names that a certificate is configured for: ingress-nginx `ssl-redirect`.
    PlainTextWithCertificate,
}

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RedirectTarget {
    /// The text of the `Location` header, with nginx's variables.
    Location(Template),
    /// The request's own URI with some parts replaced (Gateway API `HTTPRequestRedirectFilter`).
    Parts(UriParts),
    /// `https://`, the host without its port, and the request target with one trailing slash removed unless it is to be
    /// kept (ingress-nginx `preserve-trailing-slash`).
    Https {
        /// Keeps the trailing slash.
        keep_trailing_slash: bool,
        /// Names the port that TLS is spoken on (ingress-nginx `use-port-in-redirects`).
        with_port: bool,
    },
    /// A path of the host that was asked for, as nginx's own redirects have it.
    Path {
        /// The path and the query.
        target: Template,
        /// What stands before it.
        base: RedirectBase,
    },
    /// The same target on another host, without one trailing slash (ingress-nginx `from-to-www-redirect`).
    Host(Box<str>),
}

/// What stands before the path of a redirect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RedirectBase {
    /// Scheme and host.
    #[default]
    Host,
    /// Scheme, host, and the port that the request came to (nginx `port_in_redirect`).
    HostAndPort,
    /// Nothing (nginx `absolute_redirect off`).
    Nothing,
}

/// Parts of a URI that replace those of the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UriParts {
    /// The scheme.
    pub scheme: Option<Scheme>,
    /// The host.
    pub host: Option<Box<str>>,
    /// The port; without one, the scheme's own, or the request's when the scheme stays.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathRewrite>,
}

/// Another path in place of the request's.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// The whole path.
    Full(Box<str>),
    /// The prefix that the route matched (Gateway API `ReplacePrefixMatch`).
    Prefix(Box<str>),
    /// A text with the captures of the route's regular expression (ingress-nginx `rewrite-target`).
    Captures(Template),
}

/// A change of the request's target.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rewrite {
    /// The host that the upstream sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Template>,
    /// The path that the upstream sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// What the upstream is told in `X-Forwarded-Prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Template>,
}

/// Changes to header fields: removed first, then set, then added (Gateway API `HTTPHeaderFilter`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Fields to remove.
    pub remove: Vec<HeaderName>,
    /// Fields to set, whatever was there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields to add to what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// A copy of the request for another server, whose answer nobody waits for (nginx `mirror`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mirror {
    /// Where the copy goes.
    pub url: ServerUrl,
    /// The host that it is for; `None` for the one in the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Box<str>>,
    /// How much of the body goes along.
    pub body: MirroredBody,
    /// Which share of the requests is copied.
    pub share: Fraction,
}

/// How much of its body the copy of a request has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum MirroredBody {
    /// All of it.
    #[default]
    Whole,
    /// Nothing.
    Nothing,
}

/// A share of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fraction {
    /// How many.
    pub numerator: u32,
    /// Out of how many; at least 1.
    pub denominator: NonZeroU32,
}

impl Filter {
    /// Whether the step decides what becomes of a request. The others change headers or send copies of what goes on.
    pub(crate) fn decides(&self) -> bool {
        match self {
            Self::Deny(_)
            | Self::Redirect(_)
            | Self::Respond(_)
            | Self::NotFound
            | Self::Rewrite(_)
            | Self::Cors(_) => true,
            Self::RequestHeaders(_) | Self::ResponseHeaders(_) | Self::Mirror(_) => false,
        }
    }
}

impl Fraction {
    /// All requests.
    pub const ALL: Self = Self { numerator: 1, denominator: NonZeroU32::MIN };
}

/// An answer without an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DirectResponse {
    /// The status, 200 to 599.
    pub status: u16,
    /// The body.
    pub body: Box<str>,
}

/// Cross-origin resource sharing (Fetch standard section 3.2; Gateway API `HTTPCORSFilter`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cors {
    /// Origins that may read answers; `*` for all, `https://*.example.com` for the hosts of a domain.
    pub allow_origins: Vec<Box<str>>,
    /// Methods that a preflight may ask for.
    pub allow_methods: Box<str>,
    /// Headers that a preflight may ask for.
    pub allow_headers: Box<str>,
    /// Headers that a script may read.
    pub expose_headers: Option<Box<str>>,
    /// Whether credentials are allowed.
    pub allow_credentials: bool,
    /// How long a preflight may be remembered, in seconds.
    pub max_age: u32,
}

impl Serialize for HeaderEdits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let pairs = |fields: &[(HeaderName, HeaderValue)]| -> Vec<(String, String)> {
            let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            fields.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
        };
        let mut edits = serializer.serialize_struct("HeaderEdits", 3)?;
        edits.serialize_field("remove", &self.remove.iter().map(HeaderName::as_str).collect::<Vec<_>>())?;
        edits.serialize_field("set", &pairs(&self.set))?;
        edits.serialize_field("add", &pairs(&self.add))?;
        edits.end()
    }
}
