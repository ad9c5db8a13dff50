//! The last bytes of a stream.

use std::io::{self, Read};

/// Passes a stream on and remembers how it ended.
#[derive(Debug)]
pub struct Tail<R> {
    stream: R,
    length: usize,
    last: Vec<u8>,
}

impl<R: Read> Tail<R> {
    /// `stream`, of which the last `length` bytes are of interest.
    pub fn new(stream: R, length: usize) -> Self {
        Self { stream, length, last: Vec::new() }
    }

    /// The last bytes of what came so far; fewer only where fewer came.
    #[must_use]
    pub fn last(&self) -> &[u8] {
        &self.last
    }
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        let come = &buffer[..count];
        self.last.extend_from_slice(&come[count.saturating_sub(self.length)..]);
        let excess = self.last.len().saturating_sub(self.length);
        self.last.drain(..excess);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_bytes_are_known_however_a_stream_is_read() {
        let bytes: Vec<u8> = (0..200).collect();
        for step in [1, 7, 16, 150, 300] {
            let mut tail = Tail::new(bytes.as_slice(), 16);
            let mut buffer = vec![0; step];
            while tail.read(&mut buffer).unwrap() > 0 {}
            assert_eq!(tail.last(), &bytes[184..], "{step} bytes at a time");
        }
        let mut short = Tail::new(&b"ab"[..], 16);
        io::copy(&mut short, &mut io::sink()).unwrap();
        assert_eq!(short.last(), b"ab");
    }
}
