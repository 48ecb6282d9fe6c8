//! What was learnt about endpoints, for the process that serves next: how soon they answer, what they failed at, and
//! which of them active checks find down.
//!
//! Times travel as ages, because every process has a clock of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use routing::Endpoint;
use routing::model::{BackendKey, EndpointKey};
use serde::{Deserialize, Serialize};

use super::endpoint::state;
use crate::clock;

/// What is known about one endpoint, with its identity.
#[derive(Serialize, Deserialize)]
struct Memory {
    namespace: Box<str>,
    service: Box<str>,
    service_uid: Box<str>,
    port: u16,
    address: SocketAddr,
    pod_uid: Box<str>,
    latency: Option<LatencyMemory>,
    failures: FailureMemory,
    /// For how long it has been there, or back.
    #[serde(default)]
    age: Duration,
    /// Whether active checks find it down.
    #[serde(default)]
    is_down: bool,
}

/// What another process has told.
#[derive(Debug, Default)]
pub struct EndpointNews {
    /// About how many endpoints there is something.
    pub n_known: usize,
    /// Those that its checks find down. It is for checks alone to say so here, because nobody else takes it back.
    pub down: Vec<Arc<Endpoint>>,
}

/// The moving average of its answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct LatencyMemory {
    /// In seconds.
    pub(super) average: f32,
    /// How long ago it last answered.
    pub(super) age: Duration,
}

/// Its failures in a row, and its ejections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FailureMemory {
    pub(super) n_failures: u32,
    pub(super) n_ejections: u32,
    /// For how long it gets no requests.
    pub(super) ejected_for: Duration,
}

/// What is known about those endpoints about which something is.
#[must_use]
pub fn export_endpoints(endpoints: &[Arc<Endpoint>]) -> Vec<u8> {
    export(endpoints, clock::now())
}

/// Goes on with what another process has learnt. Endpoints that it did not know are left as they are, and what it knew
/// about others is dropped. `None` when the bytes are in another form.
pub fn import_endpoints(endpoints: &[Arc<Endpoint>], bytes: &[u8]) -> Option<EndpointNews> {
    import(endpoints, bytes, clock::now())
}

fn export(endpoints: &[Arc<Endpoint>], now: Duration) -> Vec<u8> {
    let memories: Vec<Memory> = endpoints.iter().filter_map(|endpoint| remember(endpoint, now)).collect();
    // Plain values: nothing in them can fail to be written.
    serde_json::to_vec(&memories).unwrap_or_default()
}

fn remember(endpoint: &Endpoint, now: Duration) -> Option<Memory> {
    let EndpointKey { backend, address, pod_uid } = &endpoint.key;
    let BackendKey { namespace, service, uid, port } = &**backend;
    let state = state(endpoint);
    let (latency, failures) = (state.latency.export(now), state.outlier.export(now));
    let (age, is_down) = (state.age(now), !state.is_up());
    if latency.is_none() && failures == FailureMemory::default() && !is_down {
        return None;
    }
    Some(Memory {
        namespace: namespace.clone(),
        service: service.clone(),
        service_uid: uid.clone(),
        port: *port,
        address: *address,
        pod_uid: pod_uid.clone(),
        latency,
        failures,
        age,
        is_down,
    })
}

fn import(endpoints: &[Arc<Endpoint>], bytes: &[u8], now: Duration) -> Option<EndpointNews> {
    let memories: Vec<Memory> = serde_json::from_slice(bytes).ok()?;
    let known: HashMap<&EndpointKey, &Arc<Endpoint>> =
        endpoints.iter().map(|endpoint| (&endpoint.key, endpoint)).collect();
    let mut news = EndpointNews::default();
    for memory in memories {
        let Memory { namespace, service, service_uid, port, address, pod_uid, latency, failures, age, is_down } =
            memory;
        let backend = Arc::new(BackendKey { namespace, service, uid: service_uid, port });
        let Some(endpoint) = known.get(&EndpointKey { backend, address, pod_uid }) else { continue };
        let state = state(endpoint);
        if let Some(latency) = latency {
            state.latency.import(latency, now);
        }
        state.outlier.import(failures, now);
        state.set_age(age, now);
        news.n_known += 1;
        if is_down {
            news.down.push(Arc::clone(endpoint));
        }
    }
    Some(news)
}

#[cfg(test)]
mod tests {
    use routing::Slot;

    use super::*;

    fn endpoint(port: u16, pod_uid: &str) -> Arc<Endpoint> {
        let backend = BackendKey { namespace: "ns".into(), service: "a".into(), uid: "u".into(), port: 80 };
        let address = ([10, 0, 0, 1], port).into();
        let key = EndpointKey { backend: Arc::new(backend), address, pod_uid: pod_uid.into() };
        Arc::new(Endpoint { key, slot: Slot::default() })
    }

    const OLD: Duration = Duration::from_secs(100_000);
    /// The clock of a process that has just begun.
    const NEW: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn another_process_knows_what_this_one_has_learnt() {
        let (slow, bad) = (endpoint(1, "p"), endpoint(2, "p"));
        state(&slow).latency.observe(Duration::from_secs(2), OLD - Duration::from_secs(30));
        while !state(&bad).outlier.fail() {}
        state(&bad).outlier.eject(OLD - Duration::from_secs(4)).unwrap();
        let bytes = export(&[slow, bad, endpoint(3, "p")], OLD);
        let [slow, bad, fresh] = [endpoint(1, "p"), endpoint(2, "p"), endpoint(3, "p")];
        let all = [Arc::clone(&slow), Arc::clone(&bad), Arc::clone(&fresh)];
        let news = import(&all, &bytes, NEW).unwrap();
        assert_eq!((news.n_known, news.down.len()), (2, 0), "there was nothing to tell about the third");
        assert_eq!(state(&slow).latency.average(), Some(2.0));
        assert_eq!(state(&fresh).latency.average(), None);
        let after = |seconds| NEW + Duration::from_secs(seconds);
        assert!(state(&bad).outlier.is_ejected(after(5)), "six of its ten seconds are left");
        assert!(!state(&bad).outlier.is_ejected(after(6)));
        assert!(!state(&slow).outlier.is_ejected(NEW));
        // A first answer after 30 s counts nearly alone, as it would have with the old process.
        state(&slow).latency.observe(Duration::ZERO, NEW);
        assert!(state(&slow).latency.average().unwrap() < 0.11);
        assert!(state(&bad).outlier.fail(), "one failure after its return is one too many");
    }

    #[test]
    fn a_pod_that_got_the_address_of_another_is_not_blamed_for_it() {
        let bad = endpoint(1, "before");
        while !state(&bad).outlier.fail() {}
        state(&bad).outlier.eject(OLD).unwrap();
        let bytes = export(&[bad], OLD);
        let good = endpoint(1, "after");
        assert_eq!(import(&[Arc::clone(&good)], &bytes, NEW).unwrap().n_known, 0);
        assert!(!state(&good).outlier.is_ejected(NEW));
    }

    #[test]
    fn another_form_is_not_guessed_at() {
        for bytes in [&b""[..], b"{}", b"[{}]", b"\xff"] {
            assert!(import(&[], bytes, NEW).is_none());
        }
    }

    #[test]
    fn an_endpoint_that_is_down_is_told_of_and_left_to_the_checks() {
        let (down, up) = (endpoint(1, "p"), endpoint(2, "p"));
        state(&down).set_up(false, OLD);
        let bytes = export(&[down, up], OLD);
        let (down, up) = (endpoint(1, "p"), endpoint(2, "p"));
        let news = import(&[Arc::clone(&down), up], &bytes, NEW).unwrap();
        assert_eq!(news.n_known, 1);
        assert!(matches!(&*news.down, [told] if Arc::ptr_eq(told, &down)));
        assert!(state(&down).is_up());
    }

    #[test]
    fn an_endpoint_is_as_old_as_it_was() {
        let old = endpoint(1, "p");
        state(&old).set_age(Duration::from_secs(50), OLD);
        state(&old).latency.observe(Duration::ZERO, OLD);
        let bytes = export(&[old], OLD);
        let old = endpoint(1, "p");
        import(&[Arc::clone(&old)], &bytes, NEW).unwrap();
        assert_eq!(state(&old).age(NEW + Duration::from_secs(1)), Duration::from_secs(51));
    }

    /// As another version of the program has written it.
    #[test]
    fn what_is_not_told_is_not_made_up() {
        let known = r#"[{"namespace":"ns","service":"a","service_uid":"u","port":80,"address":"10.0.0.1:1","pod_uid":"p",
            "latency":null,"failures":{"n_failures":1,"n_ejections":0,"ejected_for":{"secs":0,"nanos":0}},"colour":1}]"#;
        let news = import(&[endpoint(1, "p")], known.as_bytes(), NEW).unwrap();
        assert_eq!((news.n_known, news.down.len()), (1, 0));
    }
}
