//! What a guest writes to stdout and stderr: lines in the host's log, under the target `guest`, with the component's
//! name.
//!
//! A guest can neither flood the log nor forge it: a line is at most 4 KiB (the rest of it is cut), control characters
//! are escaped, and a component gets 1,000 lines and 256 KiB a second; what is above is counted and reported once the
//! second is over.

use parking_lot::Mutex;
use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

const MAX_LINE_BYTES: usize = 4096;
const MAX_LINES_A_SECOND: u32 = 1000;
const MAX_BYTES_A_SECOND: usize = 256 << 10;
const SECOND: Duration = Duration::from_secs(1);

/// The share of the log that one component has, over all its instances.
pub(crate) struct Log {
    component: Arc<str>,
    second: Mutex<Second>,
}

struct Second {
    began: Instant,
    lines: u32,
    bytes: usize,
    suppressed: u64,
}

impl Log {
    pub(crate) fn new(component: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            component,
            second: Mutex::new(Second { began: Instant::now(), lines: 0, bytes: 0, suppressed: 0 }),
        })
    }

    /// Takes room for one line, and says how many were suppressed before it.
    fn room(&self, bytes: usize, now: Instant) -> Option<u64> {
        let mut second = self.second.lock();
        let mut suppressed = 0;
        if now.duration_since(second.began) >= SECOND {
            suppressed = std::mem::take(&mut second.suppressed);
            *second = Second { began: now, lines: 0, bytes: 0, suppressed: 0 };
        }
        if second.lines >= MAX_LINES_A_SECOND || second.bytes + bytes > MAX_BYTES_A_SECOND {
            second.suppressed += 1;
            return None;
        }
        second.lines += 1;
        second.bytes += bytes;
        Some(suppressed)
    }

    fn line(&self, stream: &'static str, line: &[u8], cut: bool) {
        let Some(suppressed) = self.room(line.len(), Instant::now()) else { return };
        self.note(suppressed);
        let text = escape(line);
        let more = if cut { " [line cut]" } else { "" };
        tracing::info!(target: "guest", component = %self.component, stream, "{text}{more}");
    }

    /// What a guest did wrong, at most as often as it may write.
    pub(crate) fn failure(&self, what: &'static str, why: &str) {
        let why = &why[..why.floor_char_boundary(MAX_LINE_BYTES)];
        let Some(suppressed) = self.room(why.len(), Instant::now()) else { return };
        self.note(suppressed);
        let text = why.lines().map(|line| escape(line.as_bytes())).collect::<Vec<_>>().join("\n");
        tracing::warn!(target: "guest", component = %self.component, "{what}: {text}");
    }

    fn note(&self, suppressed: u64) {
        if suppressed > 0 {
            tracing::warn!(target: "guest", component = %self.component, "suppressed {suppressed} lines");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let suppressed = self.second.get_mut().suppressed;
        self.note(suppressed);
    }
}

/// Text that cannot move the cursor or start a line of its own.
fn escape(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    for part in line.utf8_chunks() {
        for char in part.valid().chars() {
            if char.is_control() && char != '\t' {
                text.extend(char.escape_default());
            } else {
                text.push(char);
            }
        }
        for byte in part.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// One output stream of one instance.
#[derive(Clone)]
pub(crate) struct GuestOutput {
    log: Arc<Log>,
    stream: &'static str,
    /// The line so far; shared by all handles that the guest has of the stream.
    line: Arc<Mutex<Line>>,
}

#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    cut: bool,
}

impl GuestOutput {
    pub(crate) fn new(log: Arc<Log>, stream: &'static str) -> Self {
        Self { log, stream, line: Arc::default() }
    }

    fn take(&self, bytes: &[u8]) {
        let mut line = self.line.lock();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = MAX_LINE_BYTES - line.bytes.len();
            line.cut |= piece.len() > room;
            line.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
            if pieces.peek().is_some() {
                line.end(&self.log, self.stream);
            }
        }
    }
}

impl Line {
    fn end(&mut self, log: &Log, stream: &'static str) {
        log.line(stream, self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes), self.cut);
        self.bytes.clear();
        self.cut = false;
    }
}

impl Drop for GuestOutput {
    fn drop(&mut self) {
        // The last handle writes what has no line end: a panic message may be just that.
        if Arc::strong_count(&self.line) == 1 {
            let mut line = self.line.lock();
            if !line.bytes.is_empty() {
                line.end(&self.log, self.stream);
            }
        }
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_forge_a_line() {
        assert_eq!(escape("a\u{1b}[2Kb\tc\rd".as_bytes()), "a\\u{1b}[2Kb\tc\\rd");
        assert_eq!(escape(b"\xffz"), "\\xffz");
    }

    #[test]
    fn a_component_has_a_share_of_the_log_each_second() {
        let log = Log::new("c".into());
        let now = Instant::now();
        for _ in 0..MAX_LINES_A_SECOND {
            assert_eq!(log.room(1, now), Some(0));
        }
        assert_eq!(log.room(1, now), None);
        assert_eq!(log.room(1, now), None);
        let later = now + SECOND + SECOND;
        assert_eq!(log.room(1, later), Some(2), "what was suppressed is said once");
        assert_eq!(log.room(MAX_BYTES_A_SECOND, later), None);
    }

    #[test]
    fn a_long_line_is_cut() {
        let output = GuestOutput::new(Log::new("c".into()), "stdout");
        output.take(&vec![b'x'; MAX_LINE_BYTES * 3]);
        assert_eq!(output.line.lock().bytes.len(), MAX_LINE_BYTES);
        assert!(output.line.lock().cut);
        output.take(b"\nabc");
        assert_eq!(output.line.lock().bytes, b"abc");
        assert!(!output.line.lock().cut);
    }
}
