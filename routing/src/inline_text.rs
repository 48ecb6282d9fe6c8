//! Short texts that lie where they are compared: a lookup that finds one need not follow a pointer to read it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A text that lies in the value itself when it has at most `N` bytes, and on the heap otherwise.
#[derive(Clone)]
pub struct InlineText<const N: usize>(Place<N>);

#[derive(Clone)]
enum Place<const N: usize> {
    Inline { len: u8, bytes: [u8; N] },
    Heap(Arc<str>),
}

impl<const N: usize> InlineText<N> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // Cut from a `str` as a whole, so it is one.
            Place::Inline { .. } => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Place::Heap(text) => text,
        }
    }

    /// The text as what it is compared by. Lookups ask for nothing else: it need not be looked through.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Place::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Place::Heap(text) => text.as_bytes(),
        }
    }
}

impl<const N: usize> From<&str> for InlineText<N> {
    fn from(text: &str) -> Self {
        let mut bytes = [0; N];
        Self(match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(text.as_bytes());
                Place::Inline { len, bytes }
            }
            _ => Place::Heap(text.into()),
        })
    }
}

impl<const N: usize> Deref for InlineText<N> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> PartialEq for InlineText<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const N: usize> Eq for InlineText<N> {}

impl<const N: usize> PartialOrd for InlineText<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for InlineText<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl<const N: usize> Hash for InlineText<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl<const N: usize> fmt::Debug for InlineText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl<const N: usize> fmt::Display for InlineText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_wherever_it_lies() {
        let texts = ["", "/", "/a", "/grün", "/abcdef", "/abcdefg", "/abcdefgh", &"/".repeat(300)];
        for text in texts {
            let inline = InlineText::<8>::from(text);
            assert_eq!(inline.as_str(), text);
            assert_eq!(inline.as_bytes(), text.as_bytes());
            assert_eq!(inline, inline.clone());
            for other in texts {
                assert_eq!(inline.cmp(&other.into()), text.cmp(other), "{text} {other}");
                assert_eq!(inline == other.into(), text == other, "{text} {other}");
            }
        }
    }
}
