//! The PROXY header that a load balancer in front writes before everything else (HAProxy's PROXY protocol, versions 1
//! and 2): read to its last byte and not one further, because what follows is TLS or HTTP.
//!
//! It uses nothing else of this crate: `tests/fuzz` compiles it alone.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ppp::{v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The longest header of version 1 (section 2.1 of the protocol).
const MAX_TEXT: usize = 107;
/// What stands before the addresses in version 2: the signature, version, family, and the length of the rest.
const BINARY_HEAD: usize = 16;
/// The longest header of version 2 that is read. Its extensions are short, unless somebody plays with us.
const MAX_BINARY: usize = 1024;
/// How version 1 begins.
const TEXT_PREFIX: &[u8] = b"PROXY ";

/// The two ends of the connection that the load balancer accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelayedEnds {
    /// The client.
    pub client: SocketAddr,
    /// Where the client connected to.
    pub server: SocketAddr,
}

/// Why a connection has no PROXY header that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyHeaderError {
    /// It was not complete in time.
    #[error("PROXY header not complete in time")]
    Timeout,
    /// The connection broke or ended before.
    #[error("read PROXY header: {0}")]
    Io(#[from] io::Error),
    /// What came is something else.
    #[error("no PROXY header, or a malformed one")]
    Malformed,
}

/// Reads the header, in `limit`. `None` when it names no addresses: a health check of the load balancer itself.
pub(crate) async fn read(stream: &mut TcpStream, limit: Duration) -> Result<Option<RelayedEnds>, ProxyHeaderError> {
    tokio::time::timeout(limit, read_header(stream)).await.unwrap_or(Err(ProxyHeaderError::Timeout))
}

async fn read_header(stream: &mut TcpStream) -> Result<Option<RelayedEnds>, ProxyHeaderError> {
    let mut buffer = [0; MAX_BINARY];
    let mut n_read = 0;
    loop {
        // Looking before taking leaves in the socket what is not ours.
        let n_seen = n_read + stream.peek(buffer.get_mut(n_read..).unwrap_or_default()).await?;
        if n_seen == n_read {
            return Err(ProxyHeaderError::Malformed);
        }
        let length = frame(buffer.get(..n_seen).unwrap_or_default())?;
        let n_taken = length.unwrap_or(n_seen);
        stream.read_exact(buffer.get_mut(n_read..n_taken).unwrap_or_default()).await?;
        n_read = n_taken;
        if length.is_some() {
            return parse(buffer.get(..n_read).unwrap_or_default());
        }
    }
}

/// The length of the header that the bytes begin with; `None` when it has to be more of them.
pub(crate) fn frame(bytes: &[u8]) -> Result<Option<usize>, ProxyHeaderError> {
    if v2::PROTOCOL_PREFIX.iter().zip(bytes).all(|(expected, byte)| expected == byte) {
        let Some([high, low]) = bytes.get(BINARY_HEAD - 2..BINARY_HEAD) else { return Ok(None) };
        let length = BINARY_HEAD + usize::from(u16::from_be_bytes([*high, *low]));
        return match length {
            length if length > MAX_BINARY => Err(ProxyHeaderError::Malformed),
            length => Ok((bytes.len() >= length).then_some(length)),
        };
    }
    if !TEXT_PREFIX.iter().zip(bytes).all(|(expected, byte)| expected == byte) {
        return Err(ProxyHeaderError::Malformed);
    }
    match bytes.iter().take(MAX_TEXT).position(|byte| *byte == b'\n') {
        Some(end) => Ok(Some(end + 1)),
        None if bytes.len() >= MAX_TEXT => Err(ProxyHeaderError::Malformed),
        None => Ok(None),
    }
}

/// Reads a complete header.
pub(crate) fn parse(header: &[u8]) -> Result<Option<RelayedEnds>, ProxyHeaderError> {
    let ends = |client: (IpAddr, u16), server: (IpAddr, u16)| {
        Some(RelayedEnds { client: SocketAddr::from(client), server: SocketAddr::from(server) })
    };
    if header.starts_with(TEXT_PREFIX) {
        let addresses = v1::Header::try_from(header).map_err(|_| ProxyHeaderError::Malformed)?.addresses;
        // The parser takes a line feed alone behind `UNKNOWN`, and ports with a sign.
        let has_sign = addresses != v1::Addresses::Unknown && header.contains(&b'+');
        if has_sign || !header.ends_with(b"\r\n") {
            return Err(ProxyHeaderError::Malformed);
        }
        return Ok(match addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(v1::IPv4 { source_address, source_port, destination_address, destination_port }) => {
                ends((source_address.into(), source_port), (destination_address.into(), destination_port))
            }
            v1::Addresses::Tcp6(v1::IPv6 { source_address, source_port, destination_address, destination_port }) => {
                ends((source_address.into(), source_port), (destination_address.into(), destination_port))
            }
        });
    }
    let header = v2::Header::try_from(header).map_err(|_| ProxyHeaderError::Malformed)?;
    Ok(match (header.command, header.addresses) {
        // The load balancer speaks for itself (section 2.2).
        (v2::Command::Local, _) | (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
        (
            v2::Command::Proxy,
            v2::Addresses::IPv4(v2::IPv4 { source_address, source_port, destination_address, destination_port }),
        ) => ends((source_address.into(), source_port), (destination_address.into(), destination_port)),
        (
            v2::Command::Proxy,
            v2::Addresses::IPv6(v2::IPv6 { source_address, source_port, destination_address, destination_port }),
        ) => ends((source_address.into(), source_port), (destination_address.into(), destination_port)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn binary(version_and_command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[version_and_command, family], &length, payload].concat()
    }

    fn client(header: &[u8]) -> Result<Option<String>, ()> {
        match frame(header) {
            Ok(Some(length)) => {
                let ends = parse(&header[..length]).map_err(drop)?;
                Ok(ends.map(|ends| format!("{} -> {}", ends.client, ends.server)))
            }
            Ok(None) | Err(_) => Err(()),
        }
    }

    #[test]
    fn both_versions_name_the_ends_of_the_connection() {
        let ipv4 = [192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0x01, 0xbb];
        let with_extension = [&ipv4[..], &[0x04, 0, 1, 0]].concat();
        for (header, expected) in [
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\nGET /".to_vec(),
                Some("192.0.2.1:12345 -> 198.51.100.2:443"),
            ),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 80\r\n".to_vec(), Some("[2001:db8::1]:1 -> [2001:db8::2]:80")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ff::1 ff::2 1 2\r\n".to_vec(), None),
            (binary(0x21, 0x11, &ipv4), Some("192.0.2.1:12345 -> 198.51.100.2:443")),
            (binary(0x21, 0x11, &with_extension), Some("192.0.2.1:12345 -> 198.51.100.2:443")),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &ipv4), None),
            (binary(0x21, 0x00, &[]), None),
            (binary(0x21, 0x31, &[0; 216]), None),
        ] {
            assert_eq!(client(&header), Ok(expected.map(str::to_owned)), "{:?}", header.escape_ascii().to_string());
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let long_text = [b"PROXY UNKNOWN ", &[b'x'; 120][..], b"\r\n"].concat();
        for header in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.2 12345\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.2 012345 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.2 99999 443\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::1 2001:db8::2 1 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n".to_vec(),
            b"PROXY UNKNOWN \n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n".to_vec(),
            b"proxy UNKNOWN\r\n".to_vec(),
            long_text,
            binary(0x11, 0x11, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x21, 0x41, &[0; 12]),
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x11, &[0; MAX_BINARY]),
        ] {
            assert_eq!(client(&header), Err(()), "{:?}", header.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_header_in_pieces_is_waited_for() {
        for header in [b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n".to_vec(), binary(0x21, 0x11, &[1; 12])] {
            for n_bytes in 1..header.len() {
                assert!(matches!(frame(&header[..n_bytes]), Ok(None)), "{n_bytes}");
            }
            assert!(matches!(frame(&header), Ok(Some(length)) if length == header.len()));
        }
    }
}
