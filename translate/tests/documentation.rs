//! The tables of `docs` say of every key of the ConfigMap and of every annotation what the code does with it:
//! `UPDATE_GOLDEN=1` rewrites them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::path::Path;

use translate::ingress::annotations::{ANNOTATIONS, AnnotationRow, OWN_ANNOTATIONS, State, When as Values, difference};
use translate::{SETTING_KEYS, Scope, SettingKey, SettingState, When};

#[test]
fn the_documentation_lists_every_key_as_the_code_treats_it() {
    let rows = SETTING_KEYS.iter().map(|key| (key.name.to_owned(), row(key)));
    check("configmap.md", "key", rows);
}

#[test]
fn the_documentation_lists_every_annotation_as_the_code_treats_it() {
    let own = OWN_ANNOTATIONS.iter().map(|row| (format!("penstock.dev/{}", row.name), row));
    let all = ANNOTATIONS.iter().map(|row| (row.name.to_owned(), row)).chain(own);
    check("annotations.md", "annotation", all.map(|(name, row)| (name, annotation(row))));
}

/// Compares the table of a document with rows of a name, its state and what there is to note.
fn check(document: &str, of: &str, rows: impl Iterator<Item = (String, (&'static str, String))>) {
    let head = format!("| {of} | state | notes |\n| --- | --- | --- |\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(document);
    let text = std::fs::read_to_string(&path).unwrap();
    let prose = &text[..text.find(&head).unwrap_or(text.len())];
    let expected = rows.fold(format!("{prose}{head}"), |mut text, (name, (state, notes))| {
        writeln!(text, "| `{name}` | {state} | {notes} |").unwrap();
        text
    });
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected, "run again with UPDATE_GOLDEN=1");
}

fn row(key: &SettingKey) -> (&'static str, String) {
    match key.state {
        SettingState::Live(Scope::Connection, _) | SettingState::Restricts(Scope::Connection, _) => {
            ("connections", key.note.to_owned())
        }
        SettingState::Live(Scope::Request, _) | SettingState::Restricts(Scope::Request, _) => {
            ("requests", key.note.to_owned())
        }
        SettingState::Denies(When::True, why) => ("denies when true", sentence(why)),
        SettingState::Denies(When::Set, why) => ("denies", sentence(why)),
        SettingState::Ignored(why) => ("without effect", sentence(why)),
    }
}

fn annotation(row: &AnnotationRow) -> (&'static str, String) {
    match row.state {
        State::Done(_) | State::DoneOrDenies(..) => ("done", difference(row.name).map(sentence).unwrap_or_default()),
        State::Denies(Values::True, why) => ("denies when true", sentence(why)),
        State::Denies(Values::Set, why) => ("denies", sentence(why)),
        State::Warns(why) => ("without effect", sentence(why)),
    }
}

/// A reason as it stands in a problem, as a sentence of its own.
fn sentence(why: &str) -> String {
    let mut characters = why.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters).chain(['.']).collect()
}
