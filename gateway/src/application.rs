//! Pingora's proxy as an application whose options come from the settings of the moment, anew for each connection.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use routing::LiveRouting;

use crate::proxy::Gateway;

/// Receive windows of HTTP/2, in bytes (Envoy's edge recommendation).
const HTTP2_STREAM_WINDOW: u32 = 64 << 10;
const HTTP2_CONNECTION_WINDOW: u32 = 1 << 20;

/// The proxy that all listeners share.
pub(crate) struct Application {
    /// Pingora's proxy. There is one, because it owns the upstream connections.
    proxy: Arc<HttpProxy<Gateway>>,
    live: Arc<LiveRouting>,
}

impl Application {
    /// Serves connections by `proxy`.
    #[must_use]
    pub(crate) fn new(proxy: HttpProxy<Gateway>, live: Arc<LiveRouting>) -> Self {
        Self { proxy: Arc::new(proxy), live }
    }
}

#[async_trait]
impl HttpServerApp for Application {
    /// Pingora's future as it is: a future around it would be one more allocation for each request.
    fn process_new_http<'s, 'w, 'f>(
        self: &'s Arc<Self>,
        session: ServerSession,
        shutdown: &'w ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'f>>
    where
        's: 'f,
        'w: 'f,
    {
        self.proxy.process_new_http(session, shutdown)
    }

    fn h2_options(&self) -> Option<H2Options> {
        let snapshot = self.live.pin();
        let settings = snapshot.settings();
        let mut options = default_h2_options();
        options.max_concurrent_streams(settings.http2_max_concurrent_streams);
        options.max_header_list_size(u32::try_from(settings.head.head).unwrap_or(u32::MAX));
        options.initial_window_size(HTTP2_STREAM_WINDOW);
        options.initial_connection_window_size(HTTP2_CONNECTION_WINDOW);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options.as_ref()
    }
}
