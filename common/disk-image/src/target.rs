//! The file that an image is written to, raw or qcow2.

use super::device::{self, Device};
use super::observer::{self, Moved};
use super::qcow2::{self, CLUSTER, Writer};
use super::raw::SECTOR;
use super::rbd_diff::{self, RbdDiff};
use super::{Disk, Format, ImageError};
use nix::fcntl::{FallocateFlags, fallocate};
use runtime::space::{self, with_space};
use runtime::sys;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

/// Granularity in which zeroes are left out of a raw image, bytes: the block size of file systems.
const BLOCK: u64 = 4 << 10;

/// So much is handed to the disk at once while more is being written, bytes.
const WRITEBACK: u64 = 8 << 20;

/// An image that is being written. What is never placed reads as zero.
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
    /// Guest byte n is byte n of a block device.
    Device {
        device: Device<'f>,
        /// Up to here what the device held before is gone; `None` where it held nothing.
        cleared: Option<u64>,
    },
    /// Guest byte n is byte n of an RBD image, to which the file is a pipe.
    Diff(&'f RbdDiff),
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

    /// A raw image on a block device. Unless that `is_zero`, whatever the image leaves out is made so: nothing
    /// of what its blocks held before may show.
    ///
    /// # Errors
    /// Where the device can't be written.
    pub fn device(device: Device<'f>, is_zero: bool) -> Result<Self, ImageError> {
        let cleared = if is_zero || device.discard()? { None } else { Some(0) };
        Ok(Self { file: device.file(), layout: Layout::Device { device, cleared }, flushing: 0 })
    }

    /// A raw image in a stream that `rbd` turns into an RBD image. It has whole sectors.
    #[must_use]
    pub fn rbd_diff(diff: &'f RbdDiff) -> Self {
        Self { file: diff.pipe(), layout: Layout::Diff(diff), flushing: 0 }
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

    /// How many bytes an image of `disk` takes, where it is a file on a disk that can be full.
    pub(super) fn needs(&self, disk: &dyn Disk) -> Option<Needs> {
        let whole = match self.layout {
            Layout::Raw { sparse: false } => Some(self.disk_size(disk.virtual_size())),
            Layout::Raw { sparse: true } | Layout::Qcow2(_) => None,
            Layout::Device { .. } | Layout::Diff(_) => return None,
        };
        Some(Needs { granularity: self.granularity(), whole })
    }

    /// Whether what is written can't be read back.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.layout, Layout::Diff(_))
    }

    /// The size of the disk that holds `length` bytes: a raw image is as long as its data, any other
    /// consists of whole sectors.
    #[must_use]
    pub fn disk_size(&self, length: u64) -> u64 {
        match self.layout {
            Layout::Raw { .. } | Layout::Device { .. } => length,
            Layout::Qcow2(_) => length.next_multiple_of(SECTOR),
            Layout::Diff(_) => length.next_multiple_of(rbd_diff::SECTOR),
        }
    }

    /// Whether a disk of `size` bytes can be written at all.
    ///
    /// # Errors
    /// [`ImageError::TooLarge`].
    pub fn check_size(&self, size: u64) -> Result<(), ImageError> {
        match self.layout {
            Layout::Raw { .. } | Layout::Device { .. } | Layout::Diff(_) => Ok(()),
            Layout::Qcow2(_) => qcow2::check_size(size),
        }
    }

    /// Where a block that belongs at `guest` may be put to see whether that works: where it will be
    /// anyway, or where the header comes last of all.
    #[must_use]
    pub fn trial_place(&self, guest: u64) -> u64 {
        match self.layout {
            Layout::Raw { .. } | Layout::Device { .. } | Layout::Diff(_) => guest,
            Layout::Qcow2(_) => 0,
        }
    }

    /// Zeroes of this size and alignment are better left out than written, bytes.
    #[must_use]
    pub fn granularity(&self) -> u64 {
        match self.layout {
            Layout::Raw { .. } | Layout::Device { cleared: None, .. } | Layout::Diff(_) => BLOCK,
            Layout::Device { .. } => device::WORTH_A_CALL,
            Layout::Qcow2(_) => CLUSTER,
        }
    }

    /// So much is best written at once, bytes. Through the page cache, more only costs processor cache; a device
    /// is waited for each time.
    #[must_use]
    pub fn write_size(&self) -> usize {
        match self.layout {
            Layout::Raw { .. } | Layout::Qcow2(_) => 256 << 10,
            Layout::Device { .. } => 1 << 20,
            Layout::Diff(_) => 2 << 20,
        }
    }

    /// How what [`Target::place`] gave a place is written, by other threads perhaps.
    pub(super) fn output(&self) -> Output<'f> {
        match self.layout {
            Layout::Raw { .. } | Layout::Qcow2(_) => Output::File(self.file),
            Layout::Device { device, cleared } => {
                Output::Device { device, is_zero: cleared.is_none() }
            }
            Layout::Diff(diff) => Output::Diff(diff),
        }
    }

    /// Has everything that is not yet written read as zero, up to the end of a device: before another program
    /// writes the image, or when it is complete.
    ///
    /// # Errors
    /// Where the device can't be written.
    pub fn clear(&mut self) -> Result<(), ImageError> {
        if let Layout::Device { device, cleared: Some(cleared) } = &mut self.layout {
            let size = device.size()?;
            device.zero(*cleared, size)?;
            *cleared = size;
        }
        Ok(())
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
            Layout::Qcow2(writer) => return writer.place(guest, length),
            Layout::Device { device, cleared: Some(cleared) } if guest + length > *cleared => {
                // What was passed over reads as zero.
                device.zero(*cleared, guest)?;
                *cleared = guest + length;
            }
            Layout::Raw { .. } | Layout::Device { .. } | Layout::Diff(_) => {}
        }
        Ok((guest, length))
    }

    /// Writes `bytes` at `place`, leaving out aligned zeroes, and reports them as done. An offset of the file is one
    /// that [`Target::place`] gave out.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn write_sparsely(&mut self, place: Place, bytes: &[u8]) -> Result<(), ImageError> {
        match place {
            Place::Guest(guest) => {
                let mut written = 0;
                for (start, run) in non_zero_runs(guest, bytes, self.granularity()) {
                    self.write(start, run)?;
                    written += run.len();
                }
                observer::moved(Moved::Zero, (bytes.len() - written) as u64);
            }
            Place::Host(host) => {
                self.output().write_sparsely(bytes, host)?;
                self.written(host + bytes.len() as u64);
            }
        }
        observer::advance(bytes.len() as u64);
        Ok(())
    }

    fn write(&mut self, mut guest: u64, mut bytes: &[u8]) -> Result<(), ImageError> {
        while !bytes.is_empty() {
            let (host, length) = self.place(guest, bytes.len() as u64)?;
            let (now, later) = bytes.split_at(length as usize);
            self.output().write(now, host)?;
            self.written(host + length);
            guest += length;
            bytes = later;
        }
        Ok(())
    }

    /// Has the disk work along while the image is being written, so that little is left for fsync.
    fn written(&mut self, end: u64) {
        if end.saturating_sub(self.flushing) >= WRITEBACK {
            self.output().begin_writeback(self.flushing, end - self.flushing);
            self.flushing = end;
        }
    }

    /// Completes the image: a disk of `size` bytes.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn finish(mut self, size: u64) -> Result<(), ImageError> {
        self.clear()?;
        match self.layout {
            Layout::Raw { sparse } => {
                self.file.set_len(size).map_err(ImageError::writing(size))?;
                if sparse || size == 0 {
                    return Ok(());
                }
                allocate(self.file, size)
            }
            Layout::Qcow2(writer) => writer.finish(size, None),
            Layout::Device { .. } => Ok(()),
            Layout::Diff(diff) => diff.finish(size),
        }
    }
}

/// What an image in a file asks of its disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    /// Zeroes of this size and alignment take no space, bytes.
    pub(super) granularity: u64,
    /// Bytes that it takes in any case, where it leaves nothing out.
    pub(super) whole: Option<u64>,
}

/// Where bytes go.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// To this offset of the disk, wherever that is in the target file.
    Guest(u64),
    /// To this offset of the target file.
    Host(u64),
}

impl Place {
    /// The offset, bytes.
    pub(super) fn offset(self) -> u64 {
        match self {
            Self::Guest(offset) | Self::Host(offset) => offset,
        }
    }

    /// `length` bytes further on.
    pub(super) fn plus(self, length: u64) -> Self {
        match self {
            Self::Guest(offset) => Self::Guest(offset + length),
            Self::Host(offset) => Self::Host(offset + length),
        }
    }
}

/// A file in which parts of an image have their places.
#[derive(Debug, Clone, Copy)]
pub(super) enum Output<'f> {
    File(&'f File),
    Device {
        device: Device<'f>,
        /// Whether it reads as zero where nothing has been written.
        is_zero: bool,
    },
    Diff(&'f RbdDiff),
}

impl Output<'_> {
    /// How many bytes are gathered before they are written; `None`: each piece by itself is as good.
    pub(super) fn gathers(self) -> Option<usize> {
        matches!(self, Self::Diff(_)).then_some(1 << 20)
    }

    /// Writes `bytes` at `offset`, leaving out aligned zeroes where they needn't be written.
    pub(super) fn write_sparsely(self, bytes: &[u8], offset: u64) -> Result<(), ImageError> {
        if let Self::Device { is_zero: false, .. } = self {
            return self.write(bytes, offset);
        }
        let mut written = 0;
        for (start, run) in non_zero_runs(offset, bytes, BLOCK) {
            self.write(run, start)?;
            written += run.len();
        }
        observer::moved(Moved::Zero, (bytes.len() - written) as u64);
        Ok(())
    }

    fn write(self, bytes: &[u8], offset: u64) -> Result<(), ImageError> {
        match self {
            Self::File(file) => {
                // Not by `with_space`: so the way from the driver to its data is one function shorter.
                let mut begun = space::times_made();
                let write = || file.write_all_at(bytes, offset);
                let make = || space::make_unless_made_since(&mut begun, bytes.len() as u64);
                write().or_else(|error| space::repeat(error, make, write))
            }
            Self::Device { device, .. } => device.write(bytes, offset),
            Self::Diff(diff) => {
                diff.write(bytes, offset)?;
                Ok(())
            }
        }
        .map_err(ImageError::writing(offset))?;
        observer::moved(Moved::Written, bytes.len() as u64);
        Ok(())
    }

    /// Has the disk begin with what was written, where it does not have it yet.
    pub(super) fn begin_writeback(self, offset: u64, length: u64) {
        if let Self::File(file) = self {
            sys::begin_writeback(file, offset, length);
        }
    }
}

/// Gives every hole of the first `size` bytes blocks of its own.
fn allocate(file: &File, size: u64) -> Result<(), ImageError> {
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, size as i64) {
            Err(nix::Error::EOPNOTSUPP) => return fill_holes(file),
            Err(nix::Error::ENOSPC | nix::Error::EDQUOT)
                if space::make_for_rest(missing(file, size)) => {}
            result => return result.map_err(|errno| ImageError::writing(0)(errno.into())),
        }
    }
}

/// How many bytes the disk lacks for the first `size` bytes of `file`; at least one.
fn missing(file: &File, size: u64) -> u64 {
    let allocated = file.metadata().map_or(0, |metadata| metadata.blocks() * 512);
    size.saturating_sub(allocated).saturating_sub(space::available(file)).max(1)
}

/// Writes zeroes into holes, where the file system can't allocate blocks otherwise (NFS 3).
fn fill_holes(file: &File) -> Result<(), ImageError> {
    use super::{Content, raw::RawDisk};
    let zeroes = vec![0; 256 << 10];
    let disk = RawDisk::open(file.try_clone().map_err(ImageError::reading(0))?)
        .map_err(ImageError::reading(0))?;
    disk.extents(&mut |extent| {
        let mut position = extent.start;
        let end = extent.start + extent.length;
        while matches!(extent.content, Content::Zero) && position < end {
            let count = (end - position).min(zeroes.len() as u64);
            with_space(count, || file.write_all_at(&zeroes[..count as usize], position))
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
