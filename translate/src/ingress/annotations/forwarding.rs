//! What an upstream is told about the request: `upstream-vhost` and `x-forwarded-prefix`.

use routing::{Template, TemplateError};

use super::value::{ValueError, is_word, reject, short};

/// The annotations that say what an upstream is told about the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForwardingAnnotations {
    /// `upstream-vhost`; its variables are filled in for each path.
    pub(super) vhost: Option<Box<str>>,
    /// `x-forwarded-prefix`.
    pub prefix: Option<Template>,
}

/// What the path of an Ingress is known by: ingress-nginx sets these variables for each.
pub(crate) struct Place<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) ingress: &'a str,
    pub(crate) service: &'a str,
    /// As it is written.
    pub(crate) port: String,
}

impl ForwardingAnnotations {
    /// The host that the upstream of a path sees; `None` for the one that was asked for.
    pub(crate) fn host(&self, place: &Place<'_>) -> Option<Template> {
        self.vhost.as_ref().and_then(|text| host_template(text, place).ok())
    }
}

/// A host. ingress-nginx takes the names of servers, and with them nginx's variables.
pub(super) fn vhost(text: &str) -> Result<Box<str>, ValueError> {
    let text = short(text.trim())?;
    let template = host_template(text, &Place { namespace: "", ingress: "", service: "", port: String::new() })?;
    for literal in template.literals() {
        reject(literal, |c| !(c.is_ascii_alphanumeric() || "-._~:[]".contains(c)))?;
    }
    if template.highest_group() > 0 { Err(ValueError::Group(text.to_owned())) } else { Ok(text.into()) }
}

/// `^/?[-._~a-zA-Z0-9/:$]*$`, ingress-nginx's grammar for paths with groups.
pub(super) fn prefix(text: &str) -> Result<Template, ValueError> {
    reject(short(text)?, |c| !(is_word(c) || c == '$'))?;
    Ok(Template::parse(text)?)
}

fn host_template(text: &str, place: &Place<'_>) -> Result<Template, TemplateError> {
    let Place { namespace, ingress, service, port } = place;
    let constants =
        [("namespace", *namespace), ("ingress_name", *ingress), ("service_name", *service), ("service_port", &**port)];
    Template::parse_with_constants(text, &constants)
}
