//! External authentication of a rule: from a request to the question that is asked about it. Asking is for others.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use super::Linker;
use super::url::resolve;
use crate::endpoint::Backend;
use crate::host::HostName;
use crate::model::{ExternalAuth, Rule};
use crate::request::{ConnectionView, RequestView};
use crate::template::{Template, Values};

/// External authentication, ready to ask.
#[derive(Debug)]
pub struct CompiledExternalAuth {
    /// What was asked for.
    pub auth: Arc<ExternalAuth>,
    /// The backend that is asked, where it is one.
    pub backend: Option<Arc<Backend>>,
    /// What tells the answers to this rule's questions from those to others.
    pub scope: Box<[u8]>,
}

/// What is asked about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Who is asked: a name, or an address.
    pub host: Cow<'a, str>,
    /// The path and the query.
    pub target: String,
    /// The method.
    pub method: Method,
    /// Headers that replace those of the request, and of which those without a value are left out.
    pub headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// What requests have in common that an answer holds for; `None` when it holds for this one only.
    pub cache_key: Option<String>,
}

const X_AUTH_REQUEST_REDIRECT: HeaderName = HeaderName::from_static("x-auth-request-redirect");
const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const X_SCHEME: HeaderName = HeaderName::from_static("x-scheme");
const X_SENT_FROM: HeaderName = HeaderName::from_static("x-sent-from");
/// What servers that know ingress-nginx look for.
const SENT_FROM: HeaderValue = HeaderValue::from_static("nginx-ingress-controller");

impl CompiledExternalAuth {
    pub(super) fn compile(rule: &Rule, auth: &Arc<ExternalAuth>, linker: &mut Linker<'_>) -> Self {
        let backend = auth.url.server.backend().map(&mut *linker.backends);
        // "Per server and location"; a change of the question makes the old answers those to another one.
        let scope = serde_json::to_vec(&(&*rule.host, &rule.origin, auth)).unwrap_or_default();
        Self { auth: Arc::clone(auth), backend, scope: scope.into() }
    }

    /// The question about a request; `None` when the URL comes out as none, which nobody can be asked.
    #[must_use]
    pub fn question<'a>(&'a self, request: &RequestView<'_>, connection: &ConnectionView<'_>) -> Option<Question<'a>> {
        let ExternalAuth { url, method, request_headers, redirect, cache, .. } = &*self.auth;
        let name = HostName::new(request.authority)?;
        let values = Values { request, connection, host: &name, pattern: None };
        let (host, target) = resolve(url, &values)?;
        let target_of_request = request_target(request);
        let url = format!("{}://{}{target_of_request}", connection.scheme.as_str(), request.authority);
        let redirect = redirect.as_ref().map_or_else(|| target_of_request.clone(), |redirect| redirect.render(&values));
        let value = |text: String| HeaderValue::try_from(text).ok();
        // ingress-nginx tells these two only where a method is set.
        let is_told = method.is_some();
        let mut headers = vec![
            (X_ORIGINAL_URL, value(url)),
            (X_ORIGINAL_METHOD, HeaderValue::from_str(request.method.as_str()).ok()),
            (X_SENT_FROM, Some(SENT_FROM)),
            (X_AUTH_REQUEST_REDIRECT, value(redirect)),
            (X_ORIGINAL_URI, value(target_of_request).filter(|_| is_told)),
            (X_SCHEME, Some(HeaderValue::from_static(connection.scheme.as_str())).filter(|_| is_told)),
        ];
        headers.extend(request_headers.iter().map(|header| (header.name.clone(), header.value(request, connection))));
        let cache_key = cache.as_ref().map(|cache| cache.key.render(&values));
        Some(Question { host, target, method: method.clone().unwrap_or(Method::GET), headers, cache_key })
    }

    /// Where a client goes to say who it is; `None` where it is told so by the status only.
    #[must_use]
    pub fn signin(&self, request: &RequestView<'_>, connection: &ConnectionView<'_>) -> Option<HeaderValue> {
        let render = |signin: &Template| {
            let host = HostName::new(request.authority)?;
            let url = signin.render(&Values { request, connection, host: &host, pattern: None });
            HeaderValue::try_from(url).ok()
        };
        self.auth.signin.as_ref().and_then(render)
    }
}

/// The target in the form that is matched and forwarded.
fn request_target(request: &RequestView<'_>) -> String {
    if request.query.is_empty() { request.path.to_owned() } else { format!("{}?{}", request.path, request.query) }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::HeaderMap;

    use super::*;
    use crate::model::{AuthCache, CookieScope, ListenerKey, ServerUrl, UrlServer};
    use crate::request::Scheme;

    fn external(server: UrlServer, target: &str) -> ExternalAuth {
        let url = ServerUrl { scheme: Scheme::Https, server, port: 443, target: Template::parse(target).unwrap() };
        ExternalAuth {
            url,
            method: None,
            request_headers: Box::default(),
            redirect: None,
            response_headers: Box::default(),
            signin: None,
            cookies: CookieScope::Success,
            cache: None,
            keep_alive: None,
        }
    }

    fn ask<T>(
        auth: ExternalAuth,
        answer: impl FnOnce(&CompiledExternalAuth, &RequestView<'_>, &ConnectionView<'_>) -> T,
    ) -> T {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer t"));
        headers.insert("x-bad", HeaderValue::from_static("a b"));
        let request = RequestView {
            method: &Method::POST,
            authority: "App.test:8443",
            path: "/a",
            query: "b=c&d",
            received: None,
            headers: &headers,
            entropy: 0,
        };
        let connection = ConnectionView {
            listener: &ListenerKey::tcp(([127, 0, 0, 1], 443).into()),
            scheme: Scheme::Https,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            server_name: None,
        };
        let compiled = CompiledExternalAuth { auth: Arc::new(auth), backend: None, scope: Box::default() };
        answer(&compiled, &request, &connection)
    }

    fn header<'q>(question: &'q Question<'_>, name: &str) -> Option<&'q str> {
        let value = question.headers.iter().find(|(known, _)| known == name)?.1.as_ref()?;
        value.to_str().ok()
    }

    #[test]
    fn the_server_is_told_what_the_request_was() {
        ask(external(UrlServer::Name("auth.test".into()), "/check?m=$request_method"), |auth, request, connection| {
            let question = auth.question(request, connection).unwrap();
            assert_eq!((&*question.host, &*question.target), ("auth.test", "/check?m=POST"));
            assert_eq!(question.method, Method::GET);
            for (name, expected) in [
                ("x-original-url", Some("https://App.test:8443/a?b=c&d")),
                ("x-original-method", Some("POST")),
                ("x-sent-from", Some("nginx-ingress-controller")),
                ("x-auth-request-redirect", Some("/a?b=c&d")),
                ("x-original-uri", None),
                ("x-scheme", None),
            ] {
                assert_eq!(header(&question, name), expected, "{name}");
            }
        });
    }

    #[test]
    fn with_a_method_of_its_own_the_question_has_the_uri_too() {
        let auth = ExternalAuth {
            method: Some(Method::HEAD),
            redirect: Some(Template::parse("https://$host/done").unwrap()),
            ..external(UrlServer::OfHost(Template::parse("$host").unwrap()), "/")
        };
        ask(auth, |auth, request, connection| {
            let question = auth.question(request, connection).unwrap();
            assert_eq!((&*question.host, question.method.clone()), ("app.test", Method::HEAD));
            for (name, expected) in [
                ("x-original-uri", "/a?b=c&d"),
                ("x-scheme", "https"),
                ("x-auth-request-redirect", "https://app.test/done"),
            ] {
                assert_eq!(header(&question, name), Some(expected), "{name}");
            }
        });
    }

    #[test]
    fn a_url_that_comes_out_as_none_is_no_question() {
        for target in ["/check?x=$http_x_bad", "$http_none", "$http_authorization"] {
            ask(external(UrlServer::Name("auth.test".into()), target), |auth, request, connection| {
                assert_eq!(auth.question(request, connection), None, "{target}");
            });
        }
    }

    #[test]
    fn answers_hold_for_requests_with_the_same_key() {
        let key = Template::parse("$http_authorization$uri").unwrap();
        let cache = Some(AuthCache { key, valid: Box::default() });
        ask(
            ExternalAuth { cache, ..external(UrlServer::Name("auth.test".into()), "/") },
            |auth, request, connection| {
                assert_eq!(auth.question(request, connection).unwrap().cache_key.as_deref(), Some("Bearer t/a"));
            },
        );
    }

    #[test]
    fn clients_are_sent_where_they_can_say_who_they_are() {
        let signin = Template::parse("https://$host/start?rd=$pass_access_scheme://$http_host$escaped_request_uri");
        let auth = ExternalAuth { signin: signin.ok(), ..external(UrlServer::Name("auth.test".into()), "/") };
        ask(auth, |auth, request, connection| {
            let expected = "https://app.test/start?rd=https://App.test:8443%2Fa%3Fb%3Dc%26d";
            assert_eq!(auth.signin(request, connection).unwrap(), expected);
        });
    }
}
