//! Writing the answers of the gateway itself.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::context::Context;
use crate::failure::Failure;
use crate::filter;

/// An answer of the gateway itself.
pub(crate) enum Reply {
    /// Says what went wrong.
    Failure(Failure),
    /// Asks the client to log in.
    Challenge(HeaderValue),
    /// Says what a rule says.
    Response {
        /// The status.
        status: u16,
        /// The body.
        body: Bytes,
        /// Where to go instead.
        location: Option<String>,
    },
}

/// Gives an answer.
pub(crate) async fn give(session: &mut Session, context: &mut Context, reply: Reply) -> pingora::Result<()> {
    match reply {
        Reply::Failure(failure) => fail(session, context, failure, failure.keeps_connection()).await,
        Reply::Challenge(challenge) => refuse(session, context, Failure::Unauthorized, Some(challenge)).await,
        Reply::Response { status, body, location } => {
            let header = head(status, body.len(), location)?;
            send(session, context, header, body).await
        }
    }
}

/// Answers with a failure, and keeps the connection if asked to.
pub(crate) async fn fail(
    session: &mut Session,
    context: &mut Context,
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

/// Tells a client of HTTP/1.1 that waits with its body to send it (RFC 9110 section 10.1.1), once.
pub(crate) async fn expectation(session: &mut Session) -> pingora::Result<()> {
    let request = session.req_header_mut();
    let is_waiting = request.remove_header(&header::EXPECT).is_some_and(|expectation| {
        request.version == Version::HTTP_11 && expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
    });
    if is_waiting { session.write_continue_response().await } else { Ok(()) }
}

/// Answers with a failure, and with what the client has to prove if it wants to get through.
async fn refuse(
    session: &mut Session,
    context: &mut Context,
    failure: Failure,
    challenge: Option<HeaderValue>,
) -> pingora::Result<()> {
    context.failure = Some(failure);
    let status = StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let mut header = head(status.as_u16(), body.len(), None)?;
    if let Some(challenge) = challenge {
        header.insert_header(header::WWW_AUTHENTICATE, challenge)?;
    }
    send(session, context, header, Bytes::from(body)).await
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
