//! Writing the answers of the gateway itself.

use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::context::Context;
use crate::failure::Failure;
use crate::filter::{self, Refusal};

/// An answer of the gateway itself.
pub(crate) enum Reply {
    /// Says why the request does not go on, and what its client can do about it.
    Refusal(Refusal),
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
        Reply::Refusal(refusal) => refuse(session, context, refusal).await,
        Reply::Response { status, body, location } => {
            let header = head(status, body.len(), location)?;
            send(session, context, header, body).await
        }
    }
}

/// Answers with a failure, and gives the connection up.
pub(crate) async fn fail(session: &mut Session, context: &mut Context, failure: Failure) -> pingora::Result<()> {
    close(session, context);
    refuse(session, context, Refusal::of(failure)).await
}

/// Lets the answer be the last one on its connection.
fn close(session: &mut Session, context: &Context) {
    session.set_keepalive(None);
    if let Some(connection) = &context.connection {
        connection.handle.linger();
    }
}

/// Tells a client of HTTP/1.1 that waits with its body to send it (RFC 9110 section 10.1.1), once.
pub(crate) async fn expectation(session: &mut Session) -> pingora::Result<()> {
    let request = session.req_header_mut();
    let is_waiting = request.remove_header(&header::EXPECT).is_some_and(|expectation| {
        request.version == Version::HTTP_11 && expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
    });
    if is_waiting { session.write_continue_response().await } else { Ok(()) }
}

/// Answers with a failure, and with what the client has to prove if it wants to get through, or where it can do so.
async fn refuse(session: &mut Session, context: &mut Context, refusal: Refusal) -> pingora::Result<()> {
    let Refusal { failure, challenge, elsewhere, cookies } = refusal;
    context.failure = Some(failure);
    if !failure.keeps_connection() {
        close(session, context);
    }
    let status = if elsewhere.is_some() { 302 } else { failure.status() };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = match &elsewhere {
        Some(_) => String::new(),
        None => format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or_default()),
    };
    let mut header = head(status.as_u16(), body.len(), None)?;
    match (elsewhere, challenge) {
        (Some(page), _) => header.insert_header(header::LOCATION, page)?,
        (None, Some(challenge)) => header.insert_header(header::WWW_AUTHENTICATE, challenge)?,
        (None, None) => {}
    }
    for cookie in cookies.of_status(status.as_u16()) {
        header.append_header(header::SET_COOKIE, cookie.clone())?;
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
