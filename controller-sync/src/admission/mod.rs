//! The validating webhook: tells the API server what would become of an Ingress, before it is one.
//!
//! Nothing here changes anything, and nobody is trusted: whoever reaches the pod may ask. What is read is limited in size,
//! in number and in time, and an answer tells nothing about Secrets.

mod authority;
mod certificate;
mod judgement;
mod keeper;
mod review;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::routing::post;
use http::{StatusCode, header};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use self::certificate::{CertificateFileError, CertificateFiles};
pub use self::judgement::Judgement;
pub(crate) use self::judgement::judge;
pub use self::keeper::{Custody, OwnCertificate};
use self::review::Review;
use crate::sync::SyncRequest;

/// Where ingress-nginx has it.
const PATH: &str = "/networking/v1/ingresses";
/// The largest review, in bytes, which is ingress-nginx's limit: an object of the largest size, the one before it, and
/// what surrounds them.
const MAX_REVIEW: usize = 9 << 20;
/// Reviews that are read and judged at a time. Others wait.
const MAX_REVIEWS: usize = 16;
/// How long a review may take, from its head to its answer. API servers wait 10 seconds by default.
const LIMIT: Duration = Duration::from_secs(8);

/// What reviews are judged with.
#[derive(Clone)]
struct Bench {
    requests: mpsc::Sender<SyncRequest>,
    room: Arc<Semaphore>,
}

/// The webhook, which asks the sync loop.
pub fn webhook(requests: mpsc::Sender<SyncRequest>) -> Router {
    let bench = Bench { requests, room: Arc::new(Semaphore::new(MAX_REVIEWS)) };
    Router::new().route(PATH, post(answer)).with_state(bench)
}

async fn answer(
    State(bench): State<Bench>,
    body: Body,
) -> Result<([(header::HeaderName, &'static str); 1], String), StatusCode> {
    let answer = tokio::time::timeout(LIMIT, bench.answer(body)).await.map_err(|_| StatusCode::REQUEST_TIMEOUT)??;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer.to_string()))
}

impl Bench {
    /// Nothing of a review is in memory before there is room for it.
    async fn answer(&self, body: Body) -> Result<Value, StatusCode> {
        let _place = self.room.acquire().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        let bytes = to_bytes(body, MAX_REVIEW).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
        let review = Review::read(&bytes).map_err(|_| StatusCode::BAD_REQUEST)?;
        drop(bytes);
        let Review { uid, object } = review;
        let judgement = match object {
            Some(object) => self.judge(object).await.ok_or(StatusCode::SERVICE_UNAVAILABLE)?,
            None => Judgement::default(),
        };
        Ok(review::answer(&uid, &judgement))
    }

    /// `None` before there is anything to judge by.
    async fn judge(&self, object: Box<Value>) -> Option<Judgement> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(SyncRequest::Review(object, answer)).await.ok()?;
        answered.await.ok()
    }
}
