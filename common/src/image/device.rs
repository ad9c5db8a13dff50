//! Block devices as images: how large they are, what of them is known to be zero, and how they become
//! zero.

use super::{Content, Extent, ImageError};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

/// So much is made zero by one system call, bytes.
const PIECE: u64 = 1 << 30;

/// The size of a device, bytes.
///
/// # Errors
/// As `lseek(2)`.
pub fn size_of(mut device: &File) -> io::Result<u64> {
    device.seek(SeekFrom::End(0))
}

/// Makes the first `size` bytes of a device read as zero, whatever its blocks held before: by the
/// device's own means where it has any, else by writing zeroes.
///
/// # Errors
/// Where the device can't be written.
pub fn zero(device: &File, size: u64) -> Result<(), ImageError> {
    // The first gives the blocks back too, and is refused where reading zeroes then is not certain; the
    // second lets the kernel write zeroes where the device can't make them.
    let ways = [FallocateFlags::FALLOC_FL_PUNCH_HOLE, FallocateFlags::FALLOC_FL_ZERO_RANGE];
    let mut done = 0;
    for way in ways {
        let flags = way | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        while done < size {
            let length = PIECE.min(size - done);
            match fallocate(device, flags, done as i64, length as i64) {
                Ok(()) => done += length,
                Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS | Errno::EREMOTEIO) => break,
                Err(errno) => return Err(ImageError::writing(done)(errno.into())),
            }
        }
    }
    let zeroes = vec![0; 1 << 20];
    while done < size {
        let count = (size - done).min(zeroes.len() as u64);
        device.write_all_at(&zeroes[..count as usize], done).map_err(ImageError::writing(done))?;
        done += count;
    }
    Ok(())
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
    fn zeroes_are_made_where_other_bytes_were() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 10_000], 0).unwrap();
        zero(&file, 8192).unwrap();
        let mut bytes = vec![1; 10_000];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes[..8192].iter().all(|&byte| byte == 0));
        assert!(bytes[8192..].iter().all(|&byte| byte == 7));
    }
}
