//! vmdk images that are one file with all of their data in it: monolithicSparse and streamOptimized,
//! as `VMware`'s Virtual Disk Format 5.0 specifies them and QEMU's `block/vmdk.c` reads them.
//!
//! Such a file is a [`Header`], a descriptor (text), a grain directory that names grain tables, which name
//! grains: pieces of the disk, each compressed in a streamOptimized file. [`SparseDisk`] reads a file
//! through its tables; [`Sequential`] reads a stream in one pass, where the grains come in the order of the
//! disk.

mod descriptor;
mod disk;
mod header;
mod input;
mod markers;
mod sequential;
mod tables;
#[cfg(test)]
mod tests;

pub use disk::SparseDisk;
pub use header::Header;
pub use input::Piece;
pub use sequential::{Opened, Sequential, write};
pub use tables::Tables;

use super::foreign::ReadAt;
use super::{Format, ImageError};

/// What offsets and sizes are counted in, bytes.
const SECTOR: u64 = 512;

fn corrupt(what: impl Into<String>) -> ImageError {
    ImageError::Corrupt { format: Format::Vmdk, what: what.into() }
}

fn unsupported(what: impl Into<String>) -> ImageError {
    ImageError::Unsupported { format: Format::Vmdk, what: what.into() }
}

/// The image is one of several files.
fn needs_others(what: &str) -> ImageError {
    unsupported(format!("{what}; save it as one file (monolithicSparse or streamOptimized)"))
}

fn cut_off(offset: u64) -> ImageError {
    corrupt(format!("it is cut off before byte {offset}"))
}

/// Exactly `length` bytes at `offset`.
fn read(read_at: ReadAt, offset: u64, length: usize) -> Result<Vec<u8>, ImageError> {
    let bytes = read_at(offset, length).map_err(ImageError::reading(offset))?;
    if bytes.len() < length {
        return Err(cut_off(offset.saturating_add(length as u64)));
    }
    Ok(bytes)
}

/// The little-endian number of 32 bits at `offset`; 0 past the end.
fn le32(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..offset + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The little-endian number of 64 bits at `offset`; 0 past the end.
fn le64(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..offset + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}
