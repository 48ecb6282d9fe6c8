//! The ports of TCP and UDP services: which are there, and what their authors are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use routing::Delta;
use routing::model::{BackendRef, Listener, StreamRoute, Transport};

use super::Translator;
use super::affected::Affected;
use crate::problem::Problem;
use crate::resources::{Kind, NamespacedName, ObjectKey};
use crate::streams::{self, Streams};

/// Where the connections of each port go.
#[derive(Default)]
pub(super) struct Routes(BTreeMap<(Transport, u16), StreamRoute>);

impl Routes {
    /// The backends that they go to.
    pub(super) fn backends(&self) -> impl Iterator<Item = &BackendRef> {
        self.0.values().flat_map(backends)
    }

    pub(super) fn is_backend_used(&self, backend: &BackendRef) -> bool {
        self.backends().any(|other| other == backend)
    }

    /// The ConfigMaps that name a backend.
    pub(super) fn authors(&self, backend: &BackendRef) -> impl Iterator<Item = ObjectKey> {
        let routes = self.0.values().filter(move |route| backends(route).any(|other| other == backend));
        routes.map(|route| NamespacedName::new(&route.origin.namespace, &route.origin.name).of_kind(Kind::ConfigMap))
    }

    fn of(&self, transport: Transport) -> BTreeMap<u16, StreamRoute> {
        let routes = self.0.iter().filter(|((other, _), _)| *other == transport);
        routes.map(|((_, port), route)| (*port, route.clone())).collect()
    }
}

fn backends(route: &StreamRoute) -> impl Iterator<Item = &BackendRef> {
    route.backends.iter().filter_map(|target| target.backend.as_ref())
}

impl Translator {
    /// Brings the ports up to date with their ConfigMaps. A port whose entry cannot be read keeps what it had.
    pub(super) fn emit_streams(&mut self, delta: &mut Delta, affected: &mut Affected) {
        for (transport, name) in self.config.stream_maps() {
            let map = self.store.config_maps.get(&name);
            let Streams { routes, problems } =
                map.map(|map| streams::parse(map, transport, &self.config)).unwrap_or_default();
            self.conditions.of_streams.insert(transport, problems);
            affected.touched.insert(name.of_kind(Kind::ConfigMap));
            let old = self.routes.of(transport);
            let keep =
                |(port, route): (u16, Option<StreamRoute>)| Some((port, route.or_else(|| old.get(&port).cloned())?));
            let new: BTreeMap<u16, StreamRoute> = routes.into_iter().filter_map(keep).collect();
            let ports: BTreeSet<u16> = old.keys().chain(new.keys()).copied().collect();
            for port in ports.into_iter().filter(|port| old.get(port) != new.get(port)) {
                let both = [old.get(&port), new.get(&port)];
                affected.backends.extend(both.into_iter().flatten().flat_map(backends).cloned());
                let listener = new.get(&port).map(|route| {
                    self.routes.0.insert((transport, port), route.clone());
                    Arc::new(Listener { protocol: streams::protocol(transport, route.clone()) })
                });
                if listener.is_none() {
                    self.routes.0.remove(&(transport, port));
                }
                let keys = self.config.stream_listeners(transport, port);
                delta.listeners.extend(keys.map(|key| (key, listener.clone())));
            }
        }
    }

    /// Whether a ConfigMap has services of TCP or UDP.
    pub(super) fn is_stream_map(&self, name: &NamespacedName) -> bool {
        self.config.stream_maps().iter().any(|(_, map)| map == name)
    }

    /// What the author of such a ConfigMap should know.
    pub(super) fn stream_problems(&self, name: &NamespacedName, problems: &mut Vec<Problem>) {
        for (transport, map) in self.config.stream_maps() {
            if map != *name {
                continue;
            }
            problems.extend(self.conditions.of_streams.get(&transport).into_iter().flatten().cloned());
            for (port, route) in self.routes.of(transport) {
                for backend in backends(&route) {
                    let of_backend = self.conditions.of_backends.get(backend).into_iter().flatten();
                    let field = format!("data.{port}");
                    problems.extend(of_backend.map(|problem| Problem { field: field.clone(), ..problem.clone() }));
                }
            }
        }
    }
}
