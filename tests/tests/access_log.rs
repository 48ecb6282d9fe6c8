//! The access log as settings and annotations shape it (`ingress-nginx.md` section 1.3, row `enable-access-log`).

use tests::manifests::{SETTINGS, ingress, service, settings};
use tests::{Gateway, Manifests, Upstream};

struct Site {
    gateway: Gateway,
    manifests: Manifests,
    _upstream: Upstream,
}

async fn site(keys: &[(&str, &str)]) -> Site {
    let upstream = Upstream::echo("a").await;
    let objects = [
        service("a", &[upstream.address()]),
        ingress("a", "a.test", &[], &[("/", "a")]),
        ingress("quiet", "quiet.test", &[("enable-access-log", "false")], &[("/", "a")]),
    ];
    let manifests = Manifests::of(&objects.concat());
    manifests.write("settings.yaml", &settings(keys));
    Site { gateway: Gateway::start(&manifests, &[SETTINGS]).await, manifests, _upstream: upstream }
}

#[tokio::test]
async fn log_format_upstream_is_filled_in_with_nginxs_variables() {
    let format = "<$request_method $host $request_uri $status [$proxy_upstream_name] $ingress_name \
                  \"$http_user_agent\" $http_none $remote_addr>";
    let site = site(&[("log-format-upstream", format)]).await;
    site.gateway.get_with("http://a.test/x?y", &[("user-agent", "a \"b\"\\")]).await;
    let line = site.gateway.wait_for_access_log(&["<GET"]).await;
    let expected = "<GET a.test /x?y 200 [default-a-80] a \"a \\x22b\\x22\\x5C\" - 127.";
    assert!(line.starts_with(expected), "{line}");
    let json = [
        ("log-format-upstream", "{\"agent\": \"$http_user_agent\", \"none\": \"$http_none\", \"status\": $status}"),
        ("log-format-escape-json", "true"),
    ];
    site.manifests.write("settings.yaml", &settings(&json));
    let agent = [("user-agent", "a \"b\"\\")];
    let is_json = async || {
        site.gateway.get_with("http://a.test/", &agent).await;
        site.gateway.access_log().into_iter().find(|line| line.starts_with("{\"agent\""))
    };
    let line = tests::wait::until("the format is live", is_json).await;
    assert_eq!(line, r#"{"agent": "a \"b\"\\", "none": "", "status": 200}"#);
}

#[tokio::test]
async fn a_format_with_an_unknown_variable_keeps_the_default_one() {
    let site = site(&[("log-format-upstream", "$no_such_variable")]).await;
    site.gateway.get("http://a.test/").await;
    site.gateway.wait_for_access_log(&["GET / HTTP/1.1", "[default-a-80]"]).await;
    site.gateway.wait_for_log(&["log-format-upstream", "a variable is not known here"]).await;
}

#[tokio::test]
async fn what_is_not_to_be_logged_is_not() {
    let site = site(&[("skip-access-log-urls", "/healthz,~^/static/")]).await;
    for url in ["http://a.test/healthz", "http://a.test/static/x", "http://quiet.test/quiet", "http://a.test/end"] {
        assert_eq!(site.gateway.get(url).await.status, 200);
    }
    site.gateway.wait_for_access_log(&["GET /end"]).await;
    let lines = site.gateway.access_log();
    assert_eq!(lines.len(), 1, "{lines:?}");
    site.manifests.write("settings.yaml", &settings(&[("disable-access-log", "true")]));
    let is_silent = async || {
        let before = site.gateway.access_log().len();
        site.gateway.get("http://a.test/probe").await;
        site.gateway.get("http://a.test/probe").await;
        (site.gateway.access_log().len() == before).then_some(())
    };
    tests::wait::until("the log is off", is_silent).await;
}
