//! What else lives in clusters: cert-manager, external-dns, Argo Rollouts, Flagger. The objects are those that they make.

use serde_json::{Value, json};
use tests::certificate::Certificate;
use tests::manifests::{service, tls};
use tests::{Gateway, wait};

use crate::{Own, of_class};

/// Waits until an upstream answers a path of a host with a 200.
async fn served(gateway: &Gateway, url: &str, upstream: &str) {
    gateway.wait_for(url, |answer| answer.status == 200 && answer.upstream() == upstream).await;
}

/// What an Ingress of a canary has to say of its weight.
fn weight(percent: &str) -> Value {
    json!({"metadata": {"annotations": {"nginx.ingress.kubernetes.io/canary-weight": percent}}})
}

// cert-manager.io/docs/configuration/acme/http01: an Ingress of its own for the time of the challenge, whose Service
// listens on 8089.
#[tokio::test]
async fn a_challenge_of_cert_manager_is_answered_while_its_host_sends_everybody_to_https() {
    let own = Own::new("challenge").await;
    let web = own.cluster.upstream("web").await;
    let solver = own.cluster.upstream("solver").await;
    let secret = Certificate::self_signed(&["shop.challenge.test"]).secret("shop");
    let shop = own.ingress("shop", "shop.challenge.test", "web") + &tls(&["shop.challenge.test"], "shop");
    own.apply(&[service("web", &[web.address()]), secret, shop].concat()).await;
    let gateway = own.start(&["--ingress-class=solvers"]).await;
    gateway.wait_for("http://shop.challenge.test/", |answer| answer.status == 308).await;

    let endpoint = service("cm-acme-http-solver-7x2lq", &[solver.address()]).replace("port: 80\n", "port: 8089\n");
    let path = "/.well-known/acme-challenge/LtPXJ4UKDzYJpuUqPHUQpw9oEiVhDn4kBDpzqzkxX4w";
    let labels =
        "    acme.cert-manager.io/http-domain: \"1184640953\"\n    acme.cert-manager.io/http01-solver: \"true\"\n";
    let challenge = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: cm-acme-http-solver-v9dkr\n  labels:\n\
         {labels}  annotations:\n    nginx.ingress.kubernetes.io/whitelist-source-range: 0.0.0.0/0,::/0\nspec:\n  \
         rules:\n  - host: shop.challenge.test\n    http:\n      paths:\n      - path: {path}\n        pathType: Exact\n        \
         backend:\n          service:\n            name: cm-acme-http-solver-7x2lq\n            port:\n              \
         number: 8089\n"
    );
    own.apply(&endpoint).await;
    // An issuer has `ingressClassName`, or `class`, which is an annotation and may be another class than the host's.
    let annotation = "  annotations:\n    kubernetes.io/ingress.class: solvers\n";
    for solver in [of_class(&challenge, own.name), challenge.replacen("  annotations:\n", annotation, 1)] {
        own.apply(&solver).await;
        let url = format!("http://shop.challenge.test{path}");
        served(&gateway, &url, "solver").await;
        assert_ne!(gateway.get(&format!("{url}/more")).await.upstream(), "solver", "the path is exact");
        // Nothing else of the host is open.
        for target in ["/", "/.well-known/other"] {
            assert_eq!(gateway.get(&format!("http://shop.challenge.test{target}")).await.status, 308, "{target}");
        }
        own.cluster.delete("Ingress", own.name, "cm-acme-http-solver-v9dkr").await;
        gateway.wait_for(&url, |answer| answer.upstream() != "solver").await;
        assert_eq!(gateway.get("http://shop.challenge.test/").await.status, 308);
    }
}

// It takes the hosts of the rules, and the addresses of the status, unless an annotation has another target.
#[tokio::test]
async fn external_dns_finds_the_address_of_every_host() {
    let own = Own::new("names").await;
    let annotations = "  annotations:\n    external-dns.alpha.kubernetes.io/hostname: more.names.test\n    \
                       external-dns.alpha.kubernetes.io/ttl: \"60\"\nspec:\n";
    let ingress = own.ingress("web", "web.names.test", "none");
    // This one has none yet.
    assert!(!ingress.contains("annotations:"));
    own.apply(&ingress.replacen("spec:\n", annotations, 1)).await;
    let _gateway = own.start(&["--publish-status-address=192.0.2.7"]).await;
    let endpoints = async || {
        let object = own.cluster.get("Ingress", own.name, "web").await;
        let addresses = object["status"]["loadBalancer"]["ingress"].as_array()?.clone();
        let host = object["spec"]["rules"][0]["host"].as_str()?.to_owned();
        Some((host, addresses))
    };
    let found = wait::until("the host has an address", endpoints).await;
    assert_eq!(found, ("web.names.test".to_owned(), vec![json!({"ip": "192.0.2.7"})]));
}

// argo-rollouts: the stable Ingress copied, with another Service and two annotations, for each step another weight.
// Flagger: the same, and at the end `canary: "false"` with a weight of 0.
#[tokio::test]
async fn canaries_of_rollout_controllers_shift_traffic_step_by_step_and_back() {
    let own = Own::new("rollout").await;
    let (stable, canary) = (own.cluster.upstream("stable").await, own.cluster.upstream("canary").await);
    let services = [service("stable", &[stable.address()]), service("canary", &[canary.address()])].concat();
    own.apply(&(services + &own.ingress("web", "web.rollout.test", "stable"))).await;
    let gateway = own.start(&[]).await;
    let url = "http://web.rollout.test/";
    served(&gateway, url, "stable").await;

    let mut copy = own.cluster.get("Ingress", own.name, "web").await;
    copy["metadata"] = json!({
        "name": "rollout-web-canary",
        "annotations": {
            "nginx.ingress.kubernetes.io/canary": "true",
            "nginx.ingress.kubernetes.io/canary-weight": "0",
        },
    });
    copy["status"] = Value::Null;
    copy["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = json!("canary");
    let collection = tests::cluster::collection("Ingress", own.name);
    let reply = own.cluster.request("POST", &collection, &copy.to_string()).await;
    assert_eq!(reply.status, 201, "{reply:?}");

    let change = async |patch: &Value| own.cluster.patch("Ingress", own.name, "rollout-web-canary", patch).await;
    let share = async || {
        let mut n_canaries = 0;
        for _ in 0..100 {
            n_canaries += usize::from(gateway.get(url).await.upstream() == "canary");
        }
        n_canaries
    };
    for (percent, expected) in [("50", 20..=80), ("100", 100..=100), ("0", 0..=0), ("50", 20..=80)] {
        change(&weight(percent)).await;
        let is_shifted = async || expected.contains(&share().await).then_some(());
        wait::until(&format!("{percent} of 100 requests get the canary"), is_shifted).await;
    }
    // Weights out of a total (`canary-weight-total`), by Argo Rollouts where a step is finer than a hundredth.
    let total = json!({"metadata": {"annotations": {
        "nginx.ingress.kubernetes.io/canary-weight": "500",
        "nginx.ingress.kubernetes.io/canary-weight-total": "1000",
    }}});
    change(&total).await;
    let is_half = async || (20..=80).contains(&share().await).then_some(());
    wait::until("500 of 1000 requests get the canary", is_half).await;
    // A/B testing of Flagger: who has the header or the cookie, whatever the weight.
    change(&json!({"metadata": {"annotations": {
        "nginx.ingress.kubernetes.io/canary-weight": "0",
        "nginx.ingress.kubernetes.io/canary-weight-total": null,
        "nginx.ingress.kubernetes.io/canary-by-header": "x-canary",
        "nginx.ingress.kubernetes.io/canary-by-header-value": "insider",
        "nginx.ingress.kubernetes.io/canary-by-cookie": "insiders",
    }}}))
    .await;
    for (header, value, upstream) in [
        ("x-canary", "insider", "canary"),
        ("x-canary", "outsider", "stable"),
        ("cookie", "insiders=always", "canary"),
        ("cookie", "insiders=never", "stable"),
    ] {
        let is_sent = async || (gateway.get_with(url, &[(header, value)]).await.upstream() == upstream).then_some(());
        wait::until(&format!("{header}: {value} goes to {upstream}"), is_sent).await;
    }
    change(&json!({"metadata": {"annotations": {
        "nginx.ingress.kubernetes.io/canary-by-header": null,
        "nginx.ingress.kubernetes.io/canary-by-header-value": null,
        "nginx.ingress.kubernetes.io/canary-by-cookie": null,
        "nginx.ingress.kubernetes.io/canary": "false",
        "nginx.ingress.kubernetes.io/canary-weight": "0",
    }}}))
    .await;
    wait::until("the stable version has everything", async || (share().await == 0).then_some(())).await;
}
