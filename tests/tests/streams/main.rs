//! Services of TCP and UDP (`ingress-nginx.md` section 1.12): ports of the gateway whose connections and datagrams are
//! passed on as they are.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod entries;
mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;

use tests::manifests::{config_map, slice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::AbortHandle;

/// The flag for the ConfigMap of [`tcp_map`].
pub(crate) const TCP: &str = "--tcp-services-configmap=default/tcp";
/// The flag for the ConfigMap of [`udp_map`].
pub(crate) const UDP: &str = "--udp-services-configmap=default/udp";

/// The ConfigMap of TCP services. Keys are written as people do, as numbers.
pub(crate) fn tcp_map(entries: &[(u16, &str)]) -> String {
    map("tcp", entries)
}

/// The ConfigMap of UDP services.
pub(crate) fn udp_map(entries: &[(u16, &str)]) -> String {
    map("udp", entries)
}

fn map(name: &str, entries: &[(u16, &str)]) -> String {
    let entries: Vec<(String, &str)> = entries.iter().map(|(port, value)| (port.to_string(), *value)).collect();
    let entries: Vec<(&str, &str)> = entries.iter().map(|(port, value)| (port.as_str(), *value)).collect();
    config_map(name, &entries)
}

/// A Service with port 53 of both transports, as that of a name server: for datagrams it leads to `endpoints`, for
/// connections to nobody.
pub(crate) fn name_service(name: &str, endpoints: &[SocketAddr]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n    - {{name: dns-tcp, port: 53}}\n    \
         - {{name: dns, port: 53, protocol: UDP}}\n"
    );
    for (number, endpoint) in endpoints.iter().enumerate() {
        let slice = slice(&format!("{name}-{number}"), name, "dns", *endpoint);
        text.push_str(&slice.replace("  - name: dns\n", "  - name: dns\n    protocol: UDP\n"));
    }
    text
}

/// A server that says its name, then everything that it hears, and at the end of that `end`, before it ends too.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    task: AbortHandle,
}

impl Echo {
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::on(name, TcpListener::bind(("127.0.0.1", 0)).await.unwrap())
    }

    pub(crate) fn on(name: &'static str, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(name, stream));
            }
        });
        Self { address, task: task.abort_handle() }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn echo(name: &str, mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(format!("{name}\n").as_bytes()).await?;
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.write_all(b"end").await
}

/// The rest of what comes, up to the end.
pub(crate) async fn rest(stream: &mut TcpStream) -> io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// The next line.
pub(crate) async fn line(stream: &mut TcpStream) -> io::Result<String> {
    let mut line = String::new();
    while !line.ends_with('\n') {
        line.push(char::from(stream.read_u8().await?));
    }
    line.pop();
    Ok(line)
}

/// Who answers at an address; `None` when nobody does.
pub(crate) async fn name(address: SocketAddr) -> Option<String> {
    line(&mut TcpStream::connect(address).await.ok()?).await.ok()
}

/// A server of datagrams that puts its name before each, and answers those that begin with `twice` twice and those that
/// begin with `never` not at all.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    task: AbortHandle,
}

impl NameServer {
    pub(crate) async fn start(name: &'static str) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65_535];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let asked = &buffer[..length];
                let n_answers = if asked.starts_with(b"twice") { 2 } else { usize::from(!asked.starts_with(b"never")) };
                for _ in 0..n_answers {
                    let answer = [name.as_bytes(), b" ", asked].concat();
                    socket.send_to(&answer[..answer.len().min(60_000)], peer).await.unwrap();
                }
            }
        });
        Self { address, task: task.abort_handle() }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
