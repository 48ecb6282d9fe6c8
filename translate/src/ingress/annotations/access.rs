//! Annotations that say which clients get through.

use ipnet::IpNet;
use routing::Networks;
use routing::model::Satisfy;

use super::value::ValueError;

/// Which clients get through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessAnnotations {
    /// `allowlist-source-range`; `None` leaves it to the settings.
    pub allow: Option<Networks>,
    /// `denylist-source-range`; `None` leaves it to the settings.
    pub deny: Option<Networks>,
    /// `satisfy`.
    pub satisfy: Option<Satisfy>,
}

/// Addresses and networks in CIDR form, separated by commas.
pub(crate) fn networks(text: &str) -> Result<Networks, ValueError> {
    let parsed: Result<Vec<IpNet>, ValueError> = text.split(',').map(|item| network(item.trim())).collect();
    parsed.map(|networks| Networks::new(&networks))
}

fn network(text: &str) -> Result<IpNet, ValueError> {
    let address = || text.parse().ok().map(|address: std::net::IpAddr| address.into());
    text.parse().ok().or_else(address).ok_or_else(|| ValueError::Network(text.to_owned()))
}

pub(super) fn satisfy(text: &str) -> Result<Satisfy, ValueError> {
    match text {
        "all" => Ok(Satisfy::All),
        "any" => Ok(Satisfy::Any),
        _ => Err(ValueError::OneOf(text.to_owned(), "any, all")),
    }
}
