//! The certificate of the webhook that gateways make themselves, as API servers and operators see it.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tests::gateway::Addresses;
use tests::{Client, Gateway, wait};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Own;

/// A ValidatingWebhookConfiguration that no Ingress meets.
async fn configure(own: &Own) {
    let service = json!({"name": "admission", "namespace": own.name, "path": "/networking/v1/ingresses"});
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": own.name},
        "webhooks": [{
            "name": "validate.penstock.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nobody"}},
            "rules": [{
                "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "resources": ["ingresses"],
                "operations": ["CREATE"],
            }],
            "clientConfig": {"service": service},
        }],
    });
    let collection = tests::cluster::collection("ValidatingWebhookConfiguration", "");
    let reply = own.cluster.request("POST", &collection, &configuration.to_string()).await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

async fn secret(own: &Own) {
    own.apply("apiVersion: v1\nkind: Secret\nmetadata:\n  name: webhook\n").await;
}

/// A replica whose webhook has a certificate of its own.
async fn start(own: &Own) -> (Gateway, SocketAddr) {
    let address = Addresses::reserve().admin;
    let webhook = format!("--validating-webhook={address}");
    let configuration = format!("--validating-webhook-configuration={}", own.name);
    let flags = own.flags();
    let flags = [&flags[0], &flags[1], &webhook, "--validating-webhook-secret=webhook", &configuration];
    let environment = [("POD_NAMESPACE", own.name)];
    let gateway = Gateway::spawn_on_with_environment(&environment, &own.kubeconfig(), &flags);
    gateway.wait_until_ready().await;
    (gateway, address)
}

/// What an API server is told to rely on, in base64.
async fn bundle(own: &Own) -> Option<String> {
    let configuration = own.cluster.get("ValidatingWebhookConfiguration", "", own.name).await;
    configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str().map(str::to_owned)
}

/// Whether who asks for the Service, and relies on what the API server is told, gets through.
async fn is_relied_on(own: &Own, address: SocketAddr) -> bool {
    let Some(bundle) = bundle(own).await else { return false };
    let mut roots = RootCertStore::empty();
    let pem = STANDARD.decode(bundle).unwrap();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()));
    let name = ServerName::try_from(format!("admission.{}.svc", own.name)).unwrap();
    let Ok(stream) = TcpStream::connect(address).await else { return false };
    connector.connect(name, stream).await.is_ok()
}

async fn until_relied_on(own: &Own, address: SocketAddr) {
    wait::until("the certificate is relied on", async || is_relied_on(own, address).await.then_some(())).await;
}

async fn shown(address: SocketAddr) -> Vec<u8> {
    Client::https1(address, None).await.certificate().unwrap().to_vec()
}

#[tokio::test]
async fn replicas_share_a_certificate_that_api_servers_are_told_to_rely_on() {
    let own = Own::new("own-certificate").await;
    configure(&own).await;
    secret(&own).await;
    // Both find nothing, and one of them has to give way.
    let ((_one, first), (_other, second)) = tokio::join!(start(&own), start(&own));
    until_relied_on(&own, first).await;
    until_relied_on(&own, second).await;
    assert_eq!(shown(first).await, shown(second).await);
    let made = bundle(&own).await;

    // An installer that knows of no bundle.
    let mut configuration = own.cluster.get("ValidatingWebhookConfiguration", "", own.name).await;
    configuration["webhooks"][0]["clientConfig"]["caBundle"] = Value::Null;
    let webhooks = json!({"webhooks": configuration["webhooks"]});
    own.cluster.patch("ValidatingWebhookConfiguration", "", own.name, &webhooks).await;
    wait::until("the bundle is back", async || (bundle(&own).await == made).then_some(())).await;

    // A Secret that was spoiled: another certificate is made, for both.
    let before = shown(first).await;
    own.cluster.patch("Secret", own.name, "webhook", &json!({"data": {"tls.key": null}})).await;
    for address in [first, second] {
        wait::until("another certificate", async || (shown(address).await != before).then_some(())).await;
        until_relied_on(&own, address).await;
    }
    assert_eq!(shown(first).await, shown(second).await);
}

#[tokio::test]
async fn without_its_secret_a_webhook_shows_nothing_and_says_why_until_there_is_one() {
    let own = Own::new("no-certificate").await;
    configure(&own).await;
    let (gateway, address) = start(&own).await;
    gateway.wait_for_log(&["WARN", "the webhook's own certificate is not kept", "webhook", "not found"]).await;
    assert!(Client::try_https1(address, None).await.is_err());
    secret(&own).await;
    until_relied_on(&own, address).await;
}
