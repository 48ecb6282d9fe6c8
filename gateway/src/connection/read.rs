//! The reading side of a connection: framing, deadlines, and the look for HTTP/2.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::Peek;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::time::Instant;

use super::{Connection, PIECE, Refusal, farewell};
use crate::connections::{Phase, Shortage};
use crate::failure::Failure;

/// How a client starts HTTP/2 with prior knowledge (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much is read at once of what has to wait; it is a whole request head most of the time.
const READ_BYTES: usize = 4096;
/// What Pingora gets to read in place of a message that is refused, so that the refusal takes the way of every other
/// answer: it is counted, logged and written by the proxy.
const STAND_IN: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
/// How much of the first line of a refused message is kept for the log.
const MAX_LOGGED_LINE: usize = 1024;

impl Connection {
    /// Follows what the requests above say about themselves.
    fn follow_requests(&mut self) -> Phase {
        let phase = self.info.handle.phase();
        if phase == Phase::Idle && self.info.handle.take_request_done() {
            // The request is over: what follows is the wait for the next one.
            self.phase_began = Instant::now();
        }
        match phase {
            Phase::Idle if self.framer.is_done() => {
                self.framer.begin_next();
                self.has_passed = false;
                if !self.held.is_empty() {
                    self.on_read(phase);
                }
                self.info.handle.phase()
            }
            Phase::Tunnel if !self.framer.is_raw() => {
                self.framer.set_raw();
                phase
            }
            _ => phase,
        }
    }

    fn on_read(&mut self, phase: Phase) {
        match phase {
            Phase::Idle => {
                self.info.handle.set_phase(Phase::Head);
                self.phase_began = Instant::now();
                self.had_request = true;
            }
            Phase::Http2 => self.had_request = true,
            Phase::Head | Phase::Busy | Phase::Tunnel => {}
        }
    }

    /// When the read that is waiting now must have ended; `None` when it may wait for what is above to give up.
    fn read_deadline(&self, phase: Phase) -> Option<Instant> {
        match phase {
            Phase::Idle if self.had_request => Some(match self.info.handle.drain_deadline() {
                Some(drain) => drain.min(self.phase_began + self.limits.idle),
                None => self.phase_began + self.limits.idle,
            }),
            Phase::Idle | Phase::Head => Some(self.phase_began + self.limits.head),
            // Until the client has sent its preface; after that Pingora's idle timer runs.
            Phase::Http2 if !self.had_request => Some(self.phase_began + self.limits.head),
            Phase::Busy | Phase::Http2 | Phase::Tunnel => None,
        }
    }

    /// Ready when the time for reading is over.
    fn poll_deadline(&mut self, phase: Phase, context: &mut Context<'_>) -> Poll<()> {
        if phase == Phase::Idle {
            // A drain that begins now must find this connection.
            self.info.handle.register(context.waker());
        }
        match self.read_deadline(phase) {
            Some(deadline) => self.read_timer.poll(deadline, context),
            None => Poll::Pending,
        }
    }

    /// Reads what cannot pass at once. Ready with 0 at the end of the stream, and when an idle connection has waited
    /// long enough.
    fn poll_hold(&mut self, phase: Phase, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        match self.io.poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                self.held.extend_from_slice(buffer.filled());
                Poll::Ready(Ok(buffer.filled().len()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_overdue(phase, context),
        }
    }

    fn poll_overdue(&mut self, phase: Phase, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.poll_deadline(phase, context));
        match phase {
            // The end of the stream: there was no request to answer.
            Phase::Idle => Poll::Ready(Ok(0)),
            Phase::Head if !self.has_passed && self.info.refusal.get().is_none() => {
                self.refuse(Failure::RequestTimeout)?;
                Poll::Ready(Ok(self.held.len()))
            }
            _ => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "request head not complete in time"))),
        }
    }

    /// Reads no further. The message is answered if nothing of it has passed, else it breaks off.
    fn refuse(&mut self, failure: Failure) -> io::Result<()> {
        let line = self.held[..].split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty());
        let line = line.unwrap_or_default();
        let line = line[..line.len().min(MAX_LOGGED_LINE)].into();
        let _ = self.info.refusal.set(Refusal { failure, line });
        if self.has_passed {
            return Err(io::Error::new(io::ErrorKind::InvalidData, failure.label()));
        }
        self.held = BytesMut::from(STAND_IN);
        self.n_admitted = STAND_IN.len();
        Ok(())
    }

    /// Passes what is held and may pass. Returns whether something has passed.
    fn pass_held(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        if self.n_admitted == 0 && self.info.refusal.get().is_none() {
            match self.framer.admit(&self.held) {
                Ok(n_admitted) => self.n_admitted = n_admitted,
                Err(violation) => self.refuse(violation.into())?,
            }
        }
        let n = self.n_admitted.min(buffer.remaining());
        buffer.put_slice(&self.held[..n]);
        self.held.advance(n);
        self.n_admitted -= n;
        self.has_passed |= n > 0;
        if self.held.is_empty() {
            // An idle connection holds no memory.
            self.held = BytesMut::new();
        }
        Ok(n > 0)
    }

    /// Reads into the buffer of the reader, and keeps what may not pass. Returns whether something has passed, or will
    /// not any more.
    fn poll_pass(
        &mut self,
        phase: Phase,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        if Pin::new(&mut self.io.pin().take(PIECE)).poll_read(context, buffer)?.is_pending() {
            let n = ready!(self.poll_overdue(phase, context))?;
            return Poll::Ready(Ok(n == 0));
        }
        let received = &buffer.filled()[before..];
        if received.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let admitted = self.framer.admit(received);
        let n_admitted = admitted.unwrap_or(0);
        if n_admitted < received.len() {
            self.held.extend_from_slice(&received[n_admitted..]);
            buffer.set_filled(before + n_admitted);
        }
        self.has_passed |= n_admitted > 0;
        self.on_read(phase);
        if let Err(violation) = admitted {
            self.refuse(violation.into())?;
        }
        Poll::Ready(Ok(n_admitted > 0))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // A drain that begins or ends now must find this connection.
        this.info.handle.register(context.waker());
        if this.info.handle.is_cut() {
            ready!(this.poll_farewell(context));
            // Nobody waits for an idle connection; whoever reads a message must not take this for its end.
            let is_idle = this.info.handle.phase() == Phase::Idle;
            return Poll::Ready(if is_idle { Ok(()) } else { Err(farewell::cut()) });
        }
        loop {
            let phase = this.follow_requests();
            if phase == Phase::Busy && !this.framer.is_done() {
                // A body is due.
                match this.info.handle.shortage() {
                    Shortage::None => {}
                    Shortage::Some => return Poll::Pending,
                    Shortage::Dire => return Poll::Ready(Err(super::let_go())),
                }
            }
            if !this.held.is_empty() && this.pass_held(buffer)? {
                return Poll::Ready(Ok(()));
            }
            if this.info.refusal.get().is_some() || (this.framer.is_done() && !this.held.is_empty()) {
                // What is held waits until the request before it is answered, or becomes a tunnel.
                return Poll::Pending;
            }
            if this.held.is_empty() && !this.framer.is_done() {
                if ready!(this.poll_pass(phase, context, buffer))? {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let n = ready!(this.poll_hold(phase, context))?;
                if n == 0 {
                    return Poll::Ready(Ok(()));
                }
                this.on_read(phase);
            }
        }
    }
}

#[async_trait]
impl Peek for Connection {
    /// Looks for the HTTP/2 preface. Pingora's own way waits for 24 bytes without a limit of time, which a silent client
    /// and a short HTTP/1.0 request never send.
    async fn try_peek(&mut self, wanted: &mut [u8]) -> io::Result<bool> {
        // What is compared with the preface stays zero unless it is the preface: nothing else matters to the caller.
        wanted.fill(0);
        loop {
            let n_compared = self.held.len().min(HTTP2_PREFACE.len());
            let may_be_preface = self.limits.use_http2 && self.held[..n_compared] == HTTP2_PREFACE[..n_compared];
            if n_compared == HTTP2_PREFACE.len() || !may_be_preface {
                break;
            }
            let phase = self.info.handle.phase();
            if poll_fn(|context| self.poll_hold(phase, context)).await? == 0 {
                break;
            }
            self.on_read(phase);
        }
        if self.limits.use_http2 && self.held.starts_with(HTTP2_PREFACE) && wanted.len() == HTTP2_PREFACE.len() {
            wanted.copy_from_slice(HTTP2_PREFACE);
            self.info.handle.set_phase(Phase::Http2);
            self.framer.set_raw();
        }
        Ok(true)
    }
}
