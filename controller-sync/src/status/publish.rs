//! Which addresses the statuses show: those of a flag, those of a Service, or those of the nodes that gateways run on.

use std::time::Duration;

use kube::Client;
use kube::core::Request;
use kube::core::params::{GetParams, ListParams};
use serde_json::Value;
use tokio::sync::watch;

use super::address::sorted;
use super::{Address, Board};

/// How often nodes are asked for.
const NODES_INTERVAL: Duration = Duration::from_secs(60);
/// And when that did not work.
const NODES_RETRY: Duration = Duration::from_secs(5);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the addresses come from.
#[derive(Clone, Debug)]
pub enum Publish {
    /// `--publish-status-address`.
    Fixed(Vec<Address>),
    /// `--publish-service`.
    Service,
    /// The nodes with a ready pod that has the labels of this one.
    Nodes {
        /// The namespace of this pod.
        namespace: String,
        /// The name of this pod.
        pod: String,
        /// `--report-node-internal-ip-address`: internal addresses only.
        internal: bool,
    },
}

impl Publish {
    /// The addresses as they are known; `None` as long as they are not.
    pub(super) fn follow(&self, client: &Client, board: &Board) -> watch::Receiver<Option<Vec<Address>>> {
        match self {
            Self::Fixed(addresses) => {
                board.publish(sorted(addresses.iter().cloned()));
                board.published()
            }
            Self::Service => board.published(),
            Self::Nodes { namespace, pod, internal } => {
                let (sender, receiver) = watch::channel(None);
                let nodes = Nodes {
                    client: client.clone(),
                    namespace: namespace.clone(),
                    pod: pod.clone(),
                    internal: *internal,
                };
                tokio::spawn(nodes.run(sender));
                receiver
            }
        }
    }
}

struct Nodes {
    client: Client,
    namespace: String,
    pod: String,
    internal: bool,
}

impl Nodes {
    /// Asks until nobody wants to know.
    async fn run(self, addresses: watch::Sender<Option<Vec<Address>>>) {
        loop {
            let asked = tokio::time::timeout(TIMEOUT, self.addresses()).await;
            let next = match asked {
                Ok(Ok(found)) => {
                    // At the start, this pod itself is about to become ready.
                    let next = if found.is_empty() { NODES_RETRY } else { NODES_INTERVAL };
                    addresses.send_if_modified(|known| {
                        let is_other = known.as_ref() != Some(&found);
                        *known = Some(found);
                        is_other
                    });
                    next
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "addresses of the nodes are not known");
                    NODES_RETRY
                }
                Err(_) => NODES_RETRY,
            };
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                () = addresses.closed() => return,
            }
        }
    }

    async fn addresses(&self) -> kube::Result<Vec<Address>> {
        let pods = Request::new(format!("/api/v1/namespaces/{}/pods", self.namespace));
        let own: Value = self.client.request(built(pods.get(&self.pod, &GetParams::default()))?).await?;
        let labels = own.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        // Pods of one workload differ in the labels that its controller has made.
        let is_common =
            |name: &str| !matches!(name, "pod-template-hash" | "controller-revision-hash" | "pod-template-generation");
        let labels = labels.filter(|(name, _)| is_common(name));
        let labels: Vec<String> =
            labels.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
        let params = ListParams { label_selector: Some(labels.join(",")), ..ListParams::default() };
        let mates: Value = self.client.request(built(pods.list(&params))?).await?;
        let mates = mates.get("items").and_then(Value::as_array).into_iter().flatten();
        let nodes = mates.filter(|pod| is_ready(pod)).filter_map(|pod| pod.pointer("/spec/nodeName")?.as_str());
        let mut nodes: Vec<&str> = nodes.collect();
        nodes.sort_unstable();
        nodes.dedup();
        let mut addresses = Vec::new();
        for name in nodes {
            let request = Request::new("/api/v1/nodes").get(name, &GetParams::default());
            let node: Value = self.client.request(built(request)?).await?;
            addresses.extend(address_of(&node, self.internal));
        }
        Ok(sorted(addresses))
    }
}

fn built(request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> kube::Result<http::Request<Vec<u8>>> {
    request.map_err(kube::Error::BuildRequest)
}

/// Whether a pod runs and is ready.
fn is_ready(pod: &Value) -> bool {
    let is_running = pod.pointer("/status/phase").is_some_and(|phase| phase == "Running");
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let is_ready = |condition: &Value| {
        condition.get("type").is_some_and(|kind| kind == "Ready")
            && condition.get("status").is_some_and(|status| status == "True")
    };
    is_running && conditions.into_iter().any(is_ready)
}

/// The address of a node: the external one where there is one and it is wanted, else the internal one.
fn address_of(node: &Value, internal: bool) -> Option<Address> {
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
    let of_type = |wanted: &str| {
        let mut addresses = addresses.into_iter().flatten();
        let found = addresses.find(|address| address.get("type").is_some_and(|kind| kind == wanted))?;
        found.get("address")?.as_str().filter(|text| !text.is_empty()).map(Address::parse)
    };
    let external = if internal { None } else { of_type("ExternalIP") };
    external.or_else(|| of_type("InternalIP"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_reached_at_its_external_address_unless_the_internal_one_is_asked_for() {
        let node = |addresses: Value| json!({"status": {"addresses": addresses}});
        let internal = json!({"type": "InternalIP", "address": "10.0.0.1"});
        let external = json!({"type": "ExternalIP", "address": "203.0.113.1"});
        let both = node(json!([{"type": "Hostname", "address": "n1"}, internal, external]));
        assert_eq!(address_of(&both, false), Some(Address::parse("203.0.113.1")));
        assert_eq!(address_of(&both, true), Some(Address::parse("10.0.0.1")));
        assert_eq!(address_of(&node(json!([internal])), false), Some(Address::parse("10.0.0.1")));
        assert_eq!(address_of(&node(json!([external])), true), None);
    }

    #[test]
    fn only_ready_pods_that_run_count() {
        let pod = |phase: &str, ready: &str| json!({"status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}});
        assert!(is_ready(&pod("Running", "True")));
        assert!(!is_ready(&pod("Running", "False")));
        assert!(!is_ready(&pod("Succeeded", "True")));
        assert!(!is_ready(&json!({})));
    }
}
