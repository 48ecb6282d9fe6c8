//! The access log: one line for each request, formatted where the request is, written elsewhere.
//!
//! The queue in between is bounded: a reader of the log that is too slow costs lines, which are counted, and never time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use routing::{LogEscape, LogFormat};

use super::access_record::AccessRecord;
use super::log_line::text_line;

/// Lines that may wait for the writer.
const QUEUE_LINES: usize = 65_536;
/// Bytes of lines that may wait for the writer: clients decide how long their lines are.
const QUEUE_BYTES: usize = 32 << 20;
/// How long the writer gathers lines before it writes again.
const GATHER: Duration = Duration::from_millis(5);

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// ingress-nginx's `upstreaminfo`.
    Text,
    /// One JSON object a line.
    Json,
}

/// The access log.
pub struct AccessLog {
    format: AccessLogFormat,
    /// What a line of text is like when the settings say nothing.
    upstream_info: LogFormat,
    queue: Arc<Queue>,
    writer: Thread,
}

struct Queue {
    lines: ArrayQueue<String>,
    n_bytes: AtomicUsize,
    is_writer_asleep: AtomicBool,
    is_writing: AtomicBool,
    dropped: AtomicU64,
}

// === impl AccessLog ===

impl AccessLog {
    /// Starts the writer, which writes to `output` until the process ends.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(format: AccessLogFormat, output: impl std::io::Write + Send + 'static) -> std::io::Result<Self> {
        let upstream_info = LogFormat::parse(LogFormat::UPSTREAM_INFO, LogEscape::Default)
            .ok_or_else(|| std::io::Error::other("unknown variable in the format of the access log"))?;
        let queue = Arc::new(Queue {
            lines: ArrayQueue::new(QUEUE_LINES),
            n_bytes: AtomicUsize::new(0),
            is_writer_asleep: AtomicBool::new(false),
            is_writing: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        });
        let for_writer = Arc::clone(&queue);
        let thread =
            std::thread::Builder::new().name("access-log".to_owned()).spawn(move || for_writer.write_to(output))?;
        Ok(Self { format, upstream_info, queue, writer: thread.thread().clone() })
    }

    /// Logs a request, as text in `format` if there is one. Costs a formatting and no system call.
    pub fn log(&self, record: &AccessRecord<'_>, format: Option<&LogFormat>) {
        let line = match self.format {
            AccessLogFormat::Text => text_line(format.unwrap_or(&self.upstream_info), record, format.is_none()),
            AccessLogFormat::Json => record.json_line(),
        };
        if !self.queue.push(line) {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if self.queue.is_writer_asleep.load(Ordering::Acquire)
            && self.queue.is_writer_asleep.swap(false, Ordering::AcqRel)
        {
            self.writer.unpark();
        }
    }

    /// Lines that were lost because the queue was full or the output failed.
    #[must_use]
    pub fn n_dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }

    /// Whether everything that was logged is written.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.queue.lines.is_empty() && !self.queue.is_writing.load(Ordering::Acquire)
    }
}

// === impl Queue ===

impl Queue {
    /// Whether there was room for the line.
    fn push(&self, line: String) -> bool {
        let length = line.len();
        let has_room = self.n_bytes.fetch_add(length, Ordering::Relaxed) + length <= QUEUE_BYTES;
        let is_pushed = has_room && self.lines.push(line).is_ok();
        if !is_pushed {
            self.n_bytes.fetch_sub(length, Ordering::Relaxed);
        }
        is_pushed
    }

    fn write_to(&self, mut output: impl std::io::Write) {
        let mut batch = Vec::with_capacity(256 << 10);
        loop {
            self.is_writing.store(true, Ordering::Release);
            let mut n_lines = 0;
            while batch.len() < 128 << 10
                && let Some(line) = self.lines.pop()
            {
                self.n_bytes.fetch_sub(line.len(), Ordering::Relaxed);
                batch.extend_from_slice(line.as_bytes());
                n_lines += 1;
            }
            if n_lines > 0 {
                if output.write_all(&batch).and_then(|()| output.flush()).is_err() {
                    self.dropped.fetch_add(n_lines, Ordering::Relaxed);
                }
                batch.clear();
            }
            self.is_writing.store(false, Ordering::Release);
            if !self.lines.is_empty() {
                continue;
            }
            std::thread::park_timeout(GATHER);
            self.is_writer_asleep.store(true, Ordering::Release);
            if self.lines.is_empty() {
                std::thread::park_timeout(Duration::from_secs(1));
            }
            self.is_writer_asleep.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::access_record::MAX_FIELD;
    use super::super::access_record::tests::record;
    use super::*;

    #[test]
    fn lines_that_wait_take_a_bounded_amount_of_memory() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl std::io::Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                // Until the test is over.
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (_until, stuck) = std::sync::mpsc::channel();
        let log = AccessLog::start(AccessLogFormat::Text, Stuck(stuck)).unwrap();
        let long = "\u{1}".repeat(MAX_FIELD);
        for _ in 0..4096 {
            log.log(&AccessRecord { target: &long, ..record() }, None);
        }
        assert!(log.n_dropped() > 1000, "{} lines of 16 KiB were lost", log.n_dropped());
        assert!(log.queue.n_bytes.load(Ordering::Relaxed) <= QUEUE_BYTES);
    }

    #[test]
    fn a_log_that_nobody_reads_loses_lines_and_no_time() {
        struct Broken;
        impl std::io::Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLog::start(AccessLogFormat::Text, Broken).unwrap();
        for _ in 0..1000 {
            log.log(&record(), None);
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while log.n_dropped() < 1000 {
            assert!(std::time::Instant::now() < deadline, "{} lines are counted as lost", log.n_dropped());
            std::thread::yield_now();
        }
    }
}
