//! Lookup tables: hosts by name, routes by path. The cost of a lookup does not grow with the number of entries, and it
//! allocates nothing.

use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;

use foldhash::quality::RandomState;

use crate::compile::{CompiledHost, CompiledRoute};
use crate::flat_table::{FlatTable, Hash};
use crate::matcher::{RegexPattern, RegexSet};
use crate::path::PathMatch;
use crate::request::RequestView;

/// Up to this many routes, trying them in order is faster than any index.
const LINEAR_ROUTES: usize = 8;
/// Hosts in one shard of a [`HostMap`] when it is built; a shard may grow to twice that.
const SHARD_HOSTS: usize = 32;
/// Numbers from this one on share the last bit of a [`Sizes`].
const MAX_SIZE: usize = 63;

/// Hosts by name, in shards that snapshots share: a change of one host copies one shard.
#[derive(Clone, Default)]
pub(crate) struct HostMap {
    hasher: RandomState,
    shards: Box<[FlatTable<CompiledHost>]>,
    len: usize,
}

/// The routes of one host, in order of precedence.
#[derive(Clone)]
pub(crate) enum RouteTable {
    /// The only one lies where the host does.
    One(CompiledRoute),
    Several(Arc<Routes>),
}

/// The routes of a host that has none, or more than one.
pub(crate) struct Routes {
    routes: Box<[CompiledRoute]>,
    /// `None` up to [`LINEAR_ROUTES`] routes.
    index: Option<RouteIndex>,
}

/// Finds the routes of a path without trying all. Routes with an equal path follow one another: they are a run, which
/// is found by its first route.
struct RouteIndex {
    hasher: RandomState,
    /// Runs with a literal path, by class and text.
    literals: FlatTable<RunStart>,
    /// The runs whose path is a regular expression, in order; empty when there are none.
    regexes: Box<[RunStart]>,
    /// All of them in one automaton; `None` when they are too large together.
    regex_set: Option<RegexSet>,
    /// Numbers of bytes.
    exact_lengths: Sizes,
    /// Numbers of path elements.
    prefix_depths: Sizes,
    longest_prefix: usize,
}

/// The number of the first route of a run, counted from one: where there is none there is zero, so it takes four bytes.
#[derive(Clone, Copy)]
struct RunStart(NonZeroU32);

/// Which sizes there are, so that what has another need not be looked for.
#[derive(Clone, Copy, Default)]
struct Sizes(u64);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Exact = 1,
    Prefix = 2,
}

// === impl HostMap ===

impl HostMap {
    pub(crate) fn get(&self, name: &str) -> Option<&CompiledHost> {
        let hash = self.hasher.hash_one(name);
        let shard = self.shards.get(shard_of(hash, self.shards.len()))?;
        shard.find(Hash::new(hash), |host| host.has_name(name))
    }

    pub(crate) fn insert(&mut self, host: CompiledHost) {
        if self.len >= self.shards.len() * SHARD_HOSTS * 2 {
            self.grow();
        }
        if self.put(host).is_none() {
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let hash = self.hasher.hash_one(name);
        let index = shard_of(hash, self.shards.len());
        let Some(shard) = self.shards.get_mut(index) else { return };
        if shard.remove(Hash::new(hash), |host| host.has_name(name)).is_some() {
            self.len -= 1;
        }
        if self.len == 0 {
            *self = Self { hasher: self.hasher.clone(), ..Self::default() };
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &CompiledHost> {
        self.shards.iter().flat_map(FlatTable::iter)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn grow(&mut self) {
        let n_shards = (self.len / SHARD_HOSTS + 1).next_power_of_two();
        let hosts: Vec<_> = self.iter().cloned().collect();
        self.shards = vec![FlatTable::default(); n_shards].into();
        for host in hosts {
            self.put(host);
        }
    }

    /// Adds a host, and returns the one that had its name.
    fn put(&mut self, host: CompiledHost) -> Option<CompiledHost> {
        let hash = self.hasher.hash_one(host.name());
        let index = shard_of(hash, self.shards.len());
        self.shards[index].insert(Hash::new(hash), host, |a, b| a.has_name(b.name()))
    }
}

/// The shard of a hash; any number when there are no shards. The table inside a shard uses the other half of the bits.
fn shard_of(hash: u64, n_shards: usize) -> usize {
    (hash >> 32) as usize & n_shards.wrapping_sub(1)
}

// === impl RouteTable ===

impl RouteTable {
    /// Takes routes that are sorted by precedence.
    pub(crate) fn new(routes: Vec<CompiledRoute>) -> Self {
        match <[CompiledRoute; 1]>::try_from(routes) {
            Ok([only]) => Self::One(only),
            Err(routes) => {
                let index = (routes.len() > LINEAR_ROUTES).then(|| RouteIndex::new(&routes));
                Self::Several(Arc::new(Routes { routes: routes.into_boxed_slice(), index }))
            }
        }
    }

    pub(crate) fn find(&self, request: &RequestView<'_>) -> Option<&CompiledRoute> {
        match self {
            Self::One(route) => Some(route).filter(|route| route.matches(request)),
            Self::Several(several) => match &several.index {
                None => several.routes.iter().find(|route| route.matches(request)),
                Some(index) => index.find(&several.routes, request),
            },
        }
    }

    pub(crate) fn routes(&self) -> &[CompiledRoute] {
        match self {
            Self::One(route) => std::slice::from_ref(route),
            Self::Several(several) => &several.routes,
        }
    }
}

// === impl RouteIndex ===

impl RouteIndex {
    fn new(routes: &[CompiledRoute]) -> Self {
        let hasher = RandomState::default();
        let mut literals = FlatTable::with_capacity(routes.len());
        let mut regexes: Vec<(RunStart, &RegexPattern)> = Vec::new();
        let mut exact_lengths = Sizes::default();
        let mut prefix_depths = Sizes::default();
        let mut longest_prefix = 0;
        let mut next = RunStart::FIRST;
        for run in routes.chunk_by(|a, b| a.path == b.path) {
            let start = next;
            next = start.after(run.len());
            let path = &run[0].path;
            match path {
                PathMatch::Regex(pattern) => regexes.push((start, pattern)),
                PathMatch::Prefix(prefix) => {
                    prefix_depths.add(depth(prefix.as_bytes()));
                    longest_prefix = longest_prefix.max(prefix.as_bytes().len());
                }
                PathMatch::Exact(path) => exact_lengths.add(path.as_bytes().len()),
            }
            if let Some((class, text)) = literal(path) {
                literals.insert(hash(&hasher, class, text), start, |_, _| false);
            }
        }
        let patterns: Vec<&RegexPattern> = regexes.iter().map(|(_, pattern)| *pattern).collect();
        Self {
            regex_set: if patterns.is_empty() { None } else { RegexSet::new(&patterns) },
            regexes: regexes.into_iter().map(|(start, _)| start).collect(),
            hasher,
            literals,
            exact_lengths,
            prefix_depths,
            longest_prefix,
        }
    }

    fn find<'r>(&self, routes: &'r [CompiledRoute], request: &RequestView<'_>) -> Option<&'r CompiledRoute> {
        self.find_exact(routes, request)
            .or_else(|| self.find_regex(routes, request))
            .or_else(|| self.find_prefix(routes, request))
    }

    fn find_exact<'r>(&self, routes: &'r [CompiledRoute], request: &RequestView<'_>) -> Option<&'r CompiledRoute> {
        let is_possible = self.exact_lengths.has(request.path.len());
        if is_possible { self.find_literal(routes, Class::Exact, request.path, request) } else { None }
    }

    fn find_literal<'r>(
        &self,
        routes: &'r [CompiledRoute],
        class: Class,
        text: &str,
        request: &RequestView<'_>,
    ) -> Option<&'r CompiledRoute> {
        let text = text.as_bytes();
        let is_it = |start: &RunStart| literal(&routes[start.index()].path) == Some((class, text));
        let start = self.literals.find(hash(&self.hasher, class, text), is_it)?;
        first_in_run(&routes[start.index()..], request)
    }

    fn find_regex<'r>(&self, routes: &'r [CompiledRoute], request: &RequestView<'_>) -> Option<&'r CompiledRoute> {
        let first = match &self.regex_set {
            Some(set) => set.first_match(request.path)?,
            None => 0,
        };
        // The automaton names the first pattern that fits the path. Only when its routes want more of the request than
        // that are the following ones tried, one by one.
        self.regexes[first..].iter().find_map(|start| {
            let run = &routes[start.index()..];
            let is_match = run[0].path.matches(request.path);
            if is_match { first_in_run(run, request) } else { None }
        })
    }

    fn find_prefix<'r>(&self, routes: &'r [CompiledRoute], request: &RequestView<'_>) -> Option<&'r CompiledRoute> {
        let path = request.path;
        let bytes = path.as_bytes();
        let scanned = &bytes[..bytes.len().min(self.longest_prefix + 1)];
        let mut n_elements = scanned.iter().filter(|byte| **byte == b'/').count();
        let mut end = if scanned.len() == bytes.len() { Some(bytes.len()) } else { None };
        loop {
            // `end` is the end of the first `n_elements` elements, unless the scan stopped in the middle of one.
            if let Some(end) = end
                && self.prefix_depths.has(n_elements)
                && let Some(route) = self.find_literal(routes, Class::Prefix, &path[..end], request)
            {
                return Some(route);
            }
            let before = end.unwrap_or(scanned.len());
            if n_elements == 0 {
                return None;
            }
            end = bytes[..before].iter().rposition(|byte| *byte == b'/');
            n_elements -= 1;
        }
    }
}

/// The first route that fits a request, of the run that `routes` begin with.
fn first_in_run<'r>(routes: &'r [CompiledRoute], request: &RequestView<'_>) -> Option<&'r CompiledRoute> {
    let (first, others) = routes.split_first()?;
    if first.matches_beside_path(request) {
        return Some(first);
    }
    others.iter().take_while(|route| route.path == first.path).find(|route| route.matches_beside_path(request))
}

// === impl RunStart ===

impl RunStart {
    const FIRST: Self = Self(NonZeroU32::MIN);

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }

    /// The start of the run that follows one of so many routes.
    fn after(self, n_routes: usize) -> Self {
        Self(self.0.saturating_add(u32::try_from(n_routes).unwrap_or(u32::MAX)))
    }
}

// === impl Sizes ===

impl Sizes {
    fn add(&mut self, size: usize) {
        self.0 |= 1 << size.min(MAX_SIZE);
    }

    fn has(self, size: usize) -> bool {
        self.0 >> size.min(MAX_SIZE) & 1 == 1
    }
}

/// The number of elements of a prefix: none for `/`.
fn depth(prefix: &[u8]) -> usize {
    prefix.iter().filter(|byte| **byte == b'/').count()
}

fn literal(path: &PathMatch) -> Option<(Class, &[u8])> {
    match path {
        PathMatch::Exact(path) => Some((Class::Exact, path.as_bytes())),
        PathMatch::Prefix(prefix) => Some((Class::Prefix, prefix.as_bytes())),
        PathMatch::Regex(_) => None,
    }
}

fn hash(hasher: &RandomState, class: Class, text: &[u8]) -> Hash {
    let mut hasher = hasher.build_hasher();
    hasher.write_u8(class as u8);
    hasher.write(text);
    Hash::new(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::compile::Linker;
    use crate::endpoint::Backend;
    use crate::host::HostPattern;
    use crate::lane::Lane;
    use crate::model::Host;

    fn host(number: usize) -> CompiledHost {
        let mut linker = Linker {
            backends: &mut |reference| Arc::new(Backend::new(reference.clone())),
            certificates: &mut Lane::default(),
            credentials: &mut Lane::default(),
            authorities: &mut Lane::default(),
        };
        let model = Host { tls: None, client_tls: None, routes: Box::default() };
        CompiledHost::compile(HostPattern::Exact(name(number).into()), &model, &mut linker)
    }

    fn name(number: usize) -> String {
        format!("h{number}.example")
    }

    #[test]
    fn hosts_come_and_go_as_in_a_set() {
        let (mut map, mut set) = (HostMap::default(), BTreeSet::new());
        for step in 0..4000_usize {
            // A walk that meets most numbers more than once.
            let number = step.wrapping_mul(7919) % 1500;
            if step % 3 == 2 {
                map.remove(&name(number));
                set.remove(&number);
            } else {
                map.insert(host(number));
                set.insert(number);
            }
            assert_eq!(map.get(&name(number)).is_some(), set.contains(&number));
            assert_eq!(map.len, set.len());
        }
        (0..1500).for_each(|number| assert_eq!(map.get(&name(number)).is_some(), set.contains(&number), "{number}"));
        assert_eq!(map.iter().count(), set.len());
        (0..1500).for_each(|number| map.remove(&name(number)));
        assert!(map.is_empty() && map.shards.is_empty());
    }

    #[test]
    fn a_change_of_one_host_copies_one_shard() {
        let mut map = HostMap::default();
        (0..3000).for_each(|number| map.insert(host(number)));
        let old = map.clone();
        let n_copied = |map: &HostMap| map.shards.iter().zip(&old.shards).filter(|(a, b)| !a.shares_with(b)).count();
        assert_eq!((map.shards.len(), n_copied(&map)), (64, 0));
        map.insert(host(7));
        assert_eq!(n_copied(&map), 1);
        map = old.clone();
        map.insert(host(3000));
        assert_eq!(n_copied(&map), 1);
        map = old.clone();
        map.remove(&name(7));
        assert_eq!(n_copied(&map), 1);
        assert!(old.get(&name(7)).is_some());
    }
}
