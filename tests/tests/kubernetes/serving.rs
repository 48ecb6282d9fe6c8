//! From an object that is applied to the right answer.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::manifests::{ingress, service, slice, tls};
use tests::{Gateway, Manifests, wait};

use crate::{Own, of_class};

#[tokio::test]
async fn what_is_applied_edited_and_deleted_is_what_is_served() {
    let own = Own::new("serving").await;
    let (one, two) = (own.cluster.upstream("one").await, own.cluster.upstream("two").await);
    let gateway = own.start(&[]).await;
    assert_eq!(gateway.get("http://web.test/").await.status, 404);
    own.apply(&[service("one", &[one.address()]), service("two", &[two.address()])].concat()).await;
    own.apply(&own.ingress("web", "web.test", "one")).await;
    gateway.wait_for("http://web.test/", |answer| answer.upstream() == "one").await;
    own.apply(&own.ingress("web", "web.test", "two")).await;
    gateway.wait_for("http://web.test/", |answer| answer.upstream() == "two").await;
    // A pod goes, another one comes: only the lane of endpoints changes.
    let compiled = gateway.metric("penstock_recompiled_hosts_total", &[]).await;
    own.apply(&slice("two-0", "two", "http", one.address())).await;
    gateway.wait_for("http://web.test/", |answer| answer.upstream() == "one").await;
    assert_eq!(gateway.metric("penstock_recompiled_hosts_total", &[]).await, compiled);
    own.cluster.delete("Ingress", own.name, "web").await;
    gateway.wait_for("http://web.test/", |answer| answer.status == 404).await;
    assert!(gateway.metric("penstock_propagation_seconds_count", &[]).await >= 4.0);
}

/// `kubectl get -o yaml` into a directory is the same configuration.
#[tokio::test]
async fn the_same_objects_from_files_make_the_same_model() {
    let own = Own::new("same").await;
    let upstream = own.cluster.upstream("same").await;
    let certificate = tests::certificate::Certificate::self_signed(&["same.test"]);
    own.apply(&[service("same", &[upstream.address()]), certificate.secret("cert")].concat()).await;
    own.apply(&format!("{}{}", own.ingress("same", "same.test", "same"), tls(&["same.test"], "cert"))).await;
    let class = format!("--controller-class={}", crate::controller(own.name));
    let live = own.start(&["--watch-namespace=same"]).await;
    let hash = async |gateway: &Gateway| gateway.metric("nginx_ingress_controller_config_hash", &[]).await;
    let (hash_live, addresses) = (hash(&live).await, live.addresses());
    assert!(hash_live > 0.0);
    drop(live);

    let files = Manifests::new();
    for kinds in ["ingressclasses", "ingresses,services,endpointslices", "secrets"] {
        files.write(&format!("{kinds}.yaml"), &own.cluster.kubectl(&["get", kinds, "-n", own.name, "-o", "yaml"]));
    }
    // Listeners are part of the model.
    let from_files = Gateway::spawn(addresses, files.path(), &[&class]);
    from_files.wait_until_ready().await;
    assert_eq!(from_files.get("http://same.test/").await.header("location"), Some("https://same.test"));
    assert_eq!(hash(&from_files).await, hash_live);
    files.remove("secrets.yaml");
    let is_other = async || (hash(&from_files).await != hash_live).then_some(());
    wait::until("another model has another hash", is_other).await;
}

/// All orders of things.
fn orders<T: Clone>(things: &[T]) -> Vec<Vec<T>> {
    let Some((first, rest)) = things.split_first() else { return vec![Vec::new()] };
    let with_first = |order: Vec<T>| {
        (0..=order.len()).map(move |at| [&order[..at], std::slice::from_ref(first), &order[at..]].concat()).collect()
    };
    orders(rest).into_iter().flat_map(|order| -> Vec<Vec<T>> { with_first(order) }).collect()
}

/// K-07: the Service, its endpoints, the Ingress and its certificate in each of the 24 orders.
#[tokio::test]
async fn objects_may_come_in_any_order() {
    let own = Own::new("orders").await;
    let upstream = own.cluster.upstream("late").await;
    let gateway = own.start(&[]).await;
    let orders = orders(&["service", "endpoints", "ingress", "certificate"]);
    let mut times = Vec::new();
    for (number, order) in orders.iter().enumerate() {
        let (name, host) = (format!("order-{number}"), format!("order-{number}.test"));
        let object = |what: &str| match what {
            "service" => service(&name, &[]),
            "endpoints" => slice(&name, &name, "http", upstream.address()),
            "certificate" => tests::certificate::Certificate::self_signed(&[&host]).secret(&name),
            _ => {
                let route = ingress(&name, &host, &[("ssl-redirect", "false")], &[("/", &name)]);
                format!("{}{}", of_class(&route, own.name), tls(&[&host], &name))
            }
        };
        for what in order {
            own.apply(&object(what)).await;
        }
        let began = Instant::now();
        gateway.wait_for(&format!("http://{host}/"), |answer| answer.upstream() == "late").await;
        let shown = async || {
            let client = tests::Client::https1(gateway.addresses().https, Some(&host)).await;
            (client.common_name() == host).then_some(())
        };
        wait::until("the certificate of the host is shown", shown).await;
        times.push(began.elapsed());
    }
    times.sort();
    // A busy machine may hold up some of them.
    assert!(times.len() == 24 && times[12] <= Duration::from_secs(1), "after the last object: {times:?}");
}

/// K-19: an Ingress that somebody's finalizer holds is there until it is gone, as it is for ingress-nginx.
#[tokio::test]
async fn an_ingress_is_served_until_its_last_finalizer_is_gone() {
    let own = Own::new("finalized").await;
    let upstream = own.cluster.upstream("held").await;
    own.apply(&service("held", &[upstream.address()])).await;
    let route = own.ingress("web", "web.finalized.test", "held");
    own.apply(&route.replacen("metadata:\n", "metadata:\n  finalizers: [tests.penstock.dev/hold]\n", 1)).await;
    let gateway = own.start(&[]).await;
    own.cluster.delete("Ingress", own.name, "web").await;
    assert!(own.cluster.get("Ingress", own.name, "web").await["metadata"]["deletionTimestamp"].is_string());
    // Whoever serves what came later has seen the deletion.
    own.apply(&own.ingress("later", "later.finalized.test", "held")).await;
    gateway.wait_for("http://later.finalized.test/", |answer| answer.status == 200).await;
    assert_eq!(gateway.get("http://web.finalized.test/").await.upstream(), "held");
    // One that starts now agrees.
    assert_eq!(own.start(&[]).await.get("http://web.finalized.test/").await.upstream(), "held");
    own.cluster.patch("Ingress", own.name, "web", &json!({"metadata": {"finalizers": null}})).await;
    gateway.wait_for("http://web.finalized.test/", |answer| answer.status == 404).await;
}

/// K-19: another object of the same name is another object.
#[tokio::test]
async fn an_ingress_that_was_made_anew_leaves_no_trace_of_the_old_one() {
    let own = Own::new("anew").await;
    let upstream = own.cluster.upstream("anew").await;
    own.apply(&service("anew", &[upstream.address()])).await;
    own.apply(&own.ingress("web", "old.anew.test", "anew")).await;
    let gateway = own.start(&[]).await;
    assert_eq!(gateway.get("http://old.anew.test/").await.status, 200);
    own.cluster.delete("Ingress", own.name, "web").await;
    own.apply(&own.ingress("web", "new.anew.test", "anew")).await;
    gateway.wait_for("http://new.anew.test/", |answer| answer.status == 200).await;
    gateway.wait_for("http://old.anew.test/", |answer| answer.status == 404).await;
}

/// N-07: what a tenant of a cluster must not lead the gateway to.
#[tokio::test]
async fn services_that_lead_to_the_gateway_or_its_node_are_refused() {
    let own = Own::new("inward").await;
    let gateway = own.start(&[]).await;
    for (number, target) in ["localhost", "127.0.0.1", "169.254.169.254"].into_iter().enumerate() {
        let (name, host) = (format!("inward-{number}"), format!("inward-{number}.test"));
        own.apply(&format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  type: ExternalName\n  externalName: {target}\n"
        ))
        .await;
        own.apply(&own.ingress(&name, &host, &name)).await;
        gateway.wait_for(&format!("http://{host}/"), |answer| answer.status == 503).await;
        gateway.wait_for_log(&["AddressRefused", &name]).await;
    }
}

/// Who came by the port of a node for plain text is sent to its port for TLS: port 443 of a node leads nowhere.
#[tokio::test]
async fn a_client_of_a_node_port_is_redirected_to_the_node_port_of_tls() {
    let own = Own::new("noded").await;
    own.apply(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: edge\nspec:\n  type: NodePort\n  ports:\n  \
         - {name: http, port: 80}\n  - {name: https, port: 443}\n",
    )
    .await;
    let forced = ingress("forced", "noded.test", &[("force-ssl-redirect", "true")], &[("/", "none")]);
    own.apply(&of_class(&forced, own.name)).await;
    let edge = own.cluster.get("Service", own.name, "edge").await;
    let node_port = |index: usize| edge["spec"]["ports"][index]["nodePort"].as_u64().unwrap();
    let gateway = own.start(&["--publish-service=noded/edge"]).await;
    let location = async |authority: &str| {
        let mut client = tests::Client::http1(gateway.addresses().http).await;
        let answer = client.get(authority, "/x?y", &[]).await;
        assert_eq!(answer.status, 308, "{authority}");
        answer.header("location").unwrap().to_owned()
    };
    let (http, https) = (node_port(0), node_port(1));
    gateway.wait_for("http://noded.test/", |answer| answer.status == 308).await;
    assert_eq!(location(&format!("noded.test:{http}")).await, format!("https://noded.test:{https}/x?y"));
    assert_eq!(location("noded.test").await, "https://noded.test/x?y");
    assert_eq!(location("noded.test:8080").await, "https://noded.test/x?y", "no port of a node");
    own.cluster.patch("Service", own.name, "edge", &serde_json::json!({"spec": {"type": "ClusterIP"}})).await;
    let is_gone = async || (location(&format!("noded.test:{http}")).await == "https://noded.test/x?y").then_some(());
    wait::until("there is no port of nodes any more", is_gone).await;
}
