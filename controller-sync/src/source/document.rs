//! A file as its documents, split by text, so that a malformed document does not hide the others.

/// A document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// The line of the file that its text begins at, from 1.
    first_line: usize,
    /// The line of the file that its content begins at, after separators, blank lines and comments.
    pub(super) line: usize,
    bytes: &'a [u8],
}

/// The part of a file between two separators, as far as it has been read.
#[derive(Clone, Copy)]
struct Part {
    first_line: usize,
    start: usize,
    content: Option<usize>,
}

/// What a line means to the split.
enum Line {
    /// `---`, with or without content behind it.
    Start { has_content: bool },
    /// `...`
    End,
    /// Nothing, a comment or a directive.
    Blank,
    /// Anything else.
    Content,
}

/// The documents of a file; those that hold nothing are left out.
///
/// A line that begins with `---` or `...` ends a document wherever it stands, also within a block scalar (YAML 1.2.2,
/// section 9.1.2, c-forbidden): the split needs no parser.
pub(super) fn documents(file: &[u8]) -> Vec<Document<'_>> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut found = Vec::new();
    let mut part = Part { first_line: 1, start: 0, content: None };
    let mut offset = 0;
    for (index, line) in file.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        match classify(line) {
            Line::Start { has_content } => {
                found.extend(part.document(file, offset));
                part = Part { first_line: number, start: offset, content: has_content.then_some(number) };
            }
            Line::End => {
                found.extend(part.document(file, offset));
                part = Part { first_line: number + 1, start: offset + line.len(), content: None };
            }
            Line::Content => part.content = part.content.or(Some(number)),
            Line::Blank => {}
        }
        offset += line.len();
    }
    found.extend(part.document(file, file.len()));
    found
}

fn classify(line: &[u8]) -> Line {
    let line = line.trim_ascii_end();
    let marked = |marker: &[u8]| {
        let rest = line.strip_prefix(marker)?;
        rest.first().is_none_or(|byte| matches!(byte, b' ' | b'\t')).then(|| rest.trim_ascii_start())
    };
    let has_content = |text: &[u8]| text.first().is_some_and(|byte| *byte != b'#');
    if let Some(rest) = marked(b"---") {
        return Line::Start { has_content: has_content(rest) };
    }
    if marked(b"...").is_some() {
        return Line::End;
    }
    // Directives stand before the separator, in a part of their own. None of them means anything to a manifest.
    if line.starts_with(b"%") || !has_content(line.trim_ascii_start()) { Line::Blank } else { Line::Content }
}

impl Part {
    fn document(self, file: &[u8], end: usize) -> Option<Document<'_>> {
        let Self { first_line, start, content } = self;
        Some(Document { first_line, line: content?, bytes: file.get(start..end)? })
    }
}

impl<'a> Document<'a> {
    /// Its text, or the line of the file that is not UTF-8.
    pub(super) fn text(&self) -> Result<&'a str, usize> {
        std::str::from_utf8(self.bytes).map_err(|error| {
            let valid = self.bytes.get(..error.valid_up_to()).unwrap_or_default();
            self.first_line + valid.iter().filter(|byte| **byte == b'\n').count()
        })
    }

    /// What is written.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The line of the file for a line of the text, from 1.
    pub(super) fn line_of_file(&self, line_of_text: usize) -> usize {
        self.first_line + line_of_text.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, expected: &[(usize, &str)]) {
        let documents = documents(file.as_bytes());
        let found: Vec<_> = documents.iter().map(|document| (document.line, document.text().unwrap())).collect();
        assert_eq!(found, expected, "{file:?}");
    }

    #[test]
    fn separators_end_a_document_wherever_they_stand() {
        check("a: 1\n---\nb: 2\n", &[(1, "a: 1\n"), (3, "---\nb: 2\n")]);
        check("---\na: 1\n---\nb: 2", &[(2, "---\na: 1\n"), (4, "---\nb: 2")]);
        check("a: |\n  text\n---\nb: 2\n", &[(1, "a: |\n  text\n"), (4, "---\nb: 2\n")]);
        check("a: 1\n...\nb: 2\n... # end\n", &[(1, "a: 1\n"), (3, "b: 2\n")]);
    }

    #[test]
    fn a_separator_may_carry_a_comment_or_content() {
        check("--- # first\na: 1\n", &[(2, "--- # first\na: 1\n")]);
        check("--- {a: 1}\n--- {b: 2}\n", &[(1, "--- {a: 1}\n"), (2, "--- {b: 2}\n")]);
    }

    #[test]
    fn dashes_that_are_no_separator_are_content() {
        check("a: 1\n----\n", &[(1, "a: 1\n----\n")]);
        check("a:\n ---\n", &[(1, "a:\n ---\n")]);
        check("---a: 1\n", &[(1, "---a: 1\n")]);
    }

    #[test]
    fn documents_without_content_are_left_out() {
        check("", &[]);
        check("---\n---\n# comment\n\n---\n...\n", &[]);
        check("%YAML 1.2\n---\na: 1\n", &[(3, "---\na: 1\n")]);
    }

    #[test]
    fn a_byte_order_mark_and_carriage_returns_do_not_matter() {
        check("\u{feff}---\r\n\r\na: 1\r\n---\r\nb: 2\r\n", &[(3, "---\r\n\r\na: 1\r\n"), (5, "---\r\nb: 2\r\n")]);
    }

    #[test]
    fn a_line_that_is_not_utf_8_is_named() {
        let documents = documents(b"a: 1\n---\nb: 2\nc: \xff\n---\nd: 3\n");
        let texts: Vec<_> = documents.iter().map(Document::text).collect();
        assert_eq!(texts, [Ok("a: 1\n"), Err(4), Ok("---\nd: 3\n")]);
    }
}
