//! Open-loop load: requests start at their intended times, whether or not earlier ones were answered, as those of many
//! users do. What each of them came to is kept with its times, so that a test can say what it may have been.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, OnceCell, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use crate::client::{Answer, Client};
use crate::wait;

/// Requests in a second, over all lanes.
const RATE: u32 = 1000;
/// A load ends by itself after this many requests: nothing runs for ever because a test forgot it.
const MAX_REQUESTS: u32 = 60_000;

/// Requests that may be under way at a time, far more than a machine that keeps up has: one that does not must not run out
/// of descriptors. What waits for its turn waits in its latency.
const MAX_UNDER_WAY: usize = 64;

/// For how long a connection without requests is used again. A server that leaves closes idle ones after a few seconds,
/// and a request that is on its way then is lost by nobody's fault.
const MAX_IDLE: Duration = Duration::from_secs(2);

/// How requests reach the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP/1.1 over kept connections.
    Http1,
    /// HTTP/2 in plain text, all requests over one connection.
    Http2,
    /// The same, with another connection after a GOAWAY.
    Http2Reopened,
    /// HTTP/1.1, a new connection for each request.
    New,
    /// HTTP/1.1 over TLS, a new handshake for each request.
    NewTls,
}

/// One kind of request that is sent again and again.
#[derive(Clone, Debug)]
pub struct Lane {
    /// How it reaches the gateway.
    pub kind: Kind,
    /// Where the gateway listens.
    pub address: SocketAddr,
    /// The host that it is for.
    pub host: String,
    /// Its path.
    pub path: String,
}

/// What a request came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The number of its lane.
    pub lane: usize,
    /// When it was to start. What it waited after that counts as latency.
    pub intended: Instant,
    /// When it started.
    pub started: Instant,
    /// When its answer was there.
    pub ended: Instant,
    /// Its answer, or why there is none.
    pub answer: Result<Answer, String>,
}

/// A load that is under way.
pub struct Load {
    is_stopped: Arc<AtomicBool>,
    n_answers: Arc<AtomicUsize>,
    task: JoinHandle<Vec<Outcome>>,
}

struct Connections {
    lane: Lane,
    /// Kept connections of HTTP/1 that no request is on, with the time of their last one.
    idle: Mutex<Vec<(Instant, Client)>>,
    /// The connection of HTTP/2. It is never opened again: when it breaks, every request fails.
    http2: OnceCell<Client>,
    /// The one that is opened again.
    reopened: AsyncMutex<Option<Client>>,
}

impl Outcome {
    /// The answer in short: the status and, of an upstream's answer, its name and the path that it saw.
    #[must_use]
    pub fn summary(&self) -> String {
        match &self.answer {
            Err(error) => error.clone(),
            Ok(answer) => match serde_json::from_slice::<crate::Seen>(&answer.body) {
                Ok(seen) => format!("{} {} {}", answer.status.as_u16(), seen.upstream, seen.target),
                Err(_) => answer.status.as_u16().to_string(),
            },
        }
    }

    /// From the intended start to the end.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.ended - self.intended
    }
}

impl Load {
    /// Starts a load of 1,000 requests a second, the lanes in turn.
    #[must_use]
    pub fn start(lanes: Vec<Lane>) -> Self {
        let (is_stopped, n_answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = tokio::spawn(drive(lanes, Arc::clone(&is_stopped), Arc::clone(&n_answers)));
        Self { is_stopped, n_answers, task }
    }

    /// Waits until that many more requests have an answer.
    pub async fn wait_for(&self, n_more: usize) {
        let wanted = self.n_answers.load(Ordering::Relaxed) + n_more;
        let is_reached = async || (self.n_answers.load(Ordering::Relaxed) >= wanted).then_some(());
        wait::until(&format!("{n_more} more answers"), is_reached).await;
    }

    /// Starts no more requests, waits for the answers of those under way, and returns all in order of their start.
    pub async fn stop(self) -> Vec<Outcome> {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// How often each answer of a lane was given.
#[must_use]
pub fn tally(outcomes: &[Outcome], lane: usize) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.lane == lane) {
        *tally.entry(outcome.summary()).or_default() += 1;
    }
    tally
}

async fn drive(lanes: Vec<Lane>, is_stopped: Arc<AtomicBool>, n_answers: Arc<AtomicUsize>) -> Vec<Outcome> {
    let lanes: Vec<Arc<Connections>> = lanes.into_iter().map(Connections::new).collect();
    let began = Instant::now();
    let turns = Arc::new(Semaphore::new(MAX_UNDER_WAY));
    let mut under_way = JoinSet::new();
    for number in 0..MAX_REQUESTS {
        let intended = began + Duration::from_secs(1) * number / RATE;
        tokio::time::sleep_until(intended.into()).await;
        let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
        if is_stopped.load(Ordering::Relaxed) {
            break;
        }
        let lane = usize::try_from(number).unwrap() % lanes.len();
        let connections = Arc::clone(&lanes[lane]);
        let n_answers = Arc::clone(&n_answers);
        under_way.spawn(async move {
            let started = Instant::now();
            let answer = connections.request().await;
            n_answers.fetch_add(1, Ordering::Relaxed);
            drop(turn);
            Outcome { lane, intended, started, ended: Instant::now(), answer }
        });
    }
    let mut outcomes = under_way.join_all().await;
    outcomes.sort_by_key(|outcome| outcome.started);
    outcomes
}

impl Connections {
    fn new(lane: Lane) -> Arc<Self> {
        Arc::new(Self { lane, idle: Mutex::default(), http2: OnceCell::new(), reopened: AsyncMutex::default() })
    }

    async fn request(&self) -> Result<Answer, String> {
        let Lane { kind, host, path, .. } = &self.lane;
        if *kind == Kind::Http2Reopened {
            return self.request_again().await;
        }
        let mut client = self.connection().await?;
        let request = client.request("GET", host, path, &[], "");
        let answer = client.try_send(request).await.map_err(|error| format!("no answer: {error:?}"))?;
        let is_closing = answer.header("connection") == Some("close");
        if *kind == Kind::Http1 && !is_closing {
            self.idle.lock().unwrap().push((Instant::now(), client));
        }
        Ok(answer)
    }

    /// A request that goes over another connection of HTTP/2 as often as one was told to go away before it left.
    async fn request_again(&self) -> Result<Answer, String> {
        let Lane { address, host, path, .. } = &self.lane;
        loop {
            let mut client = {
                let mut current = self.reopened.lock().await;
                let usable = current.as_ref().filter(|client| !client.is_closed()).map(Client::another);
                match usable {
                    Some(client) => client,
                    None => {
                        let opened = Client::try_h2c(*address).await;
                        let client = opened.map_err(|error| format!("no connection: {error:?}"))?;
                        current.insert(client).another()
                    }
                }
            };
            let request = client.request("GET", host, path, &[], "");
            match client.try_send_before_goaway(request).await {
                Some(answer) => return answer.map_err(|error| format!("no answer: {error:?}")),
                // The next round sees that it is closed.
                None => tokio::task::yield_now().await,
            }
        }
    }

    /// A connection for one request.
    async fn connection(&self) -> Result<Client, String> {
        let Lane { kind, address, host, .. } = &self.lane;
        let idle = || {
            let (used, client) = self.idle.lock().unwrap().pop()?;
            (used.elapsed() < MAX_IDLE && !client.is_closed()).then_some(client)
        };
        let opened = match kind {
            Kind::Http1 | Kind::New => match idle() {
                Some(client) => Ok(client),
                None => Client::try_http1(*address).await,
            },
            Kind::Http2 | Kind::Http2Reopened => Ok(self.http2.get_or_init(|| Client::h2c(*address)).await.another()),
            Kind::NewTls => Client::try_https1(*address, Some(host)).await,
        };
        opened.map_err(|error| format!("no connection: {error:?}"))
    }
}
