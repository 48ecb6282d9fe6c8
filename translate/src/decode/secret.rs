//! Secrets: only their keys count, whatever their type.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::{Authority, Certificate, Credentials};
use serde_json::Value;

use super::{Parsed, typed};
use crate::problem::{Problem, Reason};
use crate::resources::{Meta, Resource, Secret};

/// A Secret is read by hand, so that a value that is not base64 is named by its key.
pub(super) fn secret(value: &Value) -> Parsed {
    let metadata: ObjectMeta = typed(value.get("metadata").cloned().unwrap_or_default())?;
    let mut keys: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (field, is_encoded) in [("data", true), ("stringData", false)] {
        let entries = match value.get(field) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(entries)) => entries,
            Some(_) => return Err(vec![Problem::error(Reason::Malformed, field, "value is not a map of keys")]),
        };
        for (key, text) in entries {
            let refuse = |message: String| vec![Problem::error(Reason::Malformed, format!("{field}.{key}"), message)];
            let text = text.as_str().ok_or_else(|| refuse("value is not a text".to_owned()))?;
            let bytes = if is_encoded {
                // Files fold long base64 over several lines.
                let compact: String = text.split_ascii_whitespace().collect();
                let decoded = base64::engine::general_purpose::STANDARD.decode(compact);
                decoded.map_err(|error| refuse(format!("value is not base64: {error}")))?
            } else {
                text.as_bytes().to_vec()
            };
            keys.insert(key, bytes);
        }
    }
    let part = |key: &str| keys.get(key).map(Vec::as_slice).unwrap_or_default();
    let has_pair = keys.contains_key("tls.crt") || keys.contains_key("tls.key");
    let certificate = has_pair
        .then(|| Certificate::from_pem(part("tls.crt"), part("tls.key")).map(Arc::new))
        .transpose()
        .map_err(|error| vec![Problem::error(Reason::CertificateUnavailable, "data", error)])?;
    // Many Secrets have an empty one that nobody looks at: only those who do are told.
    let authority = keys
        .get("ca.crt")
        .map(|certificates| Authority::from_pem(certificates, keys.get("ca.crl").map(Vec::as_slice)).map(Arc::new));
    let users_file = keys.get("auth").map(|file| Arc::new(Credentials::from_htpasswd(file)));
    let users_map = Arc::new(Credentials::from_pairs(keys.iter().map(|(user, hash)| (*user, &**hash))));
    let secret = Secret { meta: Meta::new(&metadata, true), certificate, authority, users_file, users_map };
    Ok((Resource::Secret(secret), Vec::new()))
}
