//! A real API server with its etcd, as processes of the test on loopback addresses: nothing else of a cluster, so that a
//! test may kill it, and knows about every object in it.
//!
//! Endpoints of a cluster cannot be on loopback addresses: upstreams listen on the address of this machine. Their
//! traffic stays on it all the same.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::certificate::{Authority, Certificate};
use crate::client::Client;
use crate::gateway;
use crate::upstream::Upstream;
use crate::wait;

/// Who may do everything.
const ADMIN: &str = "admin";

/// Whose requests are recorded: the account that the chart makes for a release `penstock` in the namespace `default`.
pub const ACCOUNT: &str = "system:serviceaccount:default:penstock";

/// Connections over which many objects are created.
const CONNECTIONS: usize = 16;

/// A running API server. It ends when it is dropped.
pub struct Cluster {
    directory: TempDir,
    programs: PathBuf,
    flags: Vec<String>,
    etcd: SocketAddr,
    etcd_arguments: Vec<String>,
    address: SocketAddr,
    server: Mutex<Option<Process>>,
    /// Ends after the API server.
    store: Mutex<Option<Process>>,
}

/// A process that ends when it is dropped, or when this process does: it may belong to a `static`.
struct Process(Child);

/// An answer of the API server.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The object, or the list.
    pub value: Value,
    /// What it warns of.
    pub warnings: Vec<String>,
}

/// A connection to the API server.
pub struct Session(Client);

impl Session {
    /// Sends a request, which the API server must not refuse.
    ///
    /// # Panics
    /// When it does.
    pub async fn send(&mut self, method: &str, target: &str, content_type: &str, body: &str) -> Reply {
        let reply = self.try_send(method, target, content_type, body).await;
        assert!(reply.status < 300, "{reply:?}");
        reply
    }

    /// The same where it may.
    pub async fn try_send(&mut self, method: &str, target: &str, content_type: &str, body: &str) -> Reply {
        send(&mut self.0, method, target, content_type, body).await
    }
}

impl Cluster {
    /// Starts etcd and an API server, and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with flags of the API server on top.
    pub async fn start_with(flags: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let programs = programs();
        let [etcd, peer, address] = free_addresses();
        write_credentials(directory.path(), address.ip());
        let (client, peer) = (format!("http://{etcd}"), format!("http://{peer}"));
        let etcd_arguments = vec![
            format!("--data-dir={}", directory.path().join("etcd").display()),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=error".to_owned(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
        ];
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (server, store) = (Mutex::default(), Mutex::default());
        let cluster = Self { directory, programs, flags, etcd, etcd_arguments, address, server, store };
        cluster.launch_store();
        cluster.restart().await;
        cluster
    }

    /// Starts the API server again after [`Cluster::kill`], and waits until it is ready. Its memory of what happened
    /// before is gone: watches that go on from then have expired.
    pub async fn restart(&self) {
        self.launch();
        let is_ready = async || {
            let reply = self.try_request("GET", "/readyz", "").await?;
            (reply.status == 200).then_some(())
        };
        wait::until(&format!("the API server is ready; log:\n{}", self.log()), is_ready).await;
    }

    /// Starts the API server and waits for nothing.
    pub fn launch(&self) {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let mut arguments = vec![
            format!("--etcd-servers=http://{}", self.etcd),
            format!("--bind-address={}", self.address.ip()),
            format!("--advertise-address={}", own_address()),
            format!("--secure-port={}", self.address.port()),
            format!("--token-auth-file={}", path("tokens.csv")),
            format!("--tls-cert-file={}", path("server.crt")),
            format!("--tls-private-key-file={}", path("server.key")),
            format!("--service-account-key-file={}", path("server.crt")),
            format!("--service-account-signing-key-file={}", path("server.key")),
            format!("--audit-policy-file={}", path("audit.yaml")),
            format!("--audit-log-path={}", path("audit.log")),
        ];
        arguments.extend(self.flags.iter().cloned());
        let fixed = [
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--profiling=false",
        ];
        arguments.extend(fixed.map(str::to_owned));
        let server = Process::start(&self.programs.join("kube-apiserver"), &arguments, log.into());
        *self.server.lock().unwrap() = Some(server);
    }

    /// Kills the API server. What it knows stays in etcd.
    pub fn kill(&self) {
        drop(self.server.lock().unwrap().take().unwrap());
    }

    fn launch_store(&self) {
        let store = Process::start(&self.programs.join("etcd"), &self.etcd_arguments, Stdio::null());
        *self.store.lock().unwrap() = Some(store);
    }

    /// Puts a copy of what etcd has aside. The API server ends and starts for it.
    pub async fn save(&self) {
        self.copy_store("etcd", "saved").await;
    }

    /// Puts what was saved in the place of what etcd has: versions go back.
    pub async fn rewind(&self) {
        self.copy_store("saved", "etcd").await;
    }

    async fn copy_store(&self, from: &str, to: &str) {
        self.kill();
        drop(self.store.lock().unwrap().take().unwrap());
        let [from, to] = [from, to].map(|name| self.directory.path().join(name));
        let _ = std::fs::remove_dir_all(&to);
        let copied = Command::new("cp").arg("--recursive").args([&from, &to]).status().unwrap();
        assert!(copied.success());
        self.launch_store();
        self.restart().await;
    }

    /// Where the API server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the API server shows, for this address and those of this machine.
    #[must_use]
    pub fn certificate(&self) -> Certificate {
        let read = |name: &str| std::fs::read_to_string(self.directory.path().join(name)).unwrap();
        Certificate { certificate: read("server.crt"), key: read("server.key") }
    }

    /// Has etcd forget all versions but those of now.
    pub async fn compact(&self) {
        let mut client = Client::http1(self.etcd).await;
        let mut ask = async |target: &str, body: Value| {
            let request = client.request("POST", "etcd", target, &[], &body.to_string());
            let answer = client.send(request).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            serde_json::from_slice::<Value>(&answer.body).unwrap()
        };
        let newest = ask("/v3/kv/range", json!({"key": "AA==", "limit": 1})).await["header"]["revision"].clone();
        ask("/v3/kv/compaction", json!({"revision": newest, "physical": true})).await;
    }

    /// Gives [`ACCOUNT`], whose requests are recorded, all rights.
    pub async fn trust_account(&self) {
        self.apply(
            "",
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata:\n  name: trusted\nroleRef:\n  \
             apiGroup: rbac.authorization.k8s.io\n  kind: ClusterRole\n  name: cluster-admin\nsubjects:\n  - kind: \
             ServiceAccount\n    namespace: default\n    name: penstock\n",
        )
        .await;
    }

    /// A kubeconfig of somebody who may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of(ADMIN, self.address)
    }

    /// A kubeconfig of a user, for an address that leads to the API server. A user beside the admin has the rights that
    /// the test gives it, and `system:authenticated`'s.
    #[must_use]
    pub fn kubeconfig_of(&self, user: &str, address: SocketAddr) -> PathBuf {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(format!("{number}.kubeconfig"));
        let authority = self.directory.path().join("ca.crt");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: \"https://{address}\", certificate-authority: {}}}}}]\n\
             users: [{{name: u, user: {{token: {user}}}}}]\n",
            authority.display()
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The requests of [`ACCOUNT`] so far, as the API server has recorded them.
    #[must_use]
    pub fn recorded(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("audit.log")).unwrap_or_default();
        // The last line may still be on its way.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Objects of the chart, as `helm template` makes them of some templates for a release `penstock`.
    ///
    /// # Panics
    /// When the chart does not take the values.
    #[must_use]
    pub fn chart(&self, templates: &[&str], values: &[&str]) -> String {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/penstock");
        let templates: Vec<String> =
            templates.iter().map(|name| format!("--show-only=templates/{name}.yaml")).collect();
        let values = values.iter().flat_map(|value| ["--set", value]);
        let arguments = ["template", "penstock", chart, "--namespace=default"].into_iter();
        helm(&arguments.chain(templates.iter().map(String::as_str)).chain(values).collect::<Vec<_>>())
    }

    /// What `kubectl` prints.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.programs.join("kubectl"));
        let output = command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// An echo upstream at an address that endpoints may have.
    pub async fn upstream(&self, name: &str) -> Upstream {
        let listener = tokio::net::TcpListener::bind((own_address(), 0)).await.unwrap();
        Upstream::echo_at(name, listener)
    }

    // === objects ===

    /// Creates the objects of a manifest or makes them what it says, as `kubectl apply --server-side` does. One that names
    /// a namespace goes there.
    ///
    /// # Panics
    /// When the API server refuses one.
    pub async fn apply(&self, namespace: &str, manifest: &str) {
        for reply in self.try_apply(namespace, manifest).await {
            assert!(reply.status < 300, "{reply:?}");
        }
    }

    /// The same where objects may be refused.
    pub async fn try_apply(&self, namespace: &str, manifest: &str) -> Vec<Reply> {
        let mut client = Client::https1(self.address, None).await;
        let mut replies = Vec::new();
        for document in manifest.split("---\n").filter(|document| !document.trim().is_empty()) {
            let (kind, name) = (field(document, "kind: "), field(document, "  name: "));
            let namespace = try_field(document, "  namespace: ").unwrap_or(namespace);
            let target = format!("{}/{name}?fieldManager=tests&force=true", collection(kind, namespace));
            replies.push(send(&mut client, "PATCH", &target, "application/apply-patch+yaml", document).await);
        }
        replies
    }

    /// Creates many objects of a kind, over several connections.
    ///
    /// # Panics
    /// When the API server refuses one.
    pub async fn create_all(&self, kind: &str, namespace: &str, objects: &[Value]) {
        let target = collection(kind, namespace);
        let mut tasks = JoinSet::new();
        for objects in objects.chunks(objects.len().div_ceil(CONNECTIONS).max(1)) {
            let (objects, target, mut client) =
                (objects.to_vec(), target.clone(), Client::https1(self.address, None).await);
            tasks.spawn(async move {
                for object in objects {
                    let reply = send(&mut client, "POST", &target, "application/json", &object.to_string()).await;
                    assert_eq!(reply.status, 201, "{reply:?}");
                }
            });
        }
        tasks.join_all().await;
    }

    /// Deletes the objects of a kind with a label.
    pub async fn delete_all(&self, kind: &str, namespace: &str, label: &str) {
        let target = format!("{}?labelSelector={label}", collection(kind, namespace));
        let reply = self.request("DELETE", &target, "").await;
        assert!(reply.status < 300, "{reply:?}");
    }

    /// Deletes an object.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        let reply = self.request("DELETE", &format!("{}/{name}", collection(kind, namespace)), "").await;
        assert!(reply.status < 300, "{reply:?}");
    }

    /// An object.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Value {
        let reply = self.request("GET", &format!("{}/{name}", collection(kind, namespace)), "").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.value
    }

    /// The objects of a kind in a namespace.
    pub async fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let reply = self.request("GET", &collection(kind, namespace), "").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.value["items"].as_array().cloned().unwrap()
    }

    /// Merges a patch into an object, or into its status (`name/status`).
    pub async fn patch(&self, kind: &str, namespace: &str, name: &str, patch: &Value) -> Value {
        let mut client = Client::https1(self.address, None).await;
        let target = format!("{}/{name}", collection(kind, namespace));
        let reply = send(&mut client, "PATCH", &target, "application/merge-patch+json", &patch.to_string()).await;
        assert!(reply.status < 300, "{reply:?}");
        reply.value
    }

    /// A namespace that no other test has.
    pub async fn namespace(&self, name: &str) {
        self.apply("", &format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n")).await;
    }

    /// An IngressClass of its own name and of a controller.
    pub async fn class(&self, name: &str, controller: &str) {
        let manifest = format!(
            "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata:\n  name: {name}\nspec:\n  \
             controller: {controller}\n"
        );
        self.apply("", &manifest).await;
    }

    /// A connection to the API server, as the admin, for many requests.
    pub async fn session(&self) -> Session {
        Session(Client::https1(self.address, None).await)
    }

    /// Asks the API server as the admin.
    pub async fn request(&self, method: &str, target: &str, body: &str) -> Reply {
        let mut client = Client::https1(self.address, None).await;
        send(&mut client, method, target, "application/json", body).await
    }

    async fn try_request(&self, method: &str, target: &str, body: &str) -> Option<Reply> {
        let mut client = Client::try_https1(self.address, None).await.ok()?;
        try_send(&mut client, method, target, "application/json", body).await.ok()
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Process {
    fn start(program: &Path, arguments: &[String], log: Stdio) -> Self {
        // The shell ends the program when the other end of its input is closed, or when it is told to end itself, as all
        // processes of a terminal are.
        let script = "trap : INT TERM; \"$@\" & pid=$!; read -r _; kill -9 $pid; wait";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(program).args(arguments);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What `helm` prints.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn helm(arguments: &[&str]) -> String {
    let output = Command::new(programs().join("helm")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Where objects of a kind are.
#[must_use]
pub fn collection(kind: &str, namespace: &str) -> String {
    let (group, plural) = match kind {
        "Namespace" => return "/api/v1/namespaces".to_owned(),
        "Node" => return "/api/v1/nodes".to_owned(),
        "IngressClass" => return "/apis/networking.k8s.io/v1/ingressclasses".to_owned(),
        "ClusterRole" => return "/apis/rbac.authorization.k8s.io/v1/clusterroles".to_owned(),
        "ClusterRoleBinding" => return "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings".to_owned(),
        "ValidatingAdmissionPolicy" => {
            return "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies".to_owned();
        }
        "ValidatingAdmissionPolicyBinding" => {
            return "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings".to_owned();
        }
        "ValidatingWebhookConfiguration" => {
            return "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations".to_owned();
        }
        "Ingress" => ("apis/networking.k8s.io/v1", "ingresses"),
        "EndpointSlice" => ("apis/discovery.k8s.io/v1", "endpointslices"),
        "Lease" => ("apis/coordination.k8s.io/v1", "leases"),
        "Role" => ("apis/rbac.authorization.k8s.io/v1", "roles"),
        "RoleBinding" => ("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
        "Deployment" => ("apis/apps/v1", "deployments"),
        "ServiceAccount" => ("api/v1", "serviceaccounts"),
        "Pod" => ("api/v1", "pods"),
        "Service" => ("api/v1", "services"),
        "Secret" => ("api/v1", "secrets"),
        "ConfigMap" => ("api/v1", "configmaps"),
        "Event" => ("api/v1", "events"),
        _ => panic!("{kind} is not known to the tests"),
    };
    format!("/{group}/namespaces/{namespace}/{plural}")
}

async fn send(client: &mut Client, method: &str, target: &str, content_type: &str, body: &str) -> Reply {
    try_send(client, method, target, content_type, body).await.unwrap()
}

async fn try_send(
    client: &mut Client,
    method: &str,
    target: &str,
    content_type: &str,
    body: &str,
) -> hyper::Result<Reply> {
    let authorization = format!("Bearer {ADMIN}");
    let headers = [("authorization", &*authorization), ("content-type", content_type)];
    let request = client.request(method, "kubernetes", target, &headers, body);
    let answer = client.try_send(request).await?;
    let value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let warnings = answer.headers.get_all("warning").iter();
    let warnings = warnings.map(|warning| String::from_utf8_lossy(warning.as_bytes()).into_owned()).collect();
    Ok(Reply { status: answer.status.as_u16(), value, warnings })
}

/// The first value of a field in a manifest; indentation tells `metadata.name` from other names.
fn field<'a>(document: &'a str, prefix: &str) -> &'a str {
    try_field(document, prefix).unwrap_or_else(|| panic!("no {prefix:?} in {document}"))
}

fn try_field<'a>(document: &'a str, prefix: &str) -> Option<&'a str> {
    document.lines().find_map(|line| line.strip_prefix(prefix))
}

/// The address of this machine. Nothing is sent to find it out.
#[must_use]
pub fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    let address = socket.local_addr().unwrap().ip();
    assert!(!address.is_loopback(), "endpoints of a cluster need an address that is not loopback");
    address
}

/// Addresses that nobody else uses: a loopback address of this cluster, and ports below the range of
/// `ip_local_port_range`.
fn free_addresses() -> [SocketAddr; 3] {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = u8::try_from(std::process::id() % 250).unwrap() + 2;
    let ip = Ipv4Addr::new(127, process, 255, NEXT.fetch_add(1, Ordering::Relaxed));
    let mut free = gateway::free_addresses(ip);
    [(); 3].map(|()| free.next().unwrap())
}

/// The programs of the test cluster, built when they are not there.
fn programs() -> PathBuf {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/build");
    let output = Command::new(build).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "tests/cluster/build failed");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn write_credentials(directory: &Path, address: IpAddr) {
    let authority = Authority::new("penstock tests");
    let server = authority.issue(&[&address.to_string(), "127.0.0.1"]);
    let tokens =
        format!("{ADMIN},{ADMIN},{ADMIN},system:masters\npenstock,penstock,penstock\n{ACCOUNT},{ACCOUNT},{ACCOUNT}\n");
    let recorded = format!(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
         - {{level: Metadata, users: ['{ACCOUNT}']}}\n- {{level: None}}\n"
    );
    for (name, text) in [
        ("ca.crt", &authority.certificate),
        ("server.crt", &server.certificate),
        ("server.key", &server.key),
        ("tokens.csv", &tokens),
        ("audit.yaml", &recorded),
    ] {
        std::fs::write(directory.join(name), text).unwrap();
    }
}
