//! What the clients of a host must show: as in ingress-nginx, the oldest Ingress that says so decides for all.

use std::sync::Arc;

use routing::model::ClientTls;

use super::Neighbours;
use crate::ingress::Ingress;
use crate::problem::{Problem, Reason};
use crate::resources::NamespacedName;

pub(super) fn client_tls(
    neighbours: &Neighbours<'_>,
    problems: &mut Vec<(NamespacedName, Problem)>,
) -> Option<Arc<ClientTls>> {
    let wanted = |ingress: &&Arc<Ingress>| {
        let policy = ingress.annotations.client_tls.resolve(&ingress.meta.namespace).ok().flatten()?;
        Some((ingress.meta.key(), policy))
    };
    let mut all = neighbours.ingresses.iter().filter_map(wanted);
    let (winner, policy) = all.next()?;
    for (loser, _) in all.filter(|(_, other)| *other != policy) {
        let message = format_args!(
            "what the clients of host {:?} must show is said by Ingress {winner}",
            neighbours.host.to_string()
        )
        .to_string();
        problems.push((loser, Problem::warning(Reason::Conflict, "metadata.annotations", message)));
    }
    Some(Arc::new(policy))
}
