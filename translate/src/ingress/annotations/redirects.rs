//! How redirects of an Ingress are written: `relative-redirects`, `use-port-in-redirects`, `from-to-www-redirect`.

use routing::HostPattern;
use routing::model::RedirectBase;

use crate::settings::IngressDefaults;

/// The annotations that say how redirects are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedirectAnnotations {
    /// `relative-redirects`; `None` leaves it to the settings.
    pub relative: Option<bool>,
    /// `use-port-in-redirects`; `None` leaves it to the settings.
    pub with_port: Option<bool>,
    /// `from-to-www-redirect`.
    pub from_to_www: bool,
}

impl RedirectAnnotations {
    /// What stands before the path of a redirect.
    pub(crate) fn base(&self, defaults: &IngressDefaults) -> RedirectBase {
        if self.relative.unwrap_or(defaults.relative_redirects) {
            RedirectBase::Nothing
        } else if self.has_port(defaults) {
            RedirectBase::HostAndPort
        } else {
            RedirectBase::Host
        }
    }

    /// Whether redirects name the port.
    pub(crate) fn has_port(&self, defaults: &IngressDefaults) -> bool {
        self.with_port.unwrap_or(defaults.port_in_redirects)
    }
}

/// The name that `from-to-www-redirect` sends to a host: with `www.` before it, or without. A wildcard has none.
pub(crate) fn www_twin(host: &HostPattern) -> Option<HostPattern> {
    let HostPattern::Exact(name) = host else { return None };
    Some(HostPattern::Exact(match name.strip_prefix("www.") {
        Some(bare) => bare.into(),
        None => format!("www.{name}").into(),
    }))
}
