//! Manifests read once, for the commands that do not serve.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use controller_sync::source::{Batch, directory};
use routing::model::{ListenerKey, Protocol};
use routing::{LiveRouting, Publisher};
use translate::{ClassConfig, Config, ListenerConfig, Source, Translator};

use super::flags::MeaningFlags;

/// Annotations under this prefix are read too, and win.
const OWN_PREFIX: &str = "penstock.dev";

/// Manifests and what they amount to.
pub(crate) struct Loaded {
    /// What was read, with places. The changes themselves are in the translator.
    pub(crate) batch: Batch,
    pub(crate) translator: Translator,
    pub(crate) publisher: Publisher,
    pub(crate) live: Arc<LiveRouting>,
}

/// How flags say that objects are to be read.
pub(crate) fn config(flags: &MeaningFlags, http: &[SocketAddr], https: &[SocketAddr], own: &[SocketAddr]) -> Config {
    let listener = |protocol: Protocol| {
        move |address: &SocketAddr| ListenerConfig { key: ListenerKey::tcp(*address), protocol: protocol.clone() }
    };
    let plain = http.iter().map(listener(Protocol::Http));
    Config {
        listeners: plain.chain(https.iter().map(listener(Protocol::Tls))).collect(),
        annotation_prefixes: vec![OWN_PREFIX.to_owned(), flags.annotations_prefix.clone()],
        class: ClassConfig {
            name: flags.ingress_class.clone(),
            controller: flags.controller_class.clone(),
            by_name: flags.ingress_class_by_name,
            without_class: false,
        },
        source: Source::Files,
        configmap: flags.configmap.clone(),
        tcp_services: flags.tcp_services_configmap.clone(),
        udp_services: flags.udp_services_configmap.clone(),
        default_certificate: flags.default_ssl_certificate.clone(),
        published_service: None,
        default_backend: flags.default_backend_service.clone(),
        own_ports: own.iter().map(SocketAddr::port).collect(),
    }
}

/// Reads manifests and translates them, as `run` would with its default listeners.
pub(crate) fn load(paths: &[PathBuf], flags: &MeaningFlags) -> anyhow::Result<Loaded> {
    let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let config = config(flags, &[any(80)], &[any(443)], &[any(10254), any(10246)]);
    let mut batch = directory::load(paths, &config)?;
    let live = Arc::new(LiveRouting::new());
    let mut translator = Translator::new(config);
    let mut publisher = Publisher::new(Arc::clone(&live));
    let update = translator.apply(batch.changes.iter().map(|(change, _)| change.clone()));
    publisher.publish(&update.delta);
    batch.changes.retain(|(change, _)| !matches!(change, translate::Change::Remove(_)));
    Ok(Loaded { batch, translator, publisher, live })
}
