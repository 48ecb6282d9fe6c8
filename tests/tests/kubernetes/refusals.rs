//! Statuses that the API server does not take (K-11), by a webhook that refuses them with each status there is for it:
//! nobody who is served notices, and it is asked ever less often.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tests::certificate::{Authority, base64};
use tests::cluster::{ACCOUNT, collection};
use tests::manifests::service;
use tests::upstream::{Answering, acceptor, full};
use tests::{Upstream, wait};
use tokio::net::TcpListener;

use crate::Own;
use crate::away::Hammer;

/// A conflict, a denial, a throttle, a failure. Each Ingress is named after the status that its own is refused with.
const CODES: [u16; 4] = [403, 409, 429, 500];

/// How often each status is tried before anything else is looked at.
const N_ATTEMPTS: usize = 3;

/// The answer to a review of a status.
async fn judge(request: Request<Incoming>, refuses: bool) -> Value {
    let review: Value = serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
    let (uid, name) = (&review["request"]["uid"], review["request"]["name"].as_str().unwrap());
    let code: u16 = name.strip_prefix("code-").unwrap().parse().unwrap();
    let mut response = json!({"uid": uid, "allowed": !refuses});
    if refuses {
        response["status"] = json!({"code": code, "message": format!("refused with {code}")});
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

/// Has the API server ask a webhook of the test about the statuses of a namespace.
async fn webhook(own: &Own, refuses: &Arc<AtomicBool>) -> Upstream {
    let authority = Authority::new("refusals");
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let refuses = Arc::clone(refuses);
    let handler = move |request| -> Answering {
        let refuses = refuses.load(Ordering::SeqCst);
        Box::pin(async move {
            let answer = judge(request, refuses).await.to_string();
            Response::builder().header("content-type", "application/json").body(full(answer)).unwrap()
        })
    };
    let upstream = Upstream::on(listener, Some(acceptor(&authority.issue(&["127.0.0.1"]), None)), handler);
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": own.name},
        "webhooks": [{
            "name": "statuses.penstock.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": own.name}},
            "rules": [{
                "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "resources": ["ingresses/status"],
                "operations": ["UPDATE"],
            }],
            "clientConfig": {
                "url": format!("https://{}/", upstream.address()), "caBundle": base64(authority.certificate.as_bytes()),
            },
        }],
    });
    let target = collection("ValidatingWebhookConfiguration", "");
    let reply = own.cluster.request("POST", &target, &configuration.to_string()).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    upstream
}

fn name(code: u16) -> String {
    format!("code-{code}")
}

/// How often the status of an Ingress was written and answered with a code.
fn n_written(own: &Own, code: u16, answered: u16) -> usize {
    let is_write = |request: &&Value| {
        let object = &request["objectRef"];
        object["namespace"] == own.name
            && object["name"] == *name(code)
            && object["subresource"] == "status"
            && request["responseStatus"]["code"] == answered
    };
    own.cluster.recorded().iter().filter(is_write).count()
}

#[tokio::test]
async fn statuses_that_are_refused_delay_nothing_and_are_tried_ever_less_often() {
    let own = Own::new("refusing").await;
    let upstream = own.cluster.upstream("web").await;
    own.apply(&service("web", &[upstream.address()])).await;
    let refuses = Arc::new(AtomicBool::new(true));
    let _webhook = webhook(&own, &refuses).await;
    own.apply(&own.ingress("code-418", "probe.refusing.test", "web")).await;
    let is_asked = async || {
        let patch = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}}).to_string();
        let target = format!("{}/code-418/status", collection("Ingress", own.name));
        let mut session = own.cluster.session().await;
        let reply = session.try_send("PATCH", &target, "application/merge-patch+json", &patch).await;
        (reply.status == 418).then_some(())
    };
    wait::until("the API server asks the webhook", is_asked).await;
    own.cluster.delete("Ingress", own.name, "code-418").await;

    own.cluster.trust_account().await;
    let account = own.cluster.kubeconfig_of(ACCOUNT, own.cluster.address());
    let gateway = own.start_as(&account, &["--publish-status-address=192.0.2.1"]).await;
    let began = Instant::now();
    let host = |code: u16| format!("{}.refusing.test", name(code));
    for code in CODES {
        own.apply(&own.ingress(&name(code), &host(code), "web")).await;
        gateway.wait_for(&format!("http://{}/", host(code)), |answer| answer.status == 200).await;
    }
    let hammer = Hammer::start(&gateway, CODES.map(host).to_vec());
    for code in CODES {
        let are_tried = async || (n_written(&own, code, code) >= N_ATTEMPTS).then_some(());
        wait::until(&format!("a status is refused with {code} again and again"), are_tried).await;
    }
    // The pauses begin at half a second and double.
    for code in CODES {
        let n_at_most = 2.0 + (2.0 * began.elapsed().as_secs_f64() + 1.0).log2();
        let n_written = n_written(&own, code, code);
        assert!(n_written as f64 <= n_at_most, "{n_written} times {code} in {:?}", began.elapsed());
    }
    hammer.more(100).await;

    refuses.store(false, Ordering::SeqCst);
    for code in CODES {
        let is_shown = async || {
            let object = own.cluster.get("Ingress", own.name, &name(code)).await;
            (object["status"]["loadBalancer"]["ingress"] == json!([{"ip": "192.0.2.1"}])).then_some(())
        };
        wait::until(&format!("the status is written after {code}"), is_shown).await;
    }
    hammer.end().await;
}
