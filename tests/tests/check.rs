//! What `check` tells somebody who comes from ingress-nginx: of every annotation of every Ingress whether it is done,
//! denied, warned about or refused, what differs, and where it stands.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};
use tests::Manifests;
use tests::gateway::command;

/// A comment at the end of a line says what is to be said about it: the state and, after a slash, `differs`. Of the two
/// annotations of one meaning the one under our own prefix wins.
const SHOP: &str = "apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{port: 80}], externalIPs: [192.0.2.1]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations:
    nginx.ingress.kubernetes.io/ssl-redirect: \"false\" # warns
    nginx.ingress.kubernetes.io/proxy-request-buffering: \"off\" # done/differs
    nginx.ingress.kubernetes.io/whitelist-source-range: 192.0.2.0/24 # done/differs
    nginx.ingress.kubernetes.io/auth-secret: nobody # denies
    nginx.ingress.kubernetes.io/auth-type: basic # done/differs
    nginx.ingress.kubernetes.io/configuration-snippet: deny all; # denies
    nginx.ingress.kubernetes.io/enable-modsecurity: \"true\" # denies
    nginx.ingress.kubernetes.io/proxy-cookie-path: / /shop # warns
    nginx.ingress.kubernetes.io/no-such-annotation: \"1\" # warns
    nginx.ingress.kubernetes.io/app-root: \"\" # warns
    penstock.dev/ssl-redirect: \"false\" # done
    penstock.dev/health-check: http:/healthz # done
    example.com/note: of another controller
spec:
  rules:
  - host: shop.test
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}
";

fn report(manifests: &Manifests, code: i32) -> Value {
    let output = command(&["check", "-o", "json", manifests.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(manifests: &Manifests) -> String {
    String::from_utf8(command(&["check", manifests.path().to_str().unwrap()]).stdout).unwrap()
}

/// The annotations of a report as (line, state, whether it differs).
fn annotations(ingress: &Value) -> Vec<(u64, String, bool)> {
    let annotation = |annotation: &Value| {
        let state = annotation["state"].as_str().unwrap().to_owned();
        (annotation["line"].as_u64().unwrap(), state, annotation.get("differs").is_some())
    };
    ingress["annotations"].as_array().unwrap().iter().map(annotation).collect()
}

/// What the comments of manifests say.
fn promised(manifests: &str) -> Vec<(u64, String, bool)> {
    let promise = |(line, text): (usize, &str)| {
        let (_, promise) = text.split_once(" # ")?;
        let (state, differs) = promise.split_once('/').map_or((promise, false), |(state, _)| (state, true));
        Some((line as u64 + 1, state.to_owned(), differs))
    };
    manifests.lines().enumerate().filter_map(promise).collect()
}

#[test]
fn every_annotation_has_its_state_and_its_line() {
    let manifests = Manifests::of(SHOP);
    let report = report(&manifests, 1);
    let [ingress] = report["ingresses"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_eq!(ingress["ingress"], "default/shop");
    assert_eq!(ingress["file"], manifests.file("manifests.yaml").to_str().unwrap());
    assert_eq!((&ingress["line"], &ingress["standing"]), (&json!(6), &json!("served")));
    assert_eq!(annotations(ingress), promised(SHOP), "{ingress:#}");
    for annotation in ingress["annotations"].as_array().unwrap() {
        let is_explained = annotation["reason"].as_str().is_some_and(|reason| !reason.is_empty());
        assert_eq!(is_explained, annotation["state"] != "done", "{annotation}");
    }
}

#[test]
fn an_ingress_is_one_line_and_a_difference_is_told_once() {
    let again = SHOP.replace("name: shop\n", "name: twin\n").replace("shop.test", "twin.test");
    let manifests = Manifests::of(SHOP);
    manifests.write("twin.yaml", again.split_once("---\n").unwrap().1);
    let text = text(&manifests);
    let file = manifests.file("manifests.yaml");
    let place = |line: usize| format!("{}:{line}: ", file.display());
    let line = format!(
        "{}Ingress default/shop: done proxy-request-buffering, whitelist-source-range, auth-type, ssl-redirect, health-check; \
         denied auth-secret, configuration-snippet, enable-modsecurity; \
         warned ssl-redirect, proxy-cookie-path, no-such-annotation, app-root; \
         differs proxy-request-buffering, whitelist-source-range, auth-type",
        place(6)
    );
    assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    let differs: Vec<&str> = text.lines().filter(|line| line.contains(": differs: ")).collect();
    let [auth, buffering, networks] = differs.as_slice() else { panic!("{text}") };
    assert!(buffering.starts_with(&place(12)) && buffering.ends_with("(and in 1 more places)"), "{buffering}");
    assert!(networks.starts_with(&place(13)) && networks.contains("whitelist-source-range"), "{networks}");
    assert!(auth.starts_with(&place(15)) && auth.contains("auth-type"), "{auth}");
    let summary =
        "2 Ingresses, 24 annotations: 10 done, 6 denied, 8 warned about, 0 refused; 6 differ from ingress-nginx";
    assert_eq!(text.lines().last(), Some(summary), "{text}");
}

#[test]
fn a_value_that_cannot_be_read_refuses_the_ingress_and_not_the_other_annotations() {
    let refused = SHOP.replace("/auth-type: basic # done/differs", "/auth-type: kerberos # refused");
    let refused = refused.replace("/auth-secret: nobody # denies", "/auth-secret: nobody # done/differs");
    let report = report(&Manifests::of(&refused), 1);
    let ingress = &report["ingresses"][0];
    assert_eq!(ingress["standing"], "refused");
    assert_eq!(annotations(ingress), promised(&refused), "{ingress:#}");
}

#[test]
fn the_annotations_of_another_controller_are_left_alone() {
    let foreign = SHOP.replace("spec:\n  rules", "spec:\n  ingressClassName: other\n  rules");
    let class = "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: other}\n\
                 spec: {controller: example.com/other}\n";
    let manifests = Manifests::of(&[&foreign, class].concat());
    let report = report(&manifests, 0);
    assert_eq!(report["ingresses"][0]["standing"], "not-served", "{report:#}");
    assert_eq!(report["ingresses"][0]["annotations"], json!([]));
}

#[test]
fn items_of_a_list_have_lines_of_their_own() {
    let ingress = |name: &str| {
        format!(
            "- apiVersion: networking.k8s.io/v1\n  kind: Ingress\n  metadata:\n    name: {name}\n    annotations:\n      \
             nginx.ingress.kubernetes.io/use-regex: \"true\" # done/differs\n  spec:\n    defaultBackend: \
             {{service: {{name: shop, port: {{number: 80}}}}}}\n    rules: [{{host: {name}.test}}]\n"
        )
    };
    let service = "- apiVersion: v1\n  kind: Service\n  metadata: {name: shop}\n  spec: {ports: [{port: 80}], externalIPs: [192.0.2.1]}\n";
    let list = ["apiVersion: v1\nkind: List\nitems:\n", service, &ingress("a"), &ingress("b")].concat();
    let report = report(&Manifests::of(&list), 0);
    let ingresses = report["ingresses"].as_array().unwrap();
    let found: Vec<_> = ingresses.iter().flat_map(annotations).collect();
    assert_eq!(found, promised(&list), "{report:#}");
}
