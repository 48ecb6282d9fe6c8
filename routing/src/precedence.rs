//! Which route wins, in one table: every line stands beside the sentence that it comes from.

use std::cmp::Ordering;

use crate::model::{Order, Route};
use crate::path::PathMatch;

/// Compares two routes of one host. The lesser one is tried first.
///
/// Gateway API v1.7, `HTTPRouteRule.matches`, and ingress-nginx 1.15 mapped onto it:
///
/// 1. "Exact" path match. (Ingress: "precedence is given to exact path type over prefix path type".)
/// 2. Regular expressions. (Gateway API leaves their place to the implementation; nginx tries them after `=` and before
///    prefixes, "in the order of their appearance", which ingress-nginx makes: the longest first, then reverse
///    lexical.)
/// 3. "Prefix" path match with largest number of characters. (Ingress: "precedence will be given first to the longest
///    matching path".)
/// 4. Method match.
/// 5. Largest number of header matches.
/// 6. Largest number of query param matches.
/// 7. "The oldest Route based on creation timestamp." (ingress-nginx: the same.) A file without a time is oldest.
/// 8. "The Route appearing first in alphabetical order by `{namespace}/{name}`." (ingress-nginx: last.)
/// 9. "The first matching rule (in list order) with a match meeting the above criteria."
pub(crate) fn compare(a: &Route, b: &Route) -> Ordering {
    compare_paths(&a.matches.path, &b.matches.path)
        .then_with(|| b.matches.method.is_some().cmp(&a.matches.method.is_some()))
        .then_with(|| b.matches.headers.len().cmp(&a.matches.headers.len()))
        .then_with(|| b.matches.query.len().cmp(&a.matches.query.len()))
        .then_with(|| a.rank.created.cmp(&b.rank.created))
        .then_with(|| compare_objects(a, b))
        .then_with(|| (a.rank.rule, a.rank.entry).cmp(&(b.rank.rule, b.rank.entry)))
}

/// Lines 1 to 3.
fn compare_paths(a: &PathMatch, b: &PathMatch) -> Ordering {
    fn class(path: &PathMatch) -> u8 {
        match path {
            PathMatch::Exact(_) => 1,
            PathMatch::Regex(_) => 2,
            PathMatch::Prefix(_) => 3,
        }
    }
    class(a).cmp(&class(b)).then_with(|| b.n_characters().cmp(&a.n_characters())).then_with(|| match (a, b) {
        (PathMatch::Regex(a), PathMatch::Regex(b)) => b.as_str().cmp(a.as_str()),
        // Two different paths of one kind and one length never match the same request; a stable order for the eye.
        (PathMatch::Exact(a), PathMatch::Exact(b)) => a.cmp(b),
        (PathMatch::Prefix(a), PathMatch::Prefix(b)) => a.cmp(b),
        _ => Ordering::Equal,
    })
}

/// Line 8. Objects of equal age and of both kinds: Ingresses first, because they were there first.
fn compare_objects(a: &Route, b: &Route) -> Ordering {
    /// Both specifications compare one text: `team/x` is greater than `team-b/x`, because a slash is greater than a dash.
    fn text(route: &Route) -> impl Iterator<Item = u8> {
        let origin = &route.rule.origin;
        origin.namespace.bytes().chain(*b"/").chain(origin.name.bytes())
    }
    a.rank.order.cmp(&b.rank.order).then_with(|| match a.rank.order {
        Order::Ingress => text(b).cmp(text(a)),
        Order::GatewayApi => text(a).cmp(text(b)),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Origin, Rank, RouteMatch, Rule};

    fn route(order: Order, namespace: &str, name: &str) -> Route {
        let origin = Origin { kind: "Ingress", namespace: namespace.into(), name: name.into(), place: "".into() };
        let rule = Rule { path: "/".into(), ..Rule::new(origin, Vec::new()) };
        let matches = RouteMatch::path(PathMatch::Exact("/".into()));
        Route { matches, rank: Rank { order, created: None, rule: 0, entry: 0 }, rule: Arc::new(rule) }
    }

    #[test]
    fn objects_of_equal_age_are_compared_by_namespace_and_name_as_one_text() {
        let names = [("team", "x"), ("team-b", "x"), ("team", "y")];
        let sorted = |order: Order| {
            let mut routes = names.map(|(namespace, name)| route(order, namespace, name));
            routes.sort_by(compare);
            routes.map(|route| route.rule.origin.object().to_string())
        };
        assert_eq!(sorted(Order::GatewayApi), ["Ingress team-b/x", "Ingress team/x", "Ingress team/y"]);
        assert_eq!(sorted(Order::Ingress), ["Ingress team/y", "Ingress team/x", "Ingress team-b/x"]);
    }
}
