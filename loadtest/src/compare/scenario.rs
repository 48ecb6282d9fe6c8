//! What the peers are compared in.

use crate::load::Exchange;
use crate::peers::{Ability, Peer};

/// A way to use a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// The name in options and in results.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    /// Whether it is measured when nothing else is asked for. Together these have to take less than 20 minutes.
    pub(crate) is_default: bool,
}

/// How a scenario is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Connections that ask again as soon as they are answered.
    Closed { exchange: Exchange, connections: u32, body: Body },
    /// 64 connections at a share, in percent, of what the slowest peer can do.
    Paced { percent: u32 },
    /// A start with so many routes, and requests to the last one.
    Routes { n: u32 },
    /// A start with so many certificates, and a full handshake for each request, with any of them.
    Certificates { n: u32 },
    /// Connections that have said something and are silent, as many as descriptors allow.
    Idle { n: u32, over: Idle },
    /// Something changes again and again under load, on a proxy with so many routes besides.
    Changes { of: Change, routes: u32 },
}

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A route leads to another upstream.
    Route,
    /// One of the endpoints of a route is replaced.
    Endpoints,
    /// The process itself is replaced.
    Process,
}

impl Kind {
    /// What a peer must be able to do to take part.
    pub(crate) fn needs(self) -> Option<Ability> {
        match self {
            Self::Closed { .. } | Self::Paced { .. } | Self::Idle { .. } => None,
            Self::Routes { .. } => Some(Ability::Routes),
            Self::Certificates { .. } => Some(Ability::Certificates),
            Self::Changes { of: Change::Route | Change::Endpoints, .. } => Some(Ability::Changes),
            Self::Changes { of: Change::Process, .. } => Some(Ability::Upgrades),
        }
    }
}

impl Scenario {
    /// Why a peer takes no part.
    pub(crate) fn refusal(&self, peer: Peer) -> Option<&'static str> {
        peer.lacks(self.kind.needs()?)
    }

    /// Whether peers are started for their turn, because they need a configuration of its own.
    pub(crate) fn is_started_anew(&self) -> bool {
        matches!(self.kind, Kind::Routes { .. } | Kind::Certificates { .. } | Kind::Changes { .. })
    }
}

/// What is in the bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// A download of 100 bytes.
    Small,
    /// A download of 1 MiB.
    Download,
    /// An upload of 1 MiB.
    Upload,
}

/// What is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    Plain,
    Tls,
    WebSocket,
}

const fn closed(
    id: &'static str,
    title: &'static str,
    exchange: Exchange,
    connections: u32,
    body: Body,
    is_default: bool,
) -> Scenario {
    Scenario { id, title, kind: Kind::Closed { exchange, connections, body }, is_default }
}

const fn routes(id: &'static str, title: &'static str, n: u32, is_default: bool) -> Scenario {
    Scenario { id, title, kind: Kind::Routes { n }, is_default }
}

const fn changes(id: &'static str, title: &'static str, of: Change, routes: u32, is_default: bool) -> Scenario {
    Scenario { id, title, kind: Kind::Changes { of, routes }, is_default }
}

const fn certificates(id: &'static str, title: &'static str, n: u32) -> Scenario {
    Scenario { id, title, kind: Kind::Certificates { n }, is_default: false }
}

const fn idle(id: &'static str, title: &'static str, over: Idle) -> Scenario {
    Scenario { id, title, kind: Kind::Idle { n: 10_000, over }, is_default: false }
}

/// All scenarios. The first one also finds what the slowest peer can do.
pub(crate) const ALL: [Scenario; 26] = [
    closed("small-64", "Small answers, 64 kept connections", Exchange::Kept, 64, Body::Small, true),
    closed("small-256", "Small answers, 256 kept connections", Exchange::Kept, 256, Body::Small, true),
    closed("new-connection", "A new connection for each request", Exchange::NewConnection, 64, Body::Small, false),
    closed("tls-full", "A full TLS handshake for each request", Exchange::FullHandshake, 32, Body::Small, true),
    closed("tls-resumed", "A resumed TLS session for each request", Exchange::Resumption, 32, Body::Small, false),
    closed(
        "http2",
        "HTTP/2 over TLS, 10 connections of 16 streams",
        Exchange::Http2 { streams: 16 },
        10,
        Body::Small,
        true,
    ),
    closed(
        "grpc",
        "Unary gRPC over TLS, 10 connections of 16 streams",
        Exchange::Grpc { streams: 16 },
        10,
        Body::Small,
        false,
    ),
    closed("download", "Answers of 1 MiB, 16 connections", Exchange::Kept, 16, Body::Download, true),
    closed("upload", "Requests of 1 MiB, 16 connections", Exchange::Kept, 16, Body::Upload, false),
    closed("websocket", "WebSocket echoes, 64 connections", Exchange::WebSocket, 64, Body::Small, false),
    Scenario {
        id: "rate-50",
        title: "A fixed rate: 50 % of the slowest peer",
        kind: Kind::Paced { percent: 50 },
        is_default: true,
    },
    Scenario {
        id: "rate-80",
        title: "A fixed rate: 80 % of the slowest peer",
        kind: Kind::Paced { percent: 80 },
        is_default: false,
    },
    routes("routes-1", "A start with one route more, and requests to it", 1, true),
    routes("routes-100", "A start with 100 routes, and requests to the last", 100, false),
    routes("routes-1000", "A start with 1,000 routes, and requests to the last", 1000, false),
    routes("routes-10000", "A start with 10,000 routes, and requests to the last", 10_000, true),
    routes("routes-100000", "A start with 100,000 routes, and requests to the last", 100_000, false),
    certificates("certificates-1000", "Full TLS handshakes with any of 1,000 certificates", 1000),
    certificates("certificates-10000", "Full TLS handshakes with any of 10,000 certificates", 10_000),
    idle("idle-plain", "Up to 10,000 idle connections", Idle::Plain),
    idle("idle-tls", "Up to 10,000 idle TLS connections", Idle::Tls),
    idle("idle-websocket", "Up to 10,000 idle WebSockets", Idle::WebSocket),
    changes("edits", "Edits of a route under load", Change::Route, 0, false),
    changes("edits-10000", "Edits of one of 10,000 routes under load", Change::Route, 10_000, true),
    changes("endpoints", "Endpoints that come and go under load", Change::Endpoints, 0, false),
    changes("upgrade", "Upgrades under load", Change::Process, 0, true),
];

/// The scenario of a name.
pub(crate) fn find(id: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.id == id)
}
