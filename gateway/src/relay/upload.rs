//! The body of a request on its way to an upstream.

use std::time::Duration;

use bytes::Bytes;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::proxy::{ProxyHttp as _, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use crate::context::Context;
use crate::proxy::Gateway;

/// How far a body got in one attempt.
pub(super) struct Upload {
    state: State,
    /// How long the upstream may think after the end of it. Until then the time is the client's (nginx
    /// `proxy_read_timeout`).
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
    pub(super) fn of(session: &mut Session, peer: &HttpPeer) -> Self {
        let state = if session.as_mut().is_body_empty() {
            State::Complete
        } else {
            session.as_mut().enable_retry_buffering();
            State::Open
        };
        Self { state, read_timeout: peer.options.read_timeout }
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

    /// Why the upstream does not take it, once.
    pub(super) fn take_failure(&mut self) -> Option<Box<Error>> {
        match &mut self.state {
            State::Failed(error) => error.take(),
            State::Open | State::Complete => None,
        }
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
