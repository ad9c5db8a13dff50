//! Bytes that are read from the first to the last, of which parts are passed over.

use disk_image::foreign::ReadAt;
use std::io::{self, BufRead, Read};

/// An archive that is read in its order.
pub(super) trait Forward {
    /// How many bytes have been read or passed over.
    fn position(&self) -> u64;

    /// Fills `buffer`, or as much of it as there is; how much.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Passes over `count` bytes; an [`io::ErrorKind::UnexpectedEof`] where there aren't as many.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

/// An archive of which any part can be reached.
pub(super) struct Placed<'r> {
    read_at: ReadAt<'r>,
    length: u64,
    position: u64,
}

impl<'r> Placed<'r> {
    /// An archive of `length` bytes.
    pub(super) fn new(read_at: ReadAt<'r>, length: u64) -> Self {
        Self { read_at, length, position: 0 }
    }
}

impl Forward for Placed<'_> {
    fn position(&self) -> u64 {
        self.position
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = (self.read_at)(self.position, buffer.len())?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.position += count as u64;
        Ok(count)
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let end = self.position.checked_add(count).filter(|&end| end <= self.length);
        self.position = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}

/// An archive that comes as a stream.
pub(super) struct Streamed<R> {
    stream: R,
    position: u64,
}

impl<R: BufRead> Streamed<R> {
    /// The archive that `stream` holds, from the byte at `position` on.
    pub(super) fn new(stream: R, position: u64) -> Self {
        Self { stream, position }
    }

    /// Reads what is left.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }
}

impl<R: BufRead> Forward for Streamed<R> {
    fn position(&self) -> u64 {
        self.position
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        disk_image::stream::fill(self, buffer)
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.take(count), &mut io::sink())?;
        if skipped < count { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

impl<R: BufRead> Read for Streamed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Streamed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.stream.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.stream.consume(count);
        self.position += count as u64;
    }
}
