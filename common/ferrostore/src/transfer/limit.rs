//! A stream that comes no faster than it may.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Keeps a stream to so many bytes per second.
#[derive(Debug)]
pub struct Limited<R> {
    stream: R,
    rate: u64,
    started: Option<Instant>,
    taken: u64,
}

impl<R: Read> Limited<R> {
    /// `stream`, at no more than `rate` bytes per second.
    pub fn new(stream: R, rate: u64) -> Self {
        Self { stream, rate, started: None, taken: 0 }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let started = *self.started.get_or_insert_with(Instant::now);
        let due = Duration::from_secs_f64(self.taken as f64 / self.rate as f64);
        if let Some(early) = due.checked_sub(started.elapsed()) {
            std::thread::sleep(early);
        }
        // A twentieth of a second's worth at a time keeps the flow even.
        let most =
            usize::try_from(self.rate / 20).unwrap_or(usize::MAX).clamp(1, buffer.len().max(1));
        let most = most.min(buffer.len());
        let count = self.stream.read(&mut buffer[..most])?;
        self.taken += count as u64;
        Ok(count)
    }
}
