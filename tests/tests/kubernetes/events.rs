//! What `kubectl describe ingress` tells.

use serde_json::Value;
use tests::manifests::{ingress, service};
use tests::wait;

use crate::{Own, of_class};

/// The Event of an Ingress with a reason.
async fn event(own: &Own, ingress: &str, reason: &str) -> Value {
    let find = async || {
        let events = own.cluster.list("Event", own.name).await;
        events.into_iter().find(|event| event["involvedObject"]["name"] == ingress && event["reason"] == reason)
    };
    wait::until(&format!("an Event {reason} on Ingress {ingress}"), find).await
}

#[tokio::test]
async fn a_new_version_is_told_as_ingress_nginx_tells_it() {
    let own = Own::new("synced").await;
    let _gateway = own.start(&[]).await;
    own.apply(&own.ingress("web", "web.synced.test", "none")).await;
    let told = event(&own, "web", "Sync").await;
    assert_eq!((&told["type"], &told["message"]), (&"Normal".into(), &"Scheduled for sync".into()));
    let object = own.cluster.get("Ingress", own.name, "web").await;
    assert_eq!(told["involvedObject"]["uid"], object["metadata"]["uid"]);
    // Told again, it is counted.
    own.apply(&own.ingress("web", "other.synced.test", "none")).await;
    let is_counted = async || (event(&own, "web", "Sync").await["count"].as_u64()? >= 2).then_some(());
    wait::until("the Event is counted", is_counted).await;
    let n_synced = own.cluster.list("Event", own.name).await.iter().filter(|event| event["reason"] == "Sync").count();
    assert_eq!(n_synced, 1);
}

#[tokio::test]
async fn a_warning_names_the_annotation_the_secret_or_the_backend() {
    let own = Own::new("warned").await;
    let upstream = own.cluster.upstream("web").await;
    own.apply(&service("web", &[upstream.address()])).await;
    let gateway = own.start(&[]).await;
    let bad = ingress("annotation", "a.warned.test", &[("ssl-redirect", "maybe")], &[("/", "web")]);
    own.apply(&of_class(&bad, own.name)).await;
    own.apply(&format!(
        "{}{}",
        own.ingress("secret", "s.warned.test", "web"),
        tests::manifests::tls(&["s.warned.test"], "absent")
    ))
    .await;
    own.apply(&own.ingress("backend", "b.warned.test", "nobody")).await;
    for (name, reason, text) in [
        ("secret", "CertificateUnavailable", "Secret warned/absent does not exist"),
        ("backend", "ServiceNotFound", "nobody"),
        ("annotation", "AnnotationParsingFailed", "ssl-redirect"),
    ] {
        let told = event(&own, name, reason).await;
        assert_eq!(told["type"], "Warning");
        assert!(told["message"].as_str().unwrap().contains(text), "{told}");
    }
    // What others serve is none of our business.
    own.cluster.class("warned-other", "example.com/other").await;
    own.apply(&of_class(&ingress("theirs", "t.warned.test", &[], &[("/", "nobody")]), "warned-other")).await;
    own.apply(&own.ingress("marker", "m.warned.test", "web")).await;
    gateway.wait_for("http://m.warned.test/", |answer| answer.status == 200).await;
    event(&own, "marker", "Sync").await;
    let events = own.cluster.list("Event", own.name).await;
    assert!(!events.iter().any(|event| event["involvedObject"]["name"] == "theirs"));
}
