//! Keeps the webhook's own certificate in a Secret that all replicas share, and tells the API server to rely on it.
//!
//! Every replica does so, and the first one wins: what is written names the version that was read, so that the others
//! are refused, read again, and find what they would have made. At rest nothing is written.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kube::Client;
use kube::core::Request;
use kube::core::params::{GetParams, Patch, PatchParams};
use parking_lot::Mutex;
use routing::Certificate;
use serde_json::{Value, json};

use super::authority::{Credentials, MakeError};
use crate::backoff::Backoff;

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
/// How often is looked whether everything is as it should be: an installer may have taken the authority away.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long an API server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the webhook's certificate is kept, and who has to rely on it.
#[derive(Clone, Debug)]
pub struct Custody {
    /// The namespace of the Secret.
    pub namespace: String,
    /// The name of the Secret, which exists already: the right to create one is the right to create any.
    pub secret: String,
    /// The name of the ValidatingWebhookConfiguration, whose Services the certificate is for.
    pub configuration: String,
}

/// A certificate that the gateway has made itself, the same for all replicas.
pub struct OwnCertificate {
    client: Client,
    custody: Custody,
    current: Mutex<Option<Arc<Certificate>>>,
}

/// Why there is no certificate yet, or none that is relied on.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("{0}")]
    Client(#[from] kube::Error),
    #[error("{0}")]
    Make(#[from] MakeError),
    #[error("it names no Service that a certificate could be for")]
    NoService,
    #[error("the API server did not answer for {PATIENCE:?}")]
    Silent,
}

impl OwnCertificate {
    /// Nothing is asked for before [`Self::keep`].
    #[must_use]
    pub fn new(client: Client, custody: Custody) -> Self {
        Self { client, custody, current: Mutex::new(None) }
    }

    /// What the webhook shows now; `None` before it was read or made, when nobody could rely on anything.
    pub fn current(&self) -> Option<Arc<Certificate>> {
        self.current.lock().clone()
    }

    /// Runs for ever.
    pub async fn keep(self: Arc<Self>) {
        let mut backoff = Backoff::default();
        let mut complaint = None;
        loop {
            let attempt = tokio::time::timeout(PATIENCE, self.attempt(SystemTime::now())).await;
            let pause = match attempt.unwrap_or(Err(KeepError::Silent)) {
                Ok(()) => {
                    backoff.reset();
                    complaint = None;
                    INTERVAL.mul_f64(0.9 + fastrand::f64() / 5.0)
                }
                Err(error) => {
                    let error = Some(error.to_string());
                    if error != complaint {
                        let Custody { secret, configuration, .. } = &self.custody;
                        tracing::warn!(error, secret, configuration, "the webhook's own certificate is not kept");
                        complaint = error;
                    }
                    backoff.next()
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, now: SystemTime) -> Result<(), KeepError> {
        let Custody { namespace, secret: name, configuration } = &self.custody;
        let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
        let configuration = self.get(CONFIGURATIONS, configuration).await?;
        let names = names(&configuration);
        if names.is_empty() {
            return Err(KeepError::NoService);
        }
        let secret = self.get(&secrets, name).await?;
        let held = Credentials::read(&secret["data"]);
        let credentials = match held {
            Some(held) if held.serve(&names, now) => held,
            held => {
                let made = Credentials::make(held.as_ref(), &names, now)?;
                self.patch(&secrets, &secret, Patch::Merge, json!({"data": made.data()})).await?;
                tracing::info!(secret = name, ?names, "made a certificate for the webhook");
                made
            }
        };
        // Whoever asks has to rely on it before it is shown.
        let bundle = credentials.bundle();
        if let Some(patch) = reliance(&configuration, &bundle) {
            self.patch(CONFIGURATIONS, &configuration, Patch::Strategic, patch).await?;
        }
        *self.current.lock() = Some(Arc::clone(credentials.certificate()));
        Ok(())
    }

    async fn get(&self, collection: &str, name: &str) -> Result<Value, KeepError> {
        let request = Request::new(collection).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
        Ok(self.client.request(request).await?)
    }

    /// Changes an object, unless somebody else has changed it since it was read.
    async fn patch(
        &self,
        collection: &str,
        read: &Value,
        form: fn(Value) -> Patch<Value>,
        mut change: Value,
    ) -> Result<(), KeepError> {
        let metadata = &read["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        change["metadata"] = json!({"resourceVersion": metadata["resourceVersion"]});
        let request = Request::new(collection).patch(name, &PatchParams::default(), &form(change));
        let _: Value = self.client.request(request.map_err(kube::Error::BuildRequest)?).await?;
        Ok(())
    }
}

/// The webhooks that are Services, with their names.
fn services(configuration: &Value) -> impl Iterator<Item = (&Value, String)> {
    configuration["webhooks"].as_array().into_iter().flatten().filter_map(|webhook| {
        let service = &webhook["clientConfig"]["service"];
        Some((webhook, format!("{}.{}.svc", service["name"].as_str()?, service["namespace"].as_str()?)))
    })
}

/// By which names an API server asks, sorted.
fn names(configuration: &Value) -> Vec<String> {
    let mut names: Vec<String> = services(configuration).map(|(_, name)| name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What has to be changed so that each webhook is relied on by `bundle`; `None` when each is.
fn reliance(configuration: &Value, bundle: &str) -> Option<Value> {
    let lacks = |webhook: &Value| webhook["clientConfig"]["caBundle"] != bundle;
    let webhooks: Vec<Value> = services(configuration)
        .filter(|(webhook, _)| lacks(webhook))
        .map(|(webhook, _)| json!({"name": webhook["name"], "clientConfig": {"caBundle": bundle}}))
        .collect();
    (!webhooks.is_empty()).then(|| json!({"webhooks": webhooks}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> Value {
        let webhook = |name: &str, service: &str, bundle: &str| {
            json!({"name": name, "clientConfig": {
                "service": {"name": service, "namespace": "edge"}, "caBundle": bundle,
            }})
        };
        json!({"webhooks": [
            webhook("b.penstock.dev", "b", "old"),
            webhook("a.penstock.dev", "a", "new"),
            {"name": "elsewhere.penstock.dev", "clientConfig": {"url": "https://192.0.2.1/"}},
        ]})
    }

    #[test]
    fn the_names_are_those_of_the_services_that_are_asked() {
        assert_eq!(names(&configuration()), ["a.edge.svc", "b.edge.svc"]);
        assert!(names(&json!({})).is_empty());
    }

    #[test]
    fn only_what_does_not_rely_on_the_authority_is_changed() {
        let patch = json!({"webhooks": [{"name": "b.penstock.dev", "clientConfig": {"caBundle": "new"}}]});
        assert_eq!(reliance(&configuration(), "new"), Some(patch));
        let mut configuration = configuration();
        configuration["webhooks"][0]["clientConfig"]["caBundle"] = json!("new");
        assert_eq!(reliance(&configuration, "new"), None);
    }
}
