//! Reads the bytes of a disk in order, for a place that takes them one after the other.

use super::inflate::{Decompressor, Packed};
use super::observer::{self, Moved};
use super::qcow2::read_up_to;
pub use super::run::Run;
use super::{Content, Disk, ImageError};

const BUFFER: u64 = 256 << 10;

/// Hands the bytes of `disk` to `take`, from the first to the last.
///
/// # Errors
/// Where the disk can't be read, or what `take` returns.
pub fn read_sequentially(
    disk: &dyn Disk,
    take: &mut dyn FnMut(Run) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let mut buffer = vec![0; BUFFER as usize];
    let mut decompressor = Decompressor::default();
    disk.extents(&mut |extent| {
        match extent.content {
            Content::Zero => return take(Run::Zeroes(extent.length)),
            Content::Compressed(cluster) => {
                let packed = Packed::File(cluster);
                take(Run::Bytes(decompressor.decompress(&packed, extent.length as usize)?))?;
            }
            Content::Data { file, offset } => {
                let mut done = 0;
                while done < extent.length {
                    let count = BUFFER.min(extent.length - done);
                    let read = read_up_to(file, &mut buffer[..count as usize], offset + done)
                        .map_err(ImageError::reading(offset + done))?;
                    observer::moved(Moved::Read, read as u64);
                    take(Run::Bytes(&buffer[..read]))?;
                    if (read as u64) < count {
                        // Behind the end of the file everything is zero.
                        return take(Run::Zeroes(extent.length - done - read as u64));
                    }
                    done += count;
                }
            }
        }
        Ok(())
    })
}
