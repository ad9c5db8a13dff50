//! Formats that are measured here and converted by qemu-img: vdi, vhdx, vhd; and LUKS, which is
//! measured and kept. (vmdk is measured with them, and read by [`vmdk`].)
//!
//! Only what stands for itself is let in: one file with all its data, without a parent. What lies deeper in
//! it than its header is checked where all of the file is at hand ([`check_whole`]). Fields are
//! those of the formats' public specifications (`VirtualBox`'s VDI header,
//! MS-VHDX, the Virtual Hard Disk Image Format Specification, the LUKS on-disk formats 1 and 2).

mod hyper_v;
mod luks;
mod vdi;

pub use luks::{check_luks, luks_disk};

use super::{Format, ImageError, vmdk};
use std::io;

/// Reads up to so many bytes (the second argument) of an image at an offset (the first); fewer come
/// only where the image ends.
pub type ReadAt<'a> = &'a dyn Fn(u64, usize) -> io::Result<Vec<u8>>;

/// A descriptor or a metadata table larger than this is not a real one.
const LARGEST_TABLE: u64 = 1 << 20;

fn corrupt(format: Format, what: impl Into<String>) -> ImageError {
    ImageError::Corrupt { format, what: what.into() }
}

fn unsupported(format: Format, what: impl Into<String>) -> ImageError {
    ImageError::Unsupported { format, what: what.into() }
}

struct Field<'a> {
    bytes: &'a [u8],
    format: Format,
}

impl Field<'_> {
    fn array<const N: usize>(&self, offset: usize) -> Result<[u8; N], ImageError> {
        self.bytes
            .get(offset..offset + N)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| corrupt(self.format, "its header is cut off"))
    }

    fn le16(&self, offset: usize) -> Result<u16, ImageError> {
        self.array(offset).map(u16::from_le_bytes)
    }

    fn le32(&self, offset: usize) -> Result<u32, ImageError> {
        self.array(offset).map(u32::from_le_bytes)
    }

    fn le64(&self, offset: usize) -> Result<u64, ImageError> {
        self.array(offset).map(u64::from_le_bytes)
    }

    fn be32(&self, offset: usize) -> Result<u32, ImageError> {
        self.array(offset).map(u32::from_be_bytes)
    }

    fn be64(&self, offset: usize) -> Result<u64, ImageError> {
        self.array(offset).map(u64::from_be_bytes)
    }
}

fn read(format: Format, read_at: ReadAt, offset: u64, length: u64) -> Result<Vec<u8>, ImageError> {
    if length > LARGEST_TABLE {
        return Err(corrupt(format, format!("a table of it is {length} bytes long")));
    }
    let bytes = read_at(offset, length as usize).map_err(ImageError::reading(offset))?;
    if (bytes.len() as u64) < length {
        return Err(corrupt(
            format,
            format!("it is cut off before byte {}", offset.saturating_add(length)),
        ));
    }
    Ok(bytes)
}

/// What an image says of itself.
struct Layout {
    /// Virtual size, bytes.
    size: u64,
    /// Name, offset and length in bytes of the parts that it says it has.
    parts: Vec<(&'static str, u64, u64)>,
}

fn layout(format: Format, read_at: ReadAt) -> Result<Layout, ImageError> {
    let layout = match format {
        Format::Vmdk => vmdk::Header::read(read_at)
            .map(|header| Layout { size: header.size(), parts: Vec::new() }),
        Format::Vdi => vdi::layout(read_at),
        Format::Vhdx => hyper_v::vhdx(read_at),
        Format::Vhd => hyper_v::vhd(read_at),
        Format::Raw | Format::Qcow2 => Err(unsupported(format, "is not measured here")),
    }?;
    if i64::try_from(layout.size).is_err() {
        return Err(corrupt(format, format!("it claims a virtual size of {} bytes", layout.size)));
    }
    Ok(layout)
}

/// Virtual size in bytes of an image in one of the formats of this module.
///
/// # Errors
/// Where the image needs another file (an extent, a parent), is corrupt or can't be read.
pub fn virtual_size(format: Format, read_at: ReadAt) -> Result<u64, ImageError> {
    Ok(layout(format, read_at)?.size)
}

/// As [`virtual_size`], for an image of which all `length` bytes are at hand: its tables must lie within
/// them.
///
/// # Errors
/// As [`virtual_size`], and where a part lies outside.
pub fn check_whole(format: Format, length: u64, read_at: ReadAt) -> Result<u64, ImageError> {
    let layout = layout(format, read_at)?;
    for (name, offset, size) in layout.parts {
        if offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(corrupt(
                format,
                format!(
                    "{name} of it lies at byte {offset}, {size} bytes long, in a file of {length}"
                ),
            ));
        }
    }
    match format {
        Format::Vmdk => vmdk::Tables::open(length, read_at)?.verify(read_at),
        _ => Ok(()),
    }?;
    Ok(layout.size)
}

fn has_parent(format: Format) -> ImageError {
    unsupported(format, "is a difference to a parent; merge it with its parent first")
}
