//! Descriptors that claim to be listening sockets, judged by the kernel.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use routing::model::ListenerKey;
use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{SocketType, getpeername, getsockname};

/// A socket that listens for connections, or that takes the datagrams of everybody.
#[derive(Debug)]
pub struct ListeningSocket {
    /// What it listens to.
    pub key: ListenerKey,
    /// The socket.
    pub descriptor: OwnedFd,
}

/// Why a descriptor is refused.
#[derive(Debug, thiserror::Error)]
#[error("a descriptor that is not a listening socket of TCP or UDP")]
pub(super) struct NotListening;

impl ListeningSocket {
    /// Asks the kernel what a descriptor is: the other process is not asked.
    pub(super) fn new(descriptor: OwnedFd) -> Result<Self, NotListening> {
        let name = getsockname(&descriptor).map_err(|_| NotListening)?;
        // A Unix socket listens too, but nobody on the network reaches it.
        let address = SocketAddr::try_from(name).map_err(|_| NotListening)?;
        let key = match socket_type(&descriptor) {
            Ok(SocketType::STREAM) if socket_acceptconn(&descriptor) == Ok(true) => ListenerKey::tcp(address),
            Ok(SocketType::DGRAM) if address.port() != 0 && getpeername(&descriptor) == Err(Errno::NOTCONN) => {
                ListenerKey::udp(address)
            }
            _ => return Err(NotListening),
        };
        Ok(Self { key, descriptor })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn only_listening_sockets_of_the_network_pass() {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connected = TcpStream::connect(address).unwrap();
        let unix = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        let file = std::fs::File::create(directory.path().join("file")).unwrap();
        let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        bound.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp_address = udp.local_addr().unwrap();
        let session = UdpSocket::bind("127.0.0.1:0").unwrap();
        session.connect(udp_address).unwrap();
        for refused in [connected.into(), unix.into(), file.into(), OwnedFd::from(bound), session.into()] {
            assert!(ListeningSocket::new(refused).is_err());
        }
        assert_eq!(ListeningSocket::new(listener.into()).unwrap().key, ListenerKey::tcp(address));
        assert_eq!(ListeningSocket::new(udp.into()).unwrap().key, ListenerKey::udp(udp_address));
    }
}
