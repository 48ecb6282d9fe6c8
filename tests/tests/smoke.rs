//! The shortest way through everything: if this fails, look here first.

use tests::certificate::Certificate;
use tests::manifests::{ingress, service, tls};
use tests::{Client, Gateway, Manifests, Upstream};

#[tokio::test]
async fn one_manifest_is_served_over_every_protocol() {
    let upstream = Upstream::echo("a").await;
    let secret = Certificate::self_signed(&["a.test"]).secret("a");
    let manifests = Manifests::of(&[service("a", &[upstream.address()]), secret].concat());
    let annotations = [("ssl-redirect", "false")];
    manifests
        .write("ingress.yaml", &[ingress("a", "a.test", &annotations, &[("/", "a")]), tls(&["a.test"], "a")].concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    let at = gateway.addresses();
    for mut client in [
        Client::http1(at.http).await,
        Client::h2c(at.http).await,
        Client::https1(at.https, Some("a.test")).await,
        Client::https2(at.https, Some("a.test")).await,
    ] {
        let answer = client.get("a.test", "/x?y", &[]).await;
        assert_eq!(answer.status, 200);
        let seen = answer.seen();
        assert_eq!((seen.upstream.as_str(), seen.target.as_str()), ("a", "/x?y"));
        assert_eq!(seen.header("x-forwarded-proto"), Some(client.certificate().map_or("http", |_| "https")));
    }
    assert_eq!(gateway.get("http://b.test/").await.text(), "default backend - 404");
    let log = gateway.wait_for_access_log(&["GET /x?y HTTP/2.0"]).await;
    assert!(log.contains("default-a-80"), "{log}");
    assert!(gateway.metric("nginx_ingress_controller_requests", &["ingress=\"a\""]).await >= 4.0);
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.wait_for_exit().await.code().unwrap(), 0);
}
