//! Where the connections of a stream listener go, ready for choices.

use smallvec::SmallVec;

use super::{Linker, Target, pick, targets};
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
}
