//! The routes whose manifests are edited: their files, and the answers that are right at the moment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context;

use crate::client::Answer;
use crate::manifests;

/// One route in this many has a Service of its own, whose EndpointSlice is edited; the others change their Service.
const ENDPOINT_SHARE: usize = 10;

/// What a route may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serving {
    /// The first upstream.
    A,
    /// The second one.
    B,
    /// There is no such route.
    Gone,
}

/// A route.
pub(crate) struct Route {
    pub(crate) host: String,
    number: usize,
    is_by_endpoints: bool,
    directory: PathBuf,
    /// A bit for each right answer.
    right: AtomicU8,
}

/// All routes, and the upstreams that they lead to.
pub(crate) struct Routes {
    pub(crate) routes: Vec<Route>,
    upstreams: [SocketAddr; 2],
}

impl Serving {
    /// The name of the upstream: its Service, and what it answers with.
    fn upstream(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B | Self::Gone => "b",
        }
    }

    /// Whoever the answer is from; `None` when it is neither of an upstream nor that of an unknown host.
    pub(crate) fn of(answer: &Answer) -> Option<Self> {
        match (answer.status, answer.body.as_str()) {
            (200, "a") => Some(Self::A),
            (200, "b") => Some(Self::B),
            (404, _) => Some(Self::Gone),
            _ => None,
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
            Self::Gone => 4,
        }
    }
}

// === impl Route ===

impl Route {
    /// Says that several answers are right from now on.
    pub(crate) fn set_right(&self, right: &[Serving]) {
        self.right.store(right.iter().fold(0, |bits, serving| bits | serving.bit()), Ordering::SeqCst);
    }

    /// The right answers as bits; to be read before a question and after its answer.
    pub(crate) fn right(&self) -> u8 {
        self.right.load(Ordering::SeqCst)
    }

    /// The file that says what the route answers.
    pub(crate) fn file(&self) -> PathBuf {
        let kind = if self.is_by_endpoints { "slice" } else { "ingress" };
        self.directory.join(format!("{kind}-{}.yaml", self.number))
    }

    /// Whether its EndpointSlice is what is edited.
    pub(crate) fn is_by_endpoints(&self) -> bool {
        self.is_by_endpoints
    }

    fn own_service(&self) -> String {
        format!("own-{}", self.number)
    }

    fn ingress(&self, service: &str) -> String {
        manifests::ingress(&format!("route-{}", self.number), &self.host, service)
    }
}

/// Whether an answer is among those that were right before the question or after the answer.
pub(crate) fn is_right(answer: &Answer, before: u8, after: u8) -> bool {
    Serving::of(answer).is_some_and(|serving| serving.bit() & (before | after) != 0)
}

// === impl Routes ===

impl Routes {
    /// Writes the manifests; every route leads to the first upstream.
    pub(crate) fn create(directory: &Path, n_routes: usize, upstreams: [SocketAddr; 2]) -> anyhow::Result<Self> {
        let [a, b] = upstreams;
        let shared =
            [manifests::service("a"), manifests::slice("a", a), manifests::service("b"), manifests::slice("b", b)];
        write(&directory.join("services.yaml"), &manifests::documents(&shared))?;
        let route = |number: usize| Route {
            host: format!("route-{number}.example"),
            number,
            is_by_endpoints: number.is_multiple_of(ENDPOINT_SHARE),
            directory: directory.to_owned(),
            right: AtomicU8::new(Serving::A.bit()),
        };
        let routes = Self { routes: (0..n_routes).map(route).collect(), upstreams };
        for route in &routes.routes {
            write(&route.file(), &routes.text(route, Serving::A))?;
            if route.is_by_endpoints {
                let service = route.own_service();
                write(&directory.join(format!("service-{}.yaml", route.number)), &manifests::service(&service))?;
                write(&directory.join(format!("ingress-{}.yaml", route.number)), &route.ingress(&service))?;
            }
        }
        Ok(routes)
    }

    /// What the file of a route has to say.
    pub(crate) fn text(&self, route: &Route, serving: Serving) -> String {
        if !route.is_by_endpoints {
            return route.ingress(serving.upstream());
        }
        let [a, b] = self.upstreams;
        let upstream = if serving == Serving::A { a } else { b };
        manifests::slice(&route.own_service(), upstream)
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_right_when_it_was_so_before_or_after() {
        let answer = |status, body: &str| Answer { status, body: body.to_owned() };
        let (a, b, gone) = (Serving::A.bit(), Serving::B.bit(), Serving::Gone.bit());
        assert!(is_right(&answer(200, "a"), a, b));
        assert!(is_right(&answer(200, "b"), a, b));
        assert!(is_right(&answer(404, "404 Not Found\n"), gone, gone));
        assert!(!is_right(&answer(404, ""), a, b));
        assert!(!is_right(&answer(200, "b"), a, a));
        assert!(!is_right(&answer(200, ""), a, b));
        assert!(!is_right(&answer(503, "a"), a, a));
    }
}
