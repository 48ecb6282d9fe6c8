//! The node of the test cluster, by kubectl and its like. The suites that use it run inside its network:
//! `tests/cluster/exec`.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use crate::{gateway, wait};

/// The address of the cluster's only node.
pub const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));

/// The image of the echo server, which is on the node. It answers with [`crate::Seen`].
pub const ECHO_IMAGE: &str = "docker.io/penstock/echo:1";

/// The image of the gateway of this build, on the node.
pub static GATEWAY_IMAGE: LazyLock<&str> = LazyLock::new(|| {
    let name = "docker.io/penstock/gateway:test";
    let binary = std::env::var_os("GATEWAY").unwrap_or_else(|| gateway::binary().into());
    import_gateway(name, Path::new(&binary));
    name
});

/// Puts an image of a gateway onto the node.
///
/// # Panics
/// When it cannot be built.
pub fn import_gateway(name: &str, binary: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("gateway.tar");
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/image/build");
    let built = Command::new(build).arg("archive").arg(&archive).arg(name).env("GATEWAY", binary).output().unwrap();
    succeeded(build, &[], &built);
    let arguments = ["images", "import", archive.to_str().unwrap()];
    succeeded("ctr", &arguments, &run("ctr", &arguments, ""));
}

/// Waits until a TCP port of the node leads to a pod.
///
/// Nobody may connect before: the kernel would remember for two minutes that the client's port was sent to the node
/// itself, and refuse a later connection from there.
pub async fn until_port_leads_to_a_pod(port: u16) {
    let element = format!("{{ tcp . {port} }}");
    wait::until("the port of the node leads to a pod", async || {
        let found = run("nft", &["get", "element", "ip", "kube-proxy", "service-nodeports", &element], "");
        found.status.success().then_some(())
    })
    .await;
}

/// What kubectl prints.
///
/// # Panics
/// When it fails.
pub fn kubectl(arguments: &[&str]) -> String {
    succeeded("kubectl", arguments, &run("kubectl", arguments, ""))
}

/// What helm prints.
///
/// # Panics
/// When it fails.
pub fn helm(arguments: &[&str]) -> String {
    succeeded("helm", arguments, &run("helm", arguments, ""))
}

/// Runs one of the cluster's tools with an input, and gives what came of it.
///
/// # Panics
/// When there is no such program, which is what happens outside `tests/cluster/exec`.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} does not run ({error}); use tests/cluster/exec"));
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    process.wait_with_output().unwrap()
}

/// The output of a program that must have succeeded.
///
/// # Panics
/// When it has not, with what it said.
pub fn succeeded(program: &str, arguments: &[&str], output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} failed: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A namespace of one test. It is deleted, without waiting for its end, when this is dropped.
pub struct Namespace(String);

impl Namespace {
    /// Creates one whose name begins with `prefix`.
    ///
    /// # Panics
    /// When the API server refuses it.
    #[must_use]
    pub fn create(prefix: &str) -> Self {
        let arguments = ["create", "--filename=-", "--output=jsonpath={.metadata.name}"];
        let manifest = format!("{{apiVersion: v1, kind: Namespace, metadata: {{generateName: {prefix}-}}}}");
        let namespace = Self(succeeded("kubectl", &arguments, &run("kubectl", &arguments, &manifest)));
        // Pods are refused before this account is there.
        namespace.kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=30s"]);
        namespace
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// What kubectl prints of this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["--namespace", &self.0], arguments].concat())
    }

    /// Applies manifests, in this namespace where they name none.
    pub fn apply(&self, manifests: &str) {
        let arguments = [
            "--namespace",
            &self.0,
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=tests",
            "--filename=-",
        ];
        succeeded("kubectl", &arguments, &run("kubectl", &arguments, manifests));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A panic here would hide the one that a failed test is about.
        let _ = run("kubectl", &["delete", "namespace", &self.0, "--wait=false"], "");
    }
}

/// A Deployment `echo` of one echo server. The container has these fields besides.
#[must_use]
pub fn echo_deployment(container: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: echo}}
spec:
  selector: {{matchLabels: {{app: echo}}}}
  template:
    metadata: {{labels: {{app: echo}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {{name: echo, image: {ECHO_IMAGE}, {container}}}
"
    )
}
