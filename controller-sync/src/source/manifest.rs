//! From the text of one file to the objects in it.
//!
//! Pure: text in, values out. What is wrong with one document never hides another.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_saphyr::MessageFormatter;
use translate::resources::ObjectKey;
use translate::{Change, Config, Decoded, Problem, Reason, decode};
use xxhash_rust::xxh3::xxh3_64;

use super::document::{Document, documents};

/// No object of Kubernetes is nested as deeply, not even the schema in a CustomResourceDefinition.
const MAX_DEPTH: usize = 128;
/// Mappings, sequences and scalars of a document, aliases followed: some 20,000 Ingresses in one list.
const MAX_NODES: usize = 1_000_000;
/// Every node begins, and all but the scalars end.
const MAX_EVENTS: usize = 2 * MAX_NODES;
/// What aliases may add.
const MAX_REPLAYED_EVENTS: usize = 200_000;
/// Text of a document, aliases followed.
const MAX_SCALAR_BYTES: usize = 32 << 20;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The objects, in their order, each key once.
    pub objects: Vec<Object>,
    /// What is wrong besides: unreadable documents, objects that cannot be identified, objects that are there twice.
    pub problems: Vec<Located<Problem>>,
    /// Objects of a kind that nobody knows here.
    pub unknown: Vec<Located<UnknownKind>>,
    /// Whether it is not known what some document holds: it may be any object that was there before.
    pub has_gaps: bool,
}

/// An object of a file.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its identity.
    pub key: ObjectKey,
    /// What it says: it is there, or it is refused.
    pub change: Change,
    /// The line that its document begins at, from 1.
    pub line: usize,
    /// Which item it is, when the document is a list.
    pub item: Option<usize>,
    /// A hash of what is written: another one when the object is another.
    pub digest: u64,
}

/// Something with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The line, from 1: that of the fault if it is known, else the one that the document begins at.
    pub line: usize,
    /// Which item it is, when the document is a list.
    pub item: Option<usize>,
    /// What is there.
    pub value: T,
}

/// A kind that nobody knows here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKind {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
}

/// Where an object stands.
#[derive(Clone, Copy)]
struct Spot {
    line: usize,
    item: Option<usize>,
}

struct Reader<'a> {
    config: &'a Config,
    manifest: Manifest,
    /// The lines of the objects so far.
    known: BTreeMap<ObjectKey, usize>,
}

/// Reads the text of a file: YAML or JSON, any number of documents.
#[must_use]
pub fn parse(file: &[u8], config: &Config) -> Manifest {
    let mut reader = Reader { config, manifest: Manifest::default(), known: BTreeMap::new() };
    for document in documents(file) {
        match value_of(&document) {
            Ok(value) => reader.add(value, Spot { line: document.line, item: None }, xxh3_64(document.bytes())),
            Err(problem) => {
                reader.manifest.problems.push(problem);
                reader.manifest.has_gaps = true;
            }
        }
    }
    reader.manifest
}

/// The documents of a file, untyped and in their order.
pub fn values(file: &[u8]) -> impl Iterator<Item = Result<Value, Located<Problem>>> + '_ {
    documents(file).into_iter().map(|document| value_of(&document))
}

impl Reader<'_> {
    /// Adds an object, or every object of a list. The items of a list within a list count as the item that it is.
    fn add(&mut self, value: Value, spot: Spot, digest: u64) {
        let Spot { line, item } = spot;
        match decode(value, self.config) {
            Decoded::Resource(resource, warnings) => {
                self.add_object(resource.key(), Change::Apply(resource, warnings), spot, digest);
            }
            Decoded::Refused(Some(key), problems) => {
                self.add_object(key.clone(), Change::Refuse(key, problems), spot, digest);
            }
            Decoded::Refused(None, problems) => {
                let problems = problems.into_iter().map(|value| Located { line, item, value });
                self.manifest.problems.extend(problems);
                self.manifest.has_gaps = true;
            }
            Decoded::List(items) => {
                for (index, value) in items.into_iter().enumerate() {
                    let digest = xxh3_64(value.to_string().as_bytes());
                    self.add(value, Spot { line, item: item.or(Some(index)) }, digest);
                }
            }
            Decoded::Unknown { api_version, kind } => {
                self.manifest.unknown.push(Located { line, item, value: UnknownKind { api_version, kind } });
            }
            Decoded::Ignored | Decoded::Empty => {}
        }
    }

    fn add_object(&mut self, key: ObjectKey, change: Change, spot: Spot, digest: u64) {
        let Spot { line, item } = spot;
        if let Some(first) = self.known.get(&key) {
            let message = format_args!("{key} is in this file twice: that of line {first} counts").to_string();
            let value = Problem::error(Reason::Duplicate, "", message);
            self.manifest.problems.push(Located { line, item, value });
            return;
        }
        self.known.insert(key.clone(), line);
        self.manifest.objects.push(Object { key, change, line, item, digest });
    }
}

/// The value of a document, or the line and the reason why it has none.
fn value_of(document: &Document<'_>) -> Result<Value, Located<Problem>> {
    let malformed = |line: usize, message: &str| Located {
        line,
        item: None,
        value: Problem::error(Reason::Malformed, "", message),
    };
    let text = document.text().map_err(|line| malformed(line, "text is not UTF-8"))?;
    let options = serde_saphyr::options! {
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED_EVENTS },
        // What many aliases of one anchor may cost is limited above; that there are many is no fault.
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: MAX_EVENTS,
            max_total_scalar_bytes: MAX_SCALAR_BYTES,
            enforce_alias_anchor_ratio: false,
        },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().and_then(|location| usize::try_from(location.line()).ok());
        let line = line.map_or(document.line, |line| document.line_of_file(line));
        malformed(line, &serde_saphyr::UserMessageFormatter.format_message(&error))
    })
}

#[cfg(test)]
mod tests {
    use translate::Severity;

    use super::*;

    fn config() -> Config {
        Config { ..Config::default() }
    }

    fn read(file: &[u8]) -> Manifest {
        parse(file, &config())
    }

    fn map(name: &str) -> String {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n")
    }

    /// Name, line and item of every object.
    fn objects(manifest: &Manifest) -> Vec<(&str, usize, Option<usize>)> {
        manifest.objects.iter().map(|object| (&*object.key.name, object.line, object.item)).collect()
    }

    fn problems(manifest: &Manifest) -> Vec<(usize, &str)> {
        manifest.problems.iter().map(|located| (located.line, located.value.message.as_str())).collect()
    }

    #[track_caller]
    fn check_unreadable(file: &[u8], line: usize, message: &str) {
        let manifest = read(file);
        assert_eq!(problems(&manifest), [(line, message)]);
        assert!(manifest.has_gaps);
        assert_eq!(manifest.problems[0].value.severity, Severity::Error);
    }

    #[test]
    fn every_document_is_an_object_with_its_line() {
        let manifest = read(format!("# both\n{}---\n\n{}---\n", map("a"), map("b")).as_bytes());
        assert_eq!(objects(&manifest), [("a", 2, None), ("b", 7, None)]);
        assert!(manifest.problems.is_empty() && manifest.unknown.is_empty() && !manifest.has_gaps);
    }

    #[test]
    fn json_is_read_with_its_tabs_and_escapes() {
        let json = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"ConfigMap\",\n\t\"metadata\": {\"name\": \"a\"},\n\
                    \t\"data\": {\"smile\": \"\\ud83d\\ude00 \\/\"}\n}\n";
        let manifest = read(json.as_bytes());
        assert_eq!(objects(&manifest), [("a", 1, None)], "{manifest:?}");
        let Change::Apply(resource, _) = &manifest.objects[0].change else { panic!("{manifest:?}") };
        let translate::resources::Resource::ConfigMap(map) = &**resource else { panic!("{resource:?}") };
        assert_eq!(map.data["smile"], "😀 /");
    }

    #[test]
    fn byte_order_mark_and_carriage_returns_do_not_matter() {
        let text = format!("\u{feff}---\n{}---\n{}", map("a"), map("b")).replace('\n', "\r\n");
        assert_eq!(objects(&read(text.as_bytes())), [("a", 2, None), ("b", 6, None)]);
    }

    #[test]
    fn lists_are_read_item_by_item() {
        let list = "kind: List\napiVersion: v1\nitems:\n\
                    - {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n\
                    - {kind: List, apiVersion: v1, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}]}\n\
                    ---\nkind: ServiceList\napiVersion: v1\nitems: [{metadata: {name: c}}]\n";
        assert_eq!(objects(&read(list.as_bytes())), [("a", 1, Some(0)), ("b", 1, Some(1)), ("c", 7, Some(0))]);
    }

    #[test]
    fn a_malformed_document_does_not_hide_the_others() {
        let file = format!("{}---\na: [1\nb: 2\n---\n{}", map("a"), map("b"));
        let manifest = read(file.as_bytes());
        assert_eq!(objects(&manifest), [("a", 1, None), ("b", 8, None)]);
        assert_eq!(problems(&manifest), [(6, "illegal placement of ':' indicator")]);
        assert!(manifest.has_gaps);
    }

    #[test]
    fn a_fault_is_named_with_its_line_in_the_file() {
        check_unreadable(b"---\n\n---\na: 1\nb: 2\na: 3\n", 6, "duplicate mapping key: a not allowed here");
        check_unreadable(b"\na:\n\tb: 1\n", 3, "tabs disallowed within this context (block indentation)");
        let indentation = "while parsing a block mapping, did not find expected key";
        check_unreadable(b"a:\r\n  b: 1\r\n c: 2\r\n", 3, indentation);
        check_unreadable(b"a: 1\nb: \xff\xfe\n", 2, "text is not UTF-8");
        check_unreadable(b"a: *nothing\n", 1, "reference to unknown value");
    }

    #[test]
    fn an_object_that_cannot_be_identified_may_be_any() {
        check_unreadable(b"apiVersion: v1\n", 1, "kind is missing");
        check_unreadable(b"\napiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a-}\n", 2, "name is missing");
        check_unreadable(b"just text\n", 1, "kind is missing");
    }

    #[test]
    fn aliases_cannot_make_a_small_file_large() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (last, next) in "abcdefghijk".chars().zip("bcdefghijkl".chars()) {
            let aliases = vec![format!("*{last}"); 10].join(", ");
            bomb.push_str(&format!("{next}: &{next} [{aliases}]\n"));
        }
        let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 1000].join(", "));
        let deep = format!("a: {}{}\n", "[".repeat(200), "]".repeat(200));
        let wide = format!("a: [{}]\n", "[],".repeat(2 << 20));
        for file in [bomb, text, deep, wide] {
            let manifest = read(file.as_bytes());
            assert!(manifest.has_gaps, "{}", file.get(..40).unwrap_or_default());
            assert_eq!(manifest.problems.len(), 1);
        }
    }

    #[test]
    fn many_aliases_of_one_anchor_are_no_fault() {
        let item = "- {apiVersion: v1, kind: ConfigMap, metadata: {name: x, labels: *labels}}\n";
        let file = format!("labels: &labels {{a: b}}\nkind: List\napiVersion: v1\nitems:\n{}", item.repeat(300));
        let manifest = read(file.as_bytes());
        assert_eq!(objects(&manifest), [("x", 1, Some(0))]);
        assert!(!manifest.has_gaps);
    }

    #[test]
    fn of_two_objects_with_one_key_the_first_counts() {
        let manifest = read(format!("{}data: {{v: '1'}}\n---\n{}", map("a"), map("a")).as_bytes());
        assert_eq!(objects(&manifest), [("a", 1, None)]);
        assert_eq!(problems(&manifest), [(6, "ConfigMap default/a is in this file twice: that of line 1 counts")]);
        assert_eq!(manifest.problems[0].value.reason, Reason::Duplicate);
        assert!(!manifest.has_gaps);
    }

    #[test]
    fn a_refused_object_keeps_its_key() {
        let manifest = read(b"apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {tls.crt: '*'}\n");
        assert!(matches!(&manifest.objects[0].change, Change::Refuse(key, _) if &*key.name == "a"), "{manifest:?}");
        assert!(!manifest.has_gaps);
    }

    #[test]
    fn kinds_of_others_are_told_and_those_of_kubernetes_are_not() {
        let manifest = read(b"apiVersion: apps/v1\nkind: Deployment\n---\n\napiVersion: example.com/v1\nkind: Thing\n");
        let kind = UnknownKind { api_version: "example.com/v1".to_owned(), kind: "Thing".to_owned() };
        assert_eq!(manifest.unknown, [Located { line: 5, item: None, value: kind }]);
        assert!(manifest.objects.is_empty() && manifest.problems.is_empty() && !manifest.has_gaps);
    }

    #[test]
    fn another_object_has_another_digest() {
        let digests = |file: &str| read(file.as_bytes()).objects.iter().map(|object| object.digest).collect::<Vec<_>>();
        let list = |value| {
            format!(
                "apiVersion: v1\nkind: List\nitems:\n\
                 - {{apiVersion: v1, kind: ConfigMap, metadata: {{name: a}}}}\n\
                 - {{apiVersion: v1, kind: ConfigMap, metadata: {{name: b}}, data: {{v: '{value}'}}}}\n"
            )
        };
        let (one, two) = (digests(&list(1)), digests(&list(2)));
        assert_eq!(one[0], two[0]);
        assert_ne!(one[1], two[1]);
        assert_ne!(digests(&map("a")), digests(&format!("{}data: {{v: '1'}}\n", map("a"))));
    }
}
