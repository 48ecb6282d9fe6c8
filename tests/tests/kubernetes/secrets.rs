//! Secrets: named, late, renewed, and out of reach (K-15).

use tests::certificate::Certificate;
use tests::manifests::{service, tls};
use tests::{Client, Gateway, wait};

use crate::Own;

async fn common_name(gateway: &Gateway, host: &str) -> String {
    Client::https1(gateway.addresses().https, Some(host)).await.common_name()
}

/// Waits until a certificate of that name is shown for a host.
pub(crate) async fn wait_for_name(gateway: &Gateway, host: &str, wanted: &str) {
    let shown = async || (common_name(gateway, host).await == wanted).then_some(());
    wait::until(&format!("the certificate {wanted} for {host}"), shown).await;
}

/// Two names: the first tells the versions apart.
fn certificate(version: &str, host: &str) -> Certificate {
    Certificate::self_signed(&[version, host])
}

#[tokio::test]
async fn a_new_ingress_never_shows_another_certificate_than_that_of_its_secret() {
    let own = Own::new("at-once").await;
    let upstream = own.cluster.upstream("web").await;
    own.apply(&service("web", &[upstream.address()])).await;
    let gateway = own.start(&[]).await;
    for number in 0..5 {
        let (host, secret) = (format!("h{number}.at-once.test"), format!("cert-{number}"));
        own.apply(&certificate("first", &host).secret(&secret)).await;
        own.apply(&format!("{}{}", own.ingress(&secret, &host, "web"), tls(&[&host], &secret))).await;
        // As soon as the host is known, it is complete: before, nothing redirects to HTTPS.
        let is_known = async || {
            let answer = gateway.get(&format!("http://{host}/")).await;
            assert!(answer.status == 404 || answer.status == 308, "{answer:?}");
            (answer.status == 308).then_some(())
        };
        wait::until("the host is known", is_known).await;
        assert_eq!(common_name(&gateway, &host).await, "first");
    }
}

#[tokio::test]
async fn a_secret_that_is_renewed_late_or_spoiled_is_followed_as_far_as_it_is_good() {
    let own = Own::new("renewed").await;
    let upstream = own.cluster.upstream("web").await;
    own.apply(&service("web", &[upstream.address()])).await;
    let host = "renewed.test";
    own.apply(&format!("{}{}", own.ingress("web", host, "web"), tls(&[host], "cert"))).await;
    let gateway = own.start(&[]).await;
    gateway.wait_for_log(&["CertificateUnavailable", "Secret renewed/cert does not exist"]).await;
    own.apply(&certificate("first", host).secret("cert")).await;
    wait_for_name(&gateway, host, "first").await;
    own.apply(&certificate("second", host).secret("cert")).await;
    wait_for_name(&gateway, host, "second").await;
    own.apply(&tests::certificate::secret("cert", &[("tls.crt", b"garbage"), ("tls.key", b"garbage")])).await;
    gateway.wait_for_log(&["ERROR", "Secret renewed/cert"]).await;
    assert_eq!(common_name(&gateway, host).await, "second", "the last good one stays");
}

/// Only the names of a user's rights differ from `ClusterRole` to `ClusterRole`.
fn role(name: &str, resources: &[&str]) -> String {
    let rules = [
        ("networking.k8s.io", &["ingresses", "ingressclasses"][..]),
        ("discovery.k8s.io", &["endpointslices"]),
        ("", resources),
    ];
    let mut text =
        format!("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: {name}\nrules:\n");
    for (group, resources) in rules {
        let resources = resources.join(", ");
        text.push_str(&format!(
            "  - apiGroups: [\"{group}\"]\n    resources: [{resources}]\n    verbs: [get, list, watch]\n"
        ));
    }
    text
}

fn binding(name: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata:\n  name: {name}\nroleRef:\n  \
         apiGroup: rbac.authorization.k8s.io\n  kind: ClusterRole\n  name: {name}\nsubjects:\n  - apiGroup: \
         rbac.authorization.k8s.io\n    kind: User\n    name: penstock\n"
    )
}

/// K-15.
#[tokio::test]
async fn rights_that_are_revoked_leave_the_last_certificates() {
    let own = Own::new("revoked").await;
    let upstream = own.cluster.upstream("web").await;
    let host = "revoked.test";
    own.apply(&[service("web", &[upstream.address()]), certificate("first", host).secret("cert")].concat()).await;
    own.apply(&format!("{}{}", own.ingress("web", host, "web"), tls(&[host], "cert"))).await;
    own.cluster.apply("", &role("revoked", &["services", "configmaps", "secrets"])).await;
    own.cluster.apply("", &binding("revoked")).await;
    let relay = tests::Relay::to(own.cluster.address()).await;
    let kubeconfig = own.cluster.kubeconfig_of("penstock", relay.address());
    let gateway = own.start_as(&kubeconfig, &["--update-status=false"]).await;
    assert_eq!(common_name(&gateway, host).await, "first");
    own.cluster.apply("", &role("revoked", &["services", "configmaps"])).await;
    // Rights are looked at when a watch begins.
    relay.cut();
    relay.restore();
    gateway.wait_for_log(&["watch is interrupted", "kind=Secret", "forbidden"]).await;
    own.apply(&own.ingress("more", "more.revoked.test", "web")).await;
    gateway.wait_for("http://more.revoked.test/", |answer| answer.status == 200).await;
    assert_eq!(common_name(&gateway, host).await, "first");
    assert_eq!(gateway.status("/readyz").await.status, 200);
}
