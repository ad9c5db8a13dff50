//! Formats that are measured here and converted by qemu-img: vmdk, vdi, vhdx, vhd; and LUKS, which is
//! measured and kept.
//!
//! Only what stands for itself is let in: one file with all its data, without a parent. Fields are
//! those of the formats' public specifications (`VMware` Virtual Disk Format 5.0, `VirtualBox`'s VDI header,
//! MS-VHDX, the Virtual Hard Disk Image Format Specification, the LUKS on-disk formats 1 and 2).

use super::{Format, ImageError};
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

/// Virtual size in bytes of an image in one of the formats of this module.
///
/// # Errors
/// Where the image needs another file (an extent, a parent), is corrupt or can't be read.
pub fn virtual_size(format: Format, read_at: ReadAt) -> Result<u64, ImageError> {
    let size = match format {
        Format::Vmdk => vmdk(read_at),
        Format::Vdi => vdi(read_at),
        Format::Vhdx => vhdx(read_at),
        Format::Vhd => vhd(read_at),
        Format::Raw | Format::Qcow2 => Err(unsupported(format, "is not measured here")),
    }?;
    if size > super::qcow2::LARGEST_DISK {
        return Err(unsupported(
            format,
            format!("claims a virtual size of {size} bytes; at most 64 TiB are accepted"),
        ));
    }
    Ok(size)
}

/// QEMU reads at least so much as the descriptor, whatever the header says, bytes.
const VMDK_DESCRIPTOR: u64 = 20 * 512;

fn vmdk(read_at: ReadAt) -> Result<u64, ImageError> {
    const FORMAT: Format = Format::Vmdk;
    let header = read(FORMAT, read_at, 0, 512)?;
    let header = Field { bytes: &header, format: FORMAT };
    let sectors = |value: u64| {
        value.checked_mul(512).ok_or_else(|| corrupt(FORMAT, format!("it claims {value} sectors")))
    };
    let capacity = header.le64(12)?;
    let (offset, length) = (sectors(header.le64(28)?)?, sectors(header.le64(36)?)?);
    if offset == 0 || length == 0 || length > LARGEST_TABLE {
        return Err(vmdk_needs_others(
            "has no usable descriptor, so it is a part of another image",
        ));
    }
    let wanted = length.max(VMDK_DESCRIPTOR);
    let descriptor = read_at(offset, wanted as usize).map_err(ImageError::reading(offset))?;
    let end = descriptor.iter().position(|&byte| byte == 0).unwrap_or(descriptor.len());
    vmdk_descriptor(&descriptor[..end], capacity)?;
    sectors(capacity)
}

fn vmdk_needs_others(what: &str) -> ImageError {
    unsupported(
        Format::Vmdk,
        format!("{what}; save it as one file (monolithicSparse or streamOptimized)"),
    )
}

/// Checks a descriptor line by line: it may hold what a self-contained image of `capacity` sectors needs,
/// each thing once and in the plainest form, and nothing else. Readers differ in how they look for things
/// in it, so whatever one of them could take for something else is refused.
fn vmdk_descriptor(descriptor: &[u8], capacity: u64) -> Result<(), ImageError> {
    const KEYS: [&str; 6] =
        ["version", "encoding", "CID", "parentCID", "isNativeSnapshot", "createType"];
    let odd = |line: &str| {
        vmdk_needs_others(&format!("has the descriptor line {line:?}, which is not accepted"))
    };
    let text = std::str::from_utf8(descriptor)
        .map_err(|_| corrupt(Format::Vmdk, "its descriptor is no text"))?;
    let lower = text.to_ascii_lowercase();
    if lower.contains("parentfilenamehint") {
        return Err(unsupported(Format::Vmdk, "has a parent; merge it with its parent first"));
    }
    if capacity == 0
        || ["createtype", "parentcid"].iter().any(|key| lower.matches(key).count() != 1)
    {
        return Err(vmdk_needs_others("doesn't describe itself in the usual way"));
    }
    let mut extents = 0;
    for line in text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)) {
        if line.chars().any(char::is_control) {
            return Err(odd(line));
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix("RW ") {
            let mut words = rest.splitn(3, ' ');
            let own = words.next().and_then(|size| size.parse().ok()) == Some(capacity)
                && words.next() == Some("SPARSE");
            if !own {
                return Err(odd(line));
            }
            extents += 1;
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| odd(line))?;
        let (key, value) = (key.trim_end(), value.trim().trim_matches('"'));
        let known = key.starts_with("ddb.") || KEYS.contains(&key);
        let single = match key {
            "createType" => ["monolithicSparse", "streamOptimized"].contains(&value),
            "parentCID" => value.eq_ignore_ascii_case("ffffffff"),
            _ => true,
        };
        if key == "parentCID" && !single {
            return Err(unsupported(Format::Vmdk, "has a parent; merge it with its parent first"));
        }
        if !known || !single {
            return Err(odd(line));
        }
    }
    if extents == 1 {
        return Ok(());
    }
    Err(vmdk_needs_others("does not hold its data as a single extent of its own"))
}

fn vdi(read_at: ReadAt) -> Result<u64, ImageError> {
    const FORMAT: Format = Format::Vdi;
    let header = read(FORMAT, read_at, 0, 512)?;
    let header = Field { bytes: &header, format: FORMAT };
    let kind = header.le32(0x4c)?;
    let related = header.array::<32>(0x1a8)?.iter().any(|&byte| byte != 0);
    if !(1..=2).contains(&kind) || related {
        return Err(unsupported(
            FORMAT,
            "is a difference to a parent; merge it with its parent first",
        ));
    }
    header.le64(0x170)
}

fn vhdx(read_at: ReadAt) -> Result<u64, ImageError> {
    const FORMAT: Format = Format::Vhdx;
    const METADATA_REGION: [u8; 16] =
        *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
    const DISK_SIZE: [u8; 16] =
        *b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";
    const FILE_PARAMETERS: [u8; 16] =
        *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
    const PARENT_LOCATOR: [u8; 16] =
        *b"\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c";
    const HAS_PARENT: u32 = 1 << 1;

    let regions = read(FORMAT, read_at, 192 << 10, 64 << 10)?;
    let regions = Field { bytes: &regions, format: FORMAT };
    if regions.array::<4>(0)? != *b"regi" {
        return Err(corrupt(FORMAT, "it has no region table"));
    }
    let count = regions.le32(8)?.min(2047) as usize;
    let mut metadata = None;
    for entry in (0..count).map(|index| 16 + index * 32) {
        if regions.array::<16>(entry)? == METADATA_REGION {
            metadata = Some(regions.le64(entry + 16)?);
        }
    }
    let start = metadata.ok_or_else(|| corrupt(FORMAT, "it has no metadata region"))?;
    let table = read(FORMAT, read_at, start, 64 << 10)?;
    let table = Field { bytes: &table, format: FORMAT };
    if table.array::<8>(0)? != *b"metadata" {
        return Err(corrupt(FORMAT, "it has no metadata table"));
    }
    let (mut size, mut parent) = (None, false);
    for entry in (0..usize::from(table.le16(10)?).min(2047)).map(|index| 32 + index * 32) {
        let id = table.array::<16>(entry)?;
        let item = start.saturating_add(u64::from(table.le32(entry + 16)?));
        let number = |length| read(FORMAT, read_at, item, length);
        match id {
            DISK_SIZE => {
                size = Some(Field { bytes: &number(8)?, format: FORMAT }.le64(0)?);
            }
            FILE_PARAMETERS => {
                parent |= Field { bytes: &number(8)?, format: FORMAT }.le32(4)? & HAS_PARENT != 0;
            }
            PARENT_LOCATOR => parent = true,
            _ => {}
        }
    }
    if parent {
        return Err(unsupported(
            FORMAT,
            "is a difference to a parent; merge it with its parent first",
        ));
    }
    size.ok_or_else(|| corrupt(FORMAT, "its metadata don't tell its size"))
}

fn vhd(read_at: ReadAt) -> Result<u64, ImageError> {
    const FORMAT: Format = Format::Vhd;
    const DYNAMIC: u32 = 3;
    let footer = read(FORMAT, read_at, 0, 512)?;
    let footer = Field { bytes: &footer, format: FORMAT };
    if footer.be32(60)? != DYNAMIC {
        return Err(unsupported(
            FORMAT,
            "is no dynamic disk but a difference to a parent, or of an unknown type; merge it with its parent first",
        ));
    }
    footer.be64(48)
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
