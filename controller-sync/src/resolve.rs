//! Looks up the names that Services of type `ExternalName` stand for, off the request path.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use routing::is_never_a_backend;
use tokio::sync::{mpsc, watch};

/// How often a name is looked up again. The system's resolver does not tell how long its answer holds.
const REFRESH: Duration = Duration::from_secs(30);
/// How long one look-up may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A name and the addresses that it has now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) name: Box<str>,
    /// Sorted.
    pub(crate) addresses: Vec<IpAddr>,
}

/// Looks names up until it is dropped.
pub(crate) struct Resolver {
    names: watch::Sender<BTreeSet<Box<str>>>,
}

impl Resolver {
    /// Starts without names, on the runtime of the caller.
    pub(crate) fn start() -> (Self, mpsc::Receiver<Resolved>) {
        let (names, followed) = watch::channel(BTreeSet::new());
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(follow(followed, sender));
        (Self { names }, receiver)
    }

    /// Says which names matter from now on. New ones are looked up at once.
    pub(crate) fn follow(&mut self, names: BTreeSet<Box<str>>) {
        let _ = self.names.send(names);
    }
}

async fn follow(mut names: watch::Receiver<BTreeSet<Box<str>>>, resolved: mpsc::Sender<Resolved>) {
    let mut known = BTreeSet::new();
    loop {
        let wanted = names.borrow_and_update().clone();
        for name in wanted.difference(&known) {
            resolve(name.clone(), &resolved).await;
        }
        known = wanted;
        tokio::select! {
            changed = names.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(REFRESH), if !known.is_empty() => known.clear(),
        }
    }
}

/// A name that cannot be looked up keeps its last addresses.
async fn resolve(name: Box<str>, resolved: &mpsc::Sender<Resolved>) {
    let lookup = async {
        let found = tokio::net::lookup_host((&*name, 0)).await?;
        std::io::Result::Ok(found.map(|address| address.ip()).collect::<Vec<_>>())
    };
    let addresses = match tokio::time::timeout(TIMEOUT, lookup).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return tracing::warn!(%name, %error, "name cannot be looked up"),
        Err(_) => return tracing::warn!(%name, "name was not looked up in time"),
    };
    let (refused, mut addresses): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.into_iter().partition(|address| is_never_a_backend(*address));
    if let Some(address) = refused.first() {
        tracing::warn!(%name, %address, "name leads to an address that a backend cannot have");
    }
    addresses.sort_unstable();
    addresses.dedup();
    let _ = resolved.send(Resolved { name, addresses }).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_to_the_gateway_itself_has_no_address() {
        let (mut resolver, mut resolved) = Resolver::start();
        resolver.follow(BTreeSet::from(["localhost".into()]));
        let found = tokio::time::timeout(Duration::from_secs(10), resolved.recv()).await;
        assert_eq!(found.unwrap(), Some(Resolved { name: "localhost".into(), addresses: Vec::new() }));
    }

    #[tokio::test]
    async fn an_address_in_place_of_a_name_is_itself() {
        let (mut resolver, mut resolved) = Resolver::start();
        resolver.follow(BTreeSet::from(["192.0.2.1".into()]));
        let found = tokio::time::timeout(Duration::from_secs(10), resolved.recv()).await.unwrap().unwrap();
        assert_eq!(found.addresses, [IpAddr::from([192, 0, 2, 1])]);
    }
}
