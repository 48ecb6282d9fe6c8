//! What is watched: which objects of which kind, and where the API server has them.

use kube::core::Request;
use kube::core::params::{GetParams, ListParams, WatchParams};
use translate::resources::{Kind, ObjectKey};

/// How many objects a page has where lists are not streamed.
const PAGE: u32 = 500;
/// How long the API server keeps up a watch at most, in seconds. It must be below its own limit.
const WATCH_SECONDS: std::ops::Range<u32> = 240..290;
/// Releases of Helm are Secrets of up to a megabyte, and never hold anything of ours.
const NO_HELM_RELEASES: &str = "type!=helm.sh/release.v1";

/// The objects of one watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) kind: Kind,
    /// `None` for all of them, and for kinds without.
    pub(super) namespace: Option<String>,
    pub(super) fields: Option<String>,
    pub(super) labels: Option<String>,
}

impl Scope {
    /// All objects of a kind, or those of a namespace.
    pub(super) fn all(kind: Kind, namespace: Option<&str>) -> Self {
        let is_namespaced = !matches!(kind, Kind::IngressClass | Kind::Namespace);
        Self {
            kind,
            namespace: namespace.filter(|_| is_namespaced).map(str::to_owned),
            fields: (kind == Kind::Secret).then(|| NO_HELM_RELEASES.to_owned()),
            labels: None,
        }
    }

    /// A single object.
    pub(super) fn one(kind: Kind, namespace: &str, name: &str) -> Self {
        let fields = Some(format!("metadata.name={name}"));
        Self { kind, namespace: Some(namespace.to_owned()), fields, labels: None }
    }

    /// Whether an object of this kind and namespace is among them, as far as that can be told without its content.
    pub(super) fn may_have(&self, key: &ObjectKey) -> bool {
        self.kind == key.kind && self.namespace.as_deref().is_none_or(|namespace| *namespace == *key.namespace)
    }

    fn request(&self) -> Request {
        Request::new(url(self.kind, self.namespace.as_deref()))
    }

    /// A page of the list.
    pub(super) fn list(&self, continued: Option<&str>) -> Result<http::Request<Vec<u8>>, kube::core::request::Error> {
        self.request().list(&ListParams { continue_token: continued.map(str::to_owned), ..self.list_params(PAGE) })
    }

    /// A list of next to nothing, which tells the version that the API server's store is at.
    pub(super) fn newest(&self) -> Result<http::Request<Vec<u8>>, kube::core::request::Error> {
        self.request().list(&self.list_params(1))
    }

    /// What may be listed may be no more than one object of a name.
    fn list_params(&self, limit: u32) -> ListParams {
        ListParams {
            field_selector: self.fields.clone(),
            label_selector: self.labels.clone(),
            limit: Some(limit),
            ..ListParams::default()
        }
    }

    /// The list as the beginning of a watch.
    pub(super) fn stream(&self) -> Result<http::Request<Vec<u8>>, kube::core::request::Error> {
        self.request().watch(&WatchParams { send_initial_events: true, ..self.watch_params() }, "")
    }

    /// What happens after a version of the list.
    pub(super) fn watch(&self, version: &str) -> Result<http::Request<Vec<u8>>, kube::core::request::Error> {
        self.request().watch(&self.watch_params(), version)
    }

    fn watch_params(&self) -> WatchParams {
        WatchParams {
            field_selector: self.fields.clone(),
            label_selector: self.labels.clone(),
            // Watches of all replicas and kinds must not end together.
            timeout: Some(fastrand::u32(WATCH_SECONDS)),
            ..WatchParams::default()
        }
    }
}

/// A single object.
pub(super) fn get(key: &ObjectKey) -> Result<http::Request<Vec<u8>>, kube::core::request::Error> {
    Request::new(url(key.kind, Some(&key.namespace))).get(&key.name, &GetParams::default())
}

fn url(kind: Kind, namespace: Option<&str>) -> String {
    let (group, plural) = match kind {
        Kind::ConfigMap => ("api/v1", "configmaps"),
        Kind::EndpointSlice => ("apis/discovery.k8s.io/v1", "endpointslices"),
        Kind::Endpoints => ("api/v1", "endpoints"),
        Kind::Ingress => ("apis/networking.k8s.io/v1", "ingresses"),
        Kind::IngressClass => ("apis/networking.k8s.io/v1", "ingressclasses"),
        Kind::Namespace => ("api/v1", "namespaces"),
        Kind::Secret => ("api/v1", "secrets"),
        Kind::Service => ("api/v1", "services"),
    };
    match namespace {
        Some(namespace) => format!("/{group}/namespaces/{namespace}/{plural}"),
        None => format!("/{group}/{plural}"),
    }
}

/// `apiVersion` and `kind` of an object: a list leaves them out.
pub(super) fn type_of(kind: Kind) -> (&'static str, &'static str) {
    let version = match kind {
        Kind::ConfigMap | Kind::Endpoints | Kind::Namespace | Kind::Secret | Kind::Service => "v1",
        Kind::EndpointSlice => "discovery.k8s.io/v1",
        Kind::Ingress | Kind::IngressClass => "networking.k8s.io/v1",
    };
    (version, kind.as_str())
}
