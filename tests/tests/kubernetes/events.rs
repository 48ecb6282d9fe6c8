//! What `kubectl describe ingress` tells.

use serde_json::{Value, json};
use tests::manifests::{config_map, ingress, service};
use tests::wait;

use crate::{Own, of_class};

/// The Event of an object with a reason.
async fn event(own: &Own, object: &str, reason: &str) -> Value {
    let find = async || {
        let events = own.cluster.list("Event", own.name).await;
        events.into_iter().find(|event| event["involvedObject"]["name"] == object && event["reason"] == reason)
    };
    wait::until(&format!("an Event {reason} on {object}"), find).await
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

#[tokio::test]
async fn a_key_of_a_configmap_that_cannot_be_read_is_told_to_its_author() {
    let own = Own::new("configured").await;
    own.apply(&config_map("settings", &[("use-gzip", "perhaps")])).await;
    own.apply(&config_map("ports", &[("http", "configured/web:80")])).await;
    let flags = ["--configmap=configured/settings", "--tcp-services-configmap=configured/ports"];
    let gateway = own.start(&flags).await;
    for (name, key) in [("settings", "use-gzip"), ("ports", "\"http\" is not a port")] {
        let told = event(&own, name, "InvalidValue").await;
        assert_eq!((&told["type"], &told["involvedObject"]["kind"]), (&"Warning".into(), &"ConfigMap".into()));
        assert!(told["message"].as_str().unwrap().contains(key), "{told}");
        let described = own.cluster.kubectl(&["--namespace=configured", "describe", "configmap", name]);
        assert!(described.contains(told["message"].as_str().unwrap()), "{described}");
    }
    let unknown = json!({"data": {"use-gzip": "true", "no-such-key": "1"}});
    own.cluster.patch("ConfigMap", own.name, "settings", &unknown).await;
    let told = event(&own, "settings", "SettingUnknown").await;
    assert!(told["message"].as_str().unwrap().contains("no-such-key"), "{told}");
    assert!(gateway.exit_status().is_none());
}

/// N-06: a tenant who claims what another one has is told so, and the other one keeps it.
#[tokio::test]
async fn who_claims_what_another_one_has_is_told_whose_it_is() {
    let own = Own::new("claimed").await;
    let (first, second) = (own.cluster.upstream("first").await, own.cluster.upstream("second").await);
    own.cluster.namespace("claimed-b").await;
    own.apply(&[service("web", &[first.address()]), own.ingress("web", "a.claimed.test", "web")].concat()).await;
    let gateway = own.start(&[]).await;
    own.cluster.apply("claimed-b", &service("web", &[second.address()])).await;
    own.cluster.apply("claimed-b", &own.ingress("web", "a.claimed.test", "web")).await;
    let find = async || {
        let events = own.cluster.list("Event", "claimed-b").await;
        events.into_iter().find(|event| event["involvedObject"]["name"] == "web" && event["reason"] == "Conflict")
    };
    let told = wait::until("the Event of the conflict", find).await;
    assert_eq!(told["type"], "Warning");
    assert!(told["message"].as_str().unwrap().contains("claimed/web"), "{told}");
    assert_eq!(gateway.get("http://a.claimed.test/").await.upstream(), "first");
}

/// The requests about Events of a replica that is known by its account.
fn n_events(own: &Own) -> usize {
    let is_event = |request: &&Value| {
        request["objectRef"]["resource"] == "events" && request["objectRef"]["namespace"] == own.name
    };
    own.cluster.recorded().iter().filter(is_event).count()
}

#[tokio::test]
async fn of_all_replicas_the_leader_tells() {
    let own = Own::new("spoken").await;
    let upstream = own.cluster.upstream("web").await;
    own.apply(&service("web", &[upstream.address()])).await;
    own.cluster.trust_account().await;
    let ttl = "--election-ttl=3s";
    let leads = async |gateway: &tests::Gateway| {
        (gateway.metric("nginx_ingress_controller_leader_election_status", &[own.name]).await > 0.0).then_some(())
    };
    let leader = own.start(&[ttl]).await;
    wait::until("the first one leads", async || leads(&leader).await).await;
    let account = own.cluster.kubeconfig_of(tests::cluster::ACCOUNT, own.cluster.address());
    let follower = own.start_as(&account, &[ttl]).await;
    for name in ["one", "two", "three"] {
        let host = format!("{name}.spoken.test");
        own.apply(&own.ingress(name, &host, "web")).await;
        follower.wait_for(&format!("http://{host}/"), |answer| answer.status == 200).await;
        event(&own, name, "Sync").await;
    }
    assert!(leads(&follower).await.is_none());
    assert_eq!(n_events(&own), 0, "a follower says nothing");
    drop(leader);
    wait::until("the other one leads", async || leads(&follower).await).await;
    own.apply(&own.ingress("four", "four.spoken.test", "web")).await;
    event(&own, "four", "Sync").await;
    wait::until("it is the other one that has told it", async || (n_events(&own) > 0).then_some(())).await;
}
