//! Which endpoints of a Service take requests (KEP-1669, robustness.md K-18).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tests::manifests::{ingress, service, slice};
use tests::{Client, Gateway, Manifests, Upstream};

/// An EndpointSlice of one endpoint with conditions; `null` is one that is not known.
fn with_conditions(name: &str, service: &str, address: SocketAddr, conditions: [&str; 3]) -> String {
    let [ready, serving, terminating] = conditions;
    let slice = slice(name, service, "http", address);
    format!("{slice}    conditions: {{ready: {ready}, serving: {serving}, terminating: {terminating}}}\n")
}

/// Asks often enough that everyone who takes requests has had one. Empty when it is answered by 503.
async fn who_answers(gateway: &Gateway, host: &str) -> BTreeSet<String> {
    let mut client = Client::http1(gateway.addresses().http).await;
    let mut names = BTreeSet::new();
    for _ in 0..6 {
        let answer = client.get(host, "/", &[]).await;
        match answer.status.as_u16() {
            200 => drop(names.insert(answer.upstream())),
            503 => assert!(names.is_empty()),
            _ => panic!("{answer:?}"),
        }
    }
    names
}

/// An unknown `ready` and an unknown `serving` mean true, an unknown `terminating` means false (EndpointSlice v1).
#[tokio::test]
async fn ready_endpoints_come_first_and_draining_ones_only_without_them() {
    let (subject, ready) = (Upstream::echo("subject").await, Upstream::echo("ready").await);
    let manifests = Manifests::new();
    let mut cases = Vec::new();
    for is_ready in ["true", "false", "null"] {
        for is_serving in ["true", "false", "null"] {
            for is_terminating in ["true", "false", "null"] {
                let conditions = [is_ready, is_serving, is_terminating];
                let name = format!("case-{}", cases.len());
                // Alone, and beside one that is ready.
                for (host, others) in [(format!("alone-{name}"), None), (format!("beside-{name}"), Some(&ready))] {
                    let others: Vec<_> = others.iter().map(|upstream| upstream.address()).collect();
                    let slice = with_conditions(&format!("{host}-s"), &host, subject.address(), conditions);
                    let route = ingress(&host, &format!("{host}.test"), &[], &[("/", &host)]);
                    manifests.write(&format!("{host}.yaml"), &[service(&host, &others), slice, route].concat());
                }
                cases.push((name, conditions));
            }
        }
    }
    let gateway = Gateway::start(&manifests, &[]).await;
    for (name, conditions) in cases {
        let [is_ready, is_serving, is_terminating] = conditions;
        let is_ready = is_ready != "false";
        let is_draining = !is_ready && is_serving != "false" && is_terminating == "true";
        let set = |names: &[(&str, bool)]| -> BTreeSet<String> {
            names.iter().filter(|(_, is_in)| *is_in).map(|(name, _)| (*name).to_owned()).collect()
        };
        let alone = who_answers(&gateway, &format!("alone-{name}.test")).await;
        assert_eq!(alone, set(&[("subject", is_ready || is_draining)]), "alone, {conditions:?}");
        let beside = who_answers(&gateway, &format!("beside-{name}.test")).await;
        assert_eq!(beside, set(&[("subject", is_ready), ("ready", true)]), "beside a ready one, {conditions:?}");
    }
}

#[tokio::test]
async fn without_an_endpoint_the_answer_is_503() {
    let manifests = Manifests::of(
        &[
            service("empty", &[]),
            ingress("empty", "empty.test", &[], &[("/", "empty")]),
            ingress("missing", "missing.test", &[], &[("/", "nobody")]),
        ]
        .concat(),
    );
    let gateway = Gateway::start(&manifests, &[]).await;
    for host in ["empty.test", "missing.test"] {
        assert_eq!(gateway.get(&format!("http://{host}/")).await.status, 503, "{host}");
    }
    // Counted once the answer is out.
    tests::wait::until("both are counted", async || {
        let n_counted = gateway.metric("penstock_gateway_answers_total", &["no_endpoints"]).await;
        (n_counted == 2.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_comes_and_goes_is_followed() {
    let upstreams = [Upstream::echo("a").await, Upstream::echo("b").await];
    let [a, b] = upstreams.each_ref().map(Upstream::address);
    let manifests = Manifests::of(&[service("s", &[]), ingress("s", "s.test", &[], &[("/", "s")])].concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    let mut client = Client::http1(gateway.addresses().http).await;
    assert_eq!(client.get("s.test", "/", &[]).await.status, 503);
    let ready = ["true", "true", "false"];
    let draining = ["false", "true", "true"];
    let gone = ["false", "false", "true"];
    for (conditions_a, conditions_b, expected) in
        [(ready, ready, "ab"), (draining, ready, "b"), (draining, gone, "a"), (gone, gone, ""), (gone, ready, "b")]
    {
        manifests.write("a.yaml", &with_conditions("a", "s", a, conditions_a));
        manifests.write("b.yaml", &with_conditions("b", "s", b, conditions_b));
        tests::wait::until(&format!("{expected:?} answer"), async || {
            let names = who_answers_or_fails(&gateway).await;
            (names == expected).then_some(())
        })
        .await;
        // The connection that was there all the time sees no difference.
        let answer = client.get("s.test", "/", &[]).await;
        assert!(answer.status == 503 || expected.contains(&answer.upstream()), "{answer:?}");
    }
}

/// The names of those who answer; empty for none. While an edit takes effect this may be a mixture.
async fn who_answers_or_fails(gateway: &Gateway) -> String {
    let mut names = BTreeSet::new();
    for _ in 0..6 {
        names.insert(gateway.get("http://s.test/").await.upstream());
    }
    names.into_iter().collect()
}

#[tokio::test]
async fn slices_of_a_service_are_one_set() {
    let upstreams = [Upstream::echo("a").await, Upstream::echo("b").await];
    let [a, b] = upstreams.each_ref().map(Upstream::address);
    // An endpoint that moves between slices stands in both of them for a while.
    let slices = [
        slice("s-1", "s", "http", a),
        slice("s-2", "s", "http", a),
        with_conditions("s-3", "s", a, ["false", "false", "false"]),
        slice("s-4", "s", "http", b),
    ];
    let manifests = Manifests::of(&[service("s", &[]), ingress("s", "s.test", &[], &[("/", "s")])].concat());
    manifests.write("slices.yaml", &slices.concat());
    let gateway = Gateway::start(&manifests, &[]).await;
    let mut n_by_a = 0;
    for _ in 0..40 {
        n_by_a += usize::from(gateway.get("http://s.test/").await.upstream() == "a");
    }
    assert_eq!(n_by_a, 20, "each endpoint counts once");
}
