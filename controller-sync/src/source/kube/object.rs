//! From what the API server sends to what is told: the same reading that files get, and the version.

use serde_json::{Map, Value};
use translate::resources::{Kind, ObjectKey};
use translate::{Change, Config, Decoded, decode};
use xxhash_rust::xxh3::xxh3_64;

use super::scope::type_of;
use crate::status::{Address, Classes, Shown};

/// The annotation with which kubectl keeps a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object, read.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: ObjectKey,
    pub(super) version: Version,
    pub(super) change: Change,
    /// The Secrets and ConfigMaps that it names.
    pub(super) references: Vec<ObjectKey>,
    /// What an Ingress shows of itself, where a Service is reached, and which ConfigMap it is.
    pub(super) shown: Option<Shown>,
}

/// Which version of an object it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Another object of the same name has another one.
    pub(super) uid: Box<str>,
    /// `resourceVersion`, to be compared as a number where it is one.
    pub(super) resource: Box<str>,
    /// A hash of what is used of it: status, managed fields and the like come and go without a meaning here.
    pub(super) digest: u64,
}

impl Version {
    /// Whether it is surely older than another version of the same object. Resource versions are numbers that grow
    /// (KEP-5504); those that are not cannot be compared.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        self.uid == other.uid
            && number(&self.resource).zip(number(&other.resource)).is_some_and(|(this, other)| this < other)
    }

    /// Whether nothing that is used differs.
    pub(super) fn is_same_to_us(&self, other: &Self) -> bool {
        self.uid == other.uid && self.digest == other.digest
    }
}

/// Namespace and name of an object, before it is read.
pub(super) fn key_of(value: &Value, kind: Kind) -> Option<ObjectKey> {
    let meta = value.get("metadata")?;
    let text = |field: &str| meta.get(field).and_then(Value::as_str).unwrap_or_default();
    Some(ObjectKey { kind, namespace: text("namespace").into(), name: text("name").into() })
}

/// The version of the list that an object or a list came with.
pub(super) fn resource_version(value: &Value) -> Option<&str> {
    value.pointer("/metadata/resourceVersion").and_then(Value::as_str)
}

/// Reads an object. `None` for what is not one, which an API server does not send.
pub(super) fn read(mut value: Value, kind: Kind, config: &Config) -> Option<Object> {
    let key = key_of(&value, kind)?;
    let object = value.as_object_mut()?;
    let (api_version, kind_name) = type_of(kind);
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind_name.into());
    let status = object.remove("status").unwrap_or_default();
    let meta = object.get_mut("metadata")?.as_object_mut()?;
    let text = |field: &str| Box::<str>::from(meta.get(field).and_then(Value::as_str).unwrap_or_default());
    let (uid, resource) = (text("uid"), text("resourceVersion"));
    strip(meta);
    let shown = shown(&value, kind, &uid, &status);
    let digest = xxh3_64(value.to_string().as_bytes());
    let change = match decode(value, config) {
        Decoded::Resource(resource, problems) => Change::Apply(resource, problems),
        Decoded::Refused(_, problems) => Change::Refuse(key.clone(), problems),
        Decoded::List(_) | Decoded::Ignored | Decoded::Unknown { .. } | Decoded::Empty => return None,
    };
    let references = match &change {
        Change::Apply(resource, _) => resource.references(config),
        Change::Refuse(..) | Change::Recall(_) | Change::Remove(_) => Vec::new(),
    };
    Some(Object { key, version: Version { uid, resource, digest }, change, references, shown })
}

fn shown(object: &Value, kind: Kind, uid: &str, status: &Value) -> Option<Shown> {
    let addresses = match kind {
        Kind::Ingress => Address::of_status(status),
        Kind::Service => Address::of_service(object.get("spec").unwrap_or(&Value::Null), status),
        Kind::ConfigMap => Vec::new(),
        _ => return None,
    };
    Some(Shown { uid: uid.into(), addresses, class: Classes::of(object) })
}

/// Takes out of the metadata what changes without a meaning here.
fn strip(meta: &mut Map<String, Value>) {
    for field in ["managedFields", "resourceVersion", "generation"] {
        meta.remove(field);
    }
    if let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
}
