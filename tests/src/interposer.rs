//! A way to an API server on which a test holds requests up, or has some of them fail. All other answers are the API
//! server's own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Cluster;
use crate::client::Client;
use crate::upstream::{Body, Upstream, acceptor, full};

/// A proxy before an API server, on a loopback address. It ends when it is dropped.
pub struct Interposer {
    upstream: Upstream,
    rules: Arc<Rules>,
}

struct Rules {
    /// What of a target is held up.
    held: watch::Sender<Option<String>>,
    /// What of a target fails.
    failing: Mutex<Option<String>>,
    /// The targets that were asked for.
    asked: Mutex<Vec<String>>,
}

impl Interposer {
    /// A proxy that lets everything through.
    pub async fn before(cluster: &Cluster) -> Self {
        let rules =
            Arc::new(Rules { held: watch::Sender::new(None), failing: Mutex::default(), asked: Mutex::default() });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (target, followed) = (cluster.address(), Arc::clone(&rules));
        let handler = move |request| -> crate::upstream::Answering {
            let rules = Arc::clone(&followed);
            Box::pin(async move { rules.answer(target, request).await })
        };
        let upstream = Upstream::on(listener, Some(acceptor(&cluster.certificate(), None)), handler);
        Self { upstream, rules }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// Holds up the requests with a text in their target, from now on.
    pub fn hold(&self, text: &str) {
        self.rules.held.send_replace(Some(text.to_owned()));
    }

    /// Lets them go.
    pub fn release(&self) {
        self.rules.held.send_replace(None);
    }

    /// Has the requests fail with a text in their target, from now on; none of them with `None`.
    pub fn fail(&self, text: Option<&str>) {
        *self.rules.failing.lock().unwrap() = text.map(str::to_owned);
    }

    /// How many requests have come with a text in their target.
    #[must_use]
    pub fn n_asked(&self, text: &str) -> usize {
        self.rules.asked.lock().unwrap().iter().filter(|target| target.contains(text)).count()
    }
}

impl Rules {
    async fn answer(&self, server: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        let target = request.uri().path_and_query().unwrap().as_str().to_owned();
        self.asked.lock().unwrap().push(target.clone());
        let may_go = |held: &Option<String>| held.as_ref().is_none_or(|held| !target.contains(held.as_str()));
        // Its other end is dropped only with this.
        let _ = self.held.subscribe().wait_for(may_go).await;
        if self.failing.lock().unwrap().as_ref().is_some_and(|failing| target.contains(failing.as_str())) {
            return Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).body(full("not now")).unwrap();
        }
        match forward(server, &target, request).await {
            Ok(response) => response.map(|body| body.map_err(std::io::Error::other).boxed()),
            Err(_) => Response::builder().status(StatusCode::BAD_GATEWAY).body(full("it has ended")).unwrap(),
        }
    }
}

async fn forward(
    server: SocketAddr,
    target: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let mut client = Client::try_https1(server, None).await?;
    *request.uri_mut() = target.parse()?;
    request.headers_mut().insert("host", "kubernetes".parse()?);
    Ok(client.open(request).await?)
}
