//! The first bytes of an image, and any others, wherever they come from.

use disk_image::qcow2::read_bytes;
use disk_image::{ImageError, probe, stream};
use runtime::sys;
use std::fs::File;
use std::io::{self, Read};

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

/// Reads pieces of what is in memory.
pub(super) fn within(bytes: &[u8]) -> impl Fn(u64, usize) -> io::Result<Vec<u8>> {
    move |offset, length| {
        let rest =
            usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or(&[]);
        Ok(rest[..rest.len().min(length)].to_vec())
    }
}
