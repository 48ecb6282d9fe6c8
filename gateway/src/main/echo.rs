//! The back ends of the demo: they say who they are and what they got.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use tokio::net::TcpListener;

/// Starts a back end on a free port of the loopback and returns its address.
pub(crate) async fn start(name: String) -> std::io::Result<SocketAddr> {
    let socket = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = socket.local_addr()?;
    let router = Router::new().fallback(move |request: Request| {
        let text = describe(&name, address, &request);
        async move { text }
    });
    tokio::spawn(async move {
        // Ends only with the runtime.
        let _ = axum::serve(socket, router).await;
    });
    Ok(address)
}

fn describe(name: &str, address: SocketAddr, request: &Request) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "Server address: {address}\nServer name: {name}\nMethod: {}\nURI: {}\n",
        request.method(),
        request.uri()
    );
    for (header, value) in request.headers() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{header}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    text
}
