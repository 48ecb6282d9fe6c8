//! What is written down about a request when it is over.

use http::{HeaderMap, HeaderValue, header};
use pingora::proxy::Session;
use routing::CompiledRule;
use routing::model::LoggedRequests;

use crate::context::{Context, Proxied};
use crate::gate;
use crate::proxy::protocol_name;
use crate::telemetry::{AccessLog, AccessRecord, Outcome, RequestDetails, UpstreamOutcome, UpstreamRecord};

/// Counts a request for its rule, and writes its line.
pub(crate) fn record(session: &Session, context: &Context, access_log: Option<&AccessLog>) {
    let duration = context.started.elapsed();
    let status = match (session.response_written(), context.failure) {
        (Some(response), _) => response.status.as_u16(),
        (None, Some(failure)) => failure.status(),
        (None, None) => 0,
    };
    let request = session.req_header();
    let target = context.received_target.as_deref().unwrap_or(request.raw_path());
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
    let target = context.received_target.as_deref().unwrap_or(request.raw_path());
    let is_logged = !settings.disable_access_log
        && context.rule.as_ref().is_none_or(|rule| rule.rule.logged == LoggedRequests::All)
        && !settings.skip_access_log.iter().any(|pattern| pattern.matches(target));
    let (Some(log), Some(client), true) = (access_log, &context.client, is_logged) else { return };
    let text = |name| {
        let value = request.headers.get(name).map(HeaderValue::as_bytes);
        String::from_utf8_lossy(value.unwrap_or_default())
    };
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
        http_referer: &text(header::REFERER),
        http_user_agent: &text(header::USER_AGENT),
        request_length: request_bytes,
        request_time: duration.as_secs_f64(),
        namespace: origin.map_or("", |origin| &origin.namespace),
        ingress: origin.map_or("", |origin| &origin.name),
        upstream: context
            .route
            .as_ref()
            .map(|route| upstream_record(route, context.rule.as_deref(), session.upstream_body_bytes_received())),
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

fn upstream_record<'a>(
    route: &'a Proxied,
    rule: Option<&'a CompiledRule>,
    response_length: usize,
) -> UpstreamRecord<'a> {
    let backend = route.backend.reference();
    let alternative = route.is_canary.then_some(backend);
    let primary = rule.and_then(|rule| rule.rule.backends.first()?.backend.as_ref());
    let backend = if route.is_canary { primary.unwrap_or(backend) } else { backend };
    UpstreamRecord {
        namespace: &backend.namespace,
        service: &backend.service,
        port: &backend.port,
        alternative,
        address: route.endpoint.as_ref().map(|endpoint| endpoint.key.address),
        response_length,
        response_time: route.attempt_began.elapsed().as_secs_f64(),
        status: route.status,
        connect_time: route.connect_time.map(|time| time.as_secs_f64()),
        header_time: route.header_time.map(|time| time.as_secs_f64()),
    }
}

/// The length of header lines as HTTP/1 writes them (name, colon, space, value, line end), and of the empty line.
fn head_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() + 2
}
