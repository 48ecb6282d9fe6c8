//! Writing the answers of the gateway itself.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::context::Context;
use crate::error_pages::{Page, PageServer};
use crate::failure::Failure;
use crate::filter::{self, Refusal};

/// Seconds after which whoever was turned away because there is too much to do may try again (RFC 9110 section 10.2.3).
const RETRY_AFTER: u16 = 1;

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
pub(crate) async fn give(
    session: &mut Session,
    context: &mut Context,
    reply: Reply,
    pages: &PageServer,
) -> pingora::Result<()> {
    match reply {
        Reply::Refusal(refusal) => refuse(session, context, refusal, pages).await,
        Reply::Response { status, body, location } => {
            if let Some(page) = pages.page(session.req_header(), context, status).await {
                return send_page(session, context, page, None).await;
            }
            let header = head(status, body.len(), location)?;
            send(session, context, header, body).await
        }
    }
}

/// Answers with a failure, and gives the connection up.
pub(crate) async fn fail(
    session: &mut Session,
    context: &mut Context,
    failure: Failure,
    pages: &PageServer,
) -> pingora::Result<()> {
    close(session, context);
    refuse(session, context, Refusal::of(failure), pages).await
}

/// Answers in place of an upstream that answered with an error, and gives the connection up.
pub(crate) async fn replace(
    session: &mut Session,
    context: &mut Context,
    status: u16,
    pages: &PageServer,
) -> pingora::Result<()> {
    close(session, context);
    match pages.page(session.req_header(), context, status).await {
        Some(page) => send_page(session, context, page, None).await,
        None => {
            let body = plain(status);
            send(session, context, head(status, body.len(), None)?, Bytes::from(body)).await
        }
    }
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
async fn refuse(
    session: &mut Session,
    context: &mut Context,
    refusal: Refusal,
    pages: &PageServer,
) -> pingora::Result<()> {
    let Refusal { failure, challenge, elsewhere, cookies } = refusal;
    context.failure = Some(failure);
    if !failure.keeps_connection() {
        close(session, context);
    }
    let status = if elsewhere.is_some() { 302 } else { failure.status() };
    if elsewhere.is_none()
        && let Some(page) = pages.page(session.req_header(), context, status).await
    {
        return send_page(session, context, page, challenge).await;
    }
    let body = if elsewhere.is_some() { String::new() } else { plain(status) };
    let mut header = head(status, body.len(), None)?;
    match (elsewhere, challenge) {
        (Some(page), _) => header.insert_header(header::LOCATION, page)?,
        (None, Some(challenge)) => header.insert_header(header::WWW_AUTHENTICATE, challenge)?,
        (None, None) => {}
    }
    if failure == Failure::Overloaded {
        header.insert_header(header::RETRY_AFTER, RETRY_AFTER)?;
    }
    for cookie in cookies.of_status(status) {
        header.append_header(header::SET_COOKIE, cookie.clone())?;
    }
    send(session, context, header, Bytes::from(body)).await
}

/// Sends the page of whoever serves errors; a client that has to prove something still learns what.
async fn send_page(
    session: &mut Session,
    context: &Context,
    page: Page,
    challenge: Option<HeaderValue>,
) -> pingora::Result<()> {
    let Page { mut head, body } = page;
    if let Some(snapshot) = &context.snapshot {
        filter::hide_headers(snapshot.settings(), &mut head);
    }
    if let Some(challenge) = challenge.filter(|_| head.status == StatusCode::UNAUTHORIZED) {
        head.insert_header(header::WWW_AUTHENTICATE, challenge)?;
    }
    send(session, context, head, body).await
}

/// The body of an error that nobody else has a page for.
fn plain(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    format!("{status} {}\n", reason.unwrap_or_default())
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
    // Without a body, too: a stream of HTTP/2 would be reset after an error, which Pingora does not end by itself.
    session.write_response_body(has_body.then_some(body), true).await
}
