//! Where an Ingress can be reached, as its status shows it.

use std::net::IpAddr;

use serde_json::{Value, json};

/// An entry of `status.loadBalancer.ingress`. Sorted by IP address, then by name, as ingress-nginx sorts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Empty for none.
    ip: Box<str>,
    /// Empty for none.
    hostname: Box<str>,
}

impl Address {
    /// An IP address, or else a name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.parse::<IpAddr>().is_ok() { Self::ip(text) } else { Self::name(text) }
    }

    fn ip(text: &str) -> Self {
        Self { ip: text.into(), hostname: "".into() }
    }

    fn name(text: &str) -> Self {
        Self { ip: "".into(), hostname: text.into() }
    }

    /// What a status shows, sorted.
    pub(crate) fn of_status(status: &Value) -> Vec<Self> {
        let entries = status.pointer("/loadBalancer/ingress").and_then(Value::as_array);
        let text = |entry: &Value, field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().into();
        let read = |entry: &Value| Self { ip: text(entry, "ip"), hostname: text(entry, "hostname") };
        sorted(entries.into_iter().flatten().map(read))
    }

    /// Where the Service is reached that leads to the gateway: the rules of ingress-nginx.
    pub(crate) fn of_service(spec: &Value, status: &Value) -> Vec<Self> {
        let text = |field: &str| spec.get(field).and_then(Value::as_str).unwrap_or_default();
        let external = spec.get("externalIPs").and_then(Value::as_array).into_iter().flatten();
        let external: Vec<Self> = external.filter_map(Value::as_str).map(Self::ip).collect();
        let cluster_ip = || vec![Self::ip(text("clusterIP"))];
        sorted(match text("type") {
            "ExternalName" => vec![Self::name(text("externalName"))],
            "NodePort" if external.is_empty() => cluster_ip(),
            "NodePort" => external,
            "LoadBalancer" => Self::of_status(status).into_iter().chain(external).collect(),
            _ => cluster_ip(),
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        match (&*self.ip, &*self.hostname) {
            (ip, "") => json!({ "ip": ip }),
            ("", hostname) => json!({ "hostname": hostname }),
            (ip, hostname) => json!({ "ip": ip, "hostname": hostname }),
        }
    }
}

/// In the order in which a status shows them, each once.
pub(crate) fn sorted(addresses: impl IntoIterator<Item = Address>) -> Vec<Address> {
    let mut addresses: Vec<Address> = addresses.into_iter().collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(spec: &Value, status: &Value) -> Value {
        Address::of_service(spec, status).iter().map(Address::to_json).collect()
    }

    #[test]
    fn a_service_is_published_by_the_rules_of_ingress_nginx() {
        let balanced = json!({"loadBalancer": {"ingress": [{"hostname": "lb.example"}, {"ip": "203.0.113.9"}]}});
        let rows = [
            (json!({"type": "ClusterIP", "clusterIP": "10.96.0.7"}), json!([{"ip": "10.96.0.7"}])),
            (json!({"type": "NodePort", "clusterIP": "10.96.0.7"}), json!([{"ip": "10.96.0.7"}])),
            (
                json!({"type": "NodePort", "clusterIP": "10.96.0.7", "externalIPs": ["192.0.2.2", "192.0.2.1"]}),
                json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]),
            ),
            (
                json!({"type": "LoadBalancer", "clusterIP": "10.96.0.7", "externalIPs": ["192.0.2.1", "203.0.113.9"]}),
                json!([{"hostname": "lb.example"}, {"ip": "192.0.2.1"}, {"ip": "203.0.113.9"}]),
            ),
            (json!({"type": "ExternalName", "externalName": "edge.example"}), json!([{"hostname": "edge.example"}])),
        ];
        for (spec, expected) in rows {
            assert_eq!(published(&spec, &balanced), expected, "{spec}");
        }
    }

    #[test]
    fn a_load_balancer_that_is_not_there_yet_publishes_nothing() {
        assert_eq!(published(&json!({"type": "LoadBalancer", "clusterIP": "10.96.0.7"}), &Value::Null), json!([]));
    }
}
