//! What the fields of an Ingress, and of the objects that it refers to, mean to a request. The expectations are those of
//! the Kubernetes documentation and of ingress-nginx.md, sections 1.9, 1.10 and 1.12.

use std::net::{Ipv6Addr, SocketAddr};

use tests::gateway::command;
use tests::manifests::{ingress, service, slice};
use tests::{Gateway, Manifests, Upstream};
use tokio::net::{TcpListener, TcpStream};

/// A running gateway with the Services `a`, `b` and `c`, each with an upstream of its name.
struct Scene {
    gateway: Gateway,
    manifests: Manifests,
    upstreams: [Upstream; 3],
}

impl Scene {
    async fn new(manifests: &[String]) -> Self {
        Self::with_flags(manifests, &[]).await
    }

    async fn with_flags(manifests: &[String], flags: &[&str]) -> Self {
        let upstreams = [Upstream::echo("a").await, Upstream::echo("b").await, Upstream::echo("c").await];
        let services = ["a", "b", "c"].iter().zip(&upstreams);
        let services: String = services.map(|(name, upstream)| service(name, &[upstream.address()])).collect();
        let files = Manifests::of(&services);
        files.write("test.yaml", &manifests.concat());
        Self { gateway: Gateway::start(&files, flags).await, manifests: files, upstreams }
    }

    /// Where upstream `a` is.
    fn a(&self) -> SocketAddr {
        self.upstreams[0].address()
    }

    /// Asks for URLs, each of which must be answered by the upstream named; by `404`, the gateway itself with that.
    async fn check(&self, expected: &[(&str, &str)]) {
        for (url, expected) in expected {
            let answer = self.gateway.get(url).await;
            let got = if answer.status == 200 { answer.upstream() } else { answer.status.as_u16().to_string() };
            assert_eq!(got, *expected, "{url}; log:\n{}", self.gateway.log());
        }
    }

    /// Adds manifests, and waits until an object after them is live.
    async fn add(&self, text: &str) {
        self.manifests.write("added.yaml", &[text, &ingress("added", "added.test", &[], &[("/", "a")])].concat());
        self.gateway.wait_for("http://added.test/", |answer| answer.status == 200).await;
    }
}

/// The same Ingress with another type for all of its paths.
fn of_type(path_type: &str, ingress: &str) -> String {
    ingress.replace("pathType: Prefix", &format!("pathType: {path_type}"))
}

/// An Ingress of one host whose only path leads to a port of a Service, as the port is written.
fn to_port(name: &str, service: &str, port: &str) -> String {
    ingress(name, &format!("{name}.test"), &[], &[("/", service)]).replace("{number: 80}", port)
}

#[tokio::test]
async fn an_exact_path_is_for_itself() {
    let scene = Scene::new(&[
        of_type("Exact", &ingress("exact", "a.test", &[], &[("/foo", "a")])),
        ingress("prefix", "a.test", &[], &[("/", "b")]),
    ])
    .await;
    scene
        .check(&[
            ("http://a.test/foo", "a"),
            ("http://a.test/foo?q=1", "a"),
            ("http://a.test/foo/", "b"),
            ("http://a.test/foo/bar", "b"),
            ("http://a.test/FOO", "b"),
        ])
        .await;
}

#[tokio::test]
async fn a_prefix_is_matched_element_by_element() {
    let scene = Scene::new(&[ingress("a", "a.test", &[], &[("/foo", "a"), ("/aaa/bbb/", "b")])]).await;
    scene
        .check(&[
            ("http://a.test/foo", "a"),
            ("http://a.test/foo/", "a"),
            ("http://a.test/foo/bar", "a"),
            ("http://a.test/foobar", "404"),
            ("http://a.test/Foo", "404"),
            ("http://a.test/aaa/bbb/ccc", "b"),
            ("http://a.test/aaa/bbbxyz", "404"),
        ])
        .await;
}

#[tokio::test]
async fn implementation_specific_is_read_as_a_prefix() {
    let scene = Scene::new(&[of_type("ImplementationSpecific", &ingress("a", "a.test", &[], &[("/foo", "a")]))]).await;
    scene.check(&[("http://a.test/foo", "a"), ("http://a.test/foo/bar", "a"), ("http://a.test/foobar", "404")]).await;
}

#[tokio::test]
async fn the_longest_path_goes_first_and_an_exact_one_before_it() {
    let scene = Scene::new(&[
        ingress("short", "a.test", &[], &[("/", "a"), ("/foo", "b")]),
        ingress("long", "a.test", &[], &[("/foo/bar", "c")]),
        of_type("Exact", &ingress("exact", "a.test", &[], &[("/foo/bar", "a")])),
    ])
    .await;
    scene
        .check(&[
            ("http://a.test/x", "a"),
            ("http://a.test/foo/x", "b"),
            ("http://a.test/foo/bar/x", "c"),
            ("http://a.test/foo/bar", "a"),
        ])
        .await;
}

#[tokio::test]
async fn a_path_is_matched_in_its_normal_form() {
    let scene = Scene::new(&[ingress("a", "a.test", &[], &[("/foo", "a"), ("/", "b")])]).await;
    scene
        .check(&[
            ("http://a.test/x/../foo/bar", "a"),
            ("http://a.test/./foo", "a"),
            ("http://a.test/%66oo", "a"),
            ("http://a.test/foo%2Fbar", "b"),
            ("http://a.test/foo/..", "b"),
        ])
        .await;
}

#[tokio::test]
async fn a_wildcard_stands_for_one_label() {
    let scene = Scene::new(&[
        ingress("wild", "'*.wild.test'", &[], &[("/", "a")]),
        ingress("real", "real.wild.test", &[], &[("/", "b")]),
    ])
    .await;
    scene
        .check(&[
            ("http://any.wild.test/", "a"),
            ("http://real.wild.test/", "b"),
            ("http://one.two.wild.test/", "404"),
            ("http://wild.test/", "404"),
        ])
        .await;
}

#[tokio::test]
async fn a_real_host_does_not_fall_back_to_the_rules_of_a_wildcard() {
    let scene = Scene::new(&[
        ingress("wild", "'*.wild.test'", &[], &[("/wild", "a")]),
        ingress("real", "real.wild.test", &[], &[("/real", "b")]),
    ])
    .await;
    scene.check(&[("http://real.wild.test/real", "b"), ("http://real.wild.test/wild", "404")]).await;
}

#[tokio::test]
async fn a_rule_without_host_is_for_every_host_that_has_no_rules() {
    let any =
        ingress("any", "REMOVED", &[], &[("/any", "a")]).replace("    - host: REMOVED\n      http:", "    - http:");
    let scene = Scene::new(&[any, ingress("real", "real.test", &[], &[("/real", "b")])]).await;
    scene
        .check(&[
            ("http://unknown.test/any", "a"),
            ("http://192.0.2.1/any", "a"),
            ("http://unknown.test/other", "404"),
            ("http://real.test/real", "b"),
            ("http://real.test/any", "404"),
        ])
        .await;
}

#[tokio::test]
async fn a_host_is_compared_without_case_port_and_trailing_dot() {
    let scene = Scene::new(&[ingress("a", "a.test", &[], &[("/", "a")])]).await;
    scene
        .check(&[
            ("http://A.Test/", "a"),
            ("http://a.test:8080/", "a"),
            ("http://a.test./", "a"),
            ("http://A.TEST.:80/", "a"),
            ("http://aa.test/", "404"),
        ])
        .await;
}

#[tokio::test]
async fn the_older_object_has_a_path_and_the_younger_is_told() {
    let aged = |name: &str, year: u16, service: &str| {
        ingress(name, "a.test", &[], &[("/", service)])
            .replace("metadata:\n", &format!("metadata:\n  creationTimestamp: {year}-01-01T00:00:00Z\n"))
    };
    let scene = Scene::new(&[aged("younger", 2024, "a"), aged("older", 2023, "b")]).await;
    scene.check(&[("http://a.test/", "b")]).await;
    scene.gateway.wait_for_log(&["Ingress default/younger", "Conflict", "Ingress default/older"]).await;
    // Without a creation time it counts as oldest.
    scene.add(&ingress("ageless", "a.test", &[], &[("/", "c")])).await;
    scene.check(&[("http://a.test/", "c")]).await;
    // Of equal ages the last by namespace and name, as in ingress-nginx.
    scene
        .add(
            &["k", "l"]
                .map(|name| ingress(name, "b.test", &[], &[("/", if name == "l" { "a" } else { "b" })]))
                .concat(),
        )
        .await;
    scene.gateway.wait_for("http://b.test/", |answer| answer.upstream() == "a").await;
}

#[tokio::test]
async fn a_default_backend_takes_what_the_rules_of_its_hosts_leave() {
    let with_default = ingress("a", "a.test", &[], &[("/foo", "a")])
        .replace("spec:\n", "spec:\n  defaultBackend: {service: {name: b, port: {number: 80}}}\n");
    let scene = Scene::new(&[with_default]).await;
    scene.check(&[("http://a.test/foo", "a"), ("http://a.test/other", "b")]).await;
}

#[tokio::test]
async fn a_default_backend_alone_takes_what_nobody_claims() {
    let alone = "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: alone}\nspec:\n  \
                 defaultBackend: {service: {name: b, port: {number: 80}}}\n";
    let scene = Scene::new(&[alone.to_owned(), ingress("a", "a.test", &[], &[("/foo", "a")])]).await;
    scene.check(&[("http://a.test/foo", "a"), ("http://unknown.test/x", "b")]).await;
}

#[tokio::test]
async fn an_ingress_of_another_class_is_somebody_elses() {
    let classed = |name: &str, class: &str| {
        format!("{}  ingressClassName: {class}\n", ingress(name, &format!("{name}.test"), &[], &[("/", "a")]))
    };
    let annotated = |name: &str, class: &str| {
        ingress(name, &format!("{name}.test"), &[], &[("/", "a")])
            .replace("spec:\n", &format!("  annotations: {{kubernetes.io/ingress.class: {class}}}\nspec:\n"))
    };
    let class = |name: &str, controller: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: {name}}}\nspec: {{controller: {controller}}}\n"
        )
    };
    let objects = [
        class("ours", "penstock.dev/ingress"),
        class("community", "k8s.io/ingress-nginx"),
        class("theirs", "example.com/theirs"),
        classed("ours", "ours"),
        classed("community", "community"),
        classed("theirs", "theirs"),
        classed("absent", "absent"),
        annotated("annotated", "nginx"),
        annotated("traefik", "traefik"),
        ingress("none", "none.test", &[], &[("/", "a")]),
    ];
    let scene = Scene::new(&objects).await;
    scene
        .check(&[
            ("http://ours.test/", "a"),
            ("http://community.test/", "404"),
            ("http://theirs.test/", "404"),
            ("http://absent.test/", "404"),
            ("http://annotated.test/", "a"),
            ("http://traefik.test/", "404"),
            ("http://none.test/", "a"),
        ])
        .await;
    let scene = Scene::with_flags(&objects, &["--controller-class=k8s.io/ingress-nginx"]).await;
    scene.check(&[("http://community.test/", "a"), ("http://theirs.test/", "404")]).await;
    let scene = Scene::with_flags(&objects, &["--ingress-class=traefik"]).await;
    scene.check(&[("http://traefik.test/", "a"), ("http://annotated.test/", "404")]).await;
}

#[tokio::test]
async fn old_versions_are_served_like_the_current_one() {
    let old = |version: &str, name: &str| {
        format!(
            "---\napiVersion: {version}\nkind: Ingress\nmetadata: {{name: {name}}}\nspec:\n  rules:\n  - host: {name}.test\n    \
             http:\n      paths:\n      - {{path: /number, backend: {{serviceName: a, servicePort: 80}}}}\n      \
             - {{path: /name, backend: {{serviceName: b, servicePort: http}}}}\n      \
             - {{path: /text, backend: {{serviceName: c, servicePort: '80'}}}}\n"
        )
    };
    let scene = Scene::new(&[old("networking.k8s.io/v1beta1", "beta"), old("extensions/v1beta1", "oldest")]).await;
    for name in ["beta", "oldest"] {
        let url = |path: &str| format!("http://{name}.test{path}");
        scene.check(&[(&url("/number"), "a"), (&url("/name/x"), "b"), (&url("/text"), "c"), (&url("/"), "404")]).await;
    }
}

/// The Services of this test have a target of their own; the slice tells it by name.
#[tokio::test]
async fn a_service_port_is_found_by_number_name_and_target() {
    let scene = Scene::new(&[
        to_port("number", "multi", "{number: 8080}"),
        to_port("name", "multi", "{name: web}"),
        to_port("target", "multi", "{name: pod-port}"),
        to_port("bare", "multi", "8080"),
        to_port("absent", "multi", "{number: 9}"),
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: multi}\nspec:\n  ports:\n  \
         - {name: metrics, port: 9090, targetPort: 9090}\n  - {name: web, port: 8080, targetPort: pod-port}\n"
            .to_owned(),
    ])
    .await;
    scene.add(&slice("multi-1", "multi", "web", scene.a())).await;
    for name in ["number", "name", "target", "bare"] {
        scene.check(&[(&format!("http://{name}.test/"), "a")]).await;
    }
    scene.check(&[("http://absent.test/", "503")]).await;
    scene.gateway.wait_for_log(&["Ingress default/absent", "has no port 9", "PortNotFound"]).await;
}

#[tokio::test]
async fn a_service_of_every_type_leads_to_its_endpoints() {
    let of_type = |name: &str, spec: &str| {
        let service = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}, ports: [{{name: http, port: 80}}]}}\n"
        );
        [service, to_port(name, name, "{number: 80}")].concat()
    };
    let types = [
        ("cluster-ip", "type: ClusterIP, clusterIP: 10.0.0.1"),
        ("node-port", "type: NodePort"),
        ("load-balancer", "type: LoadBalancer"),
        ("headless", "clusterIP: None"),
    ];
    let scene = Scene::new(&types.map(|(name, spec)| of_type(name, spec))).await;
    scene.check(&[("http://headless.test/", "503")]).await;
    scene.add(&types.map(|(name, _)| slice(&format!("{name}-1"), name, "http", scene.a())).concat()).await;
    for (name, _) in types {
        scene.check(&[(&format!("http://{name}.test/"), "a")]).await;
    }
}

#[tokio::test]
async fn external_name_never_leads_to_the_gateway_or_its_node() {
    let names = ["localhost", "127.0.0.1", "a.localhost", "169.254.169.254", "0.0.0.0"];
    let external = |(number, name): (usize, &&str)| {
        let service = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: ext-{number}}}\nspec: {{type: ExternalName, externalName: {name:?}}}\n"
        );
        [service, to_port(&format!("ext-{number}"), &format!("ext-{number}"), "{number: 80}")].concat()
    };
    let scene = Scene::new(&names.iter().enumerate().map(external).collect::<Vec<_>>()).await;
    for (number, name) in names.iter().enumerate() {
        scene.check(&[(&format!("http://ext-{number}.test/"), "503")]).await;
        scene.gateway.wait_for_log(&[&format!("Service default/ext-{number}"), "AddressRefused", name]).await;
    }
    assert!(scene.upstreams.iter().all(|upstream| upstream.n_requests() == 0));
}

/// Nothing but loopback can be reached here: the route is asked for, not taken.
#[test]
fn external_name_leads_to_its_name() {
    let manifests = Manifests::of(
        &["---\napiVersion: v1\nkind: Service\nmetadata: {name: ext}\nspec: {type: ExternalName, externalName: 192.0.2.7}\n",
          &to_port("ext", "ext", "{number: 8080}")].concat(),
    );
    let output = command(&["explain", "--manifests", manifests.path().to_str().unwrap(), "http://ext.test/"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("192.0.2.7:8080"), "{text}");
}

#[tokio::test]
async fn the_older_endpoints_serve_where_there_is_no_slice() {
    let service =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: old}\nspec: {ports: [{name: http, port: 80}]}\n";
    let scene = Scene::new(&[service.to_owned(), to_port("old", "old", "{number: 80}")]).await;
    scene.check(&[("http://old.test/", "503")]).await;
    let (ip, port) = (scene.a().ip(), scene.a().port());
    scene
        .add(&format!(
            "---\napiVersion: v1\nkind: Endpoints\nmetadata: {{name: old}}\nsubsets:\n\
             - {{addresses: [{{ip: {ip}}}], ports: [{{name: http, port: {port}}}]}}\n"
        ))
        .await;
    scene.check(&[("http://old.test/", "a")]).await;
}

#[tokio::test]
async fn an_endpoint_may_have_an_address_of_ipv6() {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let scene = Scene::new(&[to_port("six", "six", "{number: 80}")]).await;
    // The upstream itself listens on IPv4.
    let to = scene.a();
    let relay = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut upstream = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut upstream).await });
        }
    });
    scene
        .add(&format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: six-1, labels: {{kubernetes.io/service-name: six}}}}\n\
             addressType: IPv6\nports: [{{port: {port}}}]\nendpoints: [{{addresses: ['::1']}}]\n"
        ))
        .await;
    scene.check(&[("http://six.test/", "a")]).await;
    relay.abort();
}

#[tokio::test]
async fn lists_documents_and_json_are_all_read() {
    let json = |name: &str| {
        serde_json::json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name},
            "spec": {"rules": [{"host": format!("{name}.test"), "http": {"paths": [{
                "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "a", "port": {"number": 80}}},
            }]}}]},
        })
    };
    let scene = Scene::new(&[]).await;
    scene.manifests.write("one.json", &json("json").to_string());
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [json("list1"), json("list2")]});
    scene.manifests.write("below/list.json", &list.to_string());
    let typed = serde_json::json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressList", "metadata": {}, "items": [json("typed")],
    });
    scene.manifests.write("below/deep/typed.yml", &format!("# nothing\n---\n---\n{typed}\n...\n"));
    scene
        .add(
            &[ingress("yaml1", "yaml1.test", &[], &[("/", "a")]), ingress("yaml2", "yaml2.test", &[], &[("/", "b")])]
                .concat(),
        )
        .await;
    for name in ["json", "list1", "list2", "typed"] {
        scene.gateway.wait_for(&format!("http://{name}.test/"), |answer| answer.upstream() == "a").await;
    }
    scene.check(&[("http://yaml1.test/", "a"), ("http://yaml2.test/", "b")]).await;
}

#[tokio::test]
async fn kinds_of_kubernetes_are_skipped_and_unknown_ones_named_once() {
    let object = |version: &str, kind: &str, name: &str| {
        format!("---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\n")
    };
    let scene = Scene::new(&[
        object("apps/v1", "Deployment", "a"),
        object("v1", "Pod", "a"),
        object("rbac.authorization.k8s.io/v1", "ClusterRole", "a"),
        object("example.com/v1", "Strange", "a"),
        object("example.com/v1", "Strange", "b"),
        ingress("a", "a.test", &[], &[("/", "a")]),
    ])
    .await;
    scene.check(&[("http://a.test/", "a")]).await;
    scene.gateway.wait_for_log(&["WARN", "Strange of example.com/v1"]).await;
    scene.add(&object("example.com/v1", "Strange", "c")).await;
    let log = scene.gateway.log();
    assert_eq!(log.matches("Strange").count(), 1, "{log}");
    assert!(!["Deployment", "Pod", "ClusterRole"].iter().any(|kind| log.contains(kind)), "{log}");
}
