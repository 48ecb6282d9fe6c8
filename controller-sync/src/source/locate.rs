//! From the field that a problem names to its line in the file.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, Span};

use super::document::{Document, documents};

/// How many merge keys (`<<`) are followed for one field.
const MAX_MERGES: usize = 16;
/// The key whose value is merged.
const MERGE: &str = "<<";

/// A file whose fields can be located. A document is parsed once, when something in it is asked for.
pub struct Positions<'a> {
    documents: Vec<(Document<'a>, OnceCell<Option<Tree<'a>>>)>,
}

/// A document with the positions of its nodes.
struct Tree<'a> {
    nodes: Vec<Node<'a>>,
    root: usize,
}

struct Node<'a> {
    line: usize,
    content: Content<'a>,
}

/// The children are indices.
enum Content<'a> {
    Scalar(Cow<'a, str>),
    Sequence(Vec<usize>),
    Mapping(Vec<(usize, usize)>),
}

/// A collection that has not ended yet.
struct Open {
    node: usize,
    /// The key that waits for its value.
    key: Option<usize>,
}

#[derive(Default)]
struct Builder<'a> {
    nodes: Vec<Node<'a>>,
    open: Vec<Open>,
    anchors: HashMap<usize, usize>,
    root: Option<usize>,
}

// === impl Positions ===

impl<'a> Positions<'a> {
    /// The positions of a file, as it is written.
    #[must_use]
    pub fn new(file: &'a [u8]) -> Self {
        Self { documents: documents(file).into_iter().map(|document| (document, OnceCell::new())).collect() }
    }

    /// The line of a field, from 1, as far as the file leads to it: a missing field is where its parent is.
    ///
    /// `line` and `item` are the place of the object; `field` is written as in [`translate::Problem::field`]. No item and
    /// no field is the place itself.
    #[must_use]
    pub fn line_of(&self, line: usize, item: Option<usize>, field: &str) -> usize {
        if item.is_none() && field.is_empty() {
            return line;
        }
        let Some((document, tree)) = self.tree_at(line) else { return line };
        document.line_of_file(tree.find(&within(item, field)).line)
    }

    /// The keys and values of a mapping, each with the line of the key, in the order of the file; those that it merges
    /// come after its own. What is no text is left out. None when the field is no mapping or is not there.
    #[must_use]
    pub fn entries_of(&self, line: usize, item: Option<usize>, field: &str) -> Vec<Entry> {
        let Some((document, tree)) = self.tree_at(line) else { return Vec::new() };
        let field = within(item, field);
        let found = tree.find(&field);
        let mut entries = Vec::new();
        if found.rest.is_empty() {
            tree.collect(found.node, MAX_MERGES, &mut entries);
        }
        for entry in &mut entries {
            entry.line = document.line_of_file(entry.line);
        }
        entries
    }

    fn tree_at(&self, line: usize) -> Option<(&Document<'a>, &Tree<'a>)> {
        let n_before = self.documents.partition_point(|(document, _)| document.line <= line);
        let (document, tree) = self.documents.get(n_before.checked_sub(1)?)?;
        let tree = tree.get_or_init(|| document.text().ok().and_then(Tree::parse));
        Some((document, tree.as_ref()?))
    }
}

/// A field of an item, from the document on.
fn within(item: Option<usize>, field: &str) -> Cow<'_, str> {
    match item {
        None => Cow::Borrowed(field),
        Some(item) => Cow::Owned(format!("items[{item}].{field}")),
    }
}

// === impl Builder ===

impl<'a> Builder<'a> {
    fn take(&mut self, event: Event<'a>, span: &Span) {
        let line = span.start.line();
        match event {
            Event::Scalar(text, _, anchor, _) => self.add(line, anchor, Content::Scalar(text)),
            Event::SequenceStart(_, anchor, _) => self.begin(line, anchor, Content::Sequence(Vec::new())),
            Event::MappingStart(_, anchor, _) => self.begin(line, anchor, Content::Mapping(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => drop(self.open.pop()),
            // An alias is the node that it names: what it holds is written there.
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => self.attach(*node),
                None => self.add(line, 0, Content::Scalar(Cow::Borrowed(""))),
            },
            _ => {}
        }
    }

    fn begin(&mut self, line: usize, anchor: usize, content: Content<'a>) {
        let node = self.nodes.len();
        self.add(line, anchor, content);
        self.open.push(Open { node, key: None });
    }

    fn add(&mut self, line: usize, anchor: usize, content: Content<'a>) {
        let node = self.nodes.len();
        self.nodes.push(Node { line, content });
        // No anchor is anchor 0.
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
        self.attach(node);
    }

    fn attach(&mut self, node: usize) {
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        match self.nodes.get_mut(open.node).map(|parent| &mut parent.content) {
            Some(Content::Sequence(items)) => items.push(node),
            Some(Content::Mapping(entries)) => match open.key.take() {
                Some(key) => entries.push((key, node)),
                None => open.key = Some(node),
            },
            Some(Content::Scalar(_)) | None => {}
        }
    }
}

// === impl Tree ===

impl<'a> Tree<'a> {
    /// What can be read of a document; a syntax error ends it.
    fn parse(text: &'a str) -> Option<Self> {
        let mut builder = Builder::default();
        for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
            builder.take(event, &span);
        }
        let Builder { nodes, root, .. } = builder;
        Some(Self { nodes, root: root? })
    }

    /// The last node on the way along `field` that exists, and what is left of the field.
    fn find<'f>(&self, field: &'f str) -> Step<'f> {
        let mut here = Step { node: self.root, line: self.node(self.root).map_or(1, |node| node.line), rest: field };
        loop {
            here.rest = here.rest.strip_prefix('.').unwrap_or(here.rest);
            let step = match self.node(here.node).map(|node| &node.content) {
                Some(Content::Mapping(_)) => self.step_into_mapping(here.node, here.rest, MAX_MERGES),
                Some(Content::Sequence(items)) => self.step_into_sequence(items, here.rest),
                Some(Content::Scalar(_)) | None => None,
            };
            // Nothing is left of the field, or the document ends before it.
            let Some(step) = step.filter(|_| !here.rest.is_empty()) else { return here };
            here = step;
        }
    }

    fn collect(&self, mapping: usize, merges: usize, entries: &mut Vec<Entry>) {
        let Some(Content::Mapping(children)) = self.node(mapping).map(|node| &node.content) else { return };
        let merged = children.iter().find(|(key, _)| self.text(*key) == Some(MERGE)).map(|(_, value)| *value);
        for (key, value) in children {
            let (Some(name), Some(text), Some(node)) = (self.text(*key), self.text(*value), self.node(*key)) else {
                continue;
            };
            if name != MERGE && entries.iter().all(|known| known.key != name) {
                entries.push(Entry { key: name.to_owned(), value: text.to_owned(), line: node.line });
            }
        }
        let (Some(merged), Some(merges)) = (merged, merges.checked_sub(1)) else { return };
        self.bases(&merged).iter().for_each(|base| self.collect(*base, merges, entries));
    }

    /// The mappings that a merge key names.
    fn bases<'n>(&'n self, merged: &'n usize) -> &'n [usize] {
        match self.node(*merged).map(|node| &node.content) {
            Some(Content::Sequence(bases)) => bases,
            _ => std::slice::from_ref(merged),
        }
    }

    fn step_into_sequence<'f>(&self, items: &[usize], field: &'f str) -> Option<Step<'f>> {
        let (index, rest) = bracketed(field)?;
        let node = *items.get(index.parse::<usize>().ok()?)?;
        Some(Step { node, line: self.node(node)?.line, rest })
    }

    /// A key may hold dots, as `tls.crt` does: the longest key that fits is meant. One in brackets may lack its prefix, as
    /// `[auth-secret]` does.
    fn step_into_mapping<'f>(&self, mapping: usize, field: &'f str, merges: usize) -> Option<Step<'f>> {
        let Content::Mapping(entries) = &self.node(mapping)?.content else { return None };
        let texts = || entries.iter().filter_map(|(key, value)| Some((*key, *value, self.text(*key)?)));
        let fits = |key: &str| match bracketed(field) {
            Some((name, rest)) => (name == key).then_some(rest),
            None => field.strip_prefix(key).filter(|rest| rest.is_empty() || rest.starts_with(['.', '['])),
        };
        let fitting = texts().filter_map(|(key, value, text)| Some((key, value, fits(text)?)));
        if let Some((key, node, rest)) = fitting.min_by_key(|(_, _, rest)| rest.len()) {
            return Some(Step { node, line: self.node(key)?.line, rest });
        }
        // What has found the annotation need not know by which prefix.
        let named =
            |key: &str| key.rsplit_once('/').is_some_and(|(_, name)| bracketed(field).is_some_and(|f| f.0 == name));
        if let Some((key, node, _)) = texts().find(|(_, _, text)| named(text)) {
            return Some(Step { node, line: self.node(key)?.line, rest: bracketed(field)?.1 });
        }
        let merged = texts().find(|(_, _, text)| *text == MERGE).map(|(_, value, _)| value)?;
        let merges = merges.checked_sub(1)?;
        self.bases(&merged).iter().find_map(|base| self.step_into_mapping(*base, field, merges))
    }

    fn text(&self, node: usize) -> Option<&str> {
        match &self.node(node)?.content {
            Content::Scalar(text) => Some(text),
            Content::Sequence(_) | Content::Mapping(_) => None,
        }
    }

    fn node(&self, node: usize) -> Option<&Node<'a>> {
        self.nodes.get(node)
    }
}

/// A key of a mapping, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value, as it is written.
    pub value: String,
    /// The line of the key, from 1.
    pub line: usize,
}

/// One step along a field.
struct Step<'f> {
    node: usize,
    line: usize,
    rest: &'f str,
}

/// `[inner]rest`
fn bracketed(field: &str) -> Option<(&str, &str)> {
    field.strip_prefix('[')?.split_once(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    const INGRESS: &str = "\
# an Ingress
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations:
    nginx.ingress.kubernetes.io/ssl-redirect: 'maybe'
    nginx.ingress.kubernetes.io/configuration-snippet: |
      more_set_headers \"a: b\";
spec:
  tls:
    - secretName: shop
      hosts:
        - a.example.com
        - b.example.com
  rules:
    - host: a.example.com
      http:
        paths:
          - path: /
            backend: {service: {name: shop, port: {number: 80}}}
          - path: /cart
            backend:
              service:
                name: cart
";

    fn check(file: &str, line: usize, item: Option<usize>, rows: &[(&str, usize)]) {
        let positions = Positions::new(file.as_bytes());
        for (field, expected) in rows {
            assert_eq!(positions.line_of(line, item, field), *expected, "{field}");
        }
    }

    #[test]
    fn a_field_is_where_its_key_is() {
        let rows = [
            ("", 2),
            ("apiVersion", 2),
            ("kind", 3),
            ("metadata.name", 5),
            ("metadata.annotations[nginx.ingress.kubernetes.io/ssl-redirect]", 7),
            ("metadata.annotations.nginx.ingress.kubernetes.io/ssl-redirect", 7),
            ("metadata.annotations[nginx.ingress.kubernetes.io/configuration-snippet]", 8),
            ("spec.tls[0].hosts[1]", 15),
            ("spec.tls[0].secretName", 12),
            ("spec.rules[0].host", 17),
            ("spec.rules[0].http.paths[0].backend.service.port.number", 21),
            ("spec.rules[0].http.paths[1].path", 22),
            ("spec.rules[0].http.paths[1].backend.service.name", 25),
        ];
        check(INGRESS, 2, None, &rows);
    }

    #[test]
    fn a_missing_field_is_where_its_parent_is() {
        let rows = [
            ("metadata.namespace", 4),
            ("metadata.annotations[other]", 6),
            ("metadata.annotations[ssl-redirect]", 7),
            ("metadata.annotations[redirect]", 6),
            ("spec.defaultBackend.service", 10),
            ("spec.tls[7].hosts", 11),
            ("spec.rules[0].http.paths[1].pathType", 22),
            ("spec.rules[0].http.paths[1].backend.service.port", 24),
            ("spec.rules[x]", 16),
            ("nothing.at.all", 2),
            ("spec.tls[0", 11),
            ("spec..", 10),
        ];
        check(INGRESS, 2, None, &rows);
    }

    #[test]
    fn a_key_with_dots_is_found_by_its_longest_form() {
        let secret = "kind: Secret\ndata:\n  tls: x\n  tls.crt: a\n  tls.key: b\nstringData:\n  tls: {crt: c}\n";
        check(secret, 1, None, &[("data.tls.crt", 4), ("data.tls.key", 5), ("data.tls", 3), ("stringData.tls.crt", 7)]);
    }

    #[test]
    fn an_item_of_a_list_is_found_by_its_index() {
        let list = "---\nkind: List\nitems:\n- kind: Service\n  metadata: {name: a}\n- kind: Service\n  spec:\n    ports: []\n";
        check(list, 2, Some(0), &[("", 4), ("metadata.name", 5)]);
        check(list, 2, Some(1), &[("kind", 6), ("spec.ports[0].port", 8)]);
        check(list, 2, Some(9), &[("kind", 3)]);
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let file = "\u{feff}a: 1\r\n---\r\n# second\r\n\r\nb:\r\n  c: 2\r\n...\r\nd: 3\r\n";
        check(file, 1, None, &[("a", 1)]);
        check(file, 5, None, &[("", 5), ("b.c", 6)]);
        check(file, 8, None, &[("d", 8)]);
    }

    #[test]
    fn json_has_lines_too() {
        let file = "{\n\t\"kind\": \"Service\",\n\t\"spec\": {\n\t\t\"ports\": [\n\t\t\t{\"port\": 1}\n\t\t]\n\t}\n}\n";
        check(file, 1, None, &[("kind", 2), ("spec.ports[0].port", 5)]);
    }

    #[test]
    fn an_alias_leads_to_what_it_names() {
        let file = "base: &base\n  host: a\nrule: *base\nmerged:\n  <<: [*base]\n  path: /\n";
        check(file, 1, None, &[("rule.host", 2), ("rule", 3), ("merged.host", 2), ("merged.path", 6), ("merged.x", 4)]);
    }

    #[test]
    fn the_entries_of_a_mapping_come_with_their_lines() {
        let check = |file: &str, line: usize, item: Option<usize>, field: &str, expected: &[(&str, &str, usize)]| {
            let entries = Positions::new(file.as_bytes()).entries_of(line, item, field);
            let entries: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.value.as_str(), e.line)).collect();
            assert_eq!(entries, expected, "{field}");
        };
        let redirect = ("nginx.ingress.kubernetes.io/ssl-redirect", "maybe", 7);
        let snippet = ("nginx.ingress.kubernetes.io/configuration-snippet", "more_set_headers \"a: b\";\n", 8);
        check(INGRESS, 2, None, "metadata.annotations", &[redirect, snippet]);
        check(INGRESS, 2, None, "metadata.labels", &[]);
        check(INGRESS, 2, None, "spec.rules", &[]);
        let list = "base: &base\n  a: x\n  b: x\nitems:\n- spec:\n    b: own\n    <<: *base\n    c: {d: e}\n";
        check(list, 1, Some(0), "spec", &[("b", "own", 6), ("a", "x", 2)]);
        check("a: &a\n  <<: *a\n  b: c\n", 1, None, "a", &[("b", "c", 3)]);
    }

    #[test]
    fn a_document_that_leads_nowhere_gives_the_line_of_the_object() {
        check("a: [1\nb: 2\n", 1, None, &[("b", 1)]);
        check("a: &a\n  <<: *a\n", 1, None, &[("a.b", 1)]);
        check("", 3, None, &[("a", 3)]);
        check("text\n", 1, None, &[("a", 1)]);
    }
}
