//! `--watch-namespace` and `--watch-namespace-selector`.

use serde_json::json;
use tests::manifests::service;

use crate::{Own, of_class};

async fn serve_in(own: &Own, namespace: &str, host: &str) -> tests::Upstream {
    own.cluster.namespace(namespace).await;
    let upstream = own.cluster.upstream(namespace).await;
    own.cluster.apply(namespace, &service("web", &[upstream.address()])).await;
    let route = of_class(&tests::manifests::ingress("web", host, &[], &[("/", "web")]), own.name);
    own.cluster.apply(namespace, &route).await;
    upstream
}

#[tokio::test]
async fn a_watched_namespace_is_served_alone_with_a_default_backend_from_outside() {
    let own = Own::new("scoped").await;
    let _inside = serve_in(&own, "scoped-in", "in.scoped.test").await;
    let _outside = serve_in(&own, "scoped-out", "out.scoped.test").await;
    let gateway = own.start(&["--watch-namespace=scoped-in", "--default-backend-service=scoped-out/web"]).await;
    assert_eq!(gateway.get("http://in.scoped.test/").await.upstream(), "scoped-in");
    // Its host is unknown, and the default backend is of that namespace.
    assert_eq!(gateway.get("http://nowhere.scoped.test/").await.upstream(), "scoped-out");
    let route =
        of_class(&tests::manifests::ingress("late", "late.scoped.test", &[], &[("/late", "nothing")]), own.name);
    own.cluster.apply("scoped-out", &route).await;
    own.cluster.apply("scoped-in", &route.replace("late.scoped", "later.scoped")).await;
    gateway.wait_for("http://later.scoped.test/late", |answer| answer.status == 503).await;
    assert_eq!(gateway.get("http://late.scoped.test/late").await.upstream(), "scoped-out");
}

#[tokio::test]
async fn namespaces_are_selected_by_their_labels_as_those_change() {
    let own = Own::new("selected").await;
    let _one = serve_in(&own, "selected-one", "one.selected.test").await;
    let _two = serve_in(&own, "selected-two", "two.selected.test").await;
    let label = async |namespace: &str, value: serde_json::Value| {
        own.cluster.patch("Namespace", "", namespace, &json!({"metadata": {"labels": {"edge": value}}})).await;
    };
    label("selected-one", json!("yes")).await;
    let gateway = own.start(&["--watch-namespace-selector=edge in (yes,always)"]).await;
    assert_eq!(gateway.get("http://one.selected.test/").await.status, 200);
    assert_eq!(gateway.get("http://two.selected.test/").await.status, 404);
    label("selected-two", json!("always")).await;
    gateway.wait_for("http://two.selected.test/", |answer| answer.status == 200).await;
    label("selected-one", json!(null)).await;
    gateway.wait_for("http://one.selected.test/", |answer| answer.status == 404).await;
    assert_eq!(gateway.get("http://two.selected.test/").await.status, 200);
}
