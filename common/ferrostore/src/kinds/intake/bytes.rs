//! The first bytes of an image, and any others, wherever they come from.

use crate::transfer::measure::count;
use disk_image::qcow2::read_bytes;
use disk_image::{ImageError, probe, stream};
use runtime::sys;
use std::fs::File;
use std::io::{self, Read};
use std::time::Instant;

/// The image can't be read.
pub(in crate::kinds) fn reading(source: io::Error) -> ImageError {
    ImageError::Read { offset: 0, source }
}

/// That nothing was lost of what has been written into the staged `file` and read from it since.
pub(in crate::kinds) fn check_writeback(file: &File) -> Result<(), ImageError> {
    sys::check_writeback(file).map_err(|source| ImageError::Write { offset: 0, source })
}

/// What a file is probed by.
pub(in crate::kinds) fn head_of(file: &File) -> Result<Vec<u8>, ImageError> {
    read_bytes(file, 0, probe::HEAD).map_err(reading)
}

/// What a stream is probed by, taken off it.
pub(super) fn stream_head(stream: &mut impl Read) -> Result<Vec<u8>, ImageError> {
    let mut head = vec![0; probe::HEAD];
    let length = stream::fill(stream, &mut head).map_err(reading)?;
    head.truncate(length);
    Ok(head)
}

/// Reads pieces of a file.
pub(in crate::kinds) fn reader_of(file: &File) -> impl Fn(u64, usize) -> io::Result<Vec<u8>> {
    move |offset, length| read_bytes(file, offset, length)
}

/// Reads pieces of what `open` opens, which begins with `start` or is no more than that: what lies further on by passing
/// over what is in front of it, for no longer than `until`.
pub(super) fn beginning_with<'a>(
    start: &'a [u8],
    is_all: bool,
    open: &'a dyn Fn() -> io::Result<Box<dyn Read + Send>>,
    until: Instant,
) -> impl Fn(u64, usize) -> io::Result<Vec<u8>> + 'a {
    move |offset, length| {
        let is_near = offset.saturating_add(length as u64) <= start.len() as u64;
        if is_near || is_all {
            return within(start)(offset, length);
        }
        passing_over(open, until)(offset, length)
    }
}

/// Reads what `open` opens from its first byte to the piece that is wanted, for no longer than `until`.
pub(super) fn passing_over(
    open: &dyn Fn() -> io::Result<Box<dyn Read + Send>>,
    until: Instant,
) -> impl Fn(u64, usize) -> io::Result<Vec<u8>> {
    move |offset, length| {
        let mut stream = open()?;
        count(&mut (&mut stream).take(offset), until, u64::MAX)?;
        let mut bytes = Vec::new();
        stream.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads pieces of what is in memory.
pub(super) fn within(bytes: &[u8]) -> impl Fn(u64, usize) -> io::Result<Vec<u8>> {
    move |offset, length| {
        let rest =
            usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or(&[]);
        Ok(rest[..rest.len().min(length)].to_vec())
    }
}
