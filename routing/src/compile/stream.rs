//! Where the connections of a stream listener go, ready for choices.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Linker, Target, pick, targets};
use crate::endpoint::Backend;
use crate::model::StreamRoute;
use crate::slot::Slot;

/// A stream route with the backends that it refers to.
#[derive(Debug)]
pub struct CompiledStream {
    /// The route.
    pub route: StreamRoute,
    /// Where its connections go.
    targets: SmallVec<[Target; 1]>,
    total_weight: u32,
    /// Room for what the data plane derives from the route, such as its counters.
    pub slot: Slot,
}

impl CompiledStream {
    pub(crate) fn compile(route: &StreamRoute, linker: &mut Linker<'_>) -> Self {
        let (targets, total_weight) = targets(&route.backends, linker);
        Self { route: route.clone(), targets, total_weight, slot: Slot::default() }
    }

    /// Picks a target in proportion to the weights. `None` when there is none with a weight.
    #[must_use]
    pub fn pick(&self, entropy: u32) -> Option<&Target> {
        pick(&self.targets, self.total_weight, entropy)
    }

    /// Whether a backend is one of those that connections go to: one without a weight gets none.
    #[must_use]
    pub fn leads_to(&self, backend: &Arc<Backend>) -> bool {
        let mut before = 0;
        self.targets.iter().any(|target| {
            let has_weight = std::mem::replace(&mut before, target.cumulative_weight) < target.cumulative_weight;
            has_weight && target.backend.as_ref().is_some_and(|own| Arc::ptr_eq(own, backend))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lane::Lane;
    use crate::model::{BackendRef, Origin, PortRef, WeightedBackend};

    fn reference(service: &str) -> BackendRef {
        BackendRef { namespace: "default".into(), service: service.into(), port: PortRef::Number(53) }
    }

    #[test]
    fn a_stream_leads_to_every_backend_that_it_picks_and_to_no_other() {
        let services = ["first", "idle", "second", "other"];
        let known: BTreeMap<_, _> =
            services.map(|name| (reference(name), Arc::new(Backend::new(reference(name))))).into();
        let backends = [(Some("first"), 1), (Some("idle"), 0), (None, 2), (Some("second"), 3)];
        let route = StreamRoute {
            origin: Origin { kind: "ConfigMap", namespace: "".into(), name: "".into(), place: "".into() },
            backends: backends
                .map(|(service, weight)| WeightedBackend {
                    backend: service.map(reference),
                    weight,
                    filters: Vec::new(),
                })
                .into(),
            expects_proxy_header: false,
            sends_proxy_header: false,
        };
        let stream = CompiledStream::compile(
            &route,
            &mut Linker {
                backends: &mut |reference| Arc::clone(&known[reference]),
                certificates: &mut Lane::default(),
                credentials: &mut Lane::default(),
                authorities: &mut Lane::default(),
            },
        );
        let picked = |backend: &Arc<Backend>| {
            (0..=u32::MAX).step_by(1 << 20).any(|entropy| {
                let target = stream.pick(entropy).and_then(|target| target.backend.as_ref());
                target.is_some_and(|target| Arc::ptr_eq(target, backend))
            })
        };
        let led_to = services.map(|name| stream.leads_to(&known[&reference(name)]));
        assert_eq!(led_to, [true, false, true, false]);
        assert_eq!(led_to, services.map(|name| picked(&known[&reference(name)])));
        // The same Service, once nobody referred to it any more.
        assert!(!stream.leads_to(&Arc::new(Backend::new(reference("first")))));
    }
}
