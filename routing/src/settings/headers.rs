//! Headers that settings put on requests and answers.

use http::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

use crate::host::HostName;
use crate::request::{ConnectionView, RequestView};
use crate::template::{Template, TemplateError, Values};

/// A header to set. Its value may have nginx's variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderText {
    /// The name.
    pub name: HeaderName,
    value: Text,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    Fixed(HeaderValue),
    Template(Template),
}

/// Why a text is not the value of a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderTextError {
    /// A control character.
    #[error("{0:?} cannot be the value of a header")]
    Value(String),
    /// A variable that is not known.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl HeaderText {
    /// Reads a value.
    ///
    /// # Errors
    ///
    /// When it cannot be one, or has variables that are not known.
    pub fn parse(name: HeaderName, text: &str) -> Result<Self, HeaderTextError> {
        // Checked with its variables still in it: they cannot bring in what a header must not have.
        let fixed = HeaderValue::from_str(text).map_err(|_| HeaderTextError::Value(text.to_owned()))?;
        let value = if text.contains('$') { Text::Template(Template::parse(text)?) } else { Text::Fixed(fixed) };
        Ok(Self { name, value })
    }

    /// The value for a request; `None` where a variable brought in what a header cannot have, or nothing is left:
    /// nginx sends no header without a value.
    #[must_use]
    pub fn value(&self, request: &RequestView<'_>, connection: &ConnectionView<'_>) -> Option<HeaderValue> {
        let template = match &self.value {
            Text::Fixed(value) => return Some(value.clone()).filter(|value| !value.is_empty()),
            Text::Template(template) => template,
        };
        let host = HostName::new(request.authority)?;
        let text = template.render(&Values { request, connection, host: &host, pattern: None });
        HeaderValue::try_from(text).ok().filter(|value| !value.is_empty())
    }
}

impl Serialize for HeaderText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = match &self.value {
            Text::Fixed(value) => String::from_utf8_lossy(value.as_bytes()),
            Text::Template(template) => template.as_str().into(),
        };
        serializer.collect_str(&format_args!("{}: {value}", self.name))
    }
}
