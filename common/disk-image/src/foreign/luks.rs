//! The size of the disk in a LUKS container.

use super::{Field, ReadAt, read};
use crate::{Format, ImageError};

/// That a LUKS container has a header of a version that there is.
///
/// # Errors
/// Where it has another one, or the header is cut off or can't be read.
pub fn check_luks(read_at: ReadAt) -> Result<(), ImageError> {
    let header = read(Format::Raw, read_at, 0, 512)?;
    let version = u16::from_be_bytes(Field { bytes: &header, format: Format::Raw }.array(6)?);
    if matches!(version, 1 | 2) {
        return Ok(());
    }
    Err(ImageError::Unsupported {
        format: Format::Raw,
        what: format!(
            "holds a LUKS container of version {version}, not 1 or 2; convert it with `cryptsetup convert`"
        ),
    })
}

/// Size in bytes of the disk that a virtual machine sees in a LUKS container of `length` bytes. QEMU opens version 1 and
/// gives the guest what follows the header. It knows no version 2: there the guest gets all of the file, and
/// opens it itself.
///
/// # Errors
/// Where the header is cut off, or the container can't be read.
pub fn luks_disk(length: u64, read_at: ReadAt) -> Result<u64, ImageError> {
    let header = read(Format::Raw, read_at, 0, 512)?;
    // LUKS counts as raw everywhere else.
    let header = Field { bytes: &header, format: Format::Raw };
    if u16::from_be_bytes(header.array(6)?) != 1 {
        return Ok(length);
    }
    let payload = u64::from(header.be32(104)?) * 512;
    Ok(length.saturating_sub(payload))
}
