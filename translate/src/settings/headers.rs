//! Headers that settings take from other ConfigMaps.

use std::collections::BTreeMap;

use http::{HeaderName, header};
use routing::HeaderText;

use crate::problem::{Problem, Reason};
use crate::resources::{ConfigMap, NamespacedName};

/// Headers that say where a message ends and for whom it is: those are the gateway's.
const FRAMING: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::DATE,
];

/// The headers of the ConfigMap that a key names.
pub(super) fn read(
    key: &str,
    name: Option<&NamespacedName>,
    maps: &BTreeMap<NamespacedName, ConfigMap>,
    problems: &mut Vec<Problem>,
) -> Vec<HeaderText> {
    let Some(name) = name else { return Vec::new() };
    let field = || format!("data.{key}");
    let Some(map) = maps.get(name) else {
        let message = format_args!("key {key}: there is no ConfigMap {name}").to_string();
        problems.push(Problem::warning(Reason::SettingIgnored, field(), message));
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (header, value) in &map.data {
        let parsed = HeaderName::try_from(header).ok().filter(|header| !FRAMING.contains(header));
        let problem = match parsed.map(|header| HeaderText::parse(header, value)) {
            Some(Ok(text)) => {
                headers.push(text);
                continue;
            }
            Some(Err(error)) => format!("key {key}: header {header}: {error}; it is left out"),
            None => format!("key {key}: {header:?} is not a header that can be set; it is left out"),
        };
        problems.push(Problem::error(Reason::InvalidValue, field(), problem));
    }
    headers
}

/// `namespace/name`; nothing for none.
pub(super) fn reference(text: &str) -> Result<Option<NamespacedName>, &'static str> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(Some(NamespacedName::new(namespace, name)))
        }
        None if text.is_empty() => Ok(None),
        _ => Err("a ConfigMap as namespace/name"),
    }
}
