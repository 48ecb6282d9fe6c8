//! `deploy/admission/policy.yaml`: what the API server refuses by itself is what the gateway refuses.

use serde_json::json;
use tests::gateway::command;
use tests::manifests::ingress;
use tests::{Cluster, Manifests, wait};

const POLICY: &str = include_str!("../../../deploy/admission/policy.yaml");

/// What every annotation does.
const ANNOTATIONS: &str = include_str!("../../../docs/annotations.md");
/// Annotations whose values have to be parsed, which is beyond a policy.
const BEYOND: &[&str] = &[
    "server-alias",
    "upstream-vhost",
    "x-forwarded-prefix",
    "upstream-hash-by",
    "proxy-ssl-name",
    "auth-tls-error-page",
    "auth-realm",
    "auth-url",
    "auth-signin",
    "auth-signin-redirect-param",
    "auth-method",
    "auth-response-headers",
    "auth-request-redirect",
    "auth-cache-key",
    "auth-cache-duration",
    "cors-allow-origin",
    "cors-allow-methods",
    "cors-allow-headers",
    "cors-expose-headers",
    "canary-by-header",
    "canary-by-header-value",
    "canary-by-header-pattern",
    "canary-by-cookie",
    "mirror-target",
    "mirror-host",
    "penstock.dev/health-check",
    "penstock.dev/passive-ejection",
    "penstock.dev/slow-start",
];

fn annotated(name: &str, annotation: &str, value: &str) -> String {
    ingress(name, "policy.test", &[(annotation, value)], &[("/", "web")])
}

/// Whether the gateway would refuse the object.
fn is_refused_by_gateway(manifest: &str) -> bool {
    let manifests = Manifests::of(manifest);
    let checked = command(&["check", "--output", "json", manifests.path().to_str().unwrap()]);
    String::from_utf8(checked.stdout).unwrap().contains("AnnotationParsingFailed")
}

/// API servers look at policies in their own time.
async fn follow_policy(cluster: &Cluster) {
    cluster.apply("", POLICY).await;
    let mut n_probes = 0;
    let is_followed = async || {
        n_probes += 1;
        let probe = annotated(&format!("probe-{n_probes}"), "ssl-redirect", "maybe");
        (cluster.try_apply("default", &probe).await.remove(0).status == 422).then_some(())
    };
    wait::until("the API server follows the policy", is_followed).await;
}

#[test]
fn an_annotation_that_is_done_is_in_the_policy_or_beyond_it() {
    let row = |line: &'static str| line.strip_prefix("| `")?.split_once("` | ");
    let done: Vec<&str> =
        ANNOTATIONS.lines().filter_map(row).filter(|row| row.1.starts_with("done")).map(|row| row.0).collect();
    assert!(done.len() > 100, "{done:?}");
    for name in done {
        assert_ne!(POLICY.contains(&format!("'{name}'")), BEYOND.contains(&name), "{name}");
    }
}

#[tokio::test]
async fn the_policy_refuses_what_the_gateway_refuses_and_nothing_else() {
    let cluster = Cluster::start().await;
    follow_policy(&cluster).await;
    let rows = [
        ("ssl-redirect", &["true", "False", "0", ""][..], &["yes", "tRUE"][..]),
        ("use-regex", &["t"], &["on"]),
        ("enable-cors", &["TRUE"], &["2"]),
        ("canary", &["false"], &["never"]),
        ("proxy-buffering", &["on", "off", ""], &["true"]),
        ("proxy-read-timeout", &["60", "+1"], &["60s", "1.5"]),
        ("canary-weight", &["0", "100"], &["half", "10%"]),
        ("limit-rps", &["5", "-1"], &["5r/s"]),
        ("proxy-body-size", &["0", "8m", "1G"], &["8 m", "m", "8mb"]),
        ("client-body-buffer-size", &["16k"], &["k16"]),
        ("from-to-www-redirect", &["true", " "], &["www"]),
        ("session-cookie-max-age", &["-1"], &["1h"]),
        ("proxy-next-upstream-tries", &["0"], &["all"]),
        ("mirror-request-body", &["off"], &["false"]),
        ("whitelist-source-range", &["10.0.0.0/8, 192.0.2.1,2001:db8::/32"], &["10.0.0.0/33", "example.com"]),
        ("denylist-source-range", &["::1"], &["10.0.0.0-10.0.0.9"]),
        ("permanent-redirect-code", &["301", "308"], &["304", "200"]),
        ("custom-http-errors", &["404", "404, 503", "404,,503,"], &["200", "404 503", "4xx", ","]),
        ("backend-protocol", &["grpc", "HTTPS", "AUTO_HTTP"], &["TCP"]),
        ("default-backend", &["errors"], &["Errors", "errors-", "a/b"]),
        ("load-balance", &["ewma", " round_robin"], &["random"]),
        ("proxy-next-upstream", &["error timeout http_503", "off"], &["http_418", "error,timeout"]),
        ("affinity", &["cookie"], &["ip"]),
        ("session-cookie-samesite", &["Lax", "none"], &["maybe"]),
        ("session-cookie-path", &["/a,?b"], &["/a;b"]),
        ("satisfy", &["any"], &["some"]),
        ("auth-type", &["basic"], &["bearer"]),
        ("auth-tls-verify-client", &["optional_no_ca"], &["yes"]),
        ("auth-tls-match-cn", &["CN=a"], &["O=a"]),
        ("auth-secret", &["a", "b/c.d"], &["A", "a/b/c"]),
        ("app-root", &["/app"], &["app", "/a b"]),
        ("rewrite-target", &["/$1", "$1"], &["a", "/{a}"]),
        ("permanent-redirect", &["https://a.example/$1", "/b", "$scheme://$host/"], &["ftp://a.example", "//a;b"]),
        ("temporal-redirect", &["HTTPS://a.example"], &["/b"]),
    ];
    for (annotation, good, bad) in rows {
        for (values, is_refused) in [(good, false), (bad, true)] {
            for value in values {
                let manifest = annotated("judged", annotation, value);
                let reply = cluster.try_apply("default", &manifest).await.remove(0);
                assert_eq!(reply.status >= 400, is_refused, "{annotation}: {value:?}: {reply:?}");
                assert_eq!(is_refused_by_gateway(&manifest), is_refused, "{annotation}: {value:?}");
                if is_refused {
                    assert!(reply.value["message"].as_str().unwrap().contains(annotation), "{reply:?}");
                }
            }
        }
    }
    let snippet = annotated("snippet", "server-snippet", "return 200;");
    let is_warned_about = async || {
        let reply = cluster.try_apply("default", &snippet).await.remove(0);
        assert!(reply.status < 300, "{reply:?}");
        reply.warnings.iter().any(|warning| warning.contains("server-snippet")).then_some(())
    };
    wait::until("the API server warns of a snippet", is_warned_about).await;
}

#[tokio::test]
async fn an_ingress_from_before_the_policy_can_be_labelled_and_deleted() {
    let cluster = Cluster::start().await;
    cluster.apply("default", &annotated("before", "ssl-redirect", "maybe")).await;
    follow_policy(&cluster).await;
    let labels = json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["tests.penstock.dev/stays"]}});
    cluster.patch("Ingress", "default", "before", &labels).await;
    cluster.delete("Ingress", "default", "before").await;
    cluster.patch("Ingress", "default", "before", &json!({"metadata": {"finalizers": []}})).await;
}
