//! The file that an image is written to, raw or qcow2.

use super::qcow2::{self, CLUSTER, Writer};
use super::raw::SECTOR;
use super::{Format, ImageError, device};
use crate::sys;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Granularity in which zeroes are left out of a raw image, bytes: the block size of file systems.
const BLOCK: u64 = 4 << 10;

/// So much is handed to the disk at once while more is being written, bytes.
const WRITEBACK: u64 = 8 << 20;

/// An image in the making. What is never placed reads as zero.
#[derive(Debug)]
pub struct Target<'f> {
    file: &'f File,
    layout: Layout<'f>,
    /// Up to here the disk has been asked to write.
    flushing: u64,
}

#[derive(Debug)]
enum Layout<'f> {
    /// Guest byte n is byte n of the file.
    Raw {
        sparse: bool,
    },
    Qcow2(Writer<'f>),
    /// Guest byte n is byte n of a block device that reads as zero where nothing is written.
    Device,
}

impl<'f> Target<'f> {
    /// A raw image in `file`, which is empty. Without `sparse`, all its blocks are allocated in the end.
    #[must_use]
    pub fn raw(file: &'f File, sparse: bool) -> Self {
        Self { file, layout: Layout::Raw { sparse }, flushing: 0 }
    }

    /// A qcow2 image in `file`, which is empty.
    #[must_use]
    pub fn qcow2(file: &'f File) -> Self {
        Self { file, layout: Layout::Qcow2(Writer::new(file)), flushing: 0 }
    }

    /// A raw image on a block device. Unless it `is_zero`, it is made so first: nothing of what its
    /// blocks held before may show.
    ///
    /// # Errors
    /// Where the device can't be written.
    pub fn device(file: &'f File, is_zero: bool) -> Result<Self, ImageError> {
        if !is_zero {
            let size = device::size_of(file).map_err(ImageError::writing(0))?;
            device::zero(file, size)?;
        }
        Ok(Self { file, layout: Layout::Device, flushing: 0 })
    }

    /// An image of `format`; `None` where that is one that is not written here.
    #[must_use]
    pub fn new(format: Format, file: &'f File, sparse: bool) -> Option<Self> {
        match format {
            Format::Raw => Some(Self::raw(file, sparse)),
            Format::Qcow2 => Some(Self::qcow2(file)),
            _ => None,
        }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &'f File {
        self.file
    }

    /// The size of the disk that holds `length` bytes: a raw image is as long as its data, any other
    /// consists of whole sectors.
    #[must_use]
    pub fn disk_size(&self, length: u64) -> u64 {
        match self.layout {
            Layout::Raw { .. } | Layout::Device => length,
            Layout::Qcow2(_) => length.next_multiple_of(SECTOR),
        }
    }

    /// Whether a disk of `size` bytes can be written at all.
    ///
    /// # Errors
    /// [`ImageError::TooLarge`].
    pub fn check_size(&self, size: u64) -> Result<(), ImageError> {
        match self.layout {
            Layout::Raw { .. } | Layout::Device => Ok(()),
            Layout::Qcow2(_) => qcow2::check_size(size),
        }
    }

    /// Where a block that belongs at `guest` may be put to see whether that works: where it will be
    /// anyway, or where the header comes last of all.
    #[must_use]
    pub fn trial_place(&self, guest: u64) -> u64 {
        match self.layout {
            Layout::Raw { .. } | Layout::Device => guest,
            Layout::Qcow2(_) => 0,
        }
    }

    /// Zeroes of this size and alignment are better left out than written, bytes.
    #[must_use]
    pub fn granularity(&self) -> u64 {
        match self.layout {
            Layout::Raw { .. } | Layout::Device => BLOCK,
            Layout::Qcow2(_) => CLUSTER,
        }
    }

    /// Lets the target share all blocks of `source`, with its holes, in one call: much quicker than extent
    /// by extent. `false` where that can't be, or the image is more than the bytes of its disk.
    #[must_use]
    pub fn share_whole(&self, source: &File) -> bool {
        const TO_THE_END: u64 = 0;
        matches!(self.layout, Layout::Raw { .. })
            && sys::clone_range(source, 0, self.file, 0, TO_THE_END).is_ok()
    }

    /// Where in the file guest bytes from `guest` on go, and how many of `length` go there.
    ///
    /// # Errors
    /// As [`Writer::place`].
    pub fn place(&mut self, guest: u64, length: u64) -> Result<(u64, u64), ImageError> {
        match &mut self.layout {
            Layout::Raw { .. } | Layout::Device => Ok((guest, length)),
            Layout::Qcow2(writer) => writer.place(guest, length),
        }
    }

    /// Writes `bytes` at the guest offset `guest`, leaving out aligned zeroes.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn write_sparsely(&mut self, guest: u64, bytes: &[u8]) -> Result<(), ImageError> {
        let granularity = self.granularity();
        for (start, run) in non_zero_runs(guest, bytes, granularity) {
            self.write(start, run)?;
        }
        Ok(())
    }

    /// Writes `bytes` at the offset `host` of the file, which [`Target::place`] gave out, leaving out
    /// aligned zeroes.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn write_placed(&mut self, host: u64, bytes: &[u8]) -> Result<(), ImageError> {
        for (start, run) in non_zero_runs(host, bytes, BLOCK) {
            self.file.write_all_at(run, start).map_err(ImageError::writing(start))?;
        }
        self.written(host + bytes.len() as u64);
        Ok(())
    }

    fn write(&mut self, mut guest: u64, mut bytes: &[u8]) -> Result<(), ImageError> {
        while !bytes.is_empty() {
            let (host, length) = self.place(guest, bytes.len() as u64)?;
            let (now, later) = bytes.split_at(length as usize);
            self.file.write_all_at(now, host).map_err(ImageError::writing(host))?;
            self.written(host + length);
            guest += length;
            bytes = later;
        }
        Ok(())
    }

    /// Has the disk work along while the image is being written, so that little is left for fsync.
    fn written(&mut self, end: u64) {
        if end.saturating_sub(self.flushing) >= WRITEBACK {
            sys::begin_writeback(self.file, self.flushing, end - self.flushing);
            self.flushing = end;
        }
    }

    /// Completes the image: a disk of `size` bytes.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn finish(self, size: u64) -> Result<(), ImageError> {
        match self.layout {
            Layout::Raw { sparse } => {
                self.file.set_len(size).map_err(ImageError::writing(size))?;
                if sparse || size == 0 {
                    return Ok(());
                }
                allocate(self.file, size)
            }
            Layout::Qcow2(writer) => writer.finish(size, None),
            Layout::Device => Ok(()),
        }
    }
}

/// Gives every hole of the first `size` bytes blocks of its own.
fn allocate(file: &File, size: u64) -> Result<(), ImageError> {
    match fallocate(file, FallocateFlags::empty(), 0, size as i64) {
        Err(nix::Error::EOPNOTSUPP) => fill_holes(file),
        result => result.map_err(|errno| ImageError::writing(0)(errno.into())),
    }
}

/// Writes zeroes into holes, where the file system can't allocate blocks otherwise (NFS 3).
fn fill_holes(file: &File) -> Result<(), ImageError> {
    use super::{Content, Disk as _, raw::RawDisk};
    let zeroes = vec![0; 256 << 10];
    let disk = RawDisk::open(file.try_clone().map_err(ImageError::reading(0))?)
        .map_err(ImageError::reading(0))?;
    disk.extents(&mut |extent| {
        let mut position = extent.start;
        let end = extent.start + extent.length;
        while matches!(extent.content, Content::Zero) && position < end {
            let count = (end - position).min(zeroes.len() as u64);
            file.write_all_at(&zeroes[..count as usize], position)
                .map_err(ImageError::writing(position))?;
            position += count;
        }
        Ok(())
    })
}

/// The parts of `bytes`, which stand at `start`, that are not whole aligned zero blocks of
/// `granularity` bytes; neighbours joined.
pub fn non_zero_runs(
    start: u64,
    bytes: &[u8],
    granularity: u64,
) -> impl Iterator<Item = (u64, &[u8])> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let block = |from: usize| {
            let into = (start + from as u64) % granularity;
            bytes.len().min(from + (granularity - into) as usize)
        };
        while position < bytes.len() && is_zero(&bytes[position..block(position)]) {
            position = block(position);
        }
        let first = position;
        while position < bytes.len() && !is_zero(&bytes[position..block(position)]) {
            position = block(position);
        }
        (first < position).then(|| (start + first as u64, &bytes[first..position]))
    })
}

/// Whether all `bytes` are zero.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    // Each byte is as the one before it: a comparison that the C library does as fast as memory goes.
    bytes.first().is_none_or(|&first| first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_blocks_are_left_out_and_their_neighbours_joined() {
        let mut bytes = vec![0; 40];
        bytes[9] = 1;
        bytes[17] = 1;
        bytes[39] = 1;
        let runs: Vec<_> = non_zero_runs(4, &bytes, 8).map(|(at, run)| (at, run.len())).collect();
        // Blocks begin at 8, 16, 24, ...: the bytes 4..8 are a block's end.
        assert_eq!(runs, [(8, 16), (40, 4)]);
    }

    #[test]
    fn a_single_bit_anywhere_is_not_zero() {
        for length in [1, 15, 16, 17, 143, 144, 145, 4096] {
            assert!(is_zero(&vec![0; length]));
            for position in [0, length / 2, length - 1] {
                let mut bytes = vec![0; length];
                bytes[position] = 0x80;
                assert!(!is_zero(&bytes), "{length} {position}");
            }
        }
    }
}
