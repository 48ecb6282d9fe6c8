//! The manifests of the four seed documents, as the documents have them, do what the documents say. Added is only what
//! a cluster would add: an EndpointSlice for each Service, and a real certificate where a document makes one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use tests::manifests::slice;
use tests::{Answer, Client, Gateway, Manifests, Upstream};

/// The name in the certificate that the gateway makes for itself.
const FAKE: &str = "Penstock Fake Certificate";

/// A running gateway on manifests of a document.
struct Scene {
    gateway: Gateway,
    manifests: Manifests,
    _upstreams: Vec<Upstream>,
}

impl Scene {
    /// Serves files of a document. Services are given with the name of their port; each has an upstream of its name.
    async fn new(files: &[&str], services: &[(&str, &str)]) -> Self {
        Self::with_flags(files, services, &[]).await
    }

    async fn with_flags(files: &[&str], services: &[(&str, &str)], flags: &[&str]) -> Self {
        let manifests = Manifests::new();
        for file in files {
            manifests.write(&file.replace('/', "-"), &text(file));
        }
        let mut upstreams = Vec::new();
        let mut slices = String::new();
        for (service, port) in services {
            let upstream = Upstream::echo(service).await;
            slices.push_str(&slice(&format!("{service}-1"), service, port, upstream.address()));
            upstreams.push(upstream);
        }
        manifests.write("endpointslices.yaml", &slices);
        let gateway = Gateway::start(&manifests, flags).await;
        Self { gateway, manifests, _upstreams: upstreams }
    }

    /// Asks for URLs, each of which must be answered by the upstream named, with the path as it was asked for.
    async fn check(&self, expected: &[(&str, &str)]) {
        for (url, upstream) in expected {
            let answer = self.gateway.get(url).await;
            assert_eq!((answer.status.as_u16(), answer.upstream()), (200, (*upstream).to_owned()), "{url}");
            let host_and_path = url.split_once("://").unwrap().1;
            let path = host_and_path.find('/').map_or("/", |slash| &host_and_path[slash..]);
            assert_eq!(answer.seen().target, path, "{url}");
        }
    }

    /// Asks for URLs that no rule is for.
    async fn check_not_found(&self, urls: &[&str]) {
        for url in urls {
            assert!(is_not_found(&self.gateway.get(url).await), "{url}");
        }
    }

    /// The common name of the certificate that a host gets.
    async fn certificate_of(&self, host: &str) -> String {
        Client::https1(self.gateway.addresses().https, Some(host)).await.common_name()
    }
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap()
}

/// "Expected response: default backend - 404", says document 003.
fn is_not_found(answer: &Answer) -> bool {
    answer.status == 404 && answer.text() == "default backend - 404"
}

#[tokio::test]
async fn a_default_backend_alone_takes_everything() {
    let scene = Scene::new(&["001/simple-ingress.yaml"], &[("httpbin", "")]).await;
    scene
        .check(&[
            ("http://anything.example/", "httpbin"),
            ("http://192.0.2.9/any/path?q=1", "httpbin"),
            ("https://other.example/x", "httpbin"),
        ])
        .await;
}

#[tokio::test]
async fn rules_without_host_route_by_path_on_every_host() {
    let scene = Scene::new(&["001/multiple-routing-rules.yaml"], &[("httpbin", "")]).await;
    scene
        .check(&[
            ("http://anything.example/post", "httpbin"),
            ("http://192.0.2.9/get", "httpbin"),
            ("http://192.0.2.9/get/more?q=1", "httpbin"),
        ])
        .await;
    scene.check_not_found(&["http://192.0.2.9/", "http://192.0.2.9/put", "http://192.0.2.9/getter"]).await;
}

#[tokio::test]
async fn rules_of_a_domain_are_for_that_domain() {
    let scene = Scene::new(&["001/domain.yaml"], &[("httpbin", "")]).await;
    scene
        .check(&[
            ("http://httpbin.enroutedemo.com/post", "httpbin"),
            ("http://httpbin.enroutedemo.com:8080/get", "httpbin"),
        ])
        .await;
    scene.check_not_found(&["http://enroutedemo.com/get", "http://httpbin.enroutedemo.com/"]).await;
}

#[tokio::test]
async fn two_domains_are_told_apart_on_one_address() {
    let scene = Scene::new(&["001/name-based-virtual-hosts.yaml"], &[("httpbin", "")]).await;
    for host in ["primary", "replica"] {
        let url = |path: &str| format!("http://{host}.httpbin.enroutedemo.com{path}");
        scene.check(&[(&url("/post"), "httpbin"), (&url("/get/1"), "httpbin")]).await;
    }
    scene.check_not_found(&["http://third.httpbin.enroutedemo.com/get"]).await;
    // That the rules are those of their own host, and not one for both.
    let admin = scene.gateway.admin("/explain?url=http://replica.httpbin.enroutedemo.com/get").await.text();
    assert!(admin.contains("rules[1].paths[1]"), "{admin}");
}

#[tokio::test]
async fn a_service_of_every_type_is_behind_the_ingress() {
    for files in [
        &["001/cluster-ip-service.yaml"][..],
        &["001/node-port-service.yaml", "001/simple-ingress.yaml"],
        &["001/load-balancer-service.yaml", "001/simple-ingress.yaml"],
    ] {
        let scene = Scene::new(files, &[("httpbin", "")]).await;
        scene.check(&[("http://anything.example/ip", "httpbin")]).await;
    }
}

#[tokio::test]
async fn an_ingress_of_the_first_version_routes_its_path() {
    let scene = Scene::new(&["002/ingress-format.yaml"], &[("test", "")]).await;
    scene.check(&[("http://192.0.2.9/testpath", "test"), ("http://any.example/testpath/x", "test")]).await;
    scene.check_not_found(&["http://192.0.2.9/"]).await;
}

#[tokio::test]
async fn a_single_service_needs_no_rule() {
    let scene = Scene::new(&["002/single-service.yaml"], &[("testsvc", "")]).await;
    scene.check(&[("http://192.0.2.9/", "testsvc"), ("http://any.example/x", "testsvc")]).await;
}

#[tokio::test]
async fn paths_of_a_host_fan_out_to_services() {
    let scene = Scene::new(&["002/several-services.yaml"], &[("s1", ""), ("s2", "")]).await;
    scene.check(&[("http://foo.bar.com/foo", "s1"), ("http://foo.bar.com/bar", "s2")]).await;
    scene.check_not_found(&["http://foo.bar.com/", "http://bar.foo.com/foo"]).await;
}

#[tokio::test]
async fn virtual_hosts_share_an_address() {
    let scene = Scene::new(&["002/virtual-hosts.yaml"], &[("s1", ""), ("s2", "")]).await;
    scene.check(&[("http://foo.bar.com/", "s1"), ("http://bar.foo.com/x", "s2")]).await;
    scene.check_not_found(&["http://bar.baz.com/"]).await;
}

#[tokio::test]
async fn an_edited_ingress_reconfigures_the_gateway() {
    let scene = Scene::new(&["002/several-services.yaml"], &[("s1", ""), ("s2", "")]).await;
    scene.check(&[("http://foo.bar.com/bar", "s2")]).await;
    scene.check_not_found(&["http://bar.baz.com/foo"]).await;
    // `kubectl edit` changes the spec of the object.
    let before = text("002/several-services.yaml");
    let head = &before[..before.find("spec:").unwrap()];
    scene.manifests.write("002-several-services.yaml", &[head, &text("002/updated-spec.yaml")].concat());
    scene.gateway.wait_for("http://bar.baz.com/foo", |answer| answer.upstream() == "s2").await;
    scene.check(&[("http://foo.bar.com/foo", "s1")]).await;
    scene.check_not_found(&["http://foo.bar.com/bar"]).await;
}

#[tokio::test]
async fn a_secret_of_placeholders_leaves_the_default_certificate() {
    let scene = Scene::new(&["002/secret.yaml", "002/tls.yaml"], &[("s1", "")]).await;
    scene.check(&[("https://any.example/", "s1")]).await;
    assert_eq!(scene.certificate_of("any.example").await, FAKE);
    scene.gateway.wait_for_log(&["Secret default/testsecret", "002-secret.yaml:5", "not base64"]).await;
}

#[tokio::test]
async fn an_entry_under_tls_without_hosts_shows_the_certificate_of_its_secret() {
    let scene = Scene::new(&["002/secret.yaml", "002/tls.yaml"], &[("s1", "")]).await;
    let certificate = tests::certificate::Certificate::self_signed(&["any.example"]);
    scene.manifests.write("002-secret.yaml", &certificate.secret("testsecret"));
    let wanted = async || (scene.certificate_of("any.example").await == "any.example").then_some(());
    tests::wait::until("the certificate of the Secret", wanted).await;
    scene.check(&[("https://any.example/", "s1")]).await;
}

#[tokio::test]
async fn a_default_backend_stands_beside_rules_and_tls() {
    let scene =
        Scene::new(&["003/ingress-resource-definition.yaml"], &[("frontend", ""), ("default-service", "")]).await;
    scene.check(&[("https://example.com/", "frontend"), ("https://example.com/x", "frontend")]).await;
    // Its Ingress has TLS, with the default certificate where no other fits (ingress-nginx.md, section 1.9).
    let answer = scene.gateway.get("http://example.com/x").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (308, Some("https://example.com/x")));
    // There is no Secret tls-secret yet. Then there is one, which covers the host of the rule although no entry names it.
    assert_eq!(scene.certificate_of("example.com").await, FAKE);
    let certificate = tests::certificate::Certificate::self_signed(&["secure.example.com", "example.com"]);
    scene.manifests.write("secret.yaml", &certificate.secret("tls-secret"));
    let wanted = async || (scene.certificate_of("example.com").await == "secure.example.com").then_some(());
    tests::wait::until("the certificate of the Secret", wanted).await;
}

#[tokio::test]
async fn the_example_application_is_reached_by_its_host_and_nothing_else_is() {
    let files = ["003/ingress-nginx-service.yaml", "003/demo-app.yaml", "003/demo-ingress.yaml"];
    let scene = Scene::new(&files, &[("demo-app", "http")]).await;
    scene.check(&[("http://demo.example.com:30080/", "demo-app")]).await;
    scene.check_not_found(&["http://192.0.2.9:30080/"]).await;
}

#[tokio::test]
async fn a_port_of_several_is_found_by_its_number() {
    let scene = Scene::new(&["003/webapp.yaml", "003/webapp-ingress.yaml"], &[("webapp", "http")]).await;
    scene.check(&[("http://webapp.example.com/", "webapp")]).await;
}

#[tokio::test]
async fn https_is_configured_with_the_secret_that_the_documents_commands_make() {
    let files = ["003/webapp.yaml", "003/webapp-ingress-tls.yaml", "003/webapp-tls-secret.yaml"];
    let scene = Scene::new(&files, &[("webapp", "http")]).await;
    scene.check(&[("https://webapp.example.com:30443/", "webapp")]).await;
    // The certificate names its host in the CN alone, and its key is an RSA key.
    assert_eq!(scene.certificate_of("webapp.example.com").await, "webapp.example.com");
    let answer = scene.gateway.get("http://webapp.example.com/x").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (308, Some("https://webapp.example.com/x")));
}

#[tokio::test]
async fn the_arguments_of_the_controller_carry_over() {
    let daemonset = text("003/ingress-nginx-daemonset.yaml");
    // The kubelet fills in the variable; the first argument is the program.
    let arguments: Vec<String> = daemonset
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ").filter(|argument| argument.starts_with("--")))
        .map(|argument| argument.replace("$(POD_NAMESPACE)", "ingress-nginx"))
        .collect();
    assert_eq!(arguments, ["--configmap=ingress-nginx/nginx-configuration"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let files = ["003/ingress-nginx-daemonset.yaml", "003/demo-app.yaml", "003/demo-ingress.yaml"];
    let scene = Scene::with_flags(&files, &[("demo-app", "http")], &arguments).await;
    scene.check(&[("http://demo.example.com/", "demo-app")]).await;
    // Deployments and DaemonSets are none of the gateway's business, and it does not go on about them.
    let log = scene.gateway.log();
    assert!(!log.contains("DaemonSet") && !log.contains("Deployment"), "{log}");
    // The ConfigMap that the argument names counts from the moment that it is there.
    scene.manifests.write(
        "configmap.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nginx-configuration, namespace: ingress-nginx}\n\
         data: {force-ssl-redirect: \"true\"}\n",
    );
    scene.gateway.wait_for("http://demo.example.com/", |answer| answer.status == 308).await;
}

#[tokio::test]
async fn a_path_without_type_takes_every_request() {
    let scene = Scene::new(&["004/ingress.yaml"], &[("web", "")]).await;
    scene.check(&[("http://192.0.2.9/", "web"), ("http://any.example/dev/x?y", "web")]).await;
}
