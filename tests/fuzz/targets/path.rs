//! The path normaliser beside a second one, written from RFC 3986 the slow way.

#![no_main]

use libfuzzer_sys::fuzz_target;
use routing::normalize_path;

fuzz_target!(|path: &str| {
    let normalized = normalize_path(path);
    match &normalized {
        Ok(path) => {
            assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")));
            assert_eq!(normalize_path(path).as_deref(), Ok(&**path), "once is enough");
        }
        Err(_) => {}
    }
    assert_eq!(normalized.ok().as_deref(), by_the_book(path).as_deref(), "{path:?}");
});

/// RFC 3986 sections 6.2.2.2 and 5.2.4, step by step; `None` where the gateway refuses.
fn by_the_book(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#' || byte == b'\\') {
        return None;
    }
    let mut input = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        input.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        match u8::from_str_radix(digits, 16).ok()? {
            0 | b'\\' => return None,
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => input.push(char::from(byte)),
            _ => input.push_str(&rest[at..at + 3]),
        }
        rest = &rest[at + 3..];
    }
    input.push_str(rest);
    if input.split('/').any(|segment| segment.starts_with(".;") || segment.starts_with("..;")) {
        return None;
    }
    let mut output = String::new();
    while !input.is_empty() {
        if input.starts_with("/./") || input == "/." {
            input = format!("/{}", &input[input.len().min(3)..]);
        } else if input.starts_with("/../") || input == "/.." {
            input = format!("/{}", &input[input.len().min(4)..]);
            output.truncate(output.rfind('/').unwrap_or(0));
        } else {
            let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
            output.push_str(&input[..end]);
            input.drain(..end);
        }
    }
    Some(output)
}
