//! The length of the disk in a LUKS container.

use super::{Field, LARGEST_TABLE, ReadAt, read};
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

/// Size in bytes of the disk in a LUKS container of `length` bytes: what follows its header.
///
/// # Errors
/// Where the header is cut off, or the container can't be read.
pub fn luks_payload(length: u64, read_at: ReadAt) -> Result<u64, ImageError> {
    // LUKS counts as raw everywhere else.
    const FORMAT: Format = Format::Raw;
    let header = read(FORMAT, read_at, 0, 512)?;
    let header = Field { bytes: &header, format: FORMAT };
    let version = u16::from_be_bytes(header.array(6)?);
    if version == 1 {
        let payload = u64::from(header.be32(104)?) * 512;
        return Ok(length.saturating_sub(payload));
    }
    // Version 2: JSON after a binary header of 4096 bytes; the segment says where the disk begins.
    let area = header.be64(8)?.saturating_sub(4096).min(LARGEST_TABLE);
    let json = read(FORMAT, read_at, 4096, area)?;
    let json = String::from_utf8_lossy(&json);
    let segments = json.split_once("\"segments\"").map_or("", |(_, rest)| rest);
    let text = |key: &str| {
        let (_, rest) = segments.split_once(&format!("\"{key}\""))?;
        rest.trim_start_matches([':', ' ']).strip_prefix('"')?.split('"').next()
    };
    if let Some(size) = text("size").and_then(|size| size.parse().ok()) {
        return Ok(size);
    }
    let offset = text("offset").and_then(|offset| offset.parse::<u64>().ok()).unwrap_or(0);
    Ok(length.saturating_sub(offset))
}
