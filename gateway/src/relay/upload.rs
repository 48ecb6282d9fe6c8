//! The body of a request on its way to an upstream.

use std::time::Duration;

use bytes::Bytes;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::proxy::{ProxyHttp as _, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, RetryType};

use crate::context::Context;
use crate::proxy::Gateway;

/// How far a body got in one attempt.
pub(super) struct Upload {
    state: State,
    /// How long the client may take for a piece, where its session does not see to that: only one of HTTP/1 does.
    body_timeout: Option<Duration>,
    /// How long the upstream may take for a piece of its answer after the end of the body. Until then the time is the
    /// client's (nginx `proxy_read_timeout`).
    read_timeout: Option<Duration>,
}

enum State {
    /// There is more to come.
    Open,
    /// The upstream has all of it.
    Complete,
    /// The upstream does not take it, for this reason. It may answer all the same.
    Failed(Option<Box<Error>>),
}

impl Upload {
    /// At the start of an attempt.
    pub(super) fn of(session: &mut Session, peer: &HttpPeer, context: &Context) -> Self {
        let state = if session.as_mut().is_body_empty() {
            State::Complete
        } else {
            session.as_mut().enable_retry_buffering();
            State::Open
        };
        let settings = context.snapshot.as_ref().map(|snapshot| snapshot.settings());
        let body_timeout =
            settings.filter(|_| session.as_ref().is_http2()).map(|settings| settings.client_body_timeout);
        Self { state, body_timeout, read_timeout: peer.options.read_timeout }
    }

    /// One that its upstream does not take.
    #[cfg(test)]
    pub(super) fn failed() -> Self {
        Self { state: State::Failed(None), body_timeout: None, read_timeout: None }
    }

    /// Whether nothing more is sent.
    pub(super) fn is_over(&self) -> bool {
        !matches!(self.state, State::Open)
    }

    /// What a piece of the answer may take now.
    pub(super) fn read_timeout(&self) -> Option<Duration> {
        self.read_timeout.filter(|_| self.is_over())
    }

    /// Whether another request may follow.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    /// What went wrong when there is no answer: where the upstream does not take the body, that came first.
    pub(super) fn cause_of(&mut self, error: Box<Error>) -> Box<Error> {
        match &mut self.state {
            // A kept connection had died, which says nothing about the upstream.
            State::Failed(_) if error.retry == RetryType::ReusedOnly => error,
            State::Failed(first) => first.take().unwrap_or(error),
            State::Open | State::Complete => error,
        }
    }

    /// The next piece from the client; `None` at the end of the body.
    pub(super) async fn read(&self, session: &mut Session) -> pingora::Result<Option<Bytes>> {
        let piece = session.as_mut().read_body_or_idle(false);
        let piece = match self.body_timeout {
            None => piece.await,
            Some(limit) => match tokio::time::timeout(limit, piece).await {
                Ok(piece) => piece,
                Err(_) => Error::e_explain(ErrorType::ReadTimedout, "request body"),
            },
        };
        piece.map_err(Error::into_down)
    }

    /// Sends what an attempt before this one had read.
    pub(super) async fn repeat(
        &mut self,
        gateway: &Gateway,
        session: &mut Session,
        upstream: &mut HttpSession,
        context: &mut Context,
    ) -> pingora::Result<()> {
        match session.as_ref().get_retry_buffer() {
            Some(read) if !self.is_over() => self.pass(gateway, session, upstream, Some(read), context).await,
            _ => Ok(()),
        }
    }

    /// Sends a piece; `None` at the end of the body.
    pub(super) async fn pass(
        &mut self,
        gateway: &Gateway,
        session: &mut Session,
        upstream: &mut HttpSession,
        mut piece: Option<Bytes>,
        context: &mut Context,
    ) -> pingora::Result<()> {
        let is_last = piece.is_none() || session.as_mut().is_body_done();
        gateway.request_body_filter(session, &mut piece, is_last, context).await?;
        self.state = match send(upstream, piece, is_last).await {
            Ok(()) if is_last => State::Complete,
            Ok(()) => return Ok(()),
            Err(error) => State::Failed(Some(error.into_up())),
        };
        upstream.read_timeout = self.read_timeout();
        Ok(())
    }
}

async fn send(upstream: &mut HttpSession, piece: Option<Bytes>, is_last: bool) -> pingora::Result<()> {
    // A chunk without bytes would be the last one.
    if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
        upstream.write_body(&piece).await?;
    }
    if is_last {
        let limit = upstream.write_timeout;
        let end = upstream.finish_body();
        match limit {
            None => end.await?,
            Some(limit) => match tokio::time::timeout(limit, end).await {
                Ok(sent) => sent?,
                Err(_) => return Err(Error::explain(ErrorType::WriteTimedout, "end of the request body")),
            },
        };
    }
    Ok(())
}
