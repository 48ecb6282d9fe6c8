//! Old and loose Ingress manifests in the form of `networking.k8s.io/v1`, as untyped objects.
//!
//! The conversion is the API server's own (`extensions/v1beta1`, `networking.k8s.io/v1beta1`); what an API server would
//! refuse but every document writes is mended with a warning.

use serde_json::{Map, Value, json};

use crate::problem::{Problem, Reason};

/// The version that everything is read as.
const CURRENT: &str = "networking.k8s.io/v1";

/// Turns an Ingress into its current version, in place.
pub fn upgrade(ingress: &mut Value, warnings: &mut Vec<Problem>) {
    let Some(object) = ingress.as_object_mut() else { return };
    let is_old = object.get("apiVersion").is_none_or(|version| version != CURRENT);
    rename_object(object, CURRENT, warnings);
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if is_old && let Some(backend) = spec.remove("backend") {
        spec.entry("defaultBackend").or_insert(backend);
    }
    if let Some(backend) = spec.get_mut("defaultBackend") {
        upgrade_backend(backend, "spec.defaultBackend", is_old, warnings);
    }
    let rules = spec.get_mut("rules").and_then(Value::as_array_mut);
    for (rule, value) in rules.into_iter().flatten().enumerate() {
        let paths = value.pointer_mut("/http/paths").and_then(Value::as_array_mut);
        for (path, value) in paths.into_iter().flatten().enumerate() {
            let field = format!("spec.rules[{rule}].http.paths[{path}]");
            upgrade_path(value, &field, is_old, warnings);
        }
    }
}

/// Gives an object its current version where only the name of the version has changed.
pub(crate) fn rename(object: &mut Value, current: &str, warnings: &mut Vec<Problem>) {
    if let Some(object) = object.as_object_mut() {
        rename_object(object, current, warnings);
    }
}

fn rename_object(object: &mut Map<String, Value>, current: &str, warnings: &mut Vec<Problem>) {
    let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version != current {
        let message = format_args!("{version} is gone from Kubernetes; read as {current}").to_string();
        warnings.push(Problem::warning(Reason::OldVersion, "apiVersion", message));
        object.insert("apiVersion".to_owned(), current.into());
    }
}

fn upgrade_path(path: &mut Value, field: &str, is_old: bool, warnings: &mut Vec<Problem>) {
    let Some(path) = path.as_object_mut() else { return };
    if path.get("pathType").is_none_or(Value::is_null) {
        if !is_old {
            let message = "pathType is missing, which an API server refuses; read as ImplementationSpecific";
            warnings.push(Problem::warning(Reason::Lenient, format!("{field}.pathType"), message));
        }
        // The default of v1beta1.
        path.insert("pathType".to_owned(), "ImplementationSpecific".into());
    }
    let is_whole = path.get("pathType").is_some_and(|kind| kind == "Exact" || kind == "Prefix");
    if is_whole && path.get("path").is_none_or(|text| text.is_null() || text == "") {
        let message = "path is missing, which an API server refuses; read as /";
        warnings.push(Problem::warning(Reason::Lenient, format!("{field}.path"), message));
        path.insert("path".to_owned(), "/".into());
    }
    if let Some(backend) = path.get_mut("backend") {
        upgrade_backend(backend, &format!("{field}.backend"), is_old, warnings);
    }
}

fn upgrade_backend(backend: &mut Value, field: &str, is_old: bool, warnings: &mut Vec<Problem>) {
    let Some(backend) = backend.as_object_mut() else { return };
    if is_old && let Some(name) = backend.remove("serviceName") {
        let port = backend.remove("servicePort").map_or(Value::Null, port_object);
        backend.insert("service".to_owned(), json!({ "name": name, "port": port }));
        return;
    }
    let Some(port) =
        backend.get_mut("service").and_then(Value::as_object_mut).and_then(|service| service.get_mut("port"))
    else {
        return;
    };
    if !(port.is_object() || port.is_null()) {
        let object = port_object(port.clone());
        let message = format_args!("{port} stands where an object should; read as {object}").to_string();
        warnings.push(Problem::warning(Reason::Lenient, format!("{field}.service.port"), message));
        *port = object;
    }
}

/// `servicePort` is a number, a number in quotes, or a name.
fn port_object(port: Value) -> Value {
    let mut object = Map::new();
    match port.as_str().map(str::parse::<u16>) {
        Some(Ok(number)) => object.insert("number".to_owned(), number.into()),
        Some(Err(_)) => object.insert("name".to_owned(), port),
        None => object.insert("number".to_owned(), port),
    };
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_ingress_becomes_what_the_api_server_would_make_of_it() {
        let mut ingress = json!({
            "apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": {"name": "test"},
            "spec": {
                "backend": {"serviceName": "a", "servicePort": "http"},
                "rules": [{"http": {"paths": [{"backend": {"serviceName": "b", "servicePort": "80"}}]}}],
            },
        });
        let mut warnings = Vec::new();
        upgrade(&mut ingress, &mut warnings);
        assert_eq!(
            ingress,
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "test"},
                "spec": {
                    "defaultBackend": {"service": {"name": "a", "port": {"name": "http"}}},
                    "rules": [{"http": {"paths": [{
                        "pathType": "ImplementationSpecific",
                        "backend": {"service": {"name": "b", "port": {"number": 80}}},
                    }]}}],
                },
            })
        );
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].reason, Reason::OldVersion);
    }

    #[test]
    fn a_loose_ingress_is_mended_with_a_warning_at_each_place() {
        let mut ingress = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "spec": {"rules": [{"http": {"paths": [{"path": "/", "backend": {"service": {"name": "b", "port": 80}}}]}}]},
        });
        let mut warnings = Vec::new();
        upgrade(&mut ingress, &mut warnings);
        assert_eq!(
            ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"],
            json!({"number": 80})
        );
        let fields: Vec<_> = warnings.iter().map(|warning| warning.field.as_str()).collect();
        assert_eq!(
            fields,
            ["spec.rules[0].http.paths[0].pathType", "spec.rules[0].http.paths[0].backend.service.port"]
        );
    }

    #[test]
    fn what_is_not_an_ingress_is_left_alone() {
        for value in
            [json!(null), json!([]), json!({"spec": 1}), json!({"spec": {"rules": [1, {"http": {"paths": [2]}}]}})]
        {
            let mut upgraded = value.clone();
            upgrade(&mut upgraded, &mut Vec::new());
            assert_eq!(upgraded.get("spec"), value.get("spec"));
        }
    }
}
