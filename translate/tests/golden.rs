//! Golden files: one YAML file is one case, its name is what it promises, and a new case needs no Rust.
//!
//! A file holds the objects as an author writes them, and last a document `# Output`: the model that they amount to and
//! what their authors are told. An optional first document of kind `GoldenConfig` sets flags, and asks requests, whose
//! answers stand in the output too. `UPDATE_GOLDEN=1 cargo test -p translate --test golden` rewrites the outputs; the
//! difference is reviewed like code: a golden file is a claim about ingress-nginx and the Ingress specification, not a
//! recording.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "golden/render.rs"]
mod render;
#[path = "golden/yaml.rs"]
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use routing::Model;
use routing::model::{ListenerKey, PortRef, Protocol};
use serde::Deserialize;
use serde_json::Value;
use translate::resources::ObjectKey;
use translate::{
    Change, ClassConfig, Config, Decoded, ListenerConfig, Problem, Reason, ServiceRef, Source, Translator, decode,
    encode,
};

/// What stands between the objects and the expectations.
const OUTPUT: &str = "---\n# Output\n";

/// Flags of a case, and requests that it asks.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct GoldenConfig {
    kind: String,
    source: SourceName,
    /// `--ingress-class`.
    ingress_class: String,
    /// `--controller-class`.
    controller_class: String,
    ingress_class_by_name: bool,
    watch_ingress_without_class: bool,
    /// `namespace/name` or `namespace/name:port`.
    default_backend_service: Option<String>,
    default_ssl_certificate: Option<String>,
    configmap: Option<String>,
    publish_service: Option<String>,
    /// `http://host/path`, with another method before it if need be, or `TLS host`.
    requests: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
enum SourceName {
    Files,
    Cluster,
}

/// The expectations. A field that is not one of these fails the case.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Expectations {
    settings: BTreeMap<String, Value>,
    hosts: BTreeMap<String, Value>,
    backends: BTreeMap<String, Value>,
    certificates: BTreeMap<String, Value>,
    credentials: BTreeMap<String, Value>,
    authorities: Value,
    /// By object, or by document for what is no object.
    problems: BTreeMap<String, Vec<ExpectedProblem>>,
    /// Kinds that nobody knows here.
    unknown: BTreeSet<String>,
    answers: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedProblem {
    severity: String,
    reason: String,
    #[serde(default)]
    field: String,
    message: String,
}

/// What a case does: its changes, and what is said about documents that are no objects.
#[derive(Default)]
struct Input {
    changes: Vec<Change>,
    keys: BTreeSet<ObjectKey>,
    documents: BTreeMap<String, Vec<Problem>>,
    unknown: BTreeSet<String>,
}

#[test]
fn every_golden_file_holds() {
    let is_update = is_update();
    let failures: Vec<String> = files().iter().filter_map(|path| check(path, is_update).err()).collect();
    assert!(failures.is_empty(), "{}\n\nUPDATE_GOLDEN=1 rewrites the outputs", failures.join("\n\n"));
}

#[test]
fn every_reason_occurs_in_a_golden_file() {
    if is_update() {
        return;
    }
    let texts: Vec<String> = files().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let mut reason = Some(Reason::Malformed);
    while let Some(current) = reason {
        let line = format!("reason: {current:?}\n");
        assert!(texts.iter().any(|text| text.contains(&line)), "no golden file with {current:?}");
        reason = next(current);
    }
}

#[test]
fn an_unknown_field_in_the_expectations_fails() {
    for text in
        ["hostz: {}", "problems:\n  Ingress a/b:\n  - severity: error\n    reason: X\n    why: x\n    message: y"]
    {
        assert!(serde_saphyr::from_str::<Expectations>(text).is_err(), "{text}");
    }
}

/// The reasons one after the other: a new one does not compile until it stands here.
fn next(reason: Reason) -> Option<Reason> {
    Some(match reason {
        Reason::Malformed => Reason::InvalidValue,
        Reason::InvalidValue => Reason::AnnotationParsingFailed,
        Reason::AnnotationParsingFailed => Reason::Denied,
        Reason::Denied => Reason::AnnotationIgnored,
        Reason::AnnotationIgnored => Reason::AnnotationUnknown,
        Reason::AnnotationUnknown => Reason::OldVersion,
        Reason::OldVersion => Reason::Lenient,
        Reason::Lenient => Reason::Conflict,
        Reason::Conflict => Reason::CertificateUnavailable,
        Reason::CertificateUnavailable => Reason::CertificateMismatch,
        Reason::CertificateMismatch => Reason::ServiceNotFound,
        Reason::ServiceNotFound => Reason::PortNotFound,
        Reason::PortNotFound => Reason::NoEndpoints,
        Reason::NoEndpoints => Reason::AddressRefused,
        Reason::AddressRefused => Reason::ClassNotServed,
        Reason::ClassNotServed => Reason::RegexHost,
        Reason::RegexHost => Reason::SettingUnknown,
        Reason::SettingUnknown => Reason::SettingIgnored,
        Reason::SettingIgnored => Reason::Duplicate,
        // The last one is found by whoever reads the files, before anything is translated.
        Reason::Duplicate | Reason::KindUnknown => return None,
    })
}

fn is_update() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files
}

fn check(path: &Path, is_update: bool) -> Result<(), String> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(path).unwrap();
    let (input, expected) = text.split_once(OUTPUT).unwrap_or((&text, ""));
    let input = input.trim_end();
    let output = run(input).map_err(|error| format!("{name}: {error}"))?;
    if is_update {
        std::fs::write(path, format!("{input}\n{OUTPUT}{output}")).unwrap();
        return Ok(());
    }
    let parse = |text: &str| -> Result<Expectations, String> {
        if text.trim().is_empty() {
            return Ok(Expectations::default());
        }
        serde_saphyr::from_str(text).map_err(|error| format!("{name}: expectations: {error}"))
    };
    let (expected, actual) = (parse(expected)?, parse(&output)?);
    if expected == actual { Ok(()) } else { Err(format!("{name}: the output is now\n\n{output}")) }
}

/// Runs a case; returns its output.
fn run(input: &str) -> Result<String, String> {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(input).map_err(|error| error.to_string())?;
    let is_config = documents.first().is_some_and(|first| first["kind"] == "GoldenConfig");
    let flags = if is_config {
        serde_json::from_value(documents.remove(0)).map_err(|error| format!("GoldenConfig: {error}"))?
    } else {
        GoldenConfig::default()
    };
    let config = config(&flags);
    let input = read(documents, &config);
    written_again_it_is_the_same(&config, &input);
    let mut translator = Translator::new(config.clone());
    let mut model = Model::default();
    let delta = translator.apply(input.changes.iter().cloned()).delta;
    model.apply(&delta);
    let mut problems = problems(&translator, &input.keys);
    one_by_one_is_the_same(&config, &input, &model, &problems);
    problems.extend(input.documents);
    let answers = render::answers(&delta, &flags.requests);
    Ok(render::output(&model, &problems, &input.unknown, &answers))
}

/// What a process writes of an object for the next one is read as the same object.
fn written_again_it_is_the_same(config: &Config, input: &Input) {
    for change in &input.changes {
        let Change::Apply(resource, _) = change else { continue };
        match decode(encode(resource), config) {
            Decoded::Resource(again, _) => assert_eq!(again, *resource),
            other => panic!("{}: {other:?}", resource.key()),
        }
    }
}

/// Any order in any number of batches gives the same.
fn one_by_one_is_the_same(
    config: &Config,
    input: &Input,
    expected: &Model,
    expected_problems: &BTreeMap<String, Vec<Problem>>,
) {
    let mut translator = Translator::new(config.clone());
    let mut model = Model::default();
    model.apply(&translator.apply([]).delta);
    for change in input.changes.iter().rev() {
        model.apply(&translator.apply([change.clone()]).delta);
    }
    assert_eq!(model, *expected);
    assert_eq!(problems(&translator, &input.keys), *expected_problems);
}

fn problems(translator: &Translator, keys: &BTreeSet<ObjectKey>) -> BTreeMap<String, Vec<Problem>> {
    let all = keys.iter().map(|key| (key.to_string(), translator.problems(key)));
    all.filter(|(_, problems)| !problems.is_empty()).collect()
}

/// Reads documents as the source of files does: lists are opened, and the first of two equal keys counts.
fn read(documents: Vec<Value>, config: &Config) -> Input {
    let mut input = Input::default();
    let mut queue: Vec<(String, Value)> = Vec::new();
    for (number, document) in documents.into_iter().enumerate() {
        queue.push((format!("document {}", number + 1), document));
    }
    queue.reverse();
    while let Some((place, document)) = queue.pop() {
        let change = match decode(document, config) {
            Decoded::Resource(resource, warnings) => Change::Apply(resource, warnings),
            Decoded::Refused(Some(key), problems) => Change::Refuse(key, problems),
            Decoded::Refused(None, problems) => {
                input.documents.insert(place, problems);
                continue;
            }
            Decoded::List(items) => {
                let items = items.into_iter().enumerate().rev();
                queue.extend(items.map(|(index, item)| (format!("{place}, items[{index}]"), item)));
                continue;
            }
            Decoded::Unknown { api_version, kind } => {
                input.unknown.insert(format!("{api_version} {kind}"));
                continue;
            }
            Decoded::Ignored | Decoded::Empty => continue,
        };
        let key = match &change {
            Change::Apply(resource, _) | Change::Recall(resource) => resource.key(),
            Change::Refuse(key, _) | Change::Remove(key) => key.clone(),
        };
        if input.keys.insert(key.clone()) {
            input.changes.push(change);
        } else {
            let message = format_args!("{key} stands in this file twice: the first one counts").to_string();
            input.documents.insert(place, vec![Problem::error(Reason::Duplicate, "", message)]);
        }
    }
    input
}

fn config(flags: &GoldenConfig) -> Config {
    let pair = |text: &String| {
        let (namespace, name) = text.split_once('/').expect("namespace/name");
        (namespace.to_owned(), name.to_owned())
    };
    let listener = |port, protocol| ListenerConfig { key: ListenerKey::tcp(([0, 0, 0, 0], port).into()), protocol };
    Config {
        listeners: vec![listener(80, Protocol::Http), listener(443, Protocol::Tls)],
        annotation_prefixes: vec!["nginx.ingress.kubernetes.io".to_owned(), "penstock.dev".to_owned()],
        class: ClassConfig {
            name: flags.ingress_class.clone(),
            controller: flags.controller_class.clone(),
            by_name: flags.ingress_class_by_name,
            without_class: flags.watch_ingress_without_class,
        },
        source: match flags.source {
            SourceName::Files => Source::Files,
            SourceName::Cluster => Source::Cluster,
        },
        configmap: flags.configmap.as_ref().map(pair),
        tcp_services: None,
        udp_services: None,
        default_certificate: flags.default_ssl_certificate.as_ref().map(pair),
        published_service: flags.publish_service.as_ref().map(pair),
        default_backend: flags.default_backend_service.as_ref().map(pair).map(|(namespace, name)| {
            match name.split_once(':') {
                Some((name, port)) => {
                    let port = port.parse().map_or_else(|_| PortRef::Name(port.into()), PortRef::Number);
                    ServiceRef { namespace, name: name.to_owned(), port: Some(port) }
                }
                None => ServiceRef { namespace, name, port: None },
            }
        }),
        own_ports: vec![10254, 10246],
    }
}

impl Default for GoldenConfig {
    fn default() -> Self {
        let ClassConfig { name, controller, by_name, without_class } = ClassConfig::default();
        Self {
            kind: String::new(),
            source: SourceName::Files,
            ingress_class: name,
            controller_class: controller,
            ingress_class_by_name: by_name,
            watch_ingress_without_class: without_class,
            default_backend_service: None,
            default_ssl_certificate: None,
            configmap: None,
            publish_service: None,
            requests: Vec::new(),
        }
    }
}
