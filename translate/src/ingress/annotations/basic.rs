//! Annotations of basic authentication.

use routing::model::{BasicAuth, CredentialsForm, CredentialsRef};

use super::value::{self, SecretName, ValueError};

/// What an Ingress says of basic authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasicAnnotations {
    /// `auth-type: basic`.
    pub is_on: bool,
    /// `auth-secret`.
    pub secret: Option<SecretName>,
    /// `auth-secret-type`.
    pub form: Option<CredentialsForm>,
    /// `auth-realm`.
    pub realm: Option<Box<str>>,
}

impl BasicAnnotations {
    /// The authentication that is asked for; `None` for none.
    ///
    /// # Errors
    ///
    /// Why it cannot be had: the paths of the Ingress are closed then.
    pub(crate) fn resolve(&self, namespace: &str) -> Result<Option<BasicAuth>, String> {
        if !self.is_on {
            return Ok(None);
        }
        let secret = self.secret.as_ref().ok_or("auth-type: auth-secret is missing")?;
        let name = secret.within(namespace).map_err(|why| format!("auth-secret: {why}"))?;
        let form = self.form.unwrap_or_default();
        let credentials = CredentialsRef { namespace: namespace.into(), name: name.into(), form };
        Ok(Some(BasicAuth { realm: self.realm.clone().unwrap_or_default(), credentials }))
    }
}

/// Whether the type is `basic`; digest authentication is known but not spoken here.
pub(super) fn is_basic(text: &str) -> Result<bool, ValueError> {
    match text {
        "basic" => Ok(true),
        "digest" => Ok(false),
        _ => Err(ValueError::OneOf(text.to_owned(), "basic, digest")),
    }
}

pub(super) fn form(text: &str) -> Result<CredentialsForm, ValueError> {
    match text {
        "auth-file" => Ok(CredentialsForm::File),
        "auth-map" => Ok(CredentialsForm::Map),
        _ => Err(ValueError::OneOf(text.to_owned(), "auth-file, auth-map")),
    }
}

/// Longer than this, a realm is no name for a dialog.
const MAX_REALM: usize = 256;

/// `^[-._~a-zA-Z0-9/: ]*$`, ingress-nginx's grammar for a realm: nothing that could end the quotes around it.
pub(super) fn realm(text: &str) -> Result<Box<str>, ValueError> {
    value::reject(text, |c| !(value::is_word(c) || c == ' '))?;
    if text.len() > MAX_REALM {
        return Err(ValueError::TooLong(MAX_REALM));
    }
    Ok(text.into())
}
