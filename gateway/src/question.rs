//! A request that somebody asks about, for `explain`: on the command line and over the admin endpoint alike.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use pingora::http::RequestHeader;
use routing::model::{ListenerKey, Protocol};
use routing::{ConnectionView, Explanation, RequestView, Scheme, Snapshot, explain};

use crate::gate;

/// A request that somebody asks about.
#[derive(Clone, Debug)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// Header fields.
    pub headers: HeaderMap,
    /// The URL.
    pub url: Uri,
}

/// Why a question cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// Not a URL of HTTP.
    #[error("{0:?} is not a URL of the form http://host/path")]
    Url(String),
    /// Not a method.
    #[error("{0:?} is not a method")]
    Method(String),
    /// Not a header field.
    #[error("{0:?} is not a header of the form \"Name: value\"")]
    Header(String),
    /// A parameter that is not known.
    #[error("parameter {0:?} is not one of url, method, header")]
    Parameter(String),
    /// The gateway would not let the request in.
    #[error("the request is refused with {0} before it is routed")]
    Refused(u16),
    /// Nothing listens for the scheme of the URL.
    #[error("no listener for {0}")]
    NoListener(String),
    /// The answer cannot be written as JSON.
    #[error("explanation: {0}")]
    Json(#[from] serde_json::Error),
}

impl Question {
    /// Asks about a URL; header fields have the form `Name: value`.
    pub fn new(method: &str, headers: &[String], url: &str) -> Result<Self, QuestionError> {
        let uri: Uri = url.parse().map_err(|_| QuestionError::Url(url.to_owned()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(QuestionError::Url(url.to_owned()));
        }
        let mut fields = HeaderMap::new();
        for header in headers {
            let refuse = || QuestionError::Header(header.clone());
            let (name, value) = header.split_once(':').ok_or_else(refuse)?;
            let name: HeaderName = name.trim().parse().map_err(|_| refuse())?;
            fields.append(name, HeaderValue::from_str(value.trim()).map_err(|_| refuse())?);
        }
        let method = method.parse().map_err(|_| QuestionError::Method(method.to_owned()))?;
        Ok(Self { method, headers: fields, url: uri })
    }

    /// Reads the parameters `url`, `method` and `header` (repeatable) of a query.
    pub fn from_query(query: &str) -> Result<Self, QuestionError> {
        let (mut url, mut method, mut headers) = (String::new(), "GET".to_owned(), Vec::new());
        for (name, value) in form(query) {
            match name.as_str() {
                "url" => url = value,
                "method" => method = value,
                "header" => headers.push(value),
                _ => return Err(QuestionError::Parameter(name)),
            }
        }
        Self::new(&method, &headers, &url)
    }

    /// The parameters that [`from_query`](Self::from_query) reads.
    #[must_use]
    pub fn to_query(&self) -> String {
        let mut query = format!("method={}&url={}", self.method, encode(&self.url.to_string()));
        for (name, value) in &self.headers {
            let value = value.to_str().unwrap_or_default();
            query.push_str(&format!("&header={}", encode(&format!("{name}: {value}"))));
        }
        query
    }

    /// Finds the answer in a snapshot.
    pub fn ask(&self, snapshot: &Snapshot) -> Result<Explanation, QuestionError> {
        let scheme = if self.url.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
        let listener = self.listener(snapshot, scheme)?;
        let target = self.url.path_and_query().map_or("/", |target| target.as_str());
        let refused = |_| QuestionError::Refused(400);
        let mut request = RequestHeader::build(self.method.clone(), target.as_bytes(), None).map_err(refused)?;
        for (name, value) in &self.headers {
            request.append_header(name, value.clone()).map_err(refused)?;
        }
        if !self.headers.contains_key("host")
            && let Some(authority) = self.url.authority()
        {
            request.insert_header("Host", authority.as_str()).map_err(refused)?;
        }
        gate::admit(&mut request, snapshot.settings()).map_err(|failure| QuestionError::Refused(failure.status()))?;
        let view = RequestView {
            method: &request.method,
            authority: gate::authority(&request),
            path: request.uri.path(),
            query: request.uri.query().unwrap_or_default(),
            received: None,
            headers: &request.headers,
            entropy: 0,
        };
        let connection = ConnectionView {
            listener: &listener,
            scheme,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            server_name: self.url.host(),
        };
        Ok(explain(snapshot, &view, &connection))
    }

    /// The listener of the URL's port, else the first for its scheme.
    fn listener(&self, snapshot: &Snapshot, scheme: Scheme) -> Result<ListenerKey, QuestionError> {
        let is_for_scheme = |protocol: &Protocol| match protocol {
            Protocol::Http => scheme == Scheme::Http,
            Protocol::Tls => scheme == Scheme::Https,
            Protocol::Tcp(_) | Protocol::Udp(_) => false,
        };
        let candidates = || snapshot.listeners().filter(|(_, listener)| is_for_scheme(&listener.protocol));
        let wanted = self.url.port_u16();
        candidates()
            .find(|(key, _)| Some(key.address.port()) == wanted)
            .or_else(|| candidates().next())
            .map(|(key, _)| *key)
            .ok_or_else(|| QuestionError::NoListener(self.url.to_string()))
    }
}

/// Pairs of an `application/x-www-form-urlencoded` text.
fn form(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

fn encode(text: &str) -> impl std::fmt::Display + '_ {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_survives_the_way_over_a_query() {
        let headers = ["X-A: b c&d".to_owned(), "X-B: 1".to_owned()];
        let question = Question::new("POST", &headers, "https://a.example:8443/x?y=1&z=%20").unwrap();
        let again = Question::from_query(&question.to_query()).unwrap();
        assert_eq!(again.url, question.url);
        assert_eq!(again.headers, question.headers);
        assert_eq!(again.method, Method::POST);
    }

    #[test]
    fn what_is_not_a_question_is_refused() {
        for (method, header, url) in [
            ("GET", "X-A: 1", "/path"),
            ("GET", "X-A: 1", "ftp://a/"),
            ("G T", "X-A: 1", "http://a/"),
            ("GET", "nonsense", "http://a/"),
        ] {
            assert!(Question::new(method, &[header.to_owned()], url).is_err(), "{method} {header} {url}");
        }
        assert!(Question::from_query("url=http://a/&nonsense=1").is_err());
    }
}
