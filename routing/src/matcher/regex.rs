//! Regular expressions: linear time whatever the pattern, bounded memory, and many patterns in one automaton.

use std::fmt;
use std::sync::Arc;

use regex_automata::meta::{self, Regex};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::Look;
use serde::{Serialize, Serializer};

/// The largest compiled form of one pattern, in bytes: a pattern that needs more is refused with its object.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// The longest pattern that is looked at, in bytes.
const MAX_PATTERN_TEXT: usize = 4096;
/// Capture groups that a rewrite can use without an allocation (`$0` to `$9` and a few to spare).
const INLINE_GROUPS: usize = 16;

/// Why a match cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// Not a regular expression, or one that this engine does not know (look-around and back-references have no
    /// linear-time form).
    #[error("regular expression {pattern:?}: {reason}")]
    Pattern {
        /// The pattern as it was written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The pattern is longer than any that is accepted.
    #[error("regular expression is longer than {MAX_PATTERN_TEXT} bytes")]
    TooLong,
}

/// One compiled regular expression, cheap to clone.
///
/// Patterns work on bytes: paths and header values are ASCII or opaque.
#[derive(Clone)]
pub struct RegexPattern(Arc<Compiled>);

struct Compiled {
    source: Box<str>,
    /// The same pattern, rewritten so that a search anchored at the start finds what an unanchored one would.
    anchored: Box<str>,
    case_insensitive: bool,
    regex: Regex,
}

/// Many patterns in one automaton: the first in order that matches, in one pass over the text.
#[derive(Debug)]
pub(crate) struct RegexSet(Regex);

// === impl RegexPattern ===

impl RegexPattern {
    /// A pattern that must match the whole text, with case (Gateway API `RegularExpression`).
    pub fn full(pattern: &str) -> Result<Self, MatchError> {
        Self::compile(pattern, format!(r"^(?:{pattern})\z"), false)
    }

    /// A pattern that must match at the start of a path, without case: the `location ~* "^<path>"` that ingress-nginx
    /// writes for `use-regex`.
    pub fn ingress_location(pattern: &str) -> Result<Self, MatchError> {
        Self::compile(pattern, format!("^{pattern}"), true)
    }

    /// A pattern that may match anywhere in a text, with case (nginx `~`).
    pub fn anywhere(pattern: &str) -> Result<Self, MatchError> {
        Self::compile(pattern, format!("(?:{pattern})"), false)
    }

    fn compile(source: &str, expression: String, case_insensitive: bool) -> Result<Self, MatchError> {
        if source.len() > MAX_PATTERN_TEXT {
            return Err(MatchError::TooLong);
        }
        let refuse =
            |error: meta::BuildError| MatchError::Pattern { pattern: source.to_owned(), reason: reason_of(&error) };
        let regex = builder(case_insensitive).build(&expression).map_err(refuse)?;
        // `^/a|/b` is anchored in one branch only. Skipping lazily to the match keeps the meaning, and lets many
        // patterns be searched from the start at once, where the order of the patterns alone decides.
        let is_anchored = anchored_in_every_branch(&expression, case_insensitive);
        let (anchored, regex) = if is_anchored {
            (expression, regex)
        } else {
            let anchored = format!("^(?s:.)*?(?:{expression})");
            let regex = builder(case_insensitive).build(&anchored).map_err(refuse)?;
            (anchored, regex)
        };
        Ok(Self(Arc::new(Compiled { source: source.into(), anchored: anchored.into(), case_insensitive, regex })))
    }

    /// The pattern as its author wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.source
    }

    /// Whether `text` matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.is_match_bytes(text.as_bytes())
    }

    pub(super) fn is_match_bytes(&self, text: &[u8]) -> bool {
        self.0.regex.is_match(Input::new(text).anchored(Anchored::Yes))
    }

    /// How many capture groups the pattern has, `$0` not counted.
    #[must_use]
    pub fn n_groups(&self) -> usize {
        self.0.regex.captures_len().saturating_sub(1)
    }

    /// Calls `replace` with a function from group number to captured text; groups that took no part are empty.
    ///
    /// `None` when `text` does not match.
    pub fn with_captures<'t, R>(
        &self,
        text: &'t str,
        replace: impl FnOnce(&dyn Fn(usize) -> &'t str) -> R,
    ) -> Option<R> {
        let n_slots = self.0.regex.captures_len() * 2;
        let mut inline = [None; INLINE_GROUPS * 2];
        let mut spilled = Vec::new();
        let slots: &mut [Option<NonMaxUsize>] = match inline.get_mut(..n_slots) {
            Some(slots) => slots,
            None => {
                spilled.resize(n_slots, None);
                &mut spilled
            }
        };
        self.0.regex.search_slots(&Input::new(text).anchored(Anchored::Yes), slots)?;
        let group = |number: usize| -> &'t str {
            let bound = |at: usize| slots.get(at).copied().flatten().map(|slot| slot.get());
            bound(number * 2)
                .zip(bound(number * 2 + 1))
                .and_then(|(start, end)| text.get(start..end))
                .unwrap_or_default()
        };
        Some(replace(&group))
    }
}

impl fmt::Debug for RegexPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegexPattern({:?})", self.0.source)
    }
}

impl fmt::Display for RegexPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.source)
    }
}

impl PartialEq for RegexPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.anchored == other.0.anchored && self.0.case_insensitive == other.0.case_insensitive
    }
}

impl Eq for RegexPattern {}

impl Serialize for RegexPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.source)
    }
}

// === impl RegexSet ===

impl RegexSet {
    /// Joins patterns that were each accepted alone.
    ///
    /// `None` when together they are larger than the engine allows; the caller then tries them one by one.
    pub(crate) fn new(patterns: &[&RegexPattern]) -> Option<Self> {
        let expressions: Vec<String> = patterns
            .iter()
            .map(|pattern| {
                let flag = if pattern.0.case_insensitive { "(?i)" } else { "" };
                format!("{flag}{}", pattern.0.anchored)
            })
            .collect();
        builder(false).build_many(&expressions).ok().map(Self)
    }

    /// The index of the first pattern that matches `text`.
    pub(crate) fn first_match(&self, text: &str) -> Option<usize> {
        // Every pattern is anchored, so all matches start at 0 and leftmost-first means first in order.
        self.0.search_half(&Input::new(text).anchored(Anchored::Yes)).map(|found| found.pattern().as_usize())
    }
}

fn builder(case_insensitive: bool) -> meta::Builder {
    let mut builder = Regex::builder();
    builder
        .syntax(syntax::Config::new().unicode(false).utf8(false).case_insensitive(case_insensitive).nest_limit(100))
        .configure(
            meta::Config::new()
                .utf8_empty(false)
                .nfa_size_limit(Some(MAX_PATTERN_BYTES))
                .onepass_size_limit(Some(64 << 10))
                .hybrid_cache_capacity(256 << 10),
        );
    builder
}

/// Whether every branch of the expression starts at the start of the text.
fn anchored_in_every_branch(expression: &str, case_insensitive: bool) -> bool {
    let config = syntax::Config::new().unicode(false).utf8(false).case_insensitive(case_insensitive);
    syntax::parse_with(expression, &config).is_ok_and(|hir| hir.properties().look_set_prefix().contains(Look::Start))
}

/// The engine's error in one line: its own text is a drawing of several lines.
fn reason_of(error: &meta::BuildError) -> String {
    if let Some(error) = error.syntax_error() {
        let text = error.to_string();
        let last = text.lines().rev().find_map(|line| line.strip_prefix("error: "));
        return last.unwrap_or("not a regular expression").to_owned();
    }
    match error.size_limit() {
        Some(limit) => format!("compiled form is larger than {limit} bytes"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_matches_as_a_prefix_without_case() {
        let pattern = RegexPattern::ingress_location("/foo(/|$)(.*)").unwrap();
        assert!(pattern.is_match("/FOO/bar"));
        assert!(pattern.is_match("/foo"));
        assert!(!pattern.is_match("/foobar"));
        assert!(!pattern.is_match("/x/foo/bar"));
        let rewritten = pattern.with_captures("/foo/bar/baz", |group| format!("/{}", group(2)));
        assert_eq!(rewritten.as_deref(), Some("/bar/baz"));
        assert_eq!(pattern.with_captures("/foo", |group| group(2).to_owned()).as_deref(), Some(""));
    }

    #[test]
    fn an_alternative_without_anchor_is_found_anywhere_as_nginx_finds_it() {
        let pattern = RegexPattern::ingress_location("/a|/b").unwrap();
        assert!(pattern.is_match("/a"));
        assert!(pattern.is_match("/x/b"));
        assert!(!pattern.is_match("/x/a"));
    }

    #[test]
    fn the_first_pattern_of_a_set_wins_wherever_it_matches() {
        let patterns = ["/a|/bar", "/x", "/x/long"].map(|text| RegexPattern::ingress_location(text).unwrap());
        let set = RegexSet::new(&patterns.each_ref()).unwrap();
        assert_eq!(set.first_match("/x/bar"), Some(0));
        assert_eq!(set.first_match("/x/long"), Some(1));
        assert_eq!(set.first_match("/y"), None);
    }

    #[test]
    fn a_pattern_that_could_harm_is_refused_in_one_line() {
        let nested = "(".repeat(200) + &")".repeat(200);
        for pattern in ["(", "(?!x)y", r"(a)\1", "((a{1000}){1000}){1000}", "[z-a]", nested.as_str()] {
            let error = RegexPattern::ingress_location(pattern).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
        assert_eq!(RegexPattern::full(&"a".repeat(5000)).unwrap_err(), MatchError::TooLong);
    }

    #[test]
    fn catastrophic_patterns_take_linear_time() {
        let pattern = RegexPattern::full("^(a+)+$").unwrap();
        assert!(!pattern.is_match(&("a".repeat(10_000) + "!")));
    }
}
