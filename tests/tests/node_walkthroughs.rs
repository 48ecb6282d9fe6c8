//! The walk-throughs of the four seed documents, as their readers type them: kubectl, the documents' own manifests, a
//! Kubernetes that is newer than they are. Images that a closed network cannot pull are the echo server's.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use tests::certificate::Certificate;
use tests::node::{ECHO_IMAGE, NODE, Namespace, run, succeeded};
use tests::release::Release;
use tests::{Answer, Client, gateway, wait};
use tokio::sync::Mutex;

/// What a load balancer of a cloud, or MetalLB, gives the gateway's Service in the fourth document.
const EXTERNAL: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 0));

/// Held by each walk-through: all of them have the class `nginx`.
static CLASS_IS_MINE: Mutex<()> = Mutex::const_new(());

/// A reader with a namespace, and a gateway that serves it and is the cluster's default class.
struct Reader {
    release: Release,
    namespace: Namespace,
}

impl Reader {
    fn new(values: &[&str]) -> Self {
        let namespace = Namespace::create("reader");
        let scope = format!("controller.scope.enabled=true,controller.scope.namespace={}", namespace.name());
        let class = "controller.ingressClassResource.name=nginx,controller.ingressClass=nginx,\
                     controller.ingressClassResource.default=true";
        let release = Release::install("walk", &[], &[&[class, &scope], values].concat());
        Self { release, namespace }
    }

    /// `kubectl create deployment`, of echo servers that listen where the image of the document does.
    fn deployment(&self, name: &str, port: &str) {
        let image = format!("--image={ECHO_IMAGE}");
        self.namespace.kubectl(&["create", "deployment", name, &image, &format!("--port={port}"), "--", "/echo", port]);
        self.namespace.kubectl(&["expose", "deployment", name, &format!("--port={port}")]);
    }

    /// Applies what a document has.
    fn apply(&self, file: &str) {
        self.namespace.apply(&seed(file));
    }

    /// Applies what a document has, which this API server refuses as it is, in the form of today.
    fn apply_translated(&self, file: &str) {
        let arguments = ["--namespace", self.namespace.name(), "apply", "--filename=-"];
        let refused = run("kubectl", &arguments, &seed(file));
        assert!(!refused.status.success(), "{file} needs no translation");
        self.namespace.apply(&translated(file));
    }

    fn pods(&self, selector: &str) -> BTreeSet<String> {
        let path = "--output=jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}";
        self.namespace.kubectl(&["get", "pods", "--selector", selector, path]).lines().map(str::to_owned).collect()
    }

    fn rolled_out(&self, deployment: &str) {
        self.namespace.kubectl(&["rollout", "status", &format!("deployment/{deployment}"), "--timeout=60s"]);
    }

    /// Waits until what `kubectl describe` says of an Ingress has a text.
    async fn until_described(&self, ingress: &str, text: &str) {
        wait::until(&format!("{text:?} is described"), async || {
            self.namespace.kubectl(&["describe", "ingress", ingress]).contains(text).then_some(())
        })
        .await;
    }

    /// Waits until `kubectl get ingress` shows an address, and gives the columns of that line.
    async fn shown(&self, ingress: &str) -> Vec<String> {
        wait::until("an address is shown", async || {
            let line = self.namespace.kubectl(&["get", "ingress", ingress, "--no-headers"]);
            let columns: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            // Without an address it is one less: name, class, hosts, address, ports, age.
            (columns.len() == 6).then_some(columns)
        })
        .await
    }

    async fn end(self) {
        let Self { release, namespace } = self;
        drop(namespace);
        release.uninstall().await;
    }
}

/// The text of a manifest, for the reader's own namespace.
fn seed(file: &str) -> String {
    let path = format!("{}/tests/seeds/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap().replace("  namespace: default\n", "")
}

/// What `gateway translate --to networking.k8s.io/v1` makes of it.
fn translated(file: &str) -> String {
    let path = format!("{}/tests/seeds/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
    let arguments = ["translate", "--to", "networking.k8s.io/v1", &path];
    let output = Command::new(gateway::binary()).args(arguments).output().unwrap();
    succeeded("gateway", &arguments, &output).replace("  namespace: default\n", "")
}

async fn get(address: SocketAddr, host: &str, target: &str) -> Option<Answer> {
    let mut client = Client::try_http1(address).await.ok()?;
    let request = client.request("GET", host, target, &[], "");
    client.try_send(request).await.ok()
}

/// Waits for a 200, and gives the name of the pod that answered.
async fn served(address: SocketAddr, host: &str, target: &str) -> String {
    let answer = wait::until(&format!("http://{host}{target} is served"), async || {
        get(address, host, target).await.filter(|answer| answer.status == 200)
    })
    .await;
    assert_eq!(answer.seen().target, target);
    answer.upstream()
}

async fn assert_not_found(address: SocketAddr, host: &str, target: &str) {
    let answer = get(address, host, target).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (404, "default backend - 404"), "{host}{target}");
}

// "curl http://<node-ip>:30080/ - Expected response: default backend - 404", three replicas behind one host, HTTPS by a
// Secret made from files.
#[tokio::test]
async fn an_application_and_tomcat_behind_node_ports_with_manifests_of_old_versions() {
    let _class = CLASS_IS_MINE.lock().await;
    let reader = Reader::new(&[]);
    let (http, https) = (reader.release.node_port("http").await, reader.release.node_port("https").await);
    assert_not_found(http, &NODE.to_string(), "/").await;

    reader.namespace.apply(&seed("003/demo-app").replace("ikubernetes/myapp:v2", ECHO_IMAGE));
    reader.rolled_out("demo-app-deploy");
    reader.apply_translated("003/demo-ingress");
    // As curl asks behind a port of the node.
    let host = format!("demo.example.com:{}", http.port());
    served(http, &host, "/").await;
    let pods = reader.pods("app=demo");
    assert_eq!(pods.len(), 3);
    let mut answered = BTreeSet::new();
    wait::until("each replica has answered", async || {
        answered.insert(served(http, &host, "/hostname.html").await);
        (answered == pods).then_some(())
    })
    .await;
    assert_eq!(reader.shown("demo-ingress").await[..3], ["demo-ingress", "<none>", "demo.example.com"]);
    reader.until_described("demo-ingress", "Scheduled for sync").await;

    let tomcat = format!("{ECHO_IMAGE}\n        args: ['8080', '8009']");
    reader.namespace.apply(&seed("003/webapp").replace("tomcat:8.5.32-jre8-alpine", &tomcat));
    reader.rolled_out("webapp-deploy");
    let files = tempfile::tempdir().unwrap();
    let certificate = Certificate::self_signed(&["webapp.example.com"]);
    let written = [("server.crt", certificate.certificate), ("server.key", certificate.key)].map(|(name, text)| {
        std::fs::write(files.path().join(name), text).unwrap();
        files.path().join(name).display().to_string()
    });
    let [chain, key] = [format!("--cert={}", written[0]), format!("--key={}", written[1])];
    reader.namespace.kubectl(&["create", "secret", "tls", "webapp-tls-secret", &chain, &key]);
    reader.apply_translated("003/webapp-ingress-tls");
    let host = format!("webapp.example.com:{}", http.port());
    let redirect = wait::until("HTTP is sent to HTTPS", async || {
        get(http, &host, "/docs?a=b").await.filter(|answer| answer.status == 308)
    })
    .await;
    // The port of the node that TLS is spoken on, where ingress-nginx names none.
    let expected = format!("https://webapp.example.com:{}/docs?a=b", https.port());
    assert_eq!(redirect.header("location"), Some(&*expected));
    let mut client = Client::https1(https, Some("webapp.example.com")).await;
    assert_eq!(client.common_name(), "webapp.example.com");
    let answer = client.get(&format!("webapp.example.com:{}", https.port()), "/", &[]).await;
    assert!(reader.pods("app=webapp").contains(&answer.upstream()));
    reader.end().await;
}

// A redirect within a host is one to where its client can go on.
#[tokio::test]
async fn a_client_behind_a_node_port_stays_there_when_it_is_redirected() {
    let _class = CLASS_IS_MINE.lock().await;
    let reader = Reader::new(&[]);
    let http = reader.release.node_port("http").await;
    reader.deployment("web", "8080");
    reader.rolled_out("web");
    reader.namespace.kubectl(&["create", "ingress", "web", "--rule=web.test/*=web:8080"]);
    let annotation = "nginx.ingress.kubernetes.io/app-root=/app";
    reader.namespace.kubectl(&["annotate", "ingress", "web", annotation]);
    let host = format!("web.test:{}", http.port());
    let redirect = wait::until("the root is elsewhere", async || {
        get(http, &host, "/").await.filter(|answer| answer.status == 302)
    })
    .await;
    assert_eq!(redirect.header("location"), Some(format!("http://{host}/app").as_str()));
    served(http, &host, "/app").await;
    reader.end().await;
}

// "kubectl edit ing test": a host more, and another path for the one that was there.
#[tokio::test]
async fn an_ingress_that_is_edited_in_place_has_its_new_host_live() {
    let _class = CLASS_IS_MINE.lock().await;
    let reader = Reader::new(&[]);
    let http = reader.release.node_port("http").await;
    for service in ["s1", "s2"] {
        reader.namespace.kubectl(&["create", "deployment", service, &format!("--image={ECHO_IMAGE}")]);
        reader.namespace.kubectl(&["expose", "deployment", service, "--port=80"]);
        reader.rolled_out(service);
    }
    reader.apply_translated("002/virtual-hosts");
    assert!(served(http, "foo.bar.com", "/any").await.starts_with("s1-"));
    assert!(served(http, "bar.foo.com", "/").await.starts_with("s2-"));
    assert_not_found(http, "bar.baz.com", "/foo").await;

    // What the editor of the document shows, in today's words.
    let rule = |host: &str, service: &str| {
        format!(
            "{{\"host\": \"{host}\", \"http\": {{\"paths\": [{{\"path\": \"/foo\", \"pathType\": \"Prefix\", \
             \"backend\": {{\"service\": {{\"name\": \"{service}\", \"port\": {{\"number\": 80}}}}}}}}]}}}}"
        )
    };
    let edited = format!("{{\"spec\": {{\"rules\": [{}, {}]}}}}", rule("foo.bar.com", "s1"), rule("bar.baz.com", "s2"));
    reader.namespace.kubectl(&["patch", "ingress", "test", "--type=merge", "--patch", &edited]);
    assert!(served(http, "bar.baz.com", "/foo").await.starts_with("s2-"));
    assert!(served(http, "foo.bar.com", "/foo").await.starts_with("s1-"));
    assert_not_found(http, "foo.bar.com", "/any").await;
    assert_not_found(http, "bar.foo.com", "/").await;
    reader.end().await;
}

// The lab: prod and dev, by path and by host, at the address of a load balancer.
#[tokio::test]
async fn prod_and_dev_are_told_apart_by_path_and_by_host_at_the_address_that_is_shown() {
    let _class = CLASS_IS_MINE.lock().await;
    let reader = Reader::new(&["controller.service.type=LoadBalancer"]);
    let service = format!("{}-penstock-controller", reader.release.name());
    let status = format!("{{\"status\": {{\"loadBalancer\": {{\"ingress\": [{{\"ip\": \"{EXTERNAL}\"}}]}}}}}}");
    let patch = ["patch", "service", &service, "--subresource=status", "--type=merge", "--patch", &status];
    reader.release.namespace.kubectl(&patch);
    for name in ["prod", "dev"] {
        reader.deployment(name, "8080");
        reader.rolled_out(name);
    }
    let create = |name: &str, rules: [&str; 2]| {
        reader.namespace.kubectl(&["create", "ingress", name, "--class=nginx", "--rule", rules[0], "--rule", rules[1]]);
    };
    create("tkng-1", ["/prod*=prod:8080", "/dev*=dev:8080"]);
    create("tkng-2", ["prod/*=prod:8080", "dev/*=dev:8080"]);
    let address = EXTERNAL.to_string();
    assert_eq!(reader.shown("tkng-1").await[..5], ["tkng-1", "nginx", "*", address.as_str(), "80"]);
    assert_eq!(reader.shown("tkng-2").await[..5], ["tkng-2", "nginx", "prod,dev", address.as_str(), "80"]);
    let front = SocketAddr::new(EXTERNAL, 80);
    for name in ["prod", "dev"] {
        let pods = reader.pods(&format!("app={name}"));
        assert!(pods.contains(&served(front, &address, &format!("/{name}")).await));
        assert!(pods.contains(&served(front, name, "/").await));
    }
    assert_not_found(front, &address, "/").await;
    for ingress in ["tkng-1", "tkng-2"] {
        reader.until_described(ingress, "Scheduled for sync").await;
    }
    reader.end().await;
}

// From the default backend over paths and a host to two hosts, as the first document grows its example, and its Service
// in each of its three types.
#[tokio::test]
async fn one_service_behind_ever_more_rules() {
    let _class = CLASS_IS_MINE.lock().await;
    let reader = Reader::new(&[]);
    let http = reader.release.node_port("http").await;
    reader.namespace.kubectl(&["create", "deployment", "httpbin", &format!("--image={ECHO_IMAGE}")]);
    reader.rolled_out("httpbin");
    for service in ["001/node-port-service", "001/load-balancer-service", "001/cluster-ip-service"] {
        reader.apply(service);
    }
    assert!(served(http, "any.test", "/any").await.starts_with("httpbin-"));
    reader.apply("001/simple-ingress");
    assert!(served(http, "any.test", "/other").await.starts_with("httpbin-"));
    reader.apply("001/multiple-routing-rules");
    served(http, "any.test", "/get").await;
    reader.namespace.kubectl(&["delete", "ingress", "httpbin"]);
    wait::until("its rules are gone", async || {
        get(http, "any.test", "/get").await.filter(|answer| answer.status == 404)
    })
    .await;
    reader.apply_translated("001/domain");
    served(http, "httpbin.enroutedemo.com", "/post").await;
    reader.apply_translated("001/name-based-virtual-hosts");
    served(http, "primary.httpbin.enroutedemo.com", "/get").await;
    served(http, "replica.httpbin.enroutedemo.com", "/post").await;
    assert_not_found(http, "any.test", "/get").await;
    reader.end().await;
}

// The manifests that the documents show beside their walk-throughs, one after the other.
#[tokio::test]
async fn every_other_ingress_of_the_documents_is_served_in_the_form_of_today() {
    let _class = CLASS_IS_MINE.lock().await;
    let reader = Reader::new(&[]);
    let (http, https) = (reader.release.node_port("http").await, reader.release.node_port("https").await);
    for (deployment, services) in
        [("s1", &["s1", "test", "frontend", "web"][..]), ("s2", &["s2", "testsvc", "default-service"])]
    {
        reader.namespace.kubectl(&["create", "deployment", deployment, &format!("--image={ECHO_IMAGE}")]);
        for service in services {
            let name = format!("--name={service}");
            reader.namespace.kubectl(&["expose", "deployment", deployment, &name, "--port=80"]);
        }
        reader.rolled_out(deployment);
    }
    reader.namespace.kubectl(&["expose", "deployment", "s2", "--name=webapp", "--port=8080", "--target-port=80"]);
    let certificate = Certificate::self_signed(&["tls.test"]);
    // Its text is no certificate, and no Base64 either.
    let refused = run("kubectl", &["apply", "--filename=-"], &seed("002/secret"));
    assert!(!refused.status.success(), "the document's Secret is none");
    reader.namespace.apply(&certificate.secret("testsecret"));

    for (file, ingress, answers) in [
        ("002/ingress-format", "test-ingress", &[("any.test", "/testpath", "s1-")][..]),
        ("002/single-service", "test-ingress", &[("any.test", "/any", "s2-")]),
        ("002/several-services", "test", &[("foo.bar.com", "/foo", "s1-"), ("foo.bar.com", "/bar", "s2-")]),
        ("003/webapp-ingress", "webapp-ingress", &[("webapp.example.com", "/", "s2-")]),
        ("004/ingress", "example", &[("any.test", "/any", "s1-")]),
    ] {
        reader.apply_translated(file);
        for (host, target, pod) in answers {
            assert!(served(http, host, target).await.starts_with(pod), "{file}: {host}{target}");
        }
        reader.namespace.kubectl(&["delete", "ingress", ingress]);
        let (host, target, _) = answers[0];
        wait::until("it is gone", async || get(http, host, target).await.filter(|answer| answer.status == 404)).await;
    }
    // Its host is not of its TLS entry, and has the default certificate for that: it is redirected like the others. The
    // backend of an Ingress with rules is for its own hosts.
    reader.apply_translated("003/ingress-resource-definition");
    wait::until("HTTP is sent to HTTPS", async || {
        get(http, "example.com", "/any").await.filter(|answer| answer.status == 308)
    })
    .await;
    let mut client = Client::https1(https, Some("example.com")).await;
    assert!(client.get("example.com", "/any", &[]).await.upstream().starts_with("s1-"));
    assert_not_found(http, "other.test", "/any").await;
    reader.until_described("example-ingress", "tls-secret does not exist").await;
    reader.apply_translated("002/tls");
    assert!(served(http, "any.test", "/").await.starts_with("s1-"));
    let is_shown = async || {
        let client = Client::https1(https, Some("tls.test")).await;
        (client.common_name() == "tls.test").then_some(())
    };
    wait::until("the certificate is shown", is_shown).await;
    reader.end().await;
}
