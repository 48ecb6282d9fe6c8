//! A strict reader of Prometheus's text format 0.0.4: what it does not understand, and what a scraper would have to guess,
//! fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a sample.
pub type Labels = BTreeMap<String, String>;

/// Everything that was scraped.
#[derive(Debug)]
pub struct Exposition {
    types: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The name, with the ending that a histogram's lines have.
    pub name: String,
    /// The labels.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

impl Exposition {
    /// Reads a text.
    ///
    /// # Panics
    /// When it is not valid: names, escapes and values; one type and one help for each family, before its samples, which
    /// stand together; no series twice; the buckets of a histogram cumulative, up to its count.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line must end with a line feed");
        let mut exposition = Self { types: BTreeMap::new(), samples: Vec::new() };
        let (mut helped, mut finished, mut series) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut family = String::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let (keyword, rest) = comment.split_once(' ').unwrap();
                let (name, rest) = rest.split_once(' ').unwrap();
                assert!(is_name(name), "{line}");
                match keyword {
                    "HELP" => assert!(helped.insert(name.to_owned()), "a second help: {line}"),
                    "TYPE" => {
                        assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                        let before = exposition.types.insert(name.to_owned(), rest.to_owned());
                        assert_eq!(before, None, "a second type: {line}");
                        finished.insert(std::mem::replace(&mut family, name.to_owned()));
                    }
                    _ => panic!("{line}"),
                }
                continue;
            }
            let sample = Sample::parse(line);
            let base = exposition.family(&sample.name);
            assert_eq!(base, family, "not with its family: {line}");
            assert!(!finished.contains(base), "the family has ended before: {line}");
            assert!(series.insert((sample.name.clone(), sample.labels.clone())), "a second time: {line}");
            exposition.samples.push(sample);
        }
        exposition.check_histograms();
        exposition
    }

    /// The samples of that name whose labels are these, among others.
    #[must_use]
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let has = |sample: &Sample, (name, value): &(&str, &str)| {
            sample.labels.get(*name).is_some_and(|found| found == value)
        };
        let fits = |sample: &&Sample| sample.name == name && labels.iter().all(|label| has(sample, label));
        self.samples.iter().filter(fits).collect()
    }

    /// The upper bounds of the buckets of a histogram's one series with these labels, each with its count.
    #[must_use]
    pub fn buckets(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(f64, f64)> {
        assert_eq!(self.types.get(name).map(String::as_str), Some("histogram"), "{name}");
        let buckets = self.find(&format!("{name}_bucket"), labels);
        buckets.iter().map(|bucket| (bucket.labels["le"].parse().unwrap(), bucket.value)).collect()
    }

    /// How many series there are.
    #[must_use]
    pub fn n_series(&self) -> usize {
        self.samples.len()
    }

    /// The family of a sample: a histogram's has three kinds of lines.
    fn family<'a>(&self, name: &'a str) -> &'a str {
        let endings = ["_bucket", "_sum", "_count"].into_iter();
        let mut bases = endings.filter_map(|ending| name.strip_suffix(ending));
        bases.find(|base| self.types.get(*base).is_some_and(|kind| kind == "histogram")).unwrap_or(name)
    }

    fn check_histograms(&self) {
        for (name, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            for count in self.find(&format!("{name}_count"), &[]) {
                let labels: Vec<_> = count.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let buckets = self.buckets(name, &labels);
                assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} is not cumulative: {buckets:?}");
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, count.value)), "{name}");
                assert_eq!(self.find(&format!("{name}_sum"), &labels).len(), 1, "{name}");
            }
        }
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        assert!(is_name(name), "{line}");
        let mut labels = Labels::new();
        let value = match rest.strip_prefix('{') {
            Some(mut rest) => {
                while !rest.starts_with('}') {
                    let (label, quoted) = rest.split_once("=\"").unwrap();
                    assert!(is_name(label) && !label.contains(':'), "{line}");
                    let (value, after) = unquoted(quoted);
                    assert_eq!(labels.insert(label.to_owned(), value), None, "{line}");
                    rest = after.strip_prefix(',').unwrap_or(after);
                }
                rest.strip_prefix("} ").unwrap()
            }
            None => rest.strip_prefix(' ').unwrap(),
        };
        Self { name: name.to_owned(), labels, value: value.parse().unwrap_or_else(|_| panic!("{line}")) }
    }
}

/// The text up to the closing quote without its escapes, and what follows.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match characters.next().unwrap().1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                other => panic!("\\{other} is no escape"),
            }),
            other => value.push(other),
        }
    }
    panic!("no closing quote: {text}");
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | ':'))
}
