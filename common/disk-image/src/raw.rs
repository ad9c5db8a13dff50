//! Raw images: the disk's bytes, whose holes read as zero.

use super::{Content, Disk, Extent, ImageError};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io;

/// Disks are counted in sectors of this many bytes; a raw file that ends within one is that much longer.
pub use runtime::block_device::SECTOR;

/// A raw image in a file.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
    length: u64,
    /// Whether it is all of the file.
    whole: bool,
}

impl RawDisk {
    /// The raw image in `file`.
    ///
    /// # Errors
    /// Where its length can't be had.
    pub fn open(file: File) -> io::Result<Self> {
        Ok(Self { length: file.metadata()?.len(), whole: true, file })
    }

    /// The first `length` bytes of `file`, as far as it has them.
    ///
    /// # Errors
    /// As [`RawDisk::open`].
    pub fn beginning(file: File, length: u64) -> io::Result<Self> {
        Ok(Self { length: file.metadata()?.len().min(length), whole: false, file })
    }

    /// The same disk once more.
    pub(super) fn same(&self) -> Option<Self> {
        let Self { length, whole, .. } = *self;
        Some(Self { file: self.file.try_clone().ok()?, length, whole })
    }

    /// The next run of data at or behind `from`, as `start..end`: `None` where only holes follow.
    fn next_data(&self, from: u64) -> Result<Option<(u64, u64)>, ImageError> {
        let seek = |offset: u64, whence| {
            lseek(&self.file, offset as i64, whence).map(|found| found as u64)
        };
        match seek(from, Whence::SeekData) {
            Ok(start) if start < self.length => {
                let end = seek(start, Whence::SeekHole).unwrap_or(self.length);
                Ok(Some((start, end.min(self.length))))
            }
            Ok(_) | Err(Errno::ENXIO) => Ok(None),
            // A file system that can't tell: all of it is data.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(Some((from, self.length))),
            Err(errno) => Err(ImageError::reading(from)(errno.into())),
        }
    }

    /// As [`Disk::extents`], for the bytes from `start` to `end` only, and one extent at a time.
    ///
    /// # Errors
    /// Where the file can't be searched for holes.
    pub fn next_extent(&self, start: u64, end: u64) -> Result<Extent<'_>, ImageError> {
        let end = end.min(self.length);
        let zero = |until: u64| Extent { start, length: until - start, content: Content::Zero };
        Ok(match self.next_data(start)? {
            None => zero(end),
            Some((data, _)) if data > start => zero(data.min(end)),
            Some((_, until)) => Extent {
                start,
                length: until.min(end) - start,
                content: Content::Data { file: &self.file, offset: start },
            },
        })
    }
}

impl Disk for RawDisk {
    fn virtual_size(&self) -> u64 {
        self.length
    }

    fn whole_file(&self) -> Option<&File> {
        self.whole.then_some(&self.file)
    }

    fn again(&self) -> Option<Box<dyn Disk + Send>> {
        Some(Box::new(self.same()?))
    }

    fn extents<'a>(
        &'a self,
        visit: &mut dyn FnMut(Extent<'a>) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let mut position = 0;
        while position < self.length {
            let extent = self.next_extent(position, self.length)?;
            visit(extent)?;
            position += extent.length;
        }
        Ok(())
    }
}

impl RawDisk {
    /// Length of the file in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }
}
