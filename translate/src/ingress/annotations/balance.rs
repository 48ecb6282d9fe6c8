//! Which endpoint takes a request: `load-balance`, `upstream-hash-by` and their like.

use std::num::NonZeroU32;
use std::time::Duration;

use routing::HashKey;
use routing::model::{Algorithm, Balance, Ejection};

use super::value::{ValueError, number, short};

/// The size of a subset when nothing else is said (`upstream-hash-by-subset-size`).
const DEFAULT_SUBSET: NonZeroU32 = NonZeroU32::new(3).unwrap();

/// The annotations that say which endpoint takes a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BalanceAnnotations {
    /// `load-balance`.
    pub load_balance: Option<Algorithm>,
    /// `upstream-hash-by`.
    pub hash_by: Option<HashKey>,
    /// `upstream-hash-by-subset`.
    pub is_subset: bool,
    /// `upstream-hash-by-subset-size`.
    pub subset_size: Option<NonZeroU32>,
    /// `penstock.dev/slow-start`.
    pub slow_start: Option<Duration>,
    /// `penstock.dev/passive-ejection`.
    pub ejection: Option<Ejection>,
}

impl BalanceAnnotations {
    /// The settings of a rule. A key to hash by wins over `load-balance`.
    pub(crate) fn over(&self, defaults: &Balance) -> Balance {
        let Self { load_balance, hash_by, is_subset, subset_size, slow_start, ejection } = self;
        let algorithm = match hash_by {
            Some(key) => {
                let subset = is_subset.then(|| subset_size.unwrap_or(DEFAULT_SUBSET));
                Algorithm::Hash { key: key.clone(), subset }
            }
            None => load_balance.as_ref().unwrap_or(&defaults.algorithm).clone(),
        };
        Balance {
            algorithm,
            slow_start: slow_start.or(defaults.slow_start).filter(|window| !window.is_zero()),
            ejection: ejection.unwrap_or(defaults.ejection),
        }
    }
}

/// One of ingress-nginx's names, or `least_requests`. Those of consistent hashing and of sessions mean something only
/// together with a key or a cookie, which then decide; without one requests take turns.
pub(crate) fn algorithm(text: &str) -> Result<Algorithm, ValueError> {
    match text.trim() {
        "round_robin" | "chash" | "chashsubset" | "sticky_balanced" | "sticky_persistent" => Ok(Algorithm::RoundRobin),
        "ewma" => Ok(Algorithm::Ewma),
        "least_requests" => Ok(Algorithm::LeastRequests),
        _ => Err(ValueError::Algorithm(text.to_owned())),
    }
}

/// `on` counts failures, `5xx` answers from 500 up too.
pub(crate) fn ejection(text: &str) -> Result<Ejection, ValueError> {
    match text {
        "off" => Ok(Ejection::Off),
        "on" => Ok(Ejection::Failures),
        "5xx" => Ok(Ejection::FailuresAndServerErrors),
        _ => Err(ValueError::Ejection(text.to_owned())),
    }
}

/// `^[A-Za-z0-9\-_${}]*$`, ingress-nginx's grammar, without a brace that belongs to no variable.
pub(super) fn hash_key(text: &str) -> Result<HashKey, ValueError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_${}".contains(c);
    if let Some(c) = short(text)?.chars().find(|c| !is_allowed(*c)) {
        return Err(ValueError::Byte(c));
    }
    // Braces are for names only.
    let mut pieces = text.split("${");
    let first = pieces.next().into_iter();
    let literals = first.chain(pieces.map(|piece| piece.split_once('}').map_or(piece, |(_, rest)| rest)));
    match literals.flat_map(str::chars).find(|c| "{}".contains(*c)) {
        Some(c) => Err(ValueError::Byte(c)),
        None => Ok(HashKey::parse(text)?),
    }
}

/// A size; 0 is the default, as in ingress-nginx.
pub(super) fn subset_size(text: &str) -> Result<Option<NonZeroU32>, ValueError> {
    u32::try_from(number(text)?).map(NonZeroU32::new).map_err(|_| ValueError::Number(text.to_owned()))
}
