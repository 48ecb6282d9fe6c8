//! Lookup tables: hosts by name, routes by path. The cost of a lookup does not grow with the number of entries, and it
//! allocates nothing.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::compile::{CompiledHost, CompiledRoute};
use crate::matcher::{RegexPattern, RegexSet};
use crate::path::PathMatch;
use crate::request::RequestView;

/// Up to this many routes, trying them in order is faster than any index.
const LINEAR_ROUTES: usize = 8;
/// Hosts in one shard of a [`HostMap`] when it is built; a shard may grow to twice that.
const SHARD_HOSTS: usize = 64;
/// Prefixes with more elements than this share the last bit of a [`Depths`].
const MAX_DEPTH: usize = 63;

/// Hosts by name, in shards that snapshots share: a change of one host copies one shard.
#[derive(Clone, Default)]
pub(crate) struct HostMap {
    hasher: RandomState,
    shards: Box<[Arc<Shard>]>,
    len: usize,
}

/// Hosts with the hashes of their names.
type Shard = HashTable<(u64, Arc<CompiledHost>)>;

/// The routes of one host, in order of precedence.
pub(crate) struct RouteTable {
    routes: SmallVec<[CompiledRoute; 1]>,
    index: Option<Box<RouteIndex>>,
}

/// Finds the routes of a path without trying all.
struct RouteIndex {
    hasher: RandomState,
    /// Runs of routes with an equal path.
    groups: Box<[Group]>,
    /// Groups with a literal path, by class and text.
    literals: HashTable<u32>,
    /// The groups whose path is a regular expression, in order; empty when there are none.
    regexes: Box<[u32]>,
    /// All of them in one automaton; `None` when they are too large together.
    regex_set: Option<RegexSet>,
    prefix_depths: Depths,
    longest_prefix: usize,
}

#[derive(Clone, Copy)]
struct Group {
    start: u32,
    end: u32,
}

/// Which numbers of path elements some prefix has.
#[derive(Clone, Copy, Default)]
struct Depths(u64);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Exact = 1,
    Prefix = 2,
}

// === impl HostMap ===

impl HostMap {
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<CompiledHost>> {
        let hash = self.hasher.hash_one(name);
        let shard = self.shards.get(shard_of(hash, self.shards.len()))?;
        shard.find(hash, |(entry, host)| *entry == hash && host.has_name(name)).map(|(_, host)| host)
    }

    pub(crate) fn insert(&mut self, host: Arc<CompiledHost>) {
        if self.len >= self.shards.len() * SHARD_HOSTS * 2 {
            self.grow();
        }
        let hash = self.hasher.hash_one(host.name());
        let index = shard_of(hash, self.shards.len());
        let shard = Arc::make_mut(&mut self.shards[index]);
        match shard.find_mut(hash, |(entry, other)| *entry == hash && other.has_name(host.name())) {
            Some(entry) => entry.1 = host,
            None => {
                shard.insert_unique(hash, (hash, host), |(hash, _)| *hash);
                self.len += 1;
            }
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let hash = self.hasher.hash_one(name);
        let index = shard_of(hash, self.shards.len());
        let Some(shard) = self.shards.get_mut(index) else { return };
        let shard = Arc::make_mut(shard);
        if let Ok(entry) = shard.find_entry(hash, |(entry, host)| *entry == hash && host.has_name(name)) {
            entry.remove();
            self.len -= 1;
        }
        if self.len == 0 {
            *self = Self { hasher: self.hasher.clone(), ..Self::default() };
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<CompiledHost>> {
        self.shards.iter().flat_map(|shard| shard.iter().map(|(_, host)| host))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn grow(&mut self) {
        let n_shards = (self.len / SHARD_HOSTS + 1).next_power_of_two();
        let mut shards: Vec<Shard> = vec![HashTable::new(); n_shards];
        for (hash, host) in self.shards.iter().flat_map(|shard| shard.iter()) {
            shards[shard_of(*hash, n_shards)].insert_unique(*hash, (*hash, Arc::clone(host)), |(hash, _)| *hash);
        }
        self.shards = shards.into_iter().map(Arc::new).collect();
    }
}

/// The shard of a hash; any number when there are no shards. The table inside a shard uses the lowest and the highest
/// bits, so these are from the middle.
fn shard_of(hash: u64, n_shards: usize) -> usize {
    (hash >> 24) as u32 as usize & n_shards.wrapping_sub(1)
}

// === impl RouteTable ===

impl RouteTable {
    /// Takes routes that are sorted by precedence.
    pub(crate) fn new(routes: SmallVec<[CompiledRoute; 1]>) -> Self {
        let index = (routes.len() > LINEAR_ROUTES).then(|| Box::new(RouteIndex::new(&routes)));
        Self { routes, index }
    }

    pub(crate) fn find(&self, request: &RequestView<'_>) -> Option<&CompiledRoute> {
        match &self.index {
            None => self.routes.iter().find(|route| route.matches(request)),
            Some(index) => index.find(&self.routes, request),
        }
    }

    pub(crate) fn routes(&self) -> &[CompiledRoute] {
        &self.routes
    }
}

// === impl RouteIndex ===

impl RouteIndex {
    fn new(routes: &[CompiledRoute]) -> Self {
        let hasher = RandomState::default();
        let mut groups: Vec<Group> = Vec::new();
        let mut start = 0;
        for run in routes.chunk_by(|a, b| a.path == b.path) {
            let end = start + u32::try_from(run.len()).unwrap_or(u32::MAX);
            groups.push(Group { start, end });
            start = end;
        }
        let path_of = |number: u32| &routes[groups[number as usize].start as usize].path;
        let mut literals = HashTable::with_capacity(groups.len());
        let mut regexes: Vec<(u32, &RegexPattern)> = Vec::new();
        let mut prefix_depths = Depths::default();
        let mut longest_prefix = 0;
        for number in (0_u32..).take(groups.len()) {
            match path_of(number) {
                PathMatch::Regex(pattern) => regexes.push((number, pattern)),
                PathMatch::Prefix(prefix) => {
                    prefix_depths.add(depth(prefix.as_str()));
                    longest_prefix = longest_prefix.max(prefix.as_str().len());
                }
                PathMatch::Exact(_) => {}
            }
            let hash_of = |path| literal(path).map(|(class, text)| hash(&hasher, class, text));
            if let Some(hash) = hash_of(path_of(number)) {
                literals.insert_unique(hash, number, |other| hash_of(path_of(*other)).unwrap_or_default());
            }
        }
        let patterns: Vec<&RegexPattern> = regexes.iter().map(|(_, pattern)| *pattern).collect();
        Self {
            regex_set: if patterns.is_empty() { None } else { RegexSet::new(&patterns) },
            regexes: regexes.into_iter().map(|(number, _)| number).collect(),
            groups: groups.into(),
            hasher,
            literals,
            prefix_depths,
            longest_prefix,
        }
    }

    fn find<'r>(&self, routes: &'r [CompiledRoute], request: &RequestView<'_>) -> Option<&'r CompiledRoute> {
        self.find_literal(routes, Class::Exact, request.path, request)
            .or_else(|| self.find_regex(routes, request))
            .or_else(|| self.find_prefix(routes, request))
    }

    fn find_literal<'r>(
        &self,
        routes: &'r [CompiledRoute],
        class: Class,
        text: &str,
        request: &RequestView<'_>,
    ) -> Option<&'r CompiledRoute> {
        let number = self.literals.find(hash(&self.hasher, class, text), |number| {
            literal(&routes[self.groups[*number as usize].start as usize].path) == Some((class, text))
        })?;
        self.first_in_group(routes, *number, request)
    }

    fn find_regex<'r>(&self, routes: &'r [CompiledRoute], request: &RequestView<'_>) -> Option<&'r CompiledRoute> {
        let first = match &self.regex_set {
            Some(set) => set.first_match(request.path)?,
            None => 0,
        };
        // The automaton names the first pattern that fits the path. Only when its routes want more of the request than
        // that are the following ones tried, one by one.
        self.regexes[first..].iter().find_map(|number| {
            let group = &self.groups[*number as usize];
            let is_match = routes[group.start as usize].path.matches(request.path);
            if is_match { self.first_in_group(routes, *number, request) } else { None }
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

    fn first_in_group<'r>(
        &self,
        routes: &'r [CompiledRoute],
        number: u32,
        request: &RequestView<'_>,
    ) -> Option<&'r CompiledRoute> {
        let Group { start, end } = self.groups[number as usize];
        routes[start as usize..end as usize].iter().find(|route| route.matches_beside_path(request))
    }
}

// === impl Depths ===

impl Depths {
    fn add(&mut self, depth: usize) {
        self.0 |= 1 << depth.min(MAX_DEPTH);
    }

    fn has(self, depth: usize) -> bool {
        self.0 >> depth.min(MAX_DEPTH) & 1 == 1
    }
}

/// The number of elements of a prefix: none for `/`.
fn depth(prefix: &str) -> usize {
    prefix.bytes().filter(|byte| *byte == b'/').count()
}

fn literal(path: &PathMatch) -> Option<(Class, &str)> {
    match path {
        PathMatch::Exact(path) => Some((Class::Exact, path)),
        PathMatch::Prefix(prefix) => Some((Class::Prefix, prefix.as_str())),
        PathMatch::Regex(_) => None,
    }
}

fn hash(hasher: &RandomState, class: Class, text: &str) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u8(class as u8);
    hasher.write(text.as_bytes());
    hasher.finish()
}
