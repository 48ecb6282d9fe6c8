//! The PROXY header that stands before everything else on a connection, beside a reading of it written from the
//! protocol's text.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "what reads from sockets is not used here")]
#[path = "../../../gateway/src/proxy_header.rs"]
mod proxy_header;

use proxy_header::{RelayedEnds, frame, parse};

fuzz_target!(|bytes: &[u8]| {
    let length = match frame(bytes) {
        Ok(Some(length)) => length,
        Ok(None) => return assert!(bytes.len() < 1024 + 16, "more is never waited for than a header may have"),
        Err(_) => return,
    };
    let (header, rest) = bytes.split_at(length);
    let is_complete = |bytes| matches!(frame(bytes), Ok(Some(found)) if found == length);
    assert!(is_complete(header), "what follows has no say in where the header ends");
    assert!(rest.is_empty() || !header.is_empty());
    for n_bytes in 0..length {
        assert!(matches!(frame(&header[..n_bytes]), Ok(None)), "no part of a header is one, or none");
    }
    let Ok(ends) = parse(header) else { return };
    let read = if header.starts_with(b"PROXY ") { text(header) } else { binary(header) };
    assert_eq!(ends, read.expect("nothing is read that the protocol does not allow"), "{}", header.escape_ascii());
});

/// Version 1 (section 2.1): `Some(None)` where no addresses are named, `None` for what is no header.
fn text(header: &[u8]) -> Option<Option<RelayedEnds>> {
    let line = std::str::from_utf8(header).ok()?.strip_suffix("\r\n")?;
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let words: Vec<&str> = words.collect();
    let &[client, server, client_port, server_port] = words.as_slice() else { return None };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let port = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse::<u16>().ok().filter(|_| is_number)
    };
    let client = SocketAddr::new(address(client)?, port(client_port)?);
    let server = SocketAddr::new(address(server)?, port(server_port)?);
    Some(Some(RelayedEnds { client, server }))
}

/// Version 2 (section 2.2).
fn binary(header: &[u8]) -> Option<Option<RelayedEnds>> {
    let (&[version_and_command, family], rest) = header.get(12..)?.split_first_chunk()?;
    let payload = rest.get(2..)?;
    match version_and_command {
        0x20 => return Some(None),
        0x21 => {}
        _ => return None,
    }
    let ends = |client: IpAddr, server: IpAddr, ports: &[u8]| {
        let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
        RelayedEnds { client: SocketAddr::new(client, port(0)), server: SocketAddr::new(server, port(2)) }
    };
    match family >> 4 {
        1 => {
            let (client, rest) = payload.split_first_chunk::<4>()?;
            let (server, rest) = rest.split_first_chunk::<4>()?;
            Some(Some(ends((*client).into(), (*server).into(), rest.get(..4)?)))
        }
        2 => {
            let (client, rest) = payload.split_first_chunk::<16>()?;
            let (server, rest) = rest.split_first_chunk::<16>()?;
            Some(Some(ends((*client).into(), (*server).into(), rest.get(..4)?)))
        }
        // No address, or that of a Unix socket.
        0 | 3 => Some(None),
        _ => None,
    }
}
