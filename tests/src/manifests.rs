//! A directory of manifests, and the texts of the objects that most tests need.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory that is gone when the test is.
pub struct Manifests(TempDir);

impl Manifests {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A directory with one file.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let manifests = Self::new();
        manifests.write("manifests.yaml", text);
        manifests
    }

    /// Where the directory is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of a file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file as careful editors do: beside it, then a rename. Directories in its name are created.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.file(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let draft = tempfile::NamedTempFile::new_in(std::env::temp_dir()).unwrap();
        std::fs::write(draft.path(), text).unwrap();
        if draft.persist(&path).is_err() {
            std::fs::write(&path, text).unwrap();
        }
    }

    /// Deletes a file.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.file(name)).unwrap();
    }
}

impl Default for Manifests {
    fn default() -> Self {
        Self::new()
    }
}

/// A Service with port 80 named `http`, and the EndpointSlice that leads to `endpoints`. Each endpoint may have a port
/// of its own: there is a slice for each.
#[must_use]
pub fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n    - name: http\n      port: 80\n"
    );
    for (number, endpoint) in endpoints.iter().enumerate() {
        text.push_str(&slice(&format!("{name}-{number}"), name, "http", *endpoint));
    }
    text
}

/// An EndpointSlice of one endpoint, without conditions.
#[must_use]
pub fn slice(name: &str, service: &str, port_name: &str, endpoint: SocketAddr) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  labels:\n    \
         kubernetes.io/service-name: {service}\naddressType: IPv4\nports:\n  - name: {port_name}\n    port: {}\n\
         endpoints:\n  - addresses: [{}]\n",
        endpoint.port(),
        endpoint.ip()
    )
}

/// An Ingress of one host, whose paths (pathType Prefix) lead to Services at port 80. Annotations are given without
/// their prefix.
#[must_use]
pub fn ingress(name: &str, host: &str, annotations: &[(&str, &str)], paths: &[(&str, &str)]) -> String {
    let mut text = format!("---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n");
    if !annotations.is_empty() {
        text.push_str("  annotations:\n");
    }
    for (key, value) in annotations {
        // JSON strings are YAML strings.
        let value = serde_json::to_string(value).unwrap();
        writeln!(text, "    nginx.ingress.kubernetes.io/{key}: {value}").unwrap();
    }
    write!(text, "spec:\n  rules:\n    - host: {host}\n      http:\n        paths:\n").unwrap();
    for (path, service) in paths {
        write!(
            text,
            "          - path: {path}\n            pathType: Prefix\n            backend:\n              \
             service: {{name: {service}, port: {{number: 80}}}}\n"
        )
        .unwrap();
    }
    text
}

/// The `tls` section of an Ingress, to be put after [`ingress`].
#[must_use]
pub fn tls(hosts: &[&str], secret: &str) -> String {
    format!("  tls:\n    - hosts: [{}]\n      secretName: {secret}\n", hosts.join(", "))
}

/// A ConfigMap, such as the one of `--configmap`.
#[must_use]
pub fn config_map(name: &str, data: &[(&str, &str)]) -> String {
    let mut text = format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n");
    for (key, value) in data {
        writeln!(text, "  {key}: {}", serde_json::to_string(value).unwrap()).unwrap();
    }
    text
}

/// The ConfigMap with the global settings, for the flag [`SETTINGS`].
#[must_use]
pub fn settings(keys: &[(&str, &str)]) -> String {
    config_map("settings", keys)
}

/// The flag that names the ConfigMap of [`settings`].
pub const SETTINGS: &str = "--configmap=default/settings";
