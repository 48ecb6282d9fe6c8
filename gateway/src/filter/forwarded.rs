//! Who the client is, and the forwarded headers that tell the upstream (`ingress-nginx` sets all of these, always
//! overwriting what a client that is not a trusted proxy says about itself).

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use routing::{Scheme, Settings};

use crate::connection::ConnectionInfo;
use crate::context::Client;
use crate::gate;
use crate::request_head::{FieldName, HOST, REQUEST_ID, RequestHead, field_value};

const REAL_IP: FieldName<'static> = FieldName::new("x-real-ip", "X-Real-IP");
const FORWARDED_FOR: FieldName<'static> = FieldName::new("x-forwarded-for", "X-Forwarded-For");
const FORWARDED_HOST: FieldName<'static> = FieldName::new("x-forwarded-host", "X-Forwarded-Host");
const FORWARDED_PORT: FieldName<'static> = FieldName::new("x-forwarded-port", "X-Forwarded-Port");
const FORWARDED_PROTO: FieldName<'static> = FieldName::new("x-forwarded-proto", "X-Forwarded-Proto");
const FORWARDED_SCHEME: FieldName<'static> = FieldName::new("x-forwarded-scheme", "X-Forwarded-Scheme");
const SCHEME: FieldName<'static> = FieldName::new("x-scheme", "X-Scheme");
const ORIGINAL_FOR: FieldName<'static> = FieldName::new("x-original-forwarded-for", "X-Original-Forwarded-For");
const ORIGINAL_HOST: FieldName<'static> = FieldName::new("x-original-forwarded-host", "X-Original-Forwarded-Host");
/// Programs that read headers from their environment take the first for HTTP_PROXY (httpoxy), and a standard header of a
/// chain that nobody checked is worse than none.
const NEVER_PASSED: [HeaderName; 2] = [HeaderName::from_static("proxy"), header::FORWARDED];

/// Finds out who the client is: the sender of the connection, or, behind trusted proxies and with
/// `use-forwarded-headers` or `enable-real-ip`, the last address of the chain that is not one of them (nginx
/// `real_ip_recursive`).
#[must_use]
pub(crate) fn client_of(connection: &ConnectionInfo, headers: &HeaderMap, settings: &Settings) -> Client {
    let sender = connection.sender();
    // A load balancer that ends TLS tells it by the port only.
    let scheme = match connection.relayed {
        Some(relayed) if relayed.server.port() == 443 => Scheme::Https,
        _ => connection.scheme,
    };
    let Settings { use_forwarded_headers, enable_real_ip, .. } = *settings;
    if !(use_forwarded_headers || enable_real_ip) || !settings.trusted_proxies.contain(sender) {
        return Client { address: sender, scheme, is_forwarded: false };
    }
    let mut address = sender;
    let chain = headers.get_all(&settings.forwarded_for_header).iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = chain.flat_map(|value| value.split(',')).map(str::trim).collect();
    for hop in hops.iter().rev() {
        // What is not an address ends the chain: nothing before it can be believed.
        let Ok(hop) = hop.parse::<IpAddr>() else { break };
        address = hop.to_canonical();
        if !settings.trusted_proxies.contain(address) {
            break;
        }
    }
    let scheme = match text(headers, "x-forwarded-proto") {
        Some("https") if use_forwarded_headers => Scheme::Https,
        Some("http") if use_forwarded_headers => Scheme::Http,
        _ => scheme,
    };
    Client { address, scheme, is_forwarded: use_forwarded_headers }
}

/// Sets the forwarded headers on the request that goes to the upstream. `authority` is what the client asked for.
pub(crate) fn set_forwarded_headers(
    request: &mut RequestHead<'_>,
    authority: &str,
    connection: &ConnectionInfo,
    client: Client,
    request_id: Option<&HeaderValue>,
    settings: &Settings,
) -> pingora::Result<()> {
    let received_for = joined(request, &settings.forwarded_for_header)?;
    let received_host = request.get(&FORWARDED_HOST.name).cloned();
    let address = match client.address == connection.sender() {
        true => connection.sender_address.clone(),
        false => field_value(client.address.to_string())?,
    };
    let outer_host = received_host.as_ref().filter(|_| client.is_forwarded).and_then(first_host);
    let host = match outer_host.as_ref().or_else(|| request.get(&HOST.name)) {
        Some(host) => host.clone(),
        None => field_value(authority)?,
    };
    let forwarded_port = request.get(&FORWARDED_PORT.name).filter(|_| client.is_forwarded);
    let port = forwarded_port.unwrap_or(&connection.port_text).clone();
    let scheme = HeaderValue::from_static(client.scheme.as_str());
    let forwarded_for = match (&received_for, client.is_forwarded && settings.compute_full_forwarded_for) {
        (Some(chain), true) => appended(chain, connection.sender())?,
        _ => address.clone(),
    };
    request.insert(REAL_IP, address);
    request.insert(FORWARDED_FOR, forwarded_for);
    request.set_or_remove(FORWARDED_HOST, Some(host).filter(|host| !host.is_empty()));
    // ingress-nginx's `$best_http_host`: the upstream is to see the host that the client asked for.
    if let Some(host) = outer_host {
        request.insert(HOST, host);
    }
    request.insert(FORWARDED_PORT, port);
    request.insert(FORWARDED_PROTO, scheme.clone());
    request.insert(FORWARDED_SCHEME, scheme.clone());
    request.insert(SCHEME, scheme);
    request.set_or_remove(ORIGINAL_FOR, received_for);
    request.set_or_remove(ORIGINAL_HOST, received_host);
    if let Some(request_id) = request_id {
        request.insert(REQUEST_ID, request_id.clone());
    }
    request.remove_all(&NEVER_PASSED);
    Ok(())
}

/// The first host of a list that proxies made.
fn first_host(list: &HeaderValue) -> Option<HeaderValue> {
    let first = list.as_bytes().split(|byte| *byte == b',').next()?.trim_ascii();
    let is_host = !first.is_empty() && gate::is_authority(first);
    HeaderValue::from_bytes(first).ok().filter(|_| is_host)
}

/// A list that may be spread over several fields (RFC 9110 section 5.3); `None` without any.
fn joined(request: &RequestHead<'_>, name: &HeaderName) -> pingora::Result<Option<HeaderValue>> {
    let mut fields = request.get_all(name);
    let Some(first) = fields.next() else { return Ok(None) };
    let mut list = first.as_bytes().to_vec();
    for field in fields {
        list.extend_from_slice(b", ");
        list.extend_from_slice(field.as_bytes());
    }
    HeaderValue::try_from(list).map_err(internal).map(Some)
}

fn appended(chain: &HeaderValue, sender: IpAddr) -> pingora::Result<HeaderValue> {
    let mut value = chain.as_bytes().to_vec();
    value.extend_from_slice(b", ");
    value.extend_from_slice(sender.to_string().as_bytes());
    HeaderValue::try_from(value).map_err(internal)
}

fn internal(error: header::InvalidHeaderValue) -> Box<pingora::Error> {
    pingora::Error::because(pingora::ErrorType::InternalError, "forwarded header", error)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use pingora::http::RequestHeader;
    use routing::TrustedProxies;
    use routing::model::ListenerKey;

    use super::*;
    use crate::connections::Connections;
    use crate::proxy_header::RelayedEnds;

    fn connection(peer: &str) -> ConnectionInfo {
        relayed_connection(peer, None)
    }

    fn relayed_connection(peer: &str, relayed: Option<RelayedEnds>) -> ConnectionInfo {
        let listener = ListenerKey::tcp(([0, 0, 0, 0], 80).into());
        ConnectionInfo::new(listener, Scheme::Http, peer.parse().unwrap(), relayed, None, Connections::new().open())
    }

    fn settings(trusted: &str) -> Settings {
        Settings {
            use_forwarded_headers: true,
            trusted_proxies: TrustedProxies::new(vec![trusted.parse().unwrap()]),
            ..Settings::default()
        }
    }

    fn request(headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn forwarded<'r>(
        request: &'r RequestHeader,
        connection: &ConnectionInfo,
        client: Client,
        settings: &Settings,
    ) -> RequestHead<'r> {
        let mut head = RequestHead::of(request);
        set_forwarded_headers(&mut head, gate::authority(request), connection, client, None, settings).unwrap();
        head
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_trusted_proxy() {
        let settings = settings("10.0.0.0/8");
        for (peer, chain, expected) in [
            ("10.0.0.1:1", "192.0.2.9, 10.0.0.2", "192.0.2.9"),
            ("10.0.0.1:1", "192.0.2.9, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1:1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1:1", "192.0.2.9, nonsense, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1:1", "", "10.0.0.1"),
            ("192.0.2.1:1", "192.0.2.9", "192.0.2.1"),
        ] {
            let request = request(&[("X-Forwarded-For", chain)]);
            let client = client_of(&connection(peer), &request.headers, &settings);
            assert_eq!(client.address.to_string(), expected, "{peer} {chain}");
        }
    }

    #[test]
    fn the_client_of_a_proxy_header_sends_the_requests() {
        let relayed =
            RelayedEnds { client: "192.0.2.7:5".parse().unwrap(), server: "198.51.100.2:443".parse().unwrap() };
        let connection = relayed_connection("10.0.0.1:1", Some(relayed));
        let request = request(&[("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "http")]);
        for (trusted, expected, scheme) in [
            // Its own word about others counts where it is trusted itself.
            ("10.0.0.0/8", "192.0.2.7", Scheme::Https),
            ("192.0.2.0/24", "203.0.113.9", Scheme::Http),
        ] {
            let client = client_of(&connection, &request.headers, &settings(trusted));
            assert_eq!((client.address.to_string().as_str(), client.scheme), (expected, scheme), "{trusted}");
        }
    }

    #[test]
    fn real_ip_believes_the_address_and_nothing_else() {
        let settings = Settings { use_forwarded_headers: false, enable_real_ip: true, ..settings("10.0.0.0/8") };
        let request = request(&[("X-Forwarded-For", "192.0.2.9"), ("X-Forwarded-Proto", "https")]);
        let client = client_of(&connection("10.0.0.1:1"), &request.headers, &settings);
        assert_eq!(client.address.to_string(), "192.0.2.9");
        assert_eq!((client.scheme, client.is_forwarded), (Scheme::Http, false));
    }

    #[test]
    fn a_stranger_says_nothing_about_itself() {
        let request = request(&[
            ("Host", "a.example:80"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "evil"),
            ("X-Real-IP", "1.2.3.4"),
            ("X-Forwarded-Port", "1"),
            ("Forwarded", "for=1.2.3.4"),
            ("Proxy", "evil"),
        ]);
        let connection = connection("192.0.2.1:1");
        let settings = Settings::default();
        let client = client_of(&connection, &request.headers, &settings);
        let request = forwarded(&request, &connection, client, &settings);
        for (name, expected) in [
            ("x-forwarded-for", Some("192.0.2.1")),
            ("x-real-ip", Some("192.0.2.1")),
            ("x-forwarded-proto", Some("http")),
            ("x-forwarded-scheme", Some("http")),
            ("x-scheme", Some("http")),
            ("x-forwarded-host", Some("a.example:80")),
            ("x-forwarded-port", Some("80")),
            ("x-original-forwarded-for", Some("1.2.3.4")),
            ("x-original-forwarded-host", Some("evil")),
            ("host", Some("a.example:80")),
            ("forwarded", None),
            ("proxy", None),
        ] {
            assert_eq!(
                request.get(&HeaderName::from_static(name)).map(HeaderValue::as_bytes),
                expected.map(str::as_bytes),
                "{name}"
            );
        }
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_its_list_grows_where_it_is_wanted() {
        let request = request(&[
            ("Host", "inner"),
            ("X-Forwarded-For", "192.0.2.9"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "outer, middle"),
            ("X-Forwarded-Port", "443"),
        ]);
        let connection = connection("10.0.0.1:1");
        let settings = Settings { compute_full_forwarded_for: true, ..settings("10.0.0.0/8") };
        let client = client_of(&connection, &request.headers, &settings);
        assert_eq!(client.scheme, Scheme::Https);
        let request = forwarded(&request, &connection, client, &settings);
        for (name, expected) in [
            ("x-forwarded-for", "192.0.2.9, 10.0.0.1"),
            ("x-real-ip", "192.0.2.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "outer"),
            ("host", "outer"),
            ("x-original-forwarded-host", "outer, middle"),
            ("x-forwarded-port", "443"),
        ] {
            assert_eq!(request.get(&HeaderName::from_static(name)).unwrap(), expected, "{name}");
        }
    }
}
