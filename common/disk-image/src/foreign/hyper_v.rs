//! Hyper-V's disks: vhd, of which there is a dynamic kind and one that is a difference to a parent, and
//! vhdx.

use super::{Field, Layout, ReadAt, corrupt, has_parent, read, unsupported};
use crate::{Format, ImageError};

pub(super) fn vhd(read_at: ReadAt) -> Result<Layout, ImageError> {
    const FORMAT: Format = Format::Vhd;
    const DYNAMIC: u32 = 3;
    const HEADER: u64 = 1024;
    // A copy of the footer, which a dynamic disk begins with.
    let footer = read(FORMAT, read_at, 0, 512)?;
    let footer = Field { bytes: &footer, format: FORMAT };
    if footer.be32(60)? != DYNAMIC {
        return Err(unsupported(
            FORMAT,
            "is no dynamic disk but a difference to a parent, or of an unknown type; merge it with its parent first",
        ));
    }
    let start = footer.be64(16)?;
    let header = read(FORMAT, read_at, start, HEADER)?;
    let header = Field { bytes: &header, format: FORMAT };
    if header.array::<8>(0)? != *b"cxsparse" {
        return Err(corrupt(FORMAT, "it has no header of a dynamic disk"));
    }
    let set = |range: std::ops::Range<usize>| header.bytes[range].iter().any(|&byte| byte != 0);
    // Identity and name of a parent, and where to look for it.
    if set(40..56) || set(64..576) || set(576..768) {
        return Err(has_parent(FORMAT));
    }
    let (entries, block_size) = (u64::from(header.be32(28)?), u64::from(header.be32(32)?));
    let size = footer.be64(48)?;
    if size > entries * block_size {
        return Err(corrupt(FORMAT, format!("{size} bytes don't fit in its {entries} blocks")));
    }
    let table = ("the block allocation table", header.be64(16)?, entries * 4);
    Ok(Layout { size, parts: vec![("the header", start, HEADER), table] })
}

const BLOCK_TABLE_REGION: [u8; 16] =
    *b"\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
const METADATA_REGION: [u8; 16] =
    *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
const DISK_SIZE: [u8; 16] = *b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";
const LOGICAL_SECTOR: [u8; 16] =
    *b"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f";
const FILE_PARAMETERS: [u8; 16] =
    *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
const PARENT_LOCATOR: [u8; 16] =
    *b"\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c";
const HAS_PARENT: u32 = 1 << 1;
/// Most entries of a region table and of a metadata table.
const MOST_ENTRIES: usize = 2047;

const VHDX: Format = Format::Vhdx;

/// Where the two headers of a vhdx are, and then its region table, bytes.
const HEADERS: [usize; 2] = [64 << 10, 128 << 10];
const REGIONS: usize = 192 << 10;

pub(super) fn vhdx(read_at: ReadAt) -> Result<Layout, ImageError> {
    let start = read(VHDX, read_at, HEADERS[0] as u64, 192 << 10)?;
    check_log(&start)?;
    let regions = &start[REGIONS - HEADERS[0]..];
    let regions = Field { bytes: regions, format: VHDX };
    if regions.array::<4>(0)? != *b"regi" {
        return Err(corrupt(VHDX, "it has no region table"));
    }
    let count = (regions.le32(8)? as usize).min(MOST_ENTRIES);
    let (mut metadata, mut parts) = (None, Vec::<(&str, u64, u64)>::new());
    for entry in (0..count).map(|index| 16 + index * 32) {
        let region = (regions.le64(entry + 16)?, u64::from(regions.le32(entry + 24)?));
        let name = match regions.array::<16>(entry)? {
            METADATA_REGION => {
                metadata = Some(region.0);
                "the metadata region"
            }
            BLOCK_TABLE_REGION => "the block allocation table",
            _ => continue,
        };
        // Two readers might take one each.
        if parts.iter().any(|&(known, ..)| known == name) {
            return Err(corrupt(VHDX, format!("it has {name} twice")));
        }
        parts.push((name, region.0, region.1));
    }
    let start = metadata.ok_or_else(|| corrupt(VHDX, "it has no metadata region"))?;
    Ok(Layout { size: vhdx_size(read_at, start)?, parts })
}

/// The virtual size out of the metadata region at `start`, which must not speak of a parent.
fn vhdx_size(read_at: ReadAt, start: u64) -> Result<u64, ImageError> {
    let table = read(VHDX, read_at, start, 64 << 10)?;
    let table = Field { bytes: &table, format: VHDX };
    if table.array::<8>(0)? != *b"metadata" {
        return Err(corrupt(VHDX, "it has no metadata table"));
    }
    let count = usize::from(table.le16(10)?).min(MOST_ENTRIES);
    let mut size = None;
    for entry in (0..count).map(|index| 32 + index * 32) {
        let item = start.saturating_add(u64::from(table.le32(entry + 16)?));
        let number = || read(VHDX, read_at, item, 8);
        match table.array::<16>(entry)? {
            LOGICAL_SECTOR => {
                let length = read(VHDX, read_at, item, 4)?;
                let length = Field { bytes: &length, format: VHDX }.le32(0)?;
                if length != 512 {
                    return Err(unsupported(
                        VHDX,
                        format!(
                            "has logical sectors of {length} bytes, and QEMU only knows those of 512; copy it into a disk made with New-VHD -LogicalSectorSizeBytes 512"
                        ),
                    ));
                }
            }
            DISK_SIZE if size.is_some() => return Err(corrupt(VHDX, "it has two sizes")),
            DISK_SIZE => size = Some(Field { bytes: &number()?, format: VHDX }.le64(0)?),
            FILE_PARAMETERS => {
                let flags = Field { bytes: &number()?, format: VHDX }.le32(4)?;
                if flags & HAS_PARENT != 0 {
                    return Err(has_parent(VHDX));
                }
            }
            PARENT_LOCATOR => return Err(has_parent(VHDX)),
            _ => {}
        }
    }
    size.ok_or_else(|| corrupt(VHDX, "its metadata don't tell its size"))
}

/// That nothing of a vhdx is still in its log only: the newer one of its two headers says so. `start`: the bytes from
/// the first header on.
fn check_log(start: &[u8]) -> Result<(), ImageError> {
    const LENGTH: usize = 4096;
    let mut current: Option<(u64, [u8; 16])> = None;
    for offset in HEADERS.map(|offset| offset - HEADERS[0]) {
        let mut bytes = start[offset..offset + LENGTH].to_vec();
        let header = Field { bytes: &bytes, format: VHDX };
        let (mark, checksum) = (header.array::<4>(0)?, header.le32(4)?);
        let (sequence, log) = (header.le64(8)?, header.array::<16>(48)?);
        bytes[4..8].fill(0);
        let valid = mark == *b"head" && checksum == crc32c(&bytes);
        if valid && current.is_none_or(|(newest, _)| sequence > newest) {
            current = Some((sequence, log));
        }
    }
    match current {
        None => Err(corrupt(VHDX, "it has no valid header")),
        Some((_, log)) if log != [0; 16] => Err(unsupported(
            VHDX,
            "was not closed cleanly, and some of it is only in its log; attach and detach it in Hyper-V first",
        )),
        Some(_) => Ok(()),
    }
}

/// CRC-32C (Castagnoli), by which vhdx protects its headers.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ POLYNOMIAL }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_that_of_the_catalogue() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
