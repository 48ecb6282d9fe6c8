//! The head of a request on its way to a server: what the phases edit.
//!
//! Pingora keeps two maps for a head, one of them for the case of its names, and parses every name that is added. A head
//! has a handful of fields: a list with names that are known beforehand needs neither.

use std::borrow::Cow;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

/// Room for what is added to a head.
const ADDED: usize = 16;

/// Where an HTTP/1 request says for whom it is, as servers have always read it.
pub(crate) const HOST: FieldName<'static> = FieldName::new("host", "Host");

/// The name of a request, for the log lines of all that it meets.
pub(crate) const REQUEST_ID: FieldName<'static> = FieldName::new("x-request-id", "X-Request-ID");

/// A request with other fields, which have an order, and with another target, where there is one.
pub(crate) struct RequestHead<'r> {
    request: &'r RequestHeader,
    fields: Vec<Field<'r>>,
    target: Option<Vec<u8>>,
}

/// The name of a field, and how it is written.
pub(crate) struct FieldName<'r> {
    /// The name itself, in lower case.
    pub(crate) name: HeaderName,
    text: Text<'r>,
}

struct Field<'r> {
    name: FieldName<'r>,
    value: HeaderValue,
}

/// The case of a name says nothing (RFC 9110 section 5.1), but there are servers that look at it.
enum Text<'r> {
    /// As it was received.
    Received(&'r [u8]),
    /// As ingress-nginx writes it.
    Own(&'static str),
    /// In lower case.
    Plain,
}

// === impl FieldName ===

impl FieldName<'_> {
    /// A name that the gateway sets. It panics, at compile time in a constant, unless `name` is one in lower case.
    pub(crate) const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name: HeaderName::from_static(name), text: Text::Own(text) }
    }

    fn as_bytes(&self) -> &[u8] {
        match &self.text {
            Text::Received(text) => text,
            Text::Own(text) => text.as_bytes(),
            Text::Plain => self.name.as_str().as_bytes(),
        }
    }
}

impl From<HeaderName> for FieldName<'_> {
    fn from(name: HeaderName) -> Self {
        Self { name, text: Text::Plain }
    }
}

// === impl RequestHead ===

impl<'r> RequestHead<'r> {
    /// The fields of a request.
    pub(crate) fn of(request: &'r RequestHeader) -> Self {
        let mut fields = Vec::with_capacity(request.headers.len() + ADDED);
        let mut texts = request.case_header_iter().map(|(text, _)| text);
        for (name, value) in &request.headers {
            let text = texts.next().map_or(Text::Plain, |text| Text::Received(text.as_slice()));
            fields.push(Field { name: FieldName { name: name.clone(), text }, value: value.clone() });
        }
        Self { request, fields, target: None }
    }

    /// The first value of a field.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.fields.iter().find(|field| field.name.name == *name).map(|field| &field.value)
    }

    /// All values of a field, in their order.
    pub(crate) fn get_all<'h>(&'h self, name: &'h HeaderName) -> impl Iterator<Item = &'h HeaderValue> {
        self.fields.iter().filter(move |field| field.name.name == *name).map(|field| &field.value)
    }

    /// Sets a field, in the place where it was before.
    pub(crate) fn insert(&mut self, name: impl Into<FieldName<'r>>, value: HeaderValue) {
        let field = Field { name: name.into(), value };
        match self.fields.iter().position(|other| other.name.name == field.name.name) {
            Some(first) => {
                let mut place = 0;
                self.fields.retain(|other| {
                    place += 1;
                    place <= first + 1 || other.name.name != field.name.name
                });
                self.fields[first] = field;
            }
            None => self.fields.push(field),
        }
    }

    /// Sets a field; without a value the client's own must not pass either.
    pub(crate) fn set_or_remove(&mut self, name: FieldName<'r>, value: Option<HeaderValue>) {
        match value {
            Some(value) => self.insert(name, value),
            None => self.remove(&name.name),
        }
    }

    /// Adds a field beside those of the same name.
    pub(crate) fn append(&mut self, name: impl Into<FieldName<'r>>, value: HeaderValue) {
        self.fields.push(Field { name: name.into(), value });
    }

    /// Removes all fields of a name.
    pub(crate) fn remove(&mut self, name: &HeaderName) {
        self.fields.retain(|field| field.name.name != *name);
    }

    /// Removes all fields of some names.
    pub(crate) fn remove_all(&mut self, names: &[HeaderName]) {
        self.fields.retain(|field| !names.contains(&field.name.name));
    }

    /// Sets the target (RFC 9112 section 3.2).
    pub(crate) fn set_target(&mut self, target: String) {
        self.target = Some(target.into_bytes());
    }

    /// The target that the server gets.
    pub(crate) fn target(&self) -> &[u8] {
        self.target.as_deref().unwrap_or_else(|| self.request.raw_path())
    }

    /// The head as HTTP/1.1 writes it (RFC 9112 section 3).
    ///
    /// # Errors
    ///
    /// A target with a byte that would end it.
    pub(crate) fn to_http1(&self) -> pingora::Result<BytesMut> {
        const VERSION: &[u8] = b" HTTP/1.1\r\n";
        let (method, target) = (self.request.method.as_str().as_bytes(), self.target());
        if target.is_empty() || target.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n' | b' ')) {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "target cannot be written");
        }
        let fields: usize = self.fields.iter().map(|field| field.name.as_bytes().len() + field.value.len() + 4).sum();
        let mut wire = BytesMut::with_capacity(method.len() + 1 + target.len() + VERSION.len() + fields + 2);
        for part in [method, b" ", target, VERSION] {
            wire.put_slice(part);
        }
        for Field { name, value } in &self.fields {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                wire.put_slice(part);
            }
        }
        wire.put_slice(b"\r\n");
        Ok(wire)
    }

    /// The request as Pingora sends it.
    ///
    /// # Errors
    ///
    /// A target that Pingora does not take.
    pub(crate) fn to_pingora(&self) -> pingora::Result<RequestHeader> {
        let request = self.request;
        let mut edited = RequestHeader::build(request.method.clone(), b"/", Some(self.fields.len()))?;
        match &self.target {
            None if request.uri.authority().is_some() => edited.set_uri(request.uri.clone()),
            _ => edited.set_raw_path(self.target())?,
        }
        edited.set_version(request.version);
        if let Some(is_set) = request.send_end_stream() {
            edited.set_send_end_stream(is_set);
        }
        for Field { name, value } in &self.fields {
            match name.text {
                Text::Received(text) => edited.append_header(Bytes::copy_from_slice(text), value.clone())?,
                Text::Own(text) => edited.append_header(text, value.clone())?,
                Text::Plain => edited.append_header(&name.name, value.clone())?,
            };
        }
        Ok(edited)
    }
}

/// A value of a text that the gateway or a manifest made.
///
/// # Errors
///
/// A byte that no field can have (RFC 9110 section 5.5).
pub(crate) fn field_value<'t>(text: impl Into<Cow<'t, str>>) -> pingora::Result<HeaderValue> {
    let value = match text.into() {
        Cow::Borrowed(text) => HeaderValue::from_str(text),
        Cow::Owned(text) => HeaderValue::try_from(text),
    };
    value.map_err(|error| Error::because(ErrorType::InternalError, "field of a request", error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORWARDED_FOR: FieldName<'static> = FieldName::new("x-forwarded-for", "X-Forwarded-For");

    fn request(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/a?b", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn wire(head: &RequestHead<'_>) -> String {
        String::from_utf8(head.to_http1().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn names_keep_the_case_that_they_were_received_in() {
        let request =
            request(&[("hoSt", "a.test"), ("SOAPAction", "x"), ("x-forwarded-for", "evil"), ("Accept", "*/*")]);
        let mut head = RequestHead::of(&request);
        head.insert(FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"));
        head.append(HeaderName::from_static("x-plain"), HeaderValue::from_static("y"));
        let expected = "GET /a?b HTTP/1.1\r\nhoSt: a.test\r\nSOAPAction: x\r\nX-Forwarded-For: 192.0.2.1\r\n\
                        Accept: */*\r\nx-plain: y\r\n\r\n";
        assert_eq!(wire(&head), expected);
    }

    #[test]
    fn a_target_is_written_whole_or_not_at_all() {
        let request = request(&[("Host", "a.test")]);
        for (target, is_written) in [
            ("/rewritten?x", true),
            ("", false),
            ("/a b", false),
            ("/a\r\nX: y", false),
            ("/a\nb", false),
            ("/\0", false),
        ] {
            let mut head = RequestHead::of(&request);
            head.set_target(target.to_owned());
            assert_eq!(head.to_http1().is_ok(), is_written, "{target:?}");
        }
    }

    #[test]
    fn pingora_gets_the_same_request() {
        let mut request = request(&[("Host", "a.test"), ("X-A", "1"), ("X-A", "2")]);
        request.set_version(http::Version::HTTP_2);
        request.set_send_end_stream(false);
        let mut head = RequestHead::of(&request);
        head.append(HeaderName::from_static("x-b"), HeaderValue::from_static("3"));
        let edited = head.to_pingora().unwrap();
        assert_eq!((edited.raw_path(), edited.version), (&b"/a?b"[..], http::Version::HTTP_2));
        assert_eq!(edited.send_end_stream(), Some(false));
        let mut lines = BytesMut::new();
        edited.header_to_h1_wire(&mut lines);
        assert_eq!(lines, "Host: a.test\r\nX-A: 1\r\nX-A: 2\r\nx-b: 3\r\n");
    }

    proptest! {
        /// The edits mean what they mean to a map of headers.
        #[test]
        fn a_head_is_edited_as_a_map_is(edits in proptest::collection::vec((0..3, 0..4_usize, 0..9_u16), 0..40)) {
            const NAMES: [&str; 4] = ["host", "x-a", "x-b", "cookie"];
            let request = request(&[("Host", "a.test"), ("X-A", "1"), ("Cookie", "c"), ("X-A", "2")]);
            let mut head = RequestHead::of(&request);
            let mut map = request.headers.clone();
            for (edit, name, value) in edits {
                let name = HeaderName::from_static(NAMES[name]);
                match edit {
                    0 => {
                        head.insert(name.clone(), value.into());
                        map.insert(name, value.into());
                    }
                    1 => {
                        head.append(name.clone(), value.into());
                        map.append(name, value.into());
                    }
                    _ => {
                        head.remove(&name);
                        map.remove(&name);
                    }
                }
            }
            for name in NAMES.map(HeaderName::from_static) {
                let of_head: Vec<_> = head.get_all(&name).collect();
                let of_map: Vec<_> = map.get_all(&name).iter().collect();
                prop_assert_eq!(of_head, of_map);
                prop_assert_eq!(head.get(&name), map.get(&name));
            }
            prop_assert_eq!(&head.to_pingora().unwrap().headers, &map);
        }
    }
}
