//! From the workers to standard output without making a request wait.
//!
//! Each worker collects lines and hands them over in pieces to one thread that writes. When that thread can't keep up, lines
//! are dropped and counted: a full disk or a stopped terminal must not stop traffic.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

/// A piece is handed over at this size at the latest.
const PIECE: usize = 16 * 1024;
/// Pieces that may wait: with [`PIECE`], 16 MiB.
const WAITING: usize = 1024;

/// The thread that writes, and the way to it.
#[derive(Debug)]
pub struct LogSink {
    sender: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    written: Receiver<()>,
}

impl LogSink {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let (done, written) = sync_channel(1);
        std::thread::Builder::new().name("lb-log".into()).spawn(move || {
            write_all(receiver, out);
            drop(done);
        })?;
        Ok(Self { sender, dropped: Arc::default(), written })
    }

    /// A collector for one worker.
    pub fn buffer(&self) -> LogBuffer {
        LogBuffer { lines: Vec::new(), sender: self.sender.clone(), dropped: Arc::clone(&self.dropped) }
    }

    /// Counts the lines that were dropped because the output did not keep up.
    pub fn drops(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Waits until everything that was handed over is written, at most `limit`: a reader that has stopped must not keep the
    /// process from ending. All buffers must be gone. Whether all was written.
    pub fn finish(self, limit: Duration) -> bool {
        let Self { sender, dropped: _, written } = self;
        drop(sender);
        !matches!(written.recv_timeout(limit), Err(RecvTimeoutError::Timeout))
    }
}

fn write_all(receiver: Receiver<Vec<u8>>, mut out: impl Write) {
    for piece in receiver {
        // Nobody reads any more: the log has no other place to complain.
        if out.write_all(&piece).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// Lines of one worker that are not handed over yet.
#[derive(Debug)]
pub struct LogBuffer {
    lines: Vec<u8>,
    sender: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl LogBuffer {
    /// Adds a line; whether it is the first since the last flush, so that someone should flush soon.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let first = self.lines.is_empty();
        write(&mut self.lines);
        if self.lines.len() >= PIECE {
            self.flush();
        }
        first
    }

    /// Hands over what is there.
    pub fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let room = self.lines.capacity().min(2 * PIECE);
        let piece = std::mem::replace(&mut self.lines, Vec::with_capacity(room));
        match self.sender.try_send(piece) {
            Ok(()) => {}
            Err(TrySendError::Full(piece) | TrySendError::Disconnected(piece)) => {
                let lines = piece.iter().filter(|&&byte| byte == b'\n').count();
                self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_stopped_does_not_keep_the_process() {
        let (reader, writer) = std::io::pipe().unwrap();
        let sink = LogSink::start(writer).unwrap();
        let mut buffer = sink.buffer();
        buffer.add(|line| line.extend_from_slice(&[b'x'; 1024 * 1024]));
        drop(buffer);
        assert!(!sink.finish(Duration::from_millis(50)));
        drop(reader);
    }

    #[test]
    fn every_line_is_written_before_the_sink_is_finished() {
        let memory = Memory::default();
        let sink = LogSink::start(memory.clone()).unwrap();
        let mut buffer = sink.buffer();
        for number in 0..5000 {
            buffer.add(|line| line.extend_from_slice(format!("line {number}\n").as_bytes()));
        }
        drop(buffer);
        assert_eq!(sink.drops().load(Ordering::Relaxed), 0);
        assert!(sink.finish(Duration::from_secs(10)));
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!((text.lines().count(), text.lines().last()), (5000, Some("line 4999")));
    }
}
