//! What is written down about a request when it is over.

use http::{HeaderMap, Version};
use pingora::proxy::Session;
use routing::model::LoggedRequests;

use crate::context::Context;
use crate::gate;
use crate::telemetry::{
    AccessLog, AccessRecord, AttemptRecord, Outcome, RequestDetails, UpstreamOutcome, UpstreamRecord,
};

/// Counts a request for its rule, and writes its line.
pub(crate) fn record(session: &Session, context: &Context, access_log: Option<&AccessLog>) {
    let duration = context.started.elapsed();
    let status = match (session.response_written(), context.failure) {
        (Some(response), _) => response.status.as_u16(),
        (None, Some(failure)) => failure.status(),
        (None, None) => 0,
    };
    let request = session.req_header();
    let target = context.received_target.as_deref().map_or(request.raw_path(), str::as_bytes);
    let line_bytes = request.method.as_str().len() + target.len() + " HTTP/1.1\r\n".len() + 1;
    let request_bytes = line_bytes + head_bytes(&request.headers) + session.body_bytes_read();
    let body_bytes_sent = session.body_bytes_sent();
    let response_time = context.route.as_ref().map(|route| route.attempt_began.elapsed());
    if let Some(metrics) = &context.metrics {
        let head = session.response_written().map_or(0, |response| head_bytes(&response.headers));
        let upstream = context.route.as_ref().zip(response_time).map(|(route, response)| UpstreamOutcome {
            connect: route.connect_time,
            header: route.header_time,
            response,
        });
        metrics.observe(&Outcome {
            method: request.method.as_str(),
            status,
            duration,
            request_bytes,
            response_bytes: head + body_bytes_sent,
            upstream,
        });
    }
    let Some(settings) = context.snapshot.as_ref().map(|snapshot| snapshot.settings()) else { return };
    let is_logged = !settings.disable_access_log
        && context.rule.as_ref().is_none_or(|rule| rule.rule.logged == LoggedRequests::All)
        && !settings.skip_access_log.iter().any(|pattern| pattern.matches(target));
    let (Some(log), Some(client), true) = (access_log, &context.client, is_logged) else { return };
    let target = String::from_utf8_lossy(target);
    // What was refused has no parts, only a line; joined by spaces these are the line again.
    let refused = context.connection.as_ref().and_then(|connection| connection.refusal.get());
    let refused = refused.map(|refusal| String::from_utf8_lossy(&refusal.line));
    let mut parts = refused.iter().flat_map(|line| line.splitn(3, ' '));
    let (method, target, protocol) = match refused {
        Some(_) => (parts.next(), parts.next(), parts.next()),
        None => (Some(request.method.as_str()), Some(&*target), Some(protocol_name(request.version))),
    };
    let origin = context.rule.as_ref().map(|rule| &rule.rule.origin);
    let record = AccessRecord {
        remote_addr: client.address,
        remote_user: "",
        method: method.unwrap_or_default(),
        host: gate::authority(request),
        target: target.unwrap_or_default(),
        protocol: protocol.unwrap_or_default(),
        status,
        body_bytes_sent,
        request_length: request_bytes,
        request_time: duration,
        namespace: origin.map_or("", |origin| &origin.namespace),
        ingress: origin.map_or("", |origin| &origin.name),
        upstream: upstream_record(session, context),
        request_id: context.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default(),
        reason: context.failure.map_or("", |failure| failure.label()),
        details: RequestDetails {
            request_headers: &request.headers,
            response_headers: session.response_written().map(|response| &response.headers),
            response_head_bytes: session.response_written().map_or(0, |response| head_bytes(&response.headers)),
            path: request.uri.path(),
            query: request.uri.query().unwrap_or_default(),
            scheme: client.scheme.as_str(),
            port: context.connection.as_ref().map_or(0, |connection| connection.port()),
            location: context.rule.as_ref().map_or("", |rule| &rule.rule.path),
        },
    };
    log.log(&record, settings.log_format.as_deref());
}

fn upstream_record<'a>(session: &Session, context: &'a Context) -> Option<UpstreamRecord<'a>> {
    let route = context.route.as_ref();
    let primary = context.rule.as_ref().and_then(|rule| rule.rule.backends.first()?.backend.as_ref());
    let (backend, alternative) = match route {
        Some(route) if route.is_canary => {
            (primary.unwrap_or(route.backend.reference()), Some(route.backend.reference()))
        }
        Some(route) => (route.backend.reference(), None),
        None => (primary?, None),
    };
    let attempt = route.and_then(|route| {
        Some(AttemptRecord {
            address: route.endpoint.as_ref()?.key.address,
            response_length: route.relayed.unwrap_or_else(|| session.upstream_body_bytes_received()),
            response_time: route.attempt_began.elapsed(),
            status: route.status,
            connect_time: route.connect_time,
            header_time: route.header_time,
        })
    });
    Some(UpstreamRecord { backend, alternative, attempt })
}

/// The length of header lines as HTTP/1 writes them (name, colon, space, value, line end), and of the empty line.
fn head_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() + 2
}

fn protocol_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/0.9",
    }
}
