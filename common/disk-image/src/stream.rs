//! Writes an image out of a stream of raw bytes, of unknown length.

use super::ImageError;
use super::page_buffer::PageBuffer;
use super::target::{Place, Target};
use std::io::{self, Read};

/// How many bytes a stream may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Bytes.
    pub bytes: u64,
    /// Where the limit comes from, and what to do.
    pub why: &'static str,
}

/// A stream that holds no more than it may.
#[derive(Debug)]
pub struct Limited<R> {
    stream: R,
    limit: Limit,
    read: u64,
}

impl<R> Limited<R> {
    /// `stream`, which fails where it holds more than `limit`: with an [`ImageError::TooLarge`].
    pub fn new(stream: R, limit: Limit) -> Self {
        Self { stream, limit, read: 0 }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.read += count as u64;
        let Limit { bytes, why } = self.limit;
        if self.read > bytes {
            return Err(io::Error::other(ImageError::TooLarge { limit: bytes, why }));
        }
        Ok(count)
    }
}

/// Writes all that `stream` holds to `target`; how many bytes that were. A disk format is padded to
/// whole sectors, a raw one is as long as the stream.
///
/// # Errors
/// Where the stream fails or holds more than `limit`, or the target can't be written.
pub fn write(
    stream: &mut dyn Read,
    mut target: Target,
    limit: Option<Limit>,
) -> Result<u64, ImageError> {
    crate::observer::begin(0);
    let mut buffer = PageBuffer::default();
    buffer.resize(target.write_size());
    let mut length = 0;
    loop {
        let count = fill(stream, &mut buffer).map_err(ImageError::reading(length))?;
        if let Some(Limit { bytes, why }) = limit
            && length + count as u64 > bytes
        {
            return Err(ImageError::TooLarge { limit: bytes, why });
        }
        target.write_sparsely(Place::Guest(length), &buffer[..count])?;
        length += count as u64;
        if count < buffer.len() {
            break;
        }
    }
    let size = target.disk_size(length);
    target.finish(size)?;
    Ok(length)
}

/// Reads until `buffer` is full or the stream ends; how much came.
///
/// # Errors
/// As the stream.
pub fn fill(stream: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
