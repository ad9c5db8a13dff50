//! Block devices as images: how large they are, what of them is known to be zero, and how they become
//! zero.

use super::page_buffer::PageBuffer;
use super::{Content, Extent, ImageError};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

/// What the page cache keeps at once, bytes.
const PAGE: u64 = 4 << 10;

/// Fewer zeroes than this are written sooner than asked for, bytes.
pub(super) const WORTH_A_CALL: u64 = 64 << 10;

/// So much is made zero by one system call, bytes.
const PIECE: u64 = 1 << 30;

/// The size of a device, bytes.
///
/// # Errors
/// As `lseek(2)`.
pub fn size_of(mut device: &File) -> io::Result<u64> {
    device.seek(SeekFrom::End(0))
}

/// A block device that is being written: past the page cache, where that can be. Through it every byte is
/// copied once more, into memory where it is not read again.
#[derive(Debug, Clone, Copy)]
pub struct Device<'f> {
    file: &'f File,
    /// The same device, opened with `O_DIRECT`.
    direct: Option<&'f File>,
}

impl<'f> Device<'f> {
    /// The device that is open as `file` and, perhaps, with `O_DIRECT`, as `direct`.
    #[must_use]
    pub fn new(file: &'f File, direct: Option<&'f File>) -> Self {
        Self { file, direct }
    }

    /// The device, as a file whose bytes are cached.
    #[must_use]
    pub fn file(&self) -> &'f File {
        self.file
    }

    /// Its size, bytes.
    ///
    /// # Errors
    /// As [`size_of`].
    pub fn size(&self) -> Result<u64, ImageError> {
        size_of(self.file).map_err(ImageError::writing(0))
    }

    /// Writes `bytes` at `offset`. A page is written as a whole past the cache, or in parts through it:
    /// never both, since neither knows of the other.
    ///
    /// # Errors
    /// As `pwrite(2)`.
    pub fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (start, end) = pages_within(offset, offset + bytes.len() as u64);
        let (head, rest) = bytes.split_at((start - offset) as usize);
        let (pages, tail) = rest.split_at((end - start) as usize);
        self.file.write_all_at(head, offset)?;
        self.write_pages(pages, start)?;
        self.file.write_all_at(tail, end)
    }

    fn write_pages(&self, pages: &[u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = self.direct {
            match direct.write_all_at(pages, offset) {
                // Not for memory that lies like this, or not on this device at all.
                Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {}
                result => return result,
            }
        }
        self.file.write_all_at(pages, offset)
    }

    /// Gives all blocks of the device back, where it then reads as zero for certain: whether that is so. Takes
    /// a moment where it can be done at all.
    ///
    /// # Errors
    /// Where the device can't be written.
    pub fn discard(&self) -> Result<bool, ImageError> {
        let size = self.size()?;
        Ok(self.fall_to_zero(FallocateFlags::FALLOC_FL_PUNCH_HOLE, 0, size)? == size)
    }

    /// Makes the bytes from `start` to `end`, if any, read as zero, whatever they were before: by the device
    /// or the kernel where they know how, else by writing zeroes.
    ///
    /// # Errors
    /// Where the device can't be written.
    pub fn zero(&self, start: u64, end: u64) -> Result<(), ImageError> {
        let (first, last) = match pages_within(start, end) {
            (first, last) if last - first >= WORTH_A_CALL => (first, last),
            _ => (end, end),
        };
        self.write_zeroes(start, first)?;
        let done = self.fall_to_zero(FallocateFlags::FALLOC_FL_ZERO_RANGE, first, last)?;
        self.write_zeroes(done, end)
    }

    /// Makes bytes read as zero in one of the ways of `fallocate(2)`; up to where that worked.
    fn fall_to_zero(&self, way: FallocateFlags, start: u64, end: u64) -> Result<u64, ImageError> {
        let flags = way | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let mut done = start;
        while done < end {
            let length = PIECE.min(end - done);
            match fallocate(self.file, flags, done as i64, length as i64) {
                Ok(()) => done += length,
                Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS | Errno::EREMOTEIO) => break,
                Err(errno) => return Err(ImageError::writing(done)(errno.into())),
            }
        }
        Ok(done)
    }

    fn write_zeroes(&self, start: u64, end: u64) -> Result<(), ImageError> {
        let mut zeroes = PageBuffer::default();
        zeroes.resize(end.saturating_sub(start).min(1 << 20) as usize);
        let mut done = start;
        while done < end {
            let count = (end - done).min(zeroes.len() as u64);
            let written = self.write(&zeroes[..count as usize], done);
            written.map_err(ImageError::writing(done))?;
            done += count;
        }
        Ok(())
    }
}

/// What of the bytes from `start` to `end` is whole pages: empty, and somewhere between the two, where nothing is.
fn pages_within(start: u64, end: u64) -> (u64, u64) {
    let end = end.max(start);
    let first = start.next_multiple_of(PAGE).min(end);
    (first, (end / PAGE * PAGE).max(first))
}

/// All of a device as extents. If `ranges` (offset and length in bytes, in ascending order) are known,
/// the device reads as zero outside of them.
///
/// # Errors
/// Where its size can't be had, or `visit` fails.
pub fn extents<'a>(
    device: &'a File,
    ranges: Option<&[(u64, u64)]>,
    visit: &mut dyn FnMut(Extent<'a>) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let size = size_of(device).map_err(|source| ImageError::Read { offset: 0, source })?;
    let mut position = 0;
    for &(offset, length) in ranges.unwrap_or(&[(0, size)]) {
        let start = offset.clamp(position, size);
        let end = offset.saturating_add(length).clamp(start, size);
        if start > position {
            let length = start - position;
            visit(Extent { start: position, length, content: Content::Zero })?;
        }
        if end > start {
            let content = Content::Data { file: device, offset: start };
            visit(Extent { start, length: end - start, content })?;
        }
        position = end;
    }
    if position < size {
        let length = size - position;
        visit(Extent { start: position, length, content: Content::Zero })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::OpenOptionsExt as _;

    #[test]
    fn what_lies_between_the_ranges_is_zero() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100).unwrap();
        let mut seen = Vec::new();
        extents(&file, Some(&[(10, 20), (30, 10), (90, 50)]), &mut |extent| {
            let data = matches!(extent.content, Content::Data { .. });
            seen.push((extent.start, extent.length, data));
            Ok(())
        })
        .unwrap();
        let expected =
            [(0, 10, false), (10, 20, true), (30, 10, true), (40, 50, false), (90, 10, true)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn zeroes_are_made_where_other_bytes_were_and_nowhere_else() {
        let file = tempfile::tempfile().unwrap();
        let device = Device::new(&file, None);
        for (start, end) in
            [(0, 8192), (1000, 9000), (100, 200), (4096, 4097), (5, 5), (6, 5), (10_000, 90_000)]
        {
            file.write_all_at(&vec![7; 100_000], 0).unwrap();
            device.zero(start, end).unwrap();
            let mut bytes = vec![1; 100_000];
            file.read_exact_at(&mut bytes, 0).unwrap();
            for (position, byte) in (0..).zip(bytes) {
                let zero = (start..end).contains(&position);
                assert_eq!(byte, if zero { 0 } else { 7 }, "{start}..{end} at {position}");
            }
        }
    }

    #[test]
    fn bytes_are_written_wherever_they_begin_and_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("device");
        let file = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
        // Where the file system has no such thing, all goes through the cache.
        let direct = File::options().write(true).custom_flags(nix::libc::O_DIRECT).open(&path).ok();
        let device = Device::new(&file, direct.as_ref());
        let mut memory = PageBuffer::default();
        memory.resize(20_000);
        for (index, byte) in memory.iter_mut().enumerate() {
            *byte = index as u8;
        }
        let places =
            [(0, 0, 8192), (4096, 8192, 4096), (100, 5000, 12_000), (1, 4096, 8192), (7, 3, 5)];
        for (from, offset, length) in places {
            file.write_all_at(&vec![0xee; 40_000], 0).unwrap();
            device.write(&memory[from..from + length], offset).unwrap();
            let mut bytes = vec![0; 40_000];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let offset = offset as usize;
            assert_eq!(bytes[offset..offset + length], memory[from..from + length]);
            assert!(bytes[..offset].iter().chain(&bytes[offset + length..]).all(|&b| b == 0xee));
        }
    }

    #[test]
    fn only_whole_pages_are_pages() {
        assert_eq!(pages_within(0, 8192), (0, 8192));
        assert_eq!(pages_within(1, 8193), (4096, 8192));
        assert_eq!(pages_within(1, 4095), (4095, 4095));
        assert_eq!(pages_within(5000, 9000), (8192, 8192));
        assert_eq!(pages_within(4096, 4096), (4096, 4096));
    }
}
