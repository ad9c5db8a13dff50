//! The size of a disk, by the header of its image.

use super::import::fixed_vhd_size;
use super::reading;
use crate::kinds::DatastoreError;
use disk_image::admission::{Admission, admit, check_size};
use disk_image::foreign::{self, luks_disk};
use disk_image::probe;

/// How much of a compressed image is decompressed at once to find its size in its header, bytes: the metadata
/// of vhdx, which lie furthest from the start, are usually within.
pub(super) const LARGEST_HEADER: usize = 4 << 20;

/// Size of the disk whose file begins with `head` and has `length` bytes in all; at most `largest` bytes.
pub(super) fn measure_image(
    head: &[u8],
    read_at: foreign::ReadAt,
    length: impl Fn() -> Result<u64, DatastoreError>,
    largest: u64,
) -> Result<u64, DatastoreError> {
    match admit(head, read_at, largest)? {
        (_, Some(size)) => Ok(size),
        (Admission::Luks, None) => Ok(luks_disk(length()?, read_at)?),
        (Admission::Disk(_), None) => {
            let mut size = length()?;
            // Only then does a footer make a difference in MiB.
            if size % (1 << 20) == probe::TAIL as u64 {
                size = fixed_vhd_size(size, read_at).map_err(reading)?;
            }
            check_size(size, largest)?;
            Ok(size)
        }
    }
}
