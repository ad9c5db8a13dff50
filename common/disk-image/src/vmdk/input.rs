//! A stream that is read from its first byte to its last, and the pieces of the disk that come out of it.

use super::{cut_off, unsupported};
use crate::{ImageError, stream};
use std::io::{self, BufRead, BufReader, Read};

/// Input is read, and data that is not compressed handed on, in pieces of this size, bytes.
pub(super) const PIECE: usize = 256 << 10;

/// A piece of the disk.
#[derive(Debug)]
pub enum Piece<'b> {
    /// These bytes.
    Bytes {
        /// Offset of the first byte on the disk.
        start: u64,
        /// The bytes.
        bytes: &'b [u8],
    },
    /// A compressed grain.
    Grain {
        /// Offset on the disk, bytes.
        start: u64,
        /// How many bytes of the disk it holds.
        length: u64,
        /// A zlib stream, with something behind it perhaps.
        data: Vec<u8>,
        /// Where the data began in the stream, bytes.
        offset: u64,
    },
}

impl Piece<'_> {
    /// Where it begins on the disk, bytes.
    #[must_use]
    pub fn start(&self) -> u64 {
        match self {
            Self::Bytes { start, .. } | Self::Grain { start, .. } => *start,
        }
    }

    /// Where it ends on the disk, bytes.
    #[must_use]
    pub fn end(&self) -> u64 {
        match self {
            Self::Bytes { start, bytes } => start + bytes.len() as u64,
            Self::Grain { start, length, .. } => start + length,
        }
    }
}

/// What is done with the pieces of a disk.
pub(super) type Take<'t> = &'t mut dyn FnMut(Piece) -> Result<(), ImageError>;

/// A stream, and how much of it has been read.
#[derive(Debug)]
pub(super) struct Input<R> {
    pub(super) stream: BufReader<R>,
    /// Bytes from the first one.
    pub(super) position: u64,
}

impl<R: Read> Input<R> {
    /// The next `length` bytes. Memory is taken as they come.
    pub(super) fn take(&mut self, length: usize) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::with_capacity(length.min(PIECE));
        let count = (&mut self.stream)
            .take(length as u64)
            .read_to_end(&mut bytes)
            .map_err(ImageError::reading(self.position))?;
        self.position += count as u64;
        if count < length {
            Err(cut_off(self.position + (length - count) as u64))
        } else {
            Ok(bytes)
        }
    }

    /// Fills `buffer`.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ImageError> {
        let count =
            stream::fill(&mut self.stream, buffer).map_err(ImageError::reading(self.position))?;
        self.position += count as u64;
        if count < buffer.len() {
            return Err(cut_off(self.position + (buffer.len() - count) as u64));
        }
        Ok(())
    }

    /// Passes over everything before the byte `position`.
    pub(super) fn skip_to(&mut self, position: u64) -> Result<(), ImageError> {
        let gap = position.checked_sub(self.position).ok_or_else(|| {
            unsupported(format!(
                "has overlapping grains at byte {position}; copy it with `qemu-img convert` first"
            ))
        })?;
        let passed = io::copy(&mut (&mut self.stream).take(gap), &mut io::sink())
            .map_err(ImageError::reading(self.position))?;
        self.position += passed;
        if passed < gap { Err(cut_off(position)) } else { Ok(()) }
    }

    /// Whether nothing follows.
    pub(super) fn is_at_end(&mut self) -> Result<bool, ImageError> {
        let position = self.position;
        self.stream.fill_buf().map(<[u8]>::is_empty).map_err(ImageError::reading(position))
    }
}
