//! Writes values as YAML for the eye: block style, and quotes only where they are needed.

use serde_json::Value;

/// Keys in the order in which they are read best; all others follow by name.
const ORDER: [&str; 12] =
    ["severity", "reason", "field", "tls", "routes", "match", "origin", "path", "host", "filters", "port", "protocol"];

/// The YAML of a value.
pub(crate) fn to_text(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len()));
            for (index, (key, value)) in entries.into_iter().enumerate() {
                // The first entry of a map in a list stands on the line of its dash.
                if index > 0 || !text.ends_with("- ") {
                    text.push_str(&"  ".repeat(depth));
                }
                text.push_str(&scalar(key));
                text.push(':');
                write_behind(value, depth, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                text.push_str(&"  ".repeat(depth));
                text.push('-');
                match item {
                    Value::Object(entries) if !entries.is_empty() => {
                        text.push(' ');
                        write(item, depth + 1, text);
                    }
                    item => write_behind(item, depth, text),
                }
            }
        }
        other => write_behind(other, depth, text),
    }
}

/// Writes a value behind its key or dash.
fn write_behind(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            text.push('\n');
            write(value, depth + 1, text);
        }
        // kubectl does not indent lists either.
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            write(value, depth, text);
        }
        Value::String(string) => {
            text.push(' ');
            text.push_str(&scalar(string));
            text.push('\n');
        }
        other => {
            text.push(' ');
            text.push_str(&other.to_string());
            text.push('\n');
        }
    }
}

fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '$')
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.contains(|c: char| c.is_control())
        && !matches!(text, "true" | "false" | "null" | "yes" | "no" | "on" | "off");
    if is_plain {
        text.to_owned()
    } else if text.contains(|c: char| c.is_control()) {
        Value::from(text).to_string()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}
