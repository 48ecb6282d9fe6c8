//! `docs/configmap.md` says of every key what the code does with it: `UPDATE_GOLDEN=1` rewrites its table.

use std::fmt::Write as _;
use std::path::Path;

use translate::{SETTING_KEYS, Scope, SettingKey, SettingState, When};

const HEAD: &str = "| key | state | notes |\n| --- | --- | --- |\n";

#[test]
fn the_documentation_lists_every_key_as_the_code_treats_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configmap.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let prose = &text[..text.find(HEAD).unwrap_or(text.len())];
    let expected = SETTING_KEYS.iter().fold(format!("{prose}{HEAD}"), |mut text, key| {
        let (state, notes) = row(key);
        writeln!(text, "| `{}` | {state} | {notes} |", key.name).unwrap();
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

/// A reason as it stands in a problem, as a sentence of its own.
fn sentence(why: &str) -> String {
    let mut characters = why.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters).chain(['.']).collect()
}
