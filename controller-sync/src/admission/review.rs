//! An `AdmissionReview` of `admission.k8s.io/v1`: from its text to the object that is to be judged, and back.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Judgement;

/// What an API server asks.
#[derive(Debug)]
pub(super) struct Review {
    /// Names the question.
    pub(super) uid: String,
    /// The Ingress to be judged; `None` where there is nothing to judge.
    pub(super) object: Option<Box<Value>>,
}

/// Why it is not a question.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReviewError {
    #[error("it is not an AdmissionReview: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("it is of version {0:?}, not of admission.k8s.io/v1")]
    Version(String),
    #[error("it is about a {0:?}, not about an Ingress of networking.k8s.io/v1")]
    Kind(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    api_version: String,
    request: Question,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    uid: String,
    operation: String,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
}

impl Review {
    pub(super) fn read(text: &[u8]) -> Result<Self, ReviewError> {
        let Written { api_version, request } = serde_json::from_slice(text)?;
        if api_version != "admission.k8s.io/v1" {
            return Err(ReviewError::Version(api_version));
        }
        let Question { uid, operation, sub_resource, object, old_object } = request;
        let writes = matches!(&*operation, "CREATE" | "UPDATE") && sub_resource.is_empty();
        if !writes || is_moot(&object, &old_object) {
            return Ok(Self { uid, object: None });
        }
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        if (text("apiVersion"), text("kind")) != ("networking.k8s.io/v1", "Ingress") {
            return Err(ReviewError::Kind(text("kind").to_owned()));
        }
        Ok(Self { uid, object: Some(Box::new(object)) })
    }
}

/// Whether nothing that is judged has changed: finalizers and labels of an object that is wrong already can be changed,
/// and it can be deleted.
fn is_moot(object: &Value, old: &Value) -> bool {
    let is_going = object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    let is_same = |path: &str| object.pointer(path) == old.pointer(path);
    is_going || (old.is_object() && is_same("/spec") && is_same("/metadata/annotations"))
}

/// The answer to a question.
pub(super) fn answer(uid: &str, judgement: &Judgement) -> Value {
    let Judgement { denial, warnings } = judgement;
    let mut response = json!({"uid": uid, "allowed": denial.is_none()});
    if let Some(denial) = denial {
        response["status"] = json!({"message": denial});
    }
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingress(metadata: Value) -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": {"rules": []}})
    }

    fn read(operation: &str, object: Value, old: Value) -> Result<Review, ReviewError> {
        let request = json!({"uid": "u", "operation": operation, "object": object, "oldObject": old});
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        Review::read(review.to_string().as_bytes())
    }

    #[test]
    fn an_object_that_is_written_is_judged() {
        let review = read("CREATE", ingress(json!({"name": "a"})), Value::Null).unwrap();
        assert_eq!(review.uid, "u");
        assert_eq!(review.object.unwrap()["metadata"]["name"], "a");
        let annotated = ingress(json!({"name": "a", "annotations": {"b": "c"}}));
        assert!(read("UPDATE", annotated, ingress(json!({"name": "a"}))).unwrap().object.is_some());
    }

    #[test]
    fn what_cannot_make_anything_worse_is_not_judged() {
        let plain = || ingress(json!({"name": "a"}));
        let labelled = ingress(json!({"name": "a", "labels": {"b": "c"}, "finalizers": ["d"]}));
        let going =
            ingress(json!({"name": "a", "annotations": {"b": "c"}, "deletionTimestamp": "2026-11-21T10:00:00Z"}));
        assert!(read("UPDATE", labelled, plain()).unwrap().object.is_none());
        assert!(read("UPDATE", going, plain()).unwrap().object.is_none());
        assert!(read("DELETE", Value::Null, plain()).unwrap().object.is_none());
    }

    #[test]
    fn what_is_not_a_question_about_an_ingress_is_an_error() {
        for text in ["", "{", "[]", r#"{"apiVersion": "admission.k8s.io/v1"}"#] {
            assert!(matches!(Review::read(text.as_bytes()), Err(ReviewError::Malformed(_))), "{text}");
        }
        let old = json!({"apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "u", "operation": "CREATE"}});
        assert!(matches!(Review::read(old.to_string().as_bytes()), Err(ReviewError::Version(_))));
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
        assert!(matches!(read("CREATE", secret, Value::Null), Err(ReviewError::Kind(_))));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(Review::read(deep.as_bytes()), Err(ReviewError::Malformed(_))));
    }
}
