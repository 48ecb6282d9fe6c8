//! The validating webhook, as an API server asks it.

use std::path::Path;

use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::certificate::{Authority, Certificate};
use tests::cluster::Reply;
use tests::gateway::Addresses;
use tests::manifests::{ingress, service, tls};
use tests::{Client, Gateway, wait};

use crate::{Own, of_class};

/// A gateway with a webhook that is asked about the Ingresses of a namespace of its own.
struct Fixture {
    own: Own,
    gateway: Gateway,
    address: std::net::SocketAddr,
    directory: TempDir,
    authority: Authority,
}

impl Fixture {
    async fn start(name: &'static str) -> Self {
        let own = Own::new(name).await;
        let (authority, directory) = (Authority::new("webhooks"), TempDir::new().unwrap());
        let address = Addresses::reserve().admin;
        write(directory.path(), &authority.issue(&["first", &address.ip().to_string()]));
        let file = |name: &str| directory.path().join(name).display().to_string();
        let flags = [
            format!("--validating-webhook={address}"),
            format!("--validating-webhook-certificate={}", file("tls.crt")),
            format!("--validating-webhook-key={}", file("tls.key")),
        ];
        let gateway = own.start(&flags.each_ref().map(String::as_str)).await;
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "validate.penstock.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "failurePolicy": "Fail", "matchPolicy": "Equivalent",
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
                "rules": [{
                    "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "resources": ["ingresses"],
                    "operations": ["CREATE", "UPDATE"],
                }],
                "clientConfig": {
                    "url": format!("https://{address}/networking/v1/ingresses"),
                    "caBundle": tests::certificate::base64(authority.certificate.as_bytes()),
                },
            }],
        });
        let collection = tests::cluster::collection("ValidatingWebhookConfiguration", "");
        let reply = own.cluster.request("POST", &collection, &configuration.to_string()).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        // API servers look at the configuration in their own time.
        let mut n_probes = 0;
        let asks = async || {
            n_probes += 1;
            let replies = own.cluster.try_apply(name, &bad(&own, &format!("probe-{n_probes}"))).await;
            (replies[0].status >= 400).then_some(())
        };
        wait::until("the API server asks the webhook", asks).await;
        Self { own, gateway, address, directory, authority }
    }

    async fn try_apply(&self, manifest: &str) -> Reply {
        self.own.cluster.try_apply(self.own.name, manifest).await.remove(0)
    }

    async fn assert_denied(&self, manifest: &str, words: &[&str]) {
        let reply = self.try_apply(manifest).await;
        let message = reply.value["message"].as_str().unwrap_or_default().to_owned();
        assert!((400..500).contains(&reply.status) && message.contains("denied the request"), "{reply:?}");
        for word in words {
            assert!(message.contains(word), "{word}: {message}");
        }
    }

    async fn assert_allowed(&self, manifest: &str) -> Vec<String> {
        let reply = self.try_apply(manifest).await;
        assert!(reply.status < 300, "{reply:?}");
        reply.warnings
    }

    /// An Ingress of the class.
    fn ingress(&self, name: &str, host: &str, annotations: &[(&str, &str)], paths: &[(&str, &str)]) -> String {
        of_class(&ingress(name, host, annotations, paths), self.own.name)
    }
}

fn bad(own: &Own, name: &str) -> String {
    let host = format!("{name}.{}.test", own.name);
    of_class(&ingress(name, &host, &[("ssl-redirect", "maybe")], &[("/", "web")]), own.name)
}

fn write(directory: &Path, certificate: &Certificate) {
    // As a whole, as those do it who renew certificates.
    for (name, text) in [("tls.crt", &certificate.certificate), ("tls.key", &certificate.key)] {
        let draft = directory.join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, directory.join(name)).unwrap();
    }
}

#[tokio::test]
async fn what_nobody_can_have_meant_is_refused_and_says_why() {
    let fixture = Fixture::start("judged").await;
    let upstream = fixture.own.cluster.upstream("web").await;
    fixture.own.apply(&service("web", &[upstream.address()])).await;
    fixture.assert_allowed(&fixture.ingress("first", "a.judged.test", &[], &[("/x", "web")])).await;
    fixture.gateway.wait_for("http://a.judged.test/x", |answer| answer.status == 200).await;
    let generation = fixture.gateway.metric("penstock_snapshot_generation", &[]).await;
    assert!(generation > 0.0);

    let taken = fixture.ingress("second", "a.judged.test", &[], &[("/y", "web"), ("/x", "web")]);
    // Both may be of the same second, which is as exact as ages are: then it is the other one that would lose.
    fixture.assert_denied(&taken, &["a.judged.test", "\"/x\"", "judged/first"]).await;
    fixture.assert_denied(&bad(&fixture.own, "annotation"), &["ssl-redirect", "maybe"]).await;
    let regex = fixture.ingress("regex", "r.judged.test", &[("use-regex", "true")], &[("/(", "web")]);
    fixture.assert_denied(&regex, &["spec.rules[0].http.paths[0]"]).await;
    // An Ingress that was good cannot become bad either.
    let worse = fixture.ingress("first", "a.judged.test", &[("ssl-redirect", "maybe")], &[("/x", "web")]);
    fixture.assert_denied(&worse, &["ssl-redirect"]).await;

    // Nothing of it was ever in the model.
    assert_eq!(fixture.gateway.metric("penstock_snapshot_generation", &[]).await, generation);
    assert_eq!(fixture.gateway.get("http://a.judged.test/y").await.status, 404);
    assert_eq!(fixture.gateway.get("http://a.judged.test/x").await.upstream(), "web");
    // What is free is still free.
    fixture.assert_allowed(&fixture.ingress("second", "a.judged.test", &[], &[("/y", "web")])).await;
    fixture.gateway.wait_for("http://a.judged.test/y", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn what_works_otherwise_than_its_author_may_think_is_warned_about() {
    let fixture = Fixture::start("warns").await;
    let (own, plain) = (&fixture.own, [("/", "absent")]);
    let snippet = fixture.ingress("snippet", "s.warns.test", &[("configuration-snippet", "deny all;")], &plain);
    let warnings = fixture.assert_allowed(&snippet).await;
    assert!(warnings.iter().any(|warning| warning.contains("configuration-snippet")), "{warnings:?}");
    // Other objects may come later: nothing is said of them.
    let early = fixture.ingress("early", "e.warns.test", &[], &plain);
    let warnings = fixture.assert_allowed(&format!("{early}{}", tls(&["e.warns.test"], "absent"))).await;
    assert_eq!(warnings, [""; 0]);
    fixture.gateway.wait_for("http://e.warns.test/", |answer| answer.status != 404).await;
    // Another Ingress of the host that would mean something else from then on.
    let regex = fixture.ingress("regex", "e.warns.test", &[("use-regex", "true")], &[("/r/.*", "absent")]);
    let warnings = fixture.assert_allowed(&regex).await;
    assert!(warnings.iter().any(|warning| warning.contains("warns/early")), "{warnings:?}");
    // What others serve is none of our business.
    let other = "warns-other";
    own.cluster.class(other, "example.com/other").await;
    let foreign = ingress("foreign", "e.warns.test", &[("ssl-redirect", "maybe")], &plain);
    assert_eq!(fixture.assert_allowed(&of_class(&foreign, other)).await, [""; 0]);
}

#[tokio::test]
async fn an_object_that_is_wrong_already_can_be_labelled_and_deleted() {
    let fixture = Fixture::start("going").await;
    let own = &fixture.own;
    own.cluster.class("going-other", "example.com/other").await;
    let foreign = ingress("web", "web.going.test", &[("ssl-redirect", "maybe")], &[("/", "web")]);
    fixture.assert_allowed(&of_class(&foreign, "going-other")).await;
    own.cluster.delete("IngressClass", "", "going-other").await;
    own.cluster.class("going-other", &crate::controller(own.name)).await;
    let mut n_versions = 0;
    let is_ours = async || {
        n_versions += 1;
        let host = format!("v{n_versions}.going.test");
        let other = of_class(&ingress("web", &host, &[("ssl-redirect", "maybe")], &[("/", "web")]), "going-other");
        let reply = fixture.try_apply(&other).await;
        reply.value["message"].as_str().is_some_and(|message| message.contains("ssl-redirect")).then_some(())
    };
    wait::until("the class is known to be ours", is_ours).await;
    let finalizers = |list: Value| json!({"metadata": {"labels": {"a": "b"}, "finalizers": list}});
    own.cluster.patch("Ingress", own.name, "web", &finalizers(json!(["tests.penstock.dev/stays"]))).await;
    own.cluster.delete("Ingress", own.name, "web").await;
    own.cluster.patch("Ingress", own.name, "web", &finalizers(json!([]))).await;
    let names = async || own.cluster.list("Ingress", own.name).await;
    let is_gone = async || names().await.iter().all(|object| object["metadata"]["name"] != "web").then_some(());
    wait::until("the Ingress is gone", is_gone).await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_the_next_connection_and_a_spoiled_one_is_not() {
    let fixture = Fixture::start("webhook-tls").await;
    let shown = async || Client::https1(fixture.address, None).await.common_name();
    assert_eq!(shown().await, "first");
    write(fixture.directory.path(), &fixture.authority.issue(&["second", &fixture.address.ip().to_string()]));
    assert_eq!(shown().await, "second");
    std::fs::write(fixture.directory.path().join("tls.crt"), "garbage").unwrap();
    assert_eq!(shown().await, "second");
    fixture.gateway.wait_for_log(&["WARN", "keeps its last certificate"]).await;
    fixture.assert_denied(&bad(&fixture.own, "still"), &["ssl-redirect"]).await;
}

/// N-08: anybody in the network of the pods can ask.
#[tokio::test]
async fn strangers_get_nothing_but_answers_of_a_limited_size() {
    let fixture = Fixture::start("strangers").await;
    let ask = async |method: &str, target: &str, body: &str| {
        let mut client = Client::https1(fixture.address, None).await;
        let request = client.request(method, "webhook", target, &[(CONTENT_TYPE.as_str(), "application/json")], body);
        client.try_send(request).await.map(|answer| answer.status.as_u16()).ok()
    };
    let path = "/networking/v1/ingresses";
    assert_eq!(ask("GET", path, "").await, Some(405));
    for target in ["/", "/metrics", "/snapshot", "/healthz", "/networking/v1/ingresses/x"] {
        assert_eq!(ask("POST", target, "{}").await, Some(404), "{target}");
    }
    for body in ["", "{", "[]", "{\"apiVersion\": \"admission.k8s.io/v1\"}", &"[".repeat(100_000)] {
        assert_eq!(ask("POST", path, body).await, Some(400));
    }
    // Whether the answer or the end of the connection comes first is up to the kernel.
    assert!(matches!(ask("POST", path, &" ".repeat((9 << 20) + 1)).await, Some(413) | None));
    fixture.assert_denied(&bad(&fixture.own, "still"), &["ssl-redirect"]).await;
    assert!(fixture.gateway.peak_memory() < 256 << 20);
}
