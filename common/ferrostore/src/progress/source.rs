//! A stream that an image comes from, and how far it has been read.

use super::{DONE, SOURCE_LEADS, begin_phase};
use crate::record;
use disk_image::observer::Moved;
use std::io::{self, Read};
use std::sync::atomic::Ordering;

/// Reports what is read as progress.
#[derive(Debug)]
pub struct Source<R>(R);

impl<R: Read> Source<R> {
    /// A stream of `length` bytes, where that is known.
    pub fn new(stream: R, length: Option<u64>) -> Self {
        begin_phase(length.unwrap_or(0));
        SOURCE_LEADS.store(true, Ordering::Relaxed);
        Self(stream)
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        record::moved(Moved::Read, count as u64);
        if SOURCE_LEADS.load(Ordering::Relaxed) {
            DONE.fetch_add(count as u64, Ordering::Relaxed);
        }
        Ok(count)
    }
}
