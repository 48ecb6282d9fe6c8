//! Which Ingresses are served: the rules of ingress-nginx (K-21).

use tests::manifests::{ingress, service};
use tests::{Answer, Gateway};

use crate::{Own, controller, of_class};

fn is_served(answer: &Answer) -> bool {
    answer.status == 200
}

async fn check(gateway: &Gateway, hosts: &[(&str, bool)]) {
    for (host, expected) in hosts {
        let answer = gateway.get(&format!("http://{host}/")).await;
        assert_eq!(is_served(&answer), *expected, "{host}");
    }
}

/// An Ingress with the annotation in place of the field.
fn annotated(name: &str, host: &str, class: &str) -> String {
    let ingress = ingress(name, host, &[], &[("/", "web")]);
    ingress.replacen("spec:\n", &format!("  annotations:\n    kubernetes.io/ingress.class: \"{class}\"\nspec:\n"), 1)
}

#[tokio::test]
async fn a_class_is_served_by_its_controller_the_legacy_annotation_or_its_name() {
    let own = Own::new("classes").await;
    own.cluster.class("classes-foreign", "example.com/other").await;
    let upstream = own.cluster.upstream("web").await;
    own.apply(&service("web", &[upstream.address()])).await;
    for (name, class) in [("ours", "classes"), ("foreign", "classes-foreign"), ("absent", "classes-absent")] {
        let route = ingress(name, &format!("{name}.classes.test"), &[], &[("/", "web")]);
        own.apply(&of_class(&route, class)).await;
    }
    own.apply(&annotated("legacy", "legacy.classes.test", "classes-legacy")).await;
    own.apply(&annotated("other", "other.classes.test", "someone-else")).await;
    own.apply(&ingress("none", "none.classes.test", &[], &[("/", "web")])).await;
    let here = format!("--watch-namespace={}", own.name);

    let gateway = own.start(&[&here, "--ingress-class=classes-legacy"]).await;
    let always = [
        ("ours.classes.test", true),
        ("legacy.classes.test", true),
        ("other.classes.test", false),
        ("absent.classes.test", false),
    ];
    check(&gateway, &always).await;
    check(&gateway, &[("foreign.classes.test", false), ("none.classes.test", false)]).await;

    let gateway = own.start(&[&here, "--ingress-class=classes-legacy", "--watch-ingress-without-class"]).await;
    check(&gateway, &always).await;
    check(&gateway, &[("foreign.classes.test", false), ("none.classes.test", true)]).await;

    let by_name = ["--ingress-class=classes-foreign", "--ingress-class-by-name=true"];
    let gateway = own.start(&[&[&*here], &by_name[..]].concat()).await;
    check(&gateway, &[("foreign.classes.test", true), ("ours.classes.test", true)]).await;
}

/// The API server gives new Ingresses the default class: nothing else is needed.
#[tokio::test]
async fn an_ingress_without_a_class_gets_the_default_one() {
    let cluster = tests::Cluster::start().await;
    let upstream = cluster.upstream("web").await;
    cluster
        .apply(
            "",
            "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata:\n  name: standard\n  annotations:\n    \
             ingressclass.kubernetes.io/is-default-class: \"true\"\nspec:\n  controller: penstock.dev/ingress\n",
        )
        .await;
    cluster.apply("default", &service("web", &[upstream.address()])).await;
    let gateway = Gateway::start_on(&cluster.kubeconfig(), &[]).await;
    cluster.apply("default", &ingress("web", "default.test", &[], &[("/", "web")])).await;
    gateway.wait_for("http://default.test/", is_served).await;
}

#[tokio::test]
async fn a_class_that_comes_goes_or_changes_hands_takes_its_ingresses_with_it() {
    let own = Own::new("changing").await;
    let upstream = own.cluster.upstream("web").await;
    own.apply(&service("web", &[upstream.address()])).await;
    let route = ingress("web", "changing.test", &[], &[("/", "web")]);
    own.apply(&of_class(&route, "changing-late")).await;
    let gateway = own.start(&[]).await;
    check(&gateway, &[("changing.test", false)]).await;
    own.cluster.class("changing-late", &controller(own.name)).await;
    gateway.wait_for("http://changing.test/", is_served).await;
    own.cluster.delete("IngressClass", "", "changing-late").await;
    gateway.wait_for("http://changing.test/", |answer| answer.status == 404).await;
}
