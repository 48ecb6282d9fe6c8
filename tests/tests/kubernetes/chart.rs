//! What the values of the chart make, as `helm template` renders it: one row for each value. That an API server takes it,
//! and that it runs, is the business of `node_install`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use tests::cluster::helm;

/// The chart, with values on top.
fn render(values: &[&str]) -> Vec<Value> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/penstock");
    let values = values.iter().flat_map(|value| ["--set", value]);
    let arguments: Vec<&str> = ["template", "edge", chart, "--namespace=ns"].into_iter().chain(values).collect();
    documents(&helm(&arguments))
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple::<Value>(text).unwrap().into_iter().filter(|document| !document.is_null()).collect()
}

/// The object of a kind and of a name that ends like that.
fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it =
        |object: &&Value| object["kind"] == kind && object["metadata"]["name"].as_str().unwrap().ends_with(name);
    objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn container(objects: &[Value]) -> Value {
    find(objects, "Deployment", "-controller")["spec"]["template"]["spec"]["containers"][0].clone()
}

fn has_argument(objects: &[Value], argument: &str) -> bool {
    container(objects)["args"].as_array().unwrap().contains(&json!(argument))
}

#[test]
fn values_of_the_controller_become_its_arguments() {
    for (value, argument) in [
        ("controller.ingressClassByName=true", "--ingress-class-by-name"),
        ("controller.watchIngressWithoutClass=true", "--watch-ingress-without-class"),
        ("controller.publishService.pathOverride=other/service", "--publish-service=other/service"),
        ("controller.reportNodeInternalIp=true", "--report-node-internal-ip-address"),
        ("controller.containerPort.http=8080", "--http=0.0.0.0:8080"),
        ("controller.containerPort.https=8443", "--https=0.0.0.0:8443"),
        ("controller.metrics.port=9999", "--status=0.0.0.0:9999"),
        ("controller.electionID=me", "--election-id=me"),
        ("controller.ingressClass=other", "--ingress-class=other"),
        ("controller.ingressClassResource.controllerValue=a.b/c", "--controller-class=a.b/c"),
        ("controller.extraArgs.default-ssl-certificate=ns/cert", "--default-ssl-certificate=ns/cert"),
        ("defaultBackend.enabled=true", "--default-backend-service=$(POD_NAMESPACE)/edge-penstock-defaultbackend"),
    ] {
        let objects = render(&[value]);
        assert!(has_argument(&objects, argument), "{value}: {}", container(&objects)["args"]);
        assert!(!has_argument(&render(&[]), argument), "{argument} is there without {value}");
    }
}

#[test]
fn values_become_fields_of_the_objects_that_they_are_named_after() {
    let pod = "/spec/template/spec";
    let of_container = |field: &str| format!("{pod}/containers/0/{field}");
    for (value, kind, name, pointer, expected) in [
        ("controller.config.use-gzip=true", "ConfigMap", "-controller", "/data/use-gzip".to_owned(), json!("true")),
        ("controller.hostPort.enabled=true", "Deployment", "-controller", of_container("ports/0/hostPort"), json!(80)),
        ("controller.extraEnvs[0].name=A", "Deployment", "-controller", of_container("env/2/name"), json!("A")),
        ("controller.extraVolumes[0].name=v", "Deployment", "-controller", format!("{pod}/volumes/0/name"), json!("v")),
        (
            "controller.extraContainers[0].name=c",
            "Deployment",
            "-controller",
            format!("{pod}/containers/1/name"),
            json!("c"),
        ),
        ("controller.image.repository=a/b", "Deployment", "-controller", of_container("image"), json!("a/b:0.1.0")),
        ("controller.replicaCount=3", "Deployment", "-controller", "/spec/replicas".to_owned(), json!(3)),
        ("namespaceOverride=there", "Deployment", "-controller", "/metadata/namespace".to_owned(), json!("there")),
        ("controller.service.type=NodePort", "Service", "-controller", "/spec/type".to_owned(), json!("NodePort")),
        (
            "controller.service.nodePorts.http=30080",
            "Service",
            "-controller",
            "/spec/ports/0/nodePort".to_owned(),
            json!(30080),
        ),
        (
            "controller.service.annotations.service\\.beta\\.kubernetes\\.io/aws-load-balancer-type=nlb",
            "Service",
            "-controller",
            "/metadata/annotations/service.beta.kubernetes.io~1aws-load-balancer-type".to_owned(),
            json!("nlb"),
        ),
        (
            "controller.service.externalTrafficPolicy=Local",
            "Service",
            "-controller",
            "/spec/externalTrafficPolicy".to_owned(),
            json!("Local"),
        ),
    ] {
        let values: Vec<&str> = if kind == "Service" && value.contains("nodePorts") {
            vec!["controller.service.type=NodePort", value]
        } else {
            vec![value]
        };
        let objects = render(&values);
        let object = find(&objects, kind, name);
        assert_eq!(object.pointer(&pointer), Some(&expected), "{value}: {object}");
    }
}

#[test]
fn everything_that_can_be_asked_for_is_made() {
    let kinds = |objects: &[Value]| -> BTreeSet<String> {
        objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect()
    };
    let by_default = kinds(&render(&[]));
    let expected = [
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "Deployment",
        "IngressClass",
        "Lease",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
    ];
    assert_eq!(by_default, expected.map(str::to_owned).into());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/penstock/ci/everything-values.yaml");
    let chart = Path::new(file).ancestors().nth(2).unwrap().to_str().unwrap();
    let everything = documents(&helm(&["template", "edge", chart, "--values", file]));
    for kind in [
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "ServiceMonitor",
        "PodMonitor",
        "PrometheusRule",
        "ValidatingWebhookConfiguration",
    ] {
        assert!(kinds(&everything).contains(kind), "{kind} is not among {:?}", kinds(&everything));
    }
    let pod = &find(&everything, "Deployment", "-controller")["spec"]["template"]["spec"];
    assert!(pod["topologySpreadConstraints"].is_array(), "{pod}");
    let has_dashboard = |object: &Value| object["kind"] == "ConfigMap" && object["data"].to_string().contains("panels");
    assert!(everything.iter().any(has_dashboard), "a dashboard of Grafana");
    let both = kinds(&render(&["controller.kind=Both"]));
    assert!(both.contains("Deployment") && both.contains("DaemonSet"), "{both:?}");
    let internal = render(&["controller.service.internal.enabled=true", "controller.service.internal.annotations.a=b"]);
    assert_eq!(find(&internal, "Service", "-controller-internal")["metadata"]["annotations"]["a"], "b");
}

#[test]
fn services_of_tcp_and_udp_become_ports_of_the_pods_and_of_the_service() {
    assert!(!container(&render(&[]))["args"].to_string().contains("services-configmap"));
    let values = ["tcp.9000=ns/db:5432:PROXY", "udp.53=ns/dns:53", "portNamePrefix=edge"];
    let node_port = "controller.service.nodePorts.tcp.9000=30900";
    let objects = render(&[&values[..], &[node_port, "controller.networkPolicy.enabled=true"]].concat());
    let service = find(&objects, "Service", "-controller");
    let policy = find(&objects, "NetworkPolicy", "-controller");
    for (transport, protocol, port, value) in
        [("tcp", "TCP", 9000, "ns/db:5432:PROXY"), ("udp", "UDP", 53, "ns/dns:53")]
    {
        let map = format!("edge-penstock-controller-{transport}");
        assert!(has_argument(&objects, &format!("--{transport}-services-configmap=$(POD_NAMESPACE)/{map}")));
        assert_eq!(find(&objects, "ConfigMap", &map)["data"][port.to_string()], value);
        let name = format!("edge-{port}-{transport}");
        let container = json!({"name": name, "containerPort": port, "protocol": protocol});
        assert!(self::container(&objects)["ports"].as_array().unwrap().contains(&container), "{objects:?}");
        let mut of_service = json!({"name": name, "port": port, "targetPort": port, "protocol": protocol});
        if transport == "tcp" {
            of_service["nodePort"] = json!(30900);
        }
        assert!(service["spec"]["ports"].as_array().unwrap().contains(&of_service), "{service}");
        let allowed = json!({"port": port, "protocol": protocol});
        assert!(policy["spec"]["ingress"][0]["ports"].as_array().unwrap().contains(&allowed), "{policy}");
    }
}
