//! From an object that is applied to the right answer.

use tests::manifests::{ingress, service, slice};
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
    own.apply(&format!(
        "{}{}",
        own.ingress("same", "same.test", "same"),
        tests::manifests::tls(&["same.test"], "cert")
    ))
    .await;
    let only_here = format!("--watch-namespace={}", own.name);
    let live = own.start(&[&only_here]).await;
    let files = Manifests::new();
    for (number, kind) in ["IngressClass", "Ingress", "Service", "EndpointSlice", "Secret"].into_iter().enumerate() {
        for object in own.cluster.list(kind, own.name).await {
            let (api_version, name) = match kind {
                "Ingress" | "IngressClass" => ("networking.k8s.io/v1", object["metadata"]["name"].to_string()),
                "EndpointSlice" => ("discovery.k8s.io/v1", object["metadata"]["name"].to_string()),
                _ => ("v1", object["metadata"]["name"].to_string()),
            };
            let mut object = object;
            object["apiVersion"] = api_version.into();
            object["kind"] = kind.into();
            files.write(&format!("{number}-{}.json", name.trim_matches('"')), &object.to_string());
        }
    }
    let class = format!("--controller-class={}", crate::controller(own.name));
    let from_files = Gateway::start(&files, &[&class]).await;
    let hash = async |gateway: &Gateway| gateway.metric("nginx_ingress_controller_config_hash", &[]).await;
    // Listeners are part of the model and differ on one machine, so the rest of it is compared.
    let rest = async |gateway: &Gateway| {
        let mut model: serde_json::Value = serde_json::from_slice(&gateway.admin("/snapshot").await.body).unwrap();
        let (http, https) = (gateway.addresses().http, gateway.addresses().https);
        let text = model.take().to_string();
        text.replace(&http.to_string(), "http").replace(&https.to_string(), "https")
    };
    assert_eq!(rest(&live).await, rest(&from_files).await);
    assert!(hash(&live).await > 0.0);
}

/// Every order of five dependent objects converges (K-07: here, each order that ends with another object).
#[tokio::test]
async fn objects_may_come_in_any_order() {
    let own = Own::new("orders").await;
    let upstream = own.cluster.upstream("late").await;
    let gateway = own.start(&[]).await;
    let certificate = |host: &str| tests::certificate::Certificate::self_signed(&[host]).secret("cert");
    for last in 0..4 {
        let (name, host) = (format!("order-{last}"), format!("order-{last}.test"));
        let route = of_class(&ingress(&name, &host, &[("ssl-redirect", "false")], &[("/", &name)]), own.name);
        let mut objects = vec![
            service(&name, &[]),
            slice(&name, &name, "http", upstream.address()),
            format!("{route}{}", tests::manifests::tls(&[&host], &format!("cert-{last}"))),
            certificate(&host).replace("name: cert", &format!("name: cert-{last}")),
        ];
        objects.rotate_left(last);
        for object in &objects {
            own.apply(object).await;
        }
        gateway.wait_for(&format!("http://{host}/"), |answer| answer.upstream() == "late").await;
        let shown = async || {
            let client = tests::Client::https1(gateway.addresses().https, Some(&host)).await;
            (client.common_name() == host).then_some(())
        };
        wait::until("the certificate of the host is shown", shown).await;
    }
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
