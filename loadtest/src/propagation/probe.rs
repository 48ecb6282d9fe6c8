//! A probe asks for a host each millisecond, from before a change until long after it shows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tests::Client;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(1);
/// Answers that must be right after the first right one.
const N_CONFIRMED: usize = 20;
/// Answers by others before an endpoint counts as left: by turns, it would have answered half of them.
const N_LEFT: usize = 60;
/// A change that does not show by then is not going to.
const LIMIT: Duration = Duration::from_secs(20);

/// What a host may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// 404.
    NotFound,
    /// 200, by the upstream of this name.
    By(&'static str),
}

/// What a change came to.
pub(super) struct Outcome {
    /// From the answer of the API server.
    pub(super) delay: Duration,
    /// Answers that were neither the old nor the new one, and questions without an answer.
    pub(super) n_wrong: usize,
}

/// A probe that is under way.
pub(super) struct Probe {
    changed: oneshot::Sender<Instant>,
    task: JoinHandle<anyhow::Result<Outcome>>,
}

impl Probe {
    /// Asks until the new answer has come often enough.
    pub(super) fn follow(address: SocketAddr, host: &str, old: Right, new: Right) -> Self {
        let (changed, is_changed) = oneshot::channel();
        let asker = Asker { address, host: host.to_owned(), client: None };
        Self { changed, task: tokio::spawn(asker.follow(old, new, is_changed)) }
    }

    /// Asks until an upstream has not answered for long.
    pub(super) fn leave(address: SocketAddr, host: &str, upstream: &'static str) -> Self {
        let (changed, is_changed) = oneshot::channel();
        let asker = Asker { address, host: host.to_owned(), client: None };
        Self { changed, task: tokio::spawn(asker.leave(upstream, is_changed)) }
    }

    /// The API server has answered: what comes from now on is the delay.
    pub(super) async fn changed(self) -> anyhow::Result<Outcome> {
        let _ = self.changed.send(Instant::now());
        self.task.await.context("a probe has failed")?
    }
}

/// Asks for a host over a connection that is kept.
pub(super) struct Asker {
    address: SocketAddr,
    host: String,
    client: Option<Client>,
}

impl Asker {
    async fn follow(
        mut self,
        old: Right,
        new: Right,
        mut changed: oneshot::Receiver<Instant>,
    ) -> anyhow::Result<Outcome> {
        let (mut made, mut first, mut n_new, mut n_wrong) = (None, None, 0, 0);
        while made.is_none() || n_new < N_CONFIRMED {
            let answer = self.ask().await;
            if answer == Some(new) {
                first = first.or_else(|| Some(Instant::now()));
                n_new += 1;
            } else if answer != Some(old) || first.is_some() {
                n_wrong += 1;
            }
            made = made.or_else(|| changed.try_recv().ok());
            self.pause(made).await?;
        }
        let delay = first.zip(made).map(|(first, made)| first.saturating_duration_since(made));
        Ok(Outcome { delay: delay.unwrap_or_default(), n_wrong })
    }

    async fn leave(
        mut self,
        upstream: &'static str,
        mut changed: oneshot::Receiver<Instant>,
    ) -> anyhow::Result<Outcome> {
        let (mut made, mut last, mut n_others, mut n_wrong) = (None, None, 0, 0);
        while made.is_none() || n_others < N_LEFT {
            let asked = Instant::now();
            match self.ask().await {
                Some(Right::By(name)) if name == upstream => (last, n_others) = (Some(asked), 0),
                Some(Right::By(_)) => n_others += 1,
                Some(Right::NotFound) | None => n_wrong += 1,
            }
            if made.is_none() {
                made = changed.try_recv().ok();
                n_others = 0;
            }
            self.pause(made).await?;
        }
        let delay = last.zip(made).map(|(last, made)| last.saturating_duration_since(made));
        Ok(Outcome { delay: delay.unwrap_or_default(), n_wrong })
    }

    /// Asks until the answer is a right one.
    pub(super) async fn until(address: SocketAddr, host: &str, right: Right) -> anyhow::Result<()> {
        let mut asker = Self { address, host: host.to_owned(), client: None };
        let began = Instant::now();
        while asker.ask().await != Some(right) {
            asker.pause(Some(began)).await?;
        }
        Ok(())
    }

    /// One question; `None` when nothing came, or something that is nobody's answer.
    async fn ask(&mut self) -> Option<Right> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::try_http1(self.address).await.ok()?,
        };
        let request = client.request("GET", &self.host, "/", &[], "");
        let answer = client.try_send(request).await.ok()?;
        self.client = Some(client);
        match (answer.status.as_u16(), answer.upstream().as_str()) {
            (404, _) => Some(Right::NotFound),
            (200, "a") => Some(Right::By("a")),
            (200, "b") => Some(Right::By("b")),
            _ => None,
        }
    }

    async fn pause(&self, since: Option<Instant>) -> anyhow::Result<()> {
        if since.is_some_and(|since| since.elapsed() > LIMIT) {
            bail!("{}: a change does not show after {LIMIT:?}", self.host);
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}
