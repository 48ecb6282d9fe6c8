//! Two Ingresses that want the same (K-10): the oldest has it everywhere, and when it goes, the other one takes over
//! without an answer in between.

use tests::manifests::service;
use tests::{Gateway, wait};

use crate::Own;
use crate::away::Hammer;

const HOST: &str = "shared.owners.test";

async fn age(own: &Own, name: &str) -> String {
    own.cluster.get("Ingress", own.name, name).await["metadata"]["creationTimestamp"].as_str().unwrap().to_owned()
}

/// Creates an Ingress that is younger than another one: ages are whole seconds.
async fn create_younger(own: &Own, name: &str, service: &str, other: &str) {
    let other = age(own, other).await;
    let is_younger = async || {
        own.apply(&own.ingress(name, HOST, service)).await;
        if age(own, name).await > other {
            return Some(());
        }
        own.cluster.delete("Ingress", own.name, name).await;
        None
    };
    wait::until("the next second", is_younger).await;
}

async fn wait_for_owner(gateways: &[Gateway], owner: &str) {
    for gateway in gateways {
        gateway.wait_for(&format!("http://{HOST}/"), |answer| answer.upstream() == owner).await;
    }
}

#[tokio::test]
async fn the_oldest_has_a_host_everywhere_and_the_next_one_takes_over_without_a_gap() {
    let own = Own::new("owners").await;
    let (old, young) = (own.cluster.upstream("old").await, own.cluster.upstream("young").await);
    own.apply(&[service("old", &[old.address()]), service("young", &[young.address()])].concat()).await;
    // By name, it would be the other way around.
    own.apply(&own.ingress("z", HOST, "old")).await;
    create_younger(&own, "a", "young", "z").await;
    let replicas = [own.start(&[]).await, own.start(&[]).await];
    for gateway in &replicas {
        assert_eq!(gateway.get(&format!("http://{HOST}/")).await.upstream(), "old");
    }

    let hammers = replicas.each_ref().map(|gateway| Hammer::start(gateway, vec![HOST.to_owned()]));
    own.cluster.delete("Ingress", own.name, "z").await;
    wait_for_owner(&replicas, "young").await;
    // Whoever comes back is the youngest.
    create_younger(&own, "z", "old", "a").await;
    own.apply(&own.ingress("later", "later.owners.test", "old")).await;
    for gateway in &replicas {
        gateway.wait_for("http://later.owners.test/", |answer| answer.status == 200).await;
    }
    wait_for_owner(&replicas, "young").await;
    for hammer in hammers {
        hammer.more(100).await;
        hammer.end().await;
    }

    let [first, second] = replicas;
    drop(first);
    let replicas = [own.start(&[]).await, second];
    for gateway in &replicas {
        assert_eq!(gateway.get(&format!("http://{HOST}/")).await.upstream(), "young", "a restart changes nothing");
    }
}
