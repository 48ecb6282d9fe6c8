//! Writing the answers of the gateway itself.

use bytes::Bytes;
use http::{HeaderValue, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::context::Context;
use crate::failure::Failure;
use crate::filter;

/// Answers with a failure, and keeps the connection if asked to.
pub(crate) async fn fail(
    session: &mut Session,
    context: &Context,
    failure: Failure,
    keeps_connection: bool,
) -> pingora::Result<()> {
    if !keeps_connection {
        session.set_keepalive(None);
        if let Some(connection) = &context.connection {
            connection.handle.linger();
        }
    }
    refuse(session, context, failure, None).await
}

/// Answers with a failure, and with what the client has to prove if it wants to get through.
pub(crate) async fn refuse(
    session: &mut Session,
    context: &Context,
    failure: Failure,
    challenge: Option<HeaderValue>,
) -> pingora::Result<()> {
    let status = http::StatusCode::from_u16(failure.status()).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let body = format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let mut header = head(status.as_u16(), body.len(), None)?;
    if let Some(challenge) = challenge {
        header.insert_header(header::WWW_AUTHENTICATE, challenge)?;
    }
    send(session, context, header, Bytes::from(body)).await
}

/// Writes an answer.
pub(crate) async fn write(
    session: &mut Session,
    context: &Context,
    status: u16,
    body: Bytes,
    location: Option<String>,
) -> pingora::Result<()> {
    let header = head(status, body.len(), location)?;
    send(session, context, header, body).await
}

fn head(status: u16, length: usize, location: Option<String>) -> pingora::Result<ResponseHeader> {
    let mut header = ResponseHeader::build(status, Some(4))?;
    if status != 204 {
        header.insert_header("Content-Length", length)?;
    }
    if length > 0 {
        header.insert_header("Content-Type", "text/plain; charset=utf-8")?;
    }
    if let Some(location) = location {
        header.insert_header("Location", location)?;
    }
    Ok(header)
}

async fn send(
    session: &mut Session,
    context: &Context,
    mut header: ResponseHeader,
    body: Bytes,
) -> pingora::Result<()> {
    if let Some(rule) = &context.rule {
        // A script is to learn that it was refused, too.
        filter::mark_for_origin(rule, &session.req_header().headers, &mut header)?;
    }
    filter::mark_answer(context, session.req_header(), &mut header)?;
    let has_body = !body.is_empty() && session.req_header().method != http::Method::HEAD;
    session.write_response_header(Box::new(header), !has_body).await?;
    if has_body {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
