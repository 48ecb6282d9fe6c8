//! What `kubectl get ingress` shows, who writes it, and who does not.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::handoff::Place;
use tests::manifests::{ingress, service};
use tests::{Gateway, Relay, wait};

use crate::{Own, of_class};

/// The addresses that an Ingress shows.
async fn shown(own: &Own, ingress: &str) -> Value {
    let object = own.cluster.get("Ingress", own.name, ingress).await;
    object["status"]["loadBalancer"]["ingress"].clone()
}

async fn wait_until_shown(own: &Own, ingress: &str, wanted: Value) {
    let is_shown = async || (shown(own, ingress).await == wanted).then_some(());
    wait::until(&format!("Ingress {ingress} shows {wanted}"), is_shown).await;
}

#[tokio::test]
async fn the_addresses_of_a_flag_are_shown_sorted_and_nothing_is_written_at_rest() {
    let own = Own::new("addresses").await;
    own.apply(&own.ingress("before", "before.addresses.test", "none")).await;
    let _gateway = own.start(&["--publish-status-address=lb.example, 192.0.2.9,192.0.2.1"]).await;
    let wanted = json!([{"hostname": "lb.example"}, {"ip": "192.0.2.1"}, {"ip": "192.0.2.9"}]);
    wait_until_shown(&own, "before", wanted.clone()).await;
    own.apply(&own.ingress("after", "after.addresses.test", "none")).await;
    wait_until_shown(&own, "after", wanted.clone()).await;
    let version =
        async |name: &str| own.cluster.get("Ingress", own.name, name).await["metadata"]["resourceVersion"].clone();
    let at_rest = version("before").await;
    // The writer looks at all of them when one has changed, and writes that one.
    own.apply(&own.ingress("last", "last.addresses.test", "none")).await;
    wait_until_shown(&own, "last", wanted.clone()).await;
    assert_eq!(version("before").await, at_rest);
    // Another one's mistake is mended.
    own.cluster
        .patch("Ingress", own.name, "before/status", &json!({"status": {"loadBalancer": {"ingress": []}}}))
        .await;
    wait_until_shown(&own, "before", wanted).await;
}

#[tokio::test]
async fn ingresses_of_others_are_left_alone_and_one_that_is_given_away_is_cleared() {
    let own = Own::new("foreign").await;
    own.cluster.class("foreign-other", "example.com/other").await;
    let theirs = ingress("theirs", "theirs.test", &[], &[("/", "none")]);
    own.apply(&of_class(&theirs, "foreign-other")).await;
    own.cluster
        .patch(
            "Ingress",
            own.name,
            "theirs/status",
            &json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}),
        )
        .await;
    own.apply(&own.ingress("ours", "ours.test", "none")).await;
    let _gateway = own.start(&["--publish-status-address=192.0.2.7"]).await;
    wait_until_shown(&own, "ours", json!([{"ip": "192.0.2.7"}])).await;
    own.apply(&of_class(&ingress("ours", "ours.test", &[], &[("/", "none")]), "foreign-other")).await;
    wait_until_shown(&own, "ours", Value::Null).await;
    assert_eq!(shown(&own, "theirs").await, json!([{"ip": "192.0.2.7"}]));
}

/// K-21: whose class is gone is nobody's, and whose class is back is served again.
#[tokio::test]
async fn an_ingress_whose_class_is_deleted_is_cleared_and_served_again_when_it_is_back() {
    let own = Own::new("declassed").await;
    let upstream = own.cluster.upstream("web").await;
    own.apply(&service("web", &[upstream.address()])).await;
    own.apply(&own.ingress("web", "web.declassed.test", "web")).await;
    let gateway = own.start(&["--publish-status-address=192.0.2.1"]).await;
    wait_until_shown(&own, "web", json!([{"ip": "192.0.2.1"}])).await;
    own.cluster.delete("IngressClass", "", own.name).await;
    gateway.wait_for("http://web.declassed.test/", |answer| answer.status == 404).await;
    wait_until_shown(&own, "web", Value::Null).await;
    own.cluster.class(own.name, &crate::controller(own.name)).await;
    gateway.wait_for("http://web.declassed.test/", |answer| answer.status == 200).await;
    wait_until_shown(&own, "web", json!([{"ip": "192.0.2.1"}])).await;
}

/// The rules of ingress-nginx for each type of Service, as the Service changes.
#[tokio::test]
async fn the_addresses_of_the_published_service_are_followed() {
    let own = Own::new("published").await;
    own.apply(&own.ingress("web", "web.published.test", "none")).await;
    own.apply(&service("edge", &[])).await;
    let _gateway = own.start(&["--publish-service=published/edge"]).await;
    let cluster_ip = own.cluster.get("Service", own.name, "edge").await["spec"]["clusterIP"].clone();
    wait_until_shown(&own, "web", json!([{"ip": cluster_ip}])).await;
    let spec = async |spec: Value| own.cluster.patch("Service", own.name, "edge", &json!({"spec": spec})).await;
    spec(json!({"type": "NodePort", "externalIPs": ["198.51.100.2", "198.51.100.1"]})).await;
    wait_until_shown(&own, "web", json!([{"ip": "198.51.100.1"}, {"ip": "198.51.100.2"}])).await;
    spec(json!({"type": "LoadBalancer", "externalIPs": []})).await;
    wait_until_shown(&own, "web", Value::Null).await;
    let balanced = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}}});
    own.cluster.patch("Service", own.name, "edge/status", &balanced).await;
    wait_until_shown(&own, "web", json!([{"ip": "203.0.113.5"}])).await;
    spec(json!({"type": "ExternalName", "externalName": "edge.example", "clusterIP": null, "clusterIPs": null})).await;
    wait_until_shown(&own, "web", json!([{"hostname": "edge.example"}])).await;
}

#[tokio::test]
async fn the_last_replica_clears_the_statuses_and_no_other_does() {
    let own = Own::new("cleared").await;
    own.apply(&own.ingress("web", "web.cleared.test", "none")).await;
    let flags = ["--publish-status-address=192.0.2.1", "--election-ttl=3s"];
    let (first, second) = (own.start(&flags).await, own.start(&flags).await);
    wait_until_shown(&own, "web", json!([{"ip": "192.0.2.1"}])).await;
    // Whoever leads leaves first: the other one is there.
    let is_leader =
        async |gateway: &Gateway| gateway.metric("nginx_ingress_controller_leader_election_status", &[]).await == 1.0;
    let (leader, other) = if is_leader(&first).await { (first, second) } else { (second, first) };
    leader.signal(Signal::TERM);
    assert!(leader.wait_for_exit().await.success());
    assert_eq!(shown(&own, "web").await, json!([{"ip": "192.0.2.1"}]));
    let leads = async || is_leader(&other).await.then_some(());
    wait::until("the other one leads", leads).await;
    other.signal(Signal::TERM);
    assert!(other.wait_for_exit().await.success());
    wait_until_shown(&own, "web", Value::Null).await;
}

#[tokio::test]
async fn statuses_stay_when_the_flag_says_so() {
    let own = Own::new("stays").await;
    own.apply(&own.ingress("web", "web.stays.test", "none")).await;
    let flags = ["--publish-status-address=192.0.2.1", "--update-status-on-shutdown=false", "--election-ttl=3s"];
    let gateway = own.start(&flags).await;
    wait_until_shown(&own, "web", json!([{"ip": "192.0.2.1"}])).await;
    gateway.signal(Signal::TERM);
    assert!(gateway.wait_for_exit().await.success());
    assert_eq!(shown(&own, "web").await, json!([{"ip": "192.0.2.1"}]));
}

/// K-13: with the default times.
#[tokio::test]
async fn a_leader_that_is_killed_is_followed_by_another_within_15_seconds() {
    let own = Own::new("killed").await;
    let upstream = own.cluster.upstream("web").await;
    own.apply(&service("web", &[upstream.address()])).await;
    own.apply(&own.ingress("web", "web.killed.test", "web")).await;
    let flags = ["--publish-status-address=192.0.2.1"];
    let first = own.start(&flags).await;
    wait_until_shown(&own, "web", json!([{"ip": "192.0.2.1"}])).await;
    let second = own.start(&flags).await;
    for gateway in [&first, &second] {
        assert_eq!(gateway.get("http://web.killed.test/").await.upstream(), "web", "both serve");
    }
    let renewed = own.cluster.get("Lease", "default", own.name).await["spec"]["renewTime"].clone();
    let has_renewed = async || {
        let lease = own.cluster.get("Lease", "default", own.name).await;
        (lease["spec"]["renewTime"] != renewed).then_some(())
    };
    wait::until("the lease is renewed", has_renewed).await;
    first.signal(Signal::KILL);
    first.wait_for_exit().await;
    let began = Instant::now();
    own.apply(&own.ingress("next", "next.killed.test", "web")).await;
    assert_eq!(second.wait_for("http://next.killed.test/", |answer| answer.status == 200).await.upstream(), "web");
    wait_until_shown(&own, "next", json!([{"ip": "192.0.2.1"}])).await;
    let took = began.elapsed();
    assert!(took <= Duration::from_secs(15), "{took:?}");
}

/// K-13: it is alive, and cannot know that another one has taken over.
#[tokio::test]
async fn a_leader_that_is_cut_off_stops_by_itself_and_another_one_writes() {
    let own = Own::new("parted").await;
    let upstream = own.cluster.upstream("web").await;
    own.apply(&service("web", &[upstream.address()])).await;
    own.apply(&own.ingress("web", "web.parted.test", "web")).await;
    let relay = Relay::to(own.cluster.address()).await;
    let kubeconfig = own.cluster.kubeconfig_of("admin", relay.address());
    let ttl = "--election-ttl=3s";
    let first = own.start_as(&kubeconfig, &["--publish-status-address=192.0.2.1", ttl]).await;
    wait_until_shown(&own, "web", json!([{"ip": "192.0.2.1"}])).await;
    let second = own.start(&["--publish-status-address=192.0.2.2", ttl]).await;
    let leads = async |gateway: &Gateway| {
        gateway.metric("nginx_ingress_controller_leader_election_status", &[own.name]).await > 0.0
    };
    wait::until("the first one leads", async || (leads(&first).await && !leads(&second).await).then_some(())).await;

    relay.cut();
    let has_changed = async || (!leads(&first).await && leads(&second).await).then_some(());
    wait::until("the other one leads", has_changed).await;
    wait_until_shown(&own, "web", json!([{"ip": "192.0.2.2"}])).await;
    assert_eq!(first.get("http://web.parted.test/").await.upstream(), "web", "it serves on");

    // Back again, it follows, and leaves the writing to the other one.
    relay.restore();
    own.apply(&own.ingress("next", "next.parted.test", "web")).await;
    first.wait_for("http://next.parted.test/", |answer| answer.status == 200).await;
    wait_until_shown(&own, "next", json!([{"ip": "192.0.2.2"}])).await;
    assert_eq!(shown(&own, "web").await, json!([{"ip": "192.0.2.2"}]));
    // A leader that was held up for seconds does not count itself as one for a moment.
    wait::until("it is still the other one that leads", has_changed).await;
}

/// What the old process has written is the new one's business.
#[tokio::test]
async fn an_upgrade_moves_the_lease_and_clears_no_status() {
    let own = Own::new("upgraded").await;
    own.apply(&own.ingress("web", "web.upgraded.test", "none")).await;
    let place = Place::new();
    let at = place.flag();
    let flags = [&*at, "--handoff-probation=100ms", "--publish-status-address=192.0.2.1", "--election-ttl=3s"];
    let gateway = own.start(&flags).await;
    place.wait_until_taken().await;
    let wanted = json!([{"ip": "192.0.2.1"}]);
    wait_until_shown(&own, "web", wanted.clone()).await;
    let holder = async || own.cluster.get("Lease", "default", own.name).await["spec"]["holderIdentity"].clone();
    let old = holder().await;
    let upgraded = place.upgrade(None).await;
    assert!(upgraded.status.success(), "{upgraded:?}");
    assert!(gateway.wait_for_exit().await.success());
    let has_moved = async || {
        assert_eq!(shown(&own, "web").await, wanted);
        let now = holder().await;
        (now != old && now != "").then_some(())
    };
    wait::until("the new process has the lease", has_moved).await;
    own.apply(&own.ingress("after", "after.upgraded.test", "none")).await;
    wait_until_shown(&own, "after", wanted).await;
}

/// K-11: rights to read everything, and to write nothing.
#[tokio::test]
async fn statuses_that_cannot_be_written_delay_nothing() {
    let own = Own::new("readonly").await;
    let upstream = own.cluster.upstream("web").await;
    own.apply(&service("web", &[upstream.address()])).await;
    own.cluster
        .apply(
            "",
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: readonly\nrules:\n  - apiGroups: \
             [\"*\"]\n    resources: [\"*\"]\n    verbs: [get, list, watch]\n  - apiGroups: [coordination.k8s.io]\n    \
             resources: [leases]\n    verbs: [create, patch]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: \
             ClusterRoleBinding\nmetadata:\n  name: readonly\nroleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: \
             ClusterRole\n  name: readonly\nsubjects:\n  - apiGroup: rbac.authorization.k8s.io\n    kind: User\n    name: \
             penstock\n",
        )
        .await;
    let kubeconfig = own.cluster.kubeconfig_of("penstock", own.cluster.address());
    let gateway = own.start_as(&kubeconfig, &["--publish-status-address=192.0.2.1"]).await;
    own.apply(&own.ingress("web", "web.readonly.test", "web")).await;
    gateway.wait_for("http://web.readonly.test/", |answer| answer.status == 200).await;
    gateway.wait_for_log(&["status is not written", "forbidden"]).await;
    own.apply(&own.ingress("more", "more.readonly.test", "web")).await;
    gateway.wait_for("http://more.readonly.test/", |answer| answer.status == 200).await;
    assert_eq!(shown(&own, "web").await, Value::Null);
}
