//! The ConfigMaps of `--tcp-services-configmap` and `--udp-services-configmap`: ports of the gateway, each with the
//! Service port that its connections go to.
//!
//! A value is `namespace/service:port`, with `:PROXY` behind it for clients that begin with a PROXY header, and another
//! `:PROXY` for endpoints that want one. One that cannot be read touches no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use routing::model::{BackendRef, ListenerKey, Origin, PortRef, Protocol, StreamRoute, Transport, WeightedBackend};

use crate::config::Config;
use crate::problem::{Problem, Reason};
use crate::resources::{ConfigMap, NamespacedName};

/// What a ConfigMap says.
#[derive(Default)]
pub(crate) struct Streams {
    /// By port; `None` for a value that cannot be read.
    pub(crate) routes: BTreeMap<u16, Option<StreamRoute>>,
    /// What is wrong with the entries.
    pub(crate) problems: Vec<Problem>,
}

/// What a value must be.
const TCP_VALUE: &str =
    "namespace/service:port, with :PROXY for a header from clients, and :PROXY for one to endpoints";
const UDP_VALUE: &str = "namespace/service:port";

impl Config {
    /// The ConfigMaps of streams, with their transports.
    pub(crate) fn stream_maps(&self) -> Vec<(Transport, NamespacedName)> {
        let maps = [(Transport::Tcp, &self.tcp_services), (Transport::Udp, &self.udp_services)];
        let named = maps.into_iter().filter_map(|(transport, map)| Some((transport, map.as_ref()?)));
        named.map(|(transport, (namespace, name))| (transport, NamespacedName::new(namespace, name))).collect()
    }

    /// Where a port of streams is listened on: the addresses of the other listeners, without those that another one
    /// takes in.
    pub(crate) fn stream_listeners(
        &self,
        transport: Transport,
        port: u16,
    ) -> impl Iterator<Item = ListenerKey> + use<> {
        let addresses: BTreeSet<IpAddr> = self.listeners.iter().map(|listener| listener.key.address.ip()).collect();
        let is_any = |is_v6: bool| addresses.iter().any(|ip| ip.is_unspecified() && ip.is_ipv6() == is_v6);
        let (any_v4, any_v6) = (is_any(false), is_any(true));
        // A socket of `::` has IPv4 clients too.
        let is_covered = move |ip: &IpAddr| {
            (any_v6 && !(ip.is_ipv6() && ip.is_unspecified())) || (any_v4 && ip.is_ipv4() && !ip.is_unspecified())
        };
        let addresses = addresses.into_iter().filter(move |ip| !is_covered(ip));
        addresses.map(move |ip| ListenerKey { address: (ip, port).into(), transport })
    }

    fn has_own(&self, port: u16) -> bool {
        self.own_ports.contains(&port) || self.listeners.iter().any(|listener| listener.key.address.port() == port)
    }
}

/// What is listened for where connections go this way.
pub(crate) fn protocol(transport: Transport, route: StreamRoute) -> Protocol {
    match transport {
        Transport::Tcp => Protocol::Tcp(route),
        Transport::Udp => Protocol::Udp(route),
    }
}

/// Reads the entries of a ConfigMap.
pub(crate) fn parse(map: &ConfigMap, transport: Transport, config: &Config) -> Streams {
    let mut streams = Streams::default();
    for (key, value) in &map.data {
        let mut refuse = |message: fmt::Arguments<'_>| {
            streams.problems.push(Problem::error(Reason::InvalidValue, format!("data.{key}"), message));
        };
        // One spelling for each port, so that none is there twice.
        let Some(port) = key.parse::<u16>().ok().filter(|port| *port > 0 && port.to_string() == *key) else {
            refuse(format_args!("{key:?} is not a port from 1 to 65535"));
            continue;
        };
        if config.has_own(port) {
            refuse(format_args!("port {port} is one of the gateway's own"));
            continue;
        }
        let route = target(value, transport).map(|(backend, [expects_proxy_header, sends_proxy_header])| StreamRoute {
            origin: Origin {
                kind: "ConfigMap",
                namespace: map.meta.namespace.clone(),
                name: map.meta.name.clone(),
                place: format!("data.{port}").into(),
            },
            backends: vec![WeightedBackend { backend: Some(backend), weight: 1, filters: Vec::new() }],
            expects_proxy_header,
            sends_proxy_header,
        });
        if route.is_none() {
            let wanted = if transport == Transport::Tcp { TCP_VALUE } else { UDP_VALUE };
            refuse(format_args!("{value:?} is not {wanted}; what was there before holds"));
        }
        streams.routes.insert(port, route);
    }
    streams
}

/// The backend that a value names, and whether clients and endpoints have PROXY headers.
fn target(value: &str, transport: Transport) -> Option<(BackendRef, [bool; 2])> {
    let mut parts = value.trim().split(':');
    let (namespace, service) = parts.next()?.split_once('/')?;
    let port = parts.next()?;
    let is_name = |name: &str| !name.is_empty() && !name.contains('/');
    if !is_name(namespace) || !is_name(service) || port.is_empty() {
        return None;
    }
    let port = match port.parse::<u16>() {
        Ok(0) => return None,
        Ok(number) => PortRef::Number(number),
        Err(_) => PortRef::Name(port.into()),
    };
    let mut has_header = || match parts.next().unwrap_or_default() {
        "" => Some(false),
        // A datagram has no place for a header.
        text if text.eq_ignore_ascii_case("PROXY") && transport == Transport::Tcp => Some(true),
        _ => None,
    };
    let headers = [has_header()?, has_header()?];
    let port = if transport == Transport::Udp { PortRef::Udp(Box::new(port)) } else { port };
    let backend = BackendRef { namespace: namespace.into(), service: service.into(), port };
    parts.next().is_none().then_some((backend, headers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenerConfig;
    use crate::resources::Meta;

    fn read(value: &str, transport: Transport) -> Option<String> {
        let (backend, headers) = target(value, transport)?;
        Some(format!("{backend} {headers:?}"))
    }

    #[test]
    fn a_value_names_a_port_of_a_service_and_who_has_proxy_headers() {
        for (value, expected) in [
            ("a/b:80", "a/b:80 [false, false]"),
            ("a/b:http", "a/b:http [false, false]"),
            ("a/b:80:PROXY", "a/b:80 [true, false]"),
            ("a/b:80:proxy:Proxy", "a/b:80 [true, true]"),
            ("a/b:80::PROXY", "a/b:80 [false, true]"),
            ("a/b:80:", "a/b:80 [false, false]"),
        ] {
            assert_eq!(read(value, Transport::Tcp).as_deref(), Some(expected), "{value}");
        }
        assert_eq!(read("a/b:53", Transport::Udp).as_deref(), Some("a/b:53/udp [false, false]"));
    }

    #[test]
    fn a_value_that_says_something_else_is_none() {
        for value in ["", "a/b", "b:80", "/b:80", "a/:80", "a/b/c:80", "a/b:", "a/b:0", "a/b:80:TLS", "a/b:80:::PROXY"]
        {
            assert_eq!(read(value, Transport::Tcp), None, "{value}");
        }
        assert_eq!(read("a/b:53:PROXY", Transport::Udp), None, "a datagram has no PROXY header");
    }

    #[test]
    fn ports_of_the_gateway_itself_and_what_is_no_port_are_refused() {
        let listener = |port| ListenerConfig { key: ListenerKey::tcp(([0; 4], port).into()), protocol: Protocol::Http };
        let config = Config { listeners: vec![listener(80)], own_ports: vec![10254], ..Config::default() };
        let entry = |key: &str| (key.to_owned(), "a/b:1".to_owned());
        let data = ["80", "10254", "0", "070", "65536", "http", "9000"].map(entry).into_iter().collect();
        let meta = Meta { namespace: "a".into(), name: "tcp".into(), uid: "".into(), created: None };
        let streams = parse(&ConfigMap { meta, data }, Transport::Tcp, &config);
        assert_eq!(streams.routes.keys().collect::<Vec<_>>(), [&9000]);
        assert_eq!(streams.problems.len(), 6);
    }

    #[test]
    fn a_port_is_listened_on_where_the_others_are() {
        for (addresses, expected) in [
            (&["0.0.0.0:80", "0.0.0.0:443"][..], &["0.0.0.0:9"][..]),
            (&["127.0.0.1:80", "127.0.0.2:80"], &["127.0.0.1:9", "127.0.0.2:9"]),
            (&["0.0.0.0:80", "127.0.0.1:81"], &["0.0.0.0:9"]),
            (&["[::]:80", "0.0.0.0:443"], &["[::]:9"]),
            (&["[::1]:80", "0.0.0.0:443"], &["0.0.0.0:9", "[::1]:9"]),
        ] {
            let listener =
                |text: &&str| ListenerConfig { key: ListenerKey::tcp(text.parse().unwrap()), protocol: Protocol::Http };
            let config = Config { listeners: addresses.iter().map(listener).collect(), ..Config::default() };
            let found: Vec<_> = config.stream_listeners(Transport::Tcp, 9).map(|key| key.address.to_string()).collect();
            assert_eq!(found, expected, "{addresses:?}");
        }
    }
}
