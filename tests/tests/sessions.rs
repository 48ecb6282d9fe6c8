//! Sessions that stay with an endpoint: `affinity: cookie`, in the wire format of ingress-nginx.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;

use tests::manifests::{ingress, service};
use tests::upstream::refusing_address;
use tests::{Answer, Gateway, Manifests, Upstream};

/// `md5(md5(name).name)` of `default-a-80`, by md5sum.
const BACKEND_KEY: &str = "452371c8807476367bd103adbd36bb9c";

fn manifests(annotations: &[(&str, &str)], endpoints: &[SocketAddr]) -> String {
    let annotations = [&[("affinity", "cookie"), ("session-cookie-name", "route")], annotations].concat();
    [service("a", endpoints), ingress("a", "a.test", &annotations, &[("/app", "a")])].concat()
}

async fn echoes(n: usize) -> (Vec<Upstream>, Vec<SocketAddr>) {
    let mut echoes = Vec::new();
    for number in 0..n {
        echoes.push(Upstream::echo(&number.to_string()).await);
    }
    let addresses = echoes.iter().map(Upstream::address).collect();
    (echoes, addresses)
}

/// The value and the attributes of the session cookie that an answer sets.
fn set_cookie(answer: &Answer) -> Option<(String, String)> {
    let text = answer.header("set-cookie")?;
    let (value, attributes) = text.strip_prefix("route=").unwrap().split_once(';').unwrap();
    Some((value.to_owned(), attributes.to_owned()))
}

async fn ask(gateway: &Gateway, cookie: &str) -> Answer {
    gateway.get_with("http://a.test/app", &[("cookie", cookie)]).await
}

#[tokio::test]
async fn a_session_stays_with_its_endpoint() {
    for mode in ["balanced", "persistent"] {
        let (_upstreams, addresses) = echoes(4).await;
        let manifests = Manifests::of(&manifests(&[("affinity-mode", mode)], &addresses));
        let gateway = Gateway::start(&manifests, &[]).await;
        let mut n_used = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let first = gateway.get("http://a.test/app").await;
            let (value, attributes) = set_cookie(&first).unwrap();
            let (endpoint, backend) = value.split_once('|').unwrap();
            assert_eq!(backend, BACKEND_KEY);
            if mode == "persistent" {
                assert!(endpoint.len() == 32 && endpoint.bytes().all(|byte| byte.is_ascii_hexdigit()), "{endpoint}");
            }
            assert_eq!(attributes, " Path=/app; HttpOnly");
            for _ in 0..3 {
                let again = ask(&gateway, &format!("x=1; route={value}")).await;
                assert_eq!((again.upstream(), set_cookie(&again)), (first.upstream(), None), "{mode}");
            }
            n_used.insert(first.upstream());
        }
        assert!(n_used.len() > 1, "{mode}: 20 sessions are spread over 4 endpoints");
    }
}

#[tokio::test]
async fn a_cookie_that_ingress_nginx_has_set_keeps_its_endpoint() {
    // The persistent key of an endpoint is md5(name.."<ip>:<port>").
    let (_upstreams, addresses) = echoes(4).await;
    let manifests = Manifests::of(&manifests(&[("affinity-mode", "persistent")], &addresses));
    let gateway = Gateway::start(&manifests, &[]).await;
    for (number, address) in addresses.iter().enumerate() {
        let key = md5(&format!("default-a-80{address}"));
        let answer = ask(&gateway, &format!("route={key}|{BACKEND_KEY}")).await;
        assert_eq!((answer.upstream(), set_cookie(&answer)), (number.to_string(), None));
    }
    // An endpoint that is gone is forgotten.
    let answer = ask(&gateway, &format!("route={}|{BACKEND_KEY}", md5("default-a-8010.9.9.9:80"))).await;
    assert!(set_cookie(&answer).is_some());
}

#[tokio::test]
async fn the_cookie_has_the_attributes_that_are_asked_for() {
    let mac = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) AppleWebKit/605.1.15 Version/12.1.2 Safari/605.1.15";
    for (annotations, user_agent, expected) in [
        (&[("session-cookie-path", "/")][..], "", " Path=/; HttpOnly"),
        (&[("session-cookie-max-age", "172800")], "", " Max-Age=172800; Path=/app; HttpOnly"),
        (&[("session-cookie-domain", "a.test")], "", " Domain=a.test; Path=/app; HttpOnly"),
        (&[("session-cookie-secure", "true")], "", " Path=/app; Secure; HttpOnly"),
        (&[("session-cookie-samesite", "Lax")], "", " Path=/app; HttpOnly; SameSite=Lax"),
        (&[("session-cookie-samesite", "None")], mac, " Path=/app; HttpOnly; SameSite=None"),
        (
            &[("session-cookie-samesite", "None"), ("session-cookie-conditional-samesite-none", "true")],
            mac,
            " Path=/app; HttpOnly",
        ),
        (
            &[("session-cookie-samesite", "None"), ("session-cookie-conditional-samesite-none", "true")],
            "curl/8",
            " Path=/app; HttpOnly; SameSite=None",
        ),
    ] {
        let (_upstreams, addresses) = echoes(1).await;
        let manifests = Manifests::of(&manifests(annotations, &addresses));
        let gateway = Gateway::start(&manifests, &[]).await;
        let answer = gateway.get_with("http://a.test/app", &[("user-agent", user_agent)]).await;
        assert_eq!(set_cookie(&answer).unwrap().1, expected, "{annotations:?}");
    }
}

#[tokio::test]
async fn a_session_leaves_a_failed_endpoint_only_where_it_may() {
    for changes in ["false", "true"] {
        let (_upstreams, mut addresses) = echoes(1).await;
        let refusing = refusing_address().await;
        addresses.push(refusing);
        let annotations = [("affinity-mode", "persistent"), ("session-cookie-change-on-failure", changes)];
        let manifests = Manifests::of(&manifests(&annotations, &addresses));
        let gateway = Gateway::start(&manifests, &[]).await;
        let cookie = format!("route={}|{BACKEND_KEY}", md5(&format!("default-a-80{refusing}")));
        let answer = ask(&gateway, &cookie).await;
        if changes == "true" {
            assert_eq!((answer.upstream().as_str(), set_cookie(&answer).is_some()), ("0", true));
        } else {
            assert_eq!((answer.status.as_u16(), set_cookie(&answer)), (502, None));
        }
    }
}

/// By the tool of the system, so that no code of the gateway is its own witness.
fn md5(text: &str) -> String {
    use std::io::Write;
    let mut command = std::process::Command::new("md5sum");
    let command = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}
