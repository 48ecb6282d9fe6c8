//! The names of hosts, in requests and in rules.

#![no_main]

use libfuzzer_sys::fuzz_target;
use routing::{HostName, HostPattern, WildcardDepth};

fuzz_target!(|text: &str| {
    if let Some(name) = HostName::new(text) {
        let name = name.as_str();
        assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
        let again = HostName::new(name);
        // A second trailing dot is another name.
        assert!(name.ends_with('.') || again.is_some_and(|again| again.as_str() == name), "{text:?} {name:?}");
    }
    for depth in [WildcardDepth::One, WildcardDepth::OneOrMore] {
        if let Ok(pattern) = HostPattern::parse(text, depth)
            && !text.contains('*')
            && !text.is_empty()
        {
            let name = HostName::new(text);
            assert!(name.is_some_and(|name| pattern.matches(name.as_str())), "{text:?} is itself");
        }
    }
});
