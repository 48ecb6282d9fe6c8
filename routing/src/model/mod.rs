//! The model: everything that the gateway is told to do, as plain values.
//!
//! It is a superset of the Gateway API and of the ingress-nginx annotations, and names neither. Translators produce it,
//! [`compile`](crate::Publisher) consumes it, and it serialises (certificates by reference, keys never).

mod affinity;
mod backend;
mod balance;
mod canary;
mod client_tls;
mod error_pages;
mod external;
mod filter;
mod guard;
mod health;
mod listener;
mod retries;
mod rule;
mod sizes;
mod upstream_tls;
mod url;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeStruct, Serializer};

pub use affinity::{AffinityMode, CookieAffinity, SameSite};
pub use backend::{
    AppProtocol, BackendKey, BackendModel, BackendRef, EndpointAddress, EndpointCondition, EndpointKey, EndpointModel,
    PortRef,
};
pub use balance::{Algorithm, Balance, Ejection};
pub use canary::{Canary, CanaryHeader, CanaryValues};
pub use client_tls::{AuthorityRef, CertificateDemand, CertificateDetail, ClientTls};
pub use error_pages::{ErrorPages, ErrorScope};
pub use external::{AuthCache, CookieScope, ExternalAuth, Validity};
pub use filter::{
    Cors, DirectResponse, Filter, Fraction, HeaderEdits, Mirror, MirroredBody, PathRewrite, Redirect, RedirectBase,
    RedirectTarget, RedirectWhen, Rewrite, UriParts,
};
pub use guard::{
    Access, AccessList, BasicAuth, CredentialsForm, CredentialsRef, Guards, LimitZone, Limits, Rate, Satisfy, Verdict,
};
pub use health::{HealthCheck, Probe};
pub use listener::{Host, HostKey, HostTls, Listener, ListenerKey, Protocol, StreamRoute, Transport};
pub use retries::{Retries, RetryCondition, RetryConditions};
pub use rule::{
    CertificateRef, LoggedRequests, Order, Origin, Rank, Route, RouteMatch, Rule, Timeouts, UpstreamPolicy,
    UpstreamProtocol, WeightedBackend,
};
pub use sizes::SizeLimits;
pub use upstream_tls::{ServerVerification, UpstreamTls};
pub use url::{ServerUrl, UrlServer};

use crate::authority::Authority;
use crate::certificate::Certificate;
use crate::credentials::Credentials;
use crate::packed::repack;
use crate::settings::Settings;

/// The complete configuration of the data plane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// Global settings.
    pub settings: Arc<Settings>,
    /// What to listen on.
    pub listeners: BTreeMap<ListenerKey, Arc<Listener>>,
    /// What each host of each listener does.
    pub hosts: BTreeMap<HostKey, Arc<Host>>,
    /// Where requests can go.
    pub backends: BTreeMap<BackendRef, Arc<BackendModel>>,
    /// Certificates that hosts refer to.
    pub certificates: BTreeMap<CertificateRef, Arc<Certificate>>,
    /// Users that rules refer to.
    pub credentials: BTreeMap<CredentialsRef, Arc<Credentials>>,
    /// Authorities that hosts and rules refer to.
    pub authorities: BTreeMap<AuthorityRef, Arc<Authority>>,
    digest: u64,
}

/// A change from one [`Model`] to the next: an entry of `None` removes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// New settings, when they changed.
    pub settings: Option<Arc<Settings>>,
    /// Listeners that changed.
    pub listeners: BTreeMap<ListenerKey, Option<Arc<Listener>>>,
    /// Hosts that changed.
    pub hosts: BTreeMap<HostKey, Option<Arc<Host>>>,
    /// Backends that changed. They have a lane of their own: a delta with nothing else needs no new snapshot.
    pub backends: BTreeMap<BackendRef, Option<Arc<BackendModel>>>,
    /// Certificates that changed.
    pub certificates: BTreeMap<CertificateRef, Option<Arc<Certificate>>>,
    /// Users that changed.
    pub credentials: BTreeMap<CredentialsRef, Option<Arc<Credentials>>>,
    /// Authorities that changed.
    pub authorities: BTreeMap<AuthorityRef, Option<Arc<Authority>>>,
}

// === impl Model ===

impl Model {
    /// Applies a change.
    pub fn apply(&mut self, delta: &Delta) {
        let Delta { settings, listeners, hosts, backends, certificates, credentials, authorities } = delta;
        if let Some(settings) = settings {
            self.digest = self.digest.wrapping_sub(entry_digest(&"settings", &self.settings));
            self.digest = self.digest.wrapping_add(entry_digest(&"settings", settings));
            self.settings = Arc::clone(settings);
        }
        apply_entries(&mut self.listeners, listeners, &mut self.digest);
        apply_entries(&mut self.hosts, hosts, &mut self.digest);
        apply_entries(&mut self.backends, backends, &mut self.digest);
        apply_entries(&mut self.certificates, certificates, &mut self.digest);
        apply_entries(&mut self.credentials, credentials, &mut self.digest);
        apply_entries(&mut self.authorities, authorities, &mut self.digest);
    }

    /// Gives back the room that many changes leave in the maps.
    pub(crate) fn repack(&mut self) {
        let Self { listeners: _, settings: _, digest: _, hosts, backends, certificates, credentials, authorities } =
            self;
        repack(hosts);
        repack(backends);
        repack(certificates);
        repack(credentials);
        repack(authorities);
    }

    /// A hash of the content that is equal on every replica with the same objects, whatever their order and source.
    ///
    /// Server metadata such as creation times is not part of it.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

impl Serialize for Model {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut model = serializer.serialize_struct("Model", 7)?;
        model.serialize_field("settings", &self.settings)?;
        model.serialize_field("listeners", &ByText(&self.listeners))?;
        model.serialize_field("hosts", &ByText(&self.hosts))?;
        model.serialize_field("backends", &ByText(&self.backends))?;
        model.serialize_field("certificates", &ByText(&self.certificates))?;
        model.serialize_field("credentials", &ByText(&self.credentials))?;
        model.serialize_field("authorities", &ByText(&self.authorities))?;
        model.end()
    }
}

/// A map whose keys are shown as text.
struct ByText<'a, K, V>(&'a BTreeMap<K, V>);

impl<K: std::fmt::Display, V: Serialize> Serialize for ByText<'_, K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(&format_args!("{key}").to_string(), value)?;
        }
        map.end()
    }
}

impl Serialize for Certificate {
    /// By reference: names and fingerprint, never the key.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut certificate = serializer.serialize_struct("Certificate", 3)?;
        certificate.serialize_field("names", self.names.dns())?;
        certificate.serialize_field("sha256", &self.fingerprint)?;
        certificate.serialize_field("key", "redacted")?;
        certificate.end()
    }
}

fn apply_entries<K, V>(entries: &mut BTreeMap<K, Arc<V>>, changes: &BTreeMap<K, Option<Arc<V>>>, digest: &mut u64)
where
    K: Ord + Clone + std::fmt::Display,
    V: Serialize,
{
    for (key, change) in changes {
        let old = match change {
            Some(new) => {
                *digest = digest.wrapping_add(entry_digest(key, new));
                entries.insert(key.clone(), Arc::clone(new))
            }
            None => entries.remove(key),
        };
        if let Some(old) = old {
            *digest = digest.wrapping_sub(entry_digest(key, &old));
        }
    }
}

/// Entries are hashed one by one and added up, so that a change costs what changed and the order does not matter.
fn entry_digest<V: Serialize>(key: &impl std::fmt::Display, value: &V) -> u64 {
    let mut text = format!("{}\n{key}\n", std::any::type_name::<V>()).into_bytes();
    // Writing to memory cannot fail, and no type of the model refuses to serialise.
    let _ = serde_json::to_writer(&mut text, value);
    xxhash_rust::xxh3::xxh3_64(&text)
}
