//! The command line: what each command prints and how it ends, and what becomes of bad input.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Output;

use tests::certificate::Certificate;
use tests::gateway::{Addresses, command, command_with};
use tests::manifests::{ingress, service, tls};
use tests::{Gateway, Manifests, Upstream};

/// Manifests that nothing is wrong with.
fn sound() -> Manifests {
    let certificate = Certificate::self_signed(&["a.test"]).secret("a");
    let endpoint: SocketAddr = "192.0.2.1:8080".parse().unwrap();
    let host = [ingress("a", "a.test", &[], &[("/", "a")]), tls(&["a.test"], "a")].concat();
    Manifests::of(&[service("a", &[endpoint]), certificate, host].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Manifests with a fault each; it is in the line that says `# here`.
const FAULTS: &[(&str, &str, &str)] = &[
    ("a tab in place of spaces", "apiVersion: v1\nkind: Service\nmetadata:\n\tname: a # here\n", "tab"),
    ("a bracket that never closes", "apiVersion: v1\nkind: Service\nmetadata: {name: a # here\n", ""),
    ("no apiVersion", "kind: Service # here\nmetadata: {name: a}\n", "apiVersion"),
    ("no kind", "apiVersion: v1 # here\nmetadata: {name: a}\n", "kind"),
    ("no name", "apiVersion: v1 # here\nkind: Service\nmetadata: {}\n", "name"),
    (
        "text in place of a number",
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n    - port: http # here\n",
        "http",
    ),
    (
        "a port that no host has",
        "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec:\n  ports:\n    - name: x\n      port: 99999 # here\n",
        "99999",
    ),
    (
        "a path without its slash",
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\nspec:\n  rules:\n    - http:\n        paths:\n          \
         - path: foo # here\n            pathType: Prefix\n            backend: {service: {name: a, port: {number: 80}}}\n",
        "foo",
    ),
    (
        "a type of path that there is not",
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: b}\nspec:\n  rules:\n    - http:\n        paths:\n          \
         - path: /\n            pathType: Regex # here\n            backend: {service: {name: a, port: {number: 80}}}\n",
        "Regex",
    ),
    (
        "a host that is none",
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: c}\nspec:\n  rules:\n    \
         - host: a..test # here\n",
        "a..test",
    ),
    (
        "an annotation with a value that it cannot have",
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: d\n  annotations:\n    \
         nginx.ingress.kubernetes.io/ssl-redirect: \"perhaps\" # here\nspec:\n  \
         defaultBackend: {service: {name: a, port: {number: 80}}}\n",
        "perhaps",
    ),
    (
        "an annotation that is no text",
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: e\n  annotations:\n    \
         nginx.ingress.kubernetes.io/ssl-redirect: true # here\nspec:\n  \
         defaultBackend: {service: {name: a, port: {number: 80}}}\n",
        "",
    ),
    (
        "a Secret that is not base64",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata:\n  tls.crt: base64 encoded cert # here\n  tls.key: bm9uZQ==\n",
        "base64",
    ),
    (
        "a certificate that is none",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: b}\ndata: # here\n  tls.crt: bm9uZQ==\n  tls.key: bm9uZQ==\n",
        "",
    ),
];

/// Writes the faults to a file each, and gives the place that each must be reported at.
fn faulty(manifests: &Manifests) -> Vec<(&'static str, String, &'static str)> {
    let place = |(number, (what, fault, word)): (usize, &(&'static str, &str, &'static str))| {
        let name = format!("fault-{number}.yaml");
        // Under names that nothing else has.
        let fault = fault.replace("name: ", "name: faulty-");
        manifests.write(&name, &fault);
        let line = fault.lines().position(|line| line.contains("# here")).unwrap() + 1;
        (*what, format!("{}:{line}", manifests.file(&name).display()), *word)
    };
    FAULTS.iter().enumerate().map(place).collect()
}

#[test]
fn check_is_content_with_sound_manifests() {
    let manifests = sound();
    let output = command(&["check", text(manifests.path())]);
    let summary = "4 objects, 0 errors, 0 warnings\n\
                   1 Ingresses, 0 annotations: 0 done, 0 denied, 0 warned about, 0 refused; 0 differ from ingress-nginx\n";
    assert_eq!((code(&output), stdout(&output).as_str()), (0, summary));
    let output = command(&["check", "--output=json", text(&manifests.file("manifests.yaml"))]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &report["findings"]), (0, &serde_json::json!([])));
}

#[test]
fn check_tells_file_line_object_and_reason_of_every_fault() {
    let manifests = sound();
    let places = faulty(&manifests);
    let output = command(&["check", text(manifests.path())]);
    let report = stdout(&output);
    assert_eq!(code(&output), 1, "{report}");
    for (what, place, word) in places {
        let line = report.lines().find(|line| line.starts_with(&format!("{place}: error: ")));
        let line = line.unwrap_or_else(|| panic!("{what}: nothing at {place} in\n{report}"));
        assert!(line.contains(word), "{what}: {line}");
    }
    // What is sound beside them is not blamed.
    assert!(!report.contains(text(&manifests.file("manifests.yaml"))), "{report}");
}

#[test]
fn check_tells_all_faults_of_an_object_at_once() {
    let object = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations:
    nginx.ingress.kubernetes.io/ssl-redirect: \"perhaps\" # AnnotationParsingFailed
    nginx.ingress.kubernetes.io/proxy-body-size: huge # AnnotationParsingFailed
    nginx.ingress.kubernetes.io/server-snippet: deny all; # Denied
    nginx.ingress.kubernetes.io/proxy-cookie-path: / /shop # AnnotationIgnored
    nginx.ingress.kubernetes.io/no-such-annotation: \"1\" # AnnotationUnknown
spec:
  rules:
  - host: a..test # InvalidValue
    http:
      paths:
      - path: no-slash # InvalidValue
        pathType: Regex # InvalidValue
        backend:
          service:
            name: shop
            port: # InvalidValue
              number: 70000
";
    let manifests = Manifests::of(object);
    let output = command(&["check", text(manifests.path())]);
    let report = stdout(&output);
    assert_eq!(code(&output), 1, "{report}");
    let file = text(&manifests.file("manifests.yaml")).to_owned();
    let faults = object.lines().enumerate().filter_map(|(line, text)| Some((line + 1, text.split_once("# ")?.1)));
    for (line, reason) in faults {
        let is_told =
            |told: &str| told.starts_with(&format!("{file}:{line}: ")) && told.ends_with(&format!("[{reason}]"));
        assert!(report.lines().any(is_told), "no {reason} at line {line} in\n{report}");
    }
}

#[test]
fn check_tells_programs_the_same() {
    let manifests = Manifests::of(FAULTS.iter().find(|(what, ..)| what.contains("slash")).unwrap().1);
    let output = command(&["check", "-o", "json", text(manifests.path())]);
    assert_eq!(code(&output), 1);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = report["findings"].as_array().unwrap().iter().find(|finding| finding["severity"] == "error").unwrap();
    assert_eq!(error["file"], text(&manifests.file("manifests.yaml")));
    assert_eq!(error["line"], 8);
    assert_eq!(error["object"], "Ingress default/a");
    assert_eq!(error["reason"], "InvalidValue");
    assert_eq!(error["field"], "spec.rules[0].http.paths[0].path");
}

#[test]
fn check_warns_without_failing() {
    let manifests = sound();
    manifests.write(
        "old.yaml",
        "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: old}\nspec:\n  rules:\n  - host: old.test\n    http:\n      \
         paths:\n      - {backend: {serviceName: a, servicePort: http}}\n",
    );
    manifests.write("strange.yaml", "apiVersion: example.com/v1\nkind: Strange\nmetadata: {name: a}\n");
    let output = command(&["check", text(manifests.path())]);
    let report = stdout(&output);
    assert_eq!(code(&output), 0, "{report}");
    assert!(report.contains("old.yaml:1: warning: Ingress default/old: "), "{report}");
    assert!(report.contains("strange.yaml:1: warning: Strange of example.com/v1"), "{report}");
}

#[test]
fn the_loser_of_a_path_is_told_who_has_it() {
    let manifests = sound();
    manifests.write("again.yaml", &ingress("z", "a.test", &[], &[("/", "a")]));
    // Files have no age: the later name wins, as in ingress-nginx.
    let output = command(&["check", text(manifests.path())]);
    let report = stdout(&output);
    assert_eq!(code(&output), 1, "{report}");
    assert!(report.contains("error: Ingress default/a: host \"a.test\" path \"/\" is already claimed"), "{report}");
    assert!(report.contains("Ingress default/z [Conflict]"), "{report}");
}

#[test]
fn a_path_that_does_not_exist_is_bad_usage() {
    for arguments in [
        &["check", "/nowhere.yaml"][..],
        &["translate", "/nowhere.yaml"],
        &["translate", "--to=networking.k8s.io/v1", "/nowhere.yaml"],
        &["explain", "--manifests=/nowhere.yaml", "http://a.test/"],
        &["run", "--manifests=/nowhere.yaml"],
    ] {
        let output = command(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        let line = "gateway: open manifests /nowhere.yaml: No such file or directory (os error 2)\n";
        assert!(stderr(&output).ends_with(line), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn bad_flags_are_refused_with_what_is_wrong_with_them() {
    let manifests = sound();
    let path = text(manifests.path());
    for (arguments, words) in [
        (&[][..], "Usage"),
        (&["serve"][..], "serve"),
        (&["check"][..], "PATH"),
        (&["check", "--output=xml", path][..], "xml"),
        (&["explain", "http://a.test/"][..], "--manifests"),
        (&["explain", "--manifests", path][..], "URL"),
        (&["explain", "--manifests", path, "--admin=http://127.0.0.1:1", "http://a.test/"][..], "--admin"),
        (&["explain", "--manifests", path, "a.test"][..], "a.test"),
        (&["explain", "--manifests", path, "-H", "no colon", "http://a.test/"][..], "no colon"),
        (&["explain", "--manifests", path, "-X", "G T", "http://a.test/"][..], "G T"),
        (&["translate", "--to=networking.k8s.io/v2", path][..], "networking.k8s.io/v2"),
        (&["run"][..], "--manifests"),
        (&["run", "--manifests", path, "--nonsense"][..], "--nonsense"),
        (&["run", "--manifests", path, "--http=nowhere"][..], "nowhere"),
        (&["run", "--manifests", path, "--http=:80"][..], ":80"),
        (&["run", "--manifests", path, "--lame-duck=soon"][..], "soon"),
        (&["run", "--manifests", path, "--threads=0"][..], "0"),
        (&["run", "--manifests", path, "--access-log=xml"][..], "xml"),
        (&["run", "--manifests", path, "--configmap=a"][..], "namespace/name"),
        (&["run", "--manifests", path, "--ingress-class-by-name=perhaps"][..], "perhaps"),
        (&["run", "--manifests", path, "--http=127.0.0.1:8088", "--https=127.0.0.1:8088"][..], "127.0.0.1:8088"),
    ] {
        let output = command(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_no_fault() {
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"], &["check", "--help"]] {
        assert_eq!(code(&command(arguments)), 0, "{arguments:?}");
    }
}

#[test]
fn every_flag_of_run_reads_an_environment_variable() {
    // Wherever the lines are wrapped.
    let help = stdout(&command(&["run", "--help"]));
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let flags: Vec<&str> = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--"))
        .map(|line| line.split([' ', '=', '[']).next().unwrap())
        .collect();
    assert!(flags.len() > 10, "{help}");
    for flag in flags {
        let variable = format!("[env: PENSTOCK_{}=", flag.to_uppercase().replace('-', "_"));
        assert!(words.contains(&variable), "{variable} is not in\n{help}");
    }
}

#[test]
fn an_environment_variable_stands_in_for_its_flag_and_yields_to_it() {
    let manifests =
        Manifests::of(&format!("{}  ingressClassName: public\n", ingress("a", "a.test", &[], &[("/", "a")])));
    let explain = |flags: &[&str], environment: &[(&str, &str)]| {
        let arguments = [&["explain", "--manifests", text(manifests.path())][..], flags, &["http://a.test/"]].concat();
        code(&command_with(&arguments, environment))
    };
    let public = [("PENSTOCK_INGRESS_CLASS", "public")];
    assert_eq!(explain(&[], &[]), 1);
    assert_eq!(explain(&[], &public), 0);
    assert_eq!(explain(&["--ingress-class=other"], &public), 1);
    let output = command_with(&["run", "--manifests", text(manifests.path())], &[("PENSTOCK_THREADS", "many")]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("many"), "{}", stderr(&output));
}

#[test]
fn a_port_in_use_ends_run_with_its_address() {
    let manifests = sound();
    for (flag, variable) in
        [("--http", "PENSTOCK_HTTP"), ("--https", "PENSTOCK_HTTPS"), ("--status", ""), ("--admin", "")]
    {
        let occupied = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = occupied.local_addr().unwrap().to_string();
        let others: Vec<String> =
            Addresses::reserve().flags().into_iter().filter(|other| !other.starts_with(&format!("{flag}="))).collect();
        let others = others.iter().map(String::as_str);
        let mut arguments: Vec<&str> =
            ["run", "--manifests", text(manifests.path())].into_iter().chain(others).collect();
        let environment = if variable.is_empty() {
            arguments.extend([flag, &address]);
            Vec::new()
        } else {
            vec![(variable, address.as_str())]
        };
        let output = command_with(&arguments, &environment);
        assert_eq!(code(&output), 1, "{flag}: {}", stderr(&output));
        let last = stderr(&output).lines().last().unwrap().to_owned();
        assert!(last.contains(&address) && last.contains("in use"), "{flag}: {last}");
    }
}

#[tokio::test]
async fn the_flags_of_ingress_nginx_are_accepted_in_their_spelling() {
    let upstream = Upstream::echo("a").await;
    let public = format!("{}  ingressClassName: public\n", ingress("a", "a.test", &[], &[("/", "a")]));
    let manifests = Manifests::of(&[service("a", &[upstream.address()]), public].concat());
    let ignored = ["--enable-metrics=false", "--profiling", "-v=2", "--sync-period", "1m"];
    let flags = [
        "--ingress-class=public",
        "--ingress-class-by-name=true",
        "--controller-class=example.com/other",
        // For a cluster, and given in vain here.
        "--election-id=leader",
        "--update-status",
        "--publish-service",
        "ns/name",
    ];
    let gateway = Gateway::start(&manifests, &[&flags[..], &ignored].concat()).await;
    assert_eq!(gateway.get("http://a.test/").await.upstream(), "a");
    for flag in ["--enable-metrics", "--profiling", "-v", "--sync-period"] {
        gateway.wait_for_log(&["WARN", &format!("flag {flag} "), "no effect"]).await;
    }
}

#[test]
fn explain_tells_who_takes_a_request_and_why_the_others_do_not() {
    let manifests = sound();
    manifests.write("b.yaml", &ingress("b", "a.test", &[], &[("/api", "a"), ("/api/v1", "a")]));
    let explain = |url: &str| command(&["explain", "--manifests", text(manifests.path()), url]);
    let output = explain("https://a.test/api/x");
    assert_eq!(code(&output), 0);
    let report = stdout(&output);
    let takes = |word: &str| report.lines().find(|line| line.contains(word)).unwrap_or_default().to_owned();
    assert!(takes("takes it").contains("Ingress default/b rules[0].paths[0]"), "{report}");
    assert!(takes("path differs").contains("/api/v1"), "{report}");
    assert!(takes("would take it").contains("Ingress default/a"), "{report}");
    assert!(report.contains("default/a:80") && report.contains("192.0.2.1:8080"), "{report}");
    // The redirect is a route that takes the request, too.
    let output = explain("http://a.test/x?y");
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains("308 https://a.test/x?y"), "{}", stdout(&output));
    let output = explain("http://b.test/");
    assert_eq!(code(&output), 1);
    assert!(stdout(&output).contains("404"), "{}", stdout(&output));
    let output =
        command(&["explain", "-o", "json", "-X", "POST", "--manifests", text(manifests.path()), "https://a.test/"]);
    assert_eq!(code(&output), 0);
    assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap().is_object());
}

#[tokio::test]
async fn explain_asks_a_running_gateway_what_it_would_ask_the_manifests() {
    let manifests = sound();
    let gateway = Gateway::start(&manifests, &[]).await;
    let admin = format!("http://{}", gateway.addresses().admin);
    for (url, expected) in [("https://a.test/", 0), ("http://a.test/", 0), ("https://b.test/", 1)] {
        let live = command(&["explain", "--admin", &admin, url]);
        let offline = command(&["explain", "--manifests", text(manifests.path()), url]);
        assert_eq!((code(&live), stdout(&live)), (expected, stdout(&offline)), "{url}");
    }
    let nobody = Addresses::reserve().admin;
    let output = command(&["explain", "--admin", &format!("http://{nobody}"), "http://a.test/"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains(&nobody.to_string()), "{}", stderr(&output));
}

#[test]
fn translate_prints_the_model_without_private_keys() {
    let manifests = sound();
    let output = command(&["translate", text(manifests.path())]);
    let model = stdout(&output);
    assert_eq!(code(&output), 0);
    for word in ["a.test", "192.0.2.1:8080", "Ingress default/a"] {
        assert!(model.contains(word), "no {word} in\n{model}");
    }
    let file = std::fs::read_to_string(manifests.file("manifests.yaml")).unwrap();
    let key = file.lines().find_map(|line| line.trim().strip_prefix("tls.key: ")).unwrap();
    assert!(!model.contains("PRIVATE KEY") && !model.contains(&key[60..100]), "{model}");
}

#[test]
fn translate_prints_what_is_sound_and_reports_the_rest() {
    let manifests = sound();
    let places = faulty(&manifests);
    for target in ["--to=model", "--to=networking.k8s.io/v1"] {
        let output = command(&["translate", target, text(manifests.path())]);
        assert_eq!(code(&output), 1, "{target}");
        assert!(stdout(&output).contains("a.test"), "{target}");
        for (what, place, _) in &places {
            assert!(stderr(&output).contains(&format!("{place}: error: ")), "{what}: {}", stderr(&output));
        }
    }
}

#[test]
fn translate_converts_old_ingresses_to_the_current_version() {
    let manifests = Manifests::of(
        "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata:\n  name: a\nspec:\n  backend: {serviceName: a, servicePort: http}\n  \
         rules:\n  - host: a.test\n    http:\n      paths:\n      - path: /x\n        backend: {serviceName: b, servicePort: 80}\n\
         ---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: untouched\ndata:\n  key: value\n",
    );
    let output = command(&["translate", "--to=networking.k8s.io/v1", text(manifests.path())]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let converted = stdout(&output);
    for words in ["networking.k8s.io/v1\n", "defaultBackend:", "pathType: ImplementationSpecific", "name: untouched"] {
        assert!(converted.contains(words), "no {words} in\n{converted}");
    }
    assert!(!converted.contains("serviceName") && !converted.contains("extensions"), "{converted}");
    // What it prints is read again without a complaint about versions, and means the same.
    let again = Manifests::of(&converted);
    let model = |manifests: &Manifests| stdout(&command(&["translate", text(manifests.path())]));
    assert_eq!(model(&again), model(&manifests));
    assert!(!stdout(&command(&["check", text(again.path())])).contains("OldVersion"));
}

#[tokio::test]
async fn run_reports_every_fault_at_its_place_and_serves_the_rest() {
    let upstream = Upstream::echo("good").await;
    let manifests = Manifests::of(
        &[service("good", &[upstream.address()]), ingress("good", "good.test", &[], &[("/", "good")])].concat(),
    );
    let places = faulty(&manifests);
    let gateway = Gateway::start(&manifests, &[]).await;
    assert_eq!(gateway.get("http://good.test/").await.upstream(), "good");
    for (_, place, word) in places {
        gateway.wait_for_log(&["ERROR", &format!("place={place} "), word]).await;
    }
}
