//! What a hand-over carries where an API server is the source.

use std::path::Path;

use tempfile::TempDir;
use tests::certificate::{self, Certificate};
use tests::gateway::Addresses;
use tests::handoff::Place;
use tests::manifests::{service, tls};
use tests::{Client, wait};

use crate::Own;

/// Upgrades, and waits until the old process has ended: whatever is asked afterwards, its successor answers.
async fn upgrade(place: &Place) {
    let before = place.pid().await;
    let upgraded = place.upgrade(None).await;
    assert_eq!(upgraded.status.code(), Some(0), "{}", String::from_utf8_lossy(&upgraded.stderr));
    let is_gone = async || (!Path::new(&format!("/proc/{before}/fd/0")).exists()).then_some(());
    wait::until("the old process has ended", is_gone).await;
}

#[tokio::test]
async fn the_last_good_version_of_a_refused_ingress_outlives_an_upgrade_and_not_the_ingress() {
    let own = Own::new("carried").await;
    let upstream = own.cluster.upstream("web").await;
    let host = "carried.test";
    let good = format!("{}{}", own.ingress("web", host, "web"), tls(&[host], "cert"));
    let annotation = "metadata:\n  annotations:\n    nginx.ingress.kubernetes.io/proxy-body-size: a lot\n";
    let refused = own.ingress("web", "other.test", "web").replacen("metadata:\n", annotation, 1);
    own.apply(&service("web", &[upstream.address()])).await;
    own.apply(&Certificate::self_signed(&["first", host]).secret("cert")).await;
    own.apply(&good).await;
    let place = Place::new();
    let gateway = own.start(&[&place.flag(), "--handoff-probation=50ms"]).await;
    place.wait_until_taken().await;
    let common_name = async || Client::https1(gateway.addresses().https, Some(host)).await.common_name();
    let url = format!("https://{host}/");
    gateway.wait_for(&url, |answer| answer.status == 200).await;
    own.apply(&refused).await;
    own.apply(&certificate::secret("cert", &[("tls.crt", b"garbage"), ("tls.key", b"garbage")])).await;
    for object in ["Ingress carried/web", "Secret carried/cert"] {
        gateway.wait_for_log(&["ERROR", object]).await;
    }

    upgrade(&place).await;
    gateway.wait_for_log(&["compared with that of the old", "is_same=true"]).await;
    assert_eq!(gateway.get(&url).await.status, 200);
    assert_eq!(common_name().await, "first", "nothing that is good names the Secret");

    own.cluster.delete("Ingress", own.name, "web").await;
    own.apply(&refused).await;
    gateway.wait_for(&url, |answer| answer.status == 404).await;
    own.apply(&good).await;
    gateway.wait_for(&url, |answer| answer.status == 200).await;
}

#[tokio::test]
async fn the_webhook_is_handed_over_with_all_other_listeners() {
    let own = Own::new("webhook-handed").await;
    let (place, directory, address) = (Place::new(), TempDir::new().unwrap(), Addresses::reserve().admin);
    let certificate = Certificate::self_signed(&["webhook.test"]);
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let flags = [
        place.flag(),
        "--handoff-probation=50ms".to_owned(),
        format!("--validating-webhook={address}"),
        format!("--validating-webhook-certificate={}", file("tls.crt", &certificate.certificate)),
        format!("--validating-webhook-key={}", file("tls.key", &certificate.key)),
    ];
    let _gateway = own.start(&flags.each_ref().map(String::as_str)).await;
    place.wait_until_taken().await;
    let shown = async || Client::https1(address, Some("webhook.test")).await.common_name();
    assert_eq!(shown().await, "webhook.test");
    upgrade(&place).await;
    assert_eq!(shown().await, "webhook.test");
}
