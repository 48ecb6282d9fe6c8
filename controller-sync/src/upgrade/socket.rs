//! Descriptors that claim to be listening sockets, judged by the kernel.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{SocketType, getsockname};

/// A socket that listens.
#[derive(Debug)]
pub struct ListeningSocket {
    /// Where.
    pub address: SocketAddr,
    /// The socket.
    pub descriptor: OwnedFd,
}

/// Why a descriptor is refused.
#[derive(Debug, thiserror::Error)]
#[error("a descriptor that is not a listening TCP socket")]
pub(super) struct NotListening;

impl ListeningSocket {
    /// Asks the kernel what a descriptor is: the other process is not asked.
    pub(super) fn new(descriptor: OwnedFd) -> Result<Self, NotListening> {
        let is_stream = socket_type(&descriptor) == Ok(SocketType::STREAM);
        if !is_stream || socket_acceptconn(&descriptor) != Ok(true) {
            return Err(NotListening);
        }
        let name = getsockname(&descriptor).map_err(|_| NotListening)?;
        // A Unix socket listens too, but nobody on the network reaches it.
        let address = SocketAddr::try_from(name).map_err(|_| NotListening)?;
        Ok(Self { address, descriptor })
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
        for refused in [connected.into(), unix.into(), file.into(), OwnedFd::from(bound), udp.into()] {
            assert!(ListeningSocket::new(refused).is_err());
        }
        assert_eq!(ListeningSocket::new(listener.into()).unwrap().address, address);
    }
}
