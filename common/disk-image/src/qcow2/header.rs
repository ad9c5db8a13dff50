//! The qcow2 header, field by field as in the format's specification (QEMU, `docs/interop/qcow2.rst`).

use super::super::raw::SECTOR;
use super::super::{Format, ImageError};
use super::{be32, be64};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Longest name of a backing file that the specification allows, bytes.
const LONGEST_BACKING_NAME: u32 = 1023;
/// Largest active table that QEMU accepts, bytes; a larger one could only be hostile.
const LARGEST_L1: u64 = 32 << 20;
/// Largest table of reference counts that QEMU accepts, bytes.
const LARGEST_REFCOUNT_TABLE: u64 = 8 << 20;
/// Most internal snapshots that QEMU accepts.
const MOST_INTERNAL_SNAPSHOTS: u32 = 65536;
/// Largest disk that an image is made for, bytes: what the largest L1 table describes with clusters of
/// 64 KiB.
pub const LARGEST_DISK: u64 = (LARGEST_L1 / 8) << 29;

const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_DATA_FILE_NAME: u32 = 0x4441_5441;
const EXTENSION_ENCRYPTION_HEADER: u32 = 0x0537_be77;
const EXTENSION_BITMAPS: u32 = 0x2385_2875;

const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
/// Bits 0 (dirty: reference counts may be off, which reading does not need) to 4.
const INCOMPATIBLE_KNOWN: u64 = 0b1_1111;

const AUTOCLEAR_BITMAPS: u64 = 1 << 0;
const AUTOCLEAR_RAW_DATA_FILE: u64 = 1 << 1;

/// How the compressed clusters of an image are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A raw deflate stream (compression type 0).
    Zlib,
    /// A zstd frame (compression type 1).
    Zstd,
}

/// How the guest's data is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all.
    None,
    /// The old AES method, broken and no longer supported by QEMU's system emulator.
    Aes,
    /// A LUKS header inside the image.
    Luks,
}

/// A checked header.
#[derive(Debug, Clone)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// log2 of the cluster size in bytes, 9 to 21.
    pub cluster_bits: u32,
    /// Virtual size, bytes.
    pub size: u64,
    /// Encryption method.
    pub encryption: Encryption,
    /// Name of the backing file as it stands in the image.
    pub backing_file: Option<Vec<u8>>,
    /// Format of the backing file, where the image says.
    pub backing_format: Option<Vec<u8>>,
    /// Whether guest data lies in another file, by feature bit or by name.
    pub has_data_file: bool,
    /// How compressed clusters are compressed.
    pub compression: Compression,
    /// Whether L2 entries have a bitmap of subclusters.
    pub extended_l2: bool,
    /// Entries of the L1 table.
    pub l1_entries: u64,
    /// Offset of the L1 table, bytes.
    pub l1_offset: u64,
    /// Offset of the reference count table, bytes, and its length in clusters.
    pub refcount_table: (u64, u64),
    /// Bits of a reference count, 1 to 64.
    pub refcount_bits: u32,
    /// Offset of the table of internal snapshots, bytes, and their number.
    pub internal_snapshots: (u64, u32),
    /// Offset and length of the directory of bitmaps, bytes, where there are any.
    pub bitmaps: Option<(u64, u64)>,
    /// Offset and length of the LUKS header, bytes, where the image is encrypted with that.
    pub encryption_header: Option<(u64, u64)>,
}

fn corrupt(what: impl Into<String>) -> ImageError {
    ImageError::Corrupt { format: Format::Qcow2, what: what.into() }
}

fn unsupported(what: impl Into<String>) -> ImageError {
    ImageError::Unsupported { format: Format::Qcow2, what: what.into() }
}

impl Header {
    /// Size of a cluster in bytes.
    #[must_use]
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Size of an L2 entry in bytes.
    #[must_use]
    pub fn l2_entry_size(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    /// Reads and checks the header of the image in `file`.
    ///
    /// # Errors
    /// Where the file can't be read or the header breaks the specification.
    pub fn read(file: &File) -> Result<Self, ImageError> {
        let mut head = vec![0; 4096];
        let length = read_up_to(file, &mut head, 0).map_err(ImageError::reading(0))?;
        head.truncate(length);
        Self::parse(&head, |offset, buffer| {
            file.read_exact_at(buffer, offset).map_err(ImageError::reading(offset))
        })
    }

    /// Checks the header in `head`, the first bytes of an image; `read_at` fetches what lies further
    /// on within the first cluster.
    ///
    /// # Errors
    /// Where the header breaks the specification, or as `read_at`.
    pub fn parse(
        head: &[u8],
        read_at: impl Fn(u64, &mut [u8]) -> Result<(), ImageError>,
    ) -> Result<Self, ImageError> {
        if head.len() < 72 || !head.starts_with(b"QFI\xfb") {
            return Err(corrupt("its header is cut off"));
        }
        let version = be32(head, 4);
        if version != 2 && version != 3 {
            return Err(unsupported(format!(
                "has version {version}, not 2 or 3; convert it with `qemu-img convert -O qcow2` first"
            )));
        }
        if version == 3 && head.len() < 104 {
            return Err(corrupt("its header is cut off"));
        }
        let cluster_bits = be32(head, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(corrupt(format!("its cluster size is 2^{cluster_bits} bytes")));
        }
        let cluster_size = 1_u64 << cluster_bits;
        let incompatible = if version == 3 { be64(head, 72) } else { 0 };
        let header_length = if version == 3 { be32(head, 100) } else { 72 };
        check_features(incompatible)?;
        check_for_other_readers(head, version, cluster_size)?;
        if version == 3 && !(104..=cluster_size).contains(&u64::from(header_length)) {
            return Err(corrupt(format!("its header is {header_length} bytes long")));
        }
        if version == 3 && be32(head, 96) > 6 {
            return Err(corrupt(format!("its reference counts have 2^{} bits", be32(head, 96))));
        }
        let extended_l2 = incompatible & INCOMPATIBLE_EXTENDED_L2 != 0;
        if extended_l2 && cluster_bits < 14 {
            return Err(corrupt("its clusters are too small for subclusters"));
        }
        let compression_byte =
            if header_length > 104 { head.get(104).copied().unwrap_or(0) } else { 0 };
        let compression = match (compression_byte, incompatible & INCOMPATIBLE_COMPRESSION != 0) {
            (0, false) => Compression::Zlib,
            (1, true) => Compression::Zstd,
            (other, _) => {
                return Err(corrupt(format!(
                    "its compression type is {other}, against its feature bits"
                )));
            }
        };
        let size = be64(head, 24);
        if i64::try_from(size).is_err() {
            return Err(corrupt(format!("it claims a virtual size of {size} bytes")));
        }
        let l1_entries = u64::from(be32(head, 36));
        let l1_offset = be64(head, 40);
        let entry_size = if extended_l2 { 16 } else { 8 };
        let l1_needed = size.div_ceil(cluster_size * (cluster_size / entry_size));
        if l1_entries < l1_needed || l1_entries * 8 > LARGEST_L1 {
            return Err(corrupt(format!(
                "its L1 table has {l1_entries} entries where {l1_needed} are needed"
            )));
        }
        if !l1_offset.is_multiple_of(cluster_size) || i64::try_from(l1_offset).is_err() {
            return Err(corrupt(format!("its L1 table lies at byte {l1_offset}")));
        }
        let refcount_table = refcount_table(head, cluster_size)?;
        let internal_snapshots = internal_snapshots(head, cluster_size)?;
        let encryption = match be32(head, 32) {
            0 => Encryption::None,
            1 => Encryption::Aes,
            2 => Encryption::Luks,
            other => {
                return Err(unsupported(format!(
                    "is encrypted by the unknown method {other}; decrypt it with the program that made it first"
                )));
            }
        };
        let backing_file = backing_name(head, cluster_size, &read_at)?;
        let extensions = Extensions::read(u64::from(header_length), head, cluster_size, &read_at)?;
        let autoclear = if version == 3 { be64(head, 88) } else { 0 };
        let data_file =
            incompatible & INCOMPATIBLE_DATA_FILE != 0 || autoclear & AUTOCLEAR_RAW_DATA_FILE != 0;
        if (encryption == Encryption::Luks) != extensions.encryption_header.is_some() {
            return Err(corrupt("it has a LUKS header but no encryption, or the other way round"));
        }
        Ok(Self {
            version,
            cluster_bits,
            size,
            encryption,
            backing_file,
            backing_format: extensions.backing_format,
            has_data_file: data_file || extensions.names_data_file,
            compression,
            extended_l2,
            l1_entries,
            l1_offset,
            refcount_table,
            refcount_bits: if version == 3 { 1 << be32(head, 96) } else { 16 },
            internal_snapshots,
            bitmaps: extensions.bitmaps.filter(|_| autoclear & AUTOCLEAR_BITMAPS != 0),
            encryption_header: extensions.encryption_header,
        })
    }
}

/// Offset in bytes and length in clusters of the refcount table.
fn refcount_table(head: &[u8], cluster_size: u64) -> Result<(u64, u64), ImageError> {
    let (offset, clusters) = (be64(head, 48), u64::from(be32(head, 56)));
    if !offset.is_multiple_of(cluster_size) {
        return Err(corrupt(format!("its reference count table lies at byte {offset}")));
    }
    let bytes = clusters * cluster_size;
    if bytes == 0 || bytes > LARGEST_REFCOUNT_TABLE {
        return Err(corrupt(format!("its reference count table has {bytes} bytes")));
    }
    Ok((offset, clusters))
}

/// Offset in bytes of the table of internal snapshots, and their number.
fn internal_snapshots(head: &[u8], cluster_size: u64) -> Result<(u64, u32), ImageError> {
    let (offset, count) = (be64(head, 64), be32(head, 60));
    if count > MOST_INTERNAL_SNAPSHOTS || (count > 0 && !offset.is_multiple_of(cluster_size)) {
        return Err(corrupt("its table of internal snapshots is not valid"));
    }
    Ok((offset, count))
}

fn check_features(incompatible: u64) -> Result<(), ImageError> {
    let unknown = incompatible & !INCOMPATIBLE_KNOWN;
    if unknown != 0 {
        return Err(unsupported(format!(
            "needs features that are not known (incompatible feature bits {unknown:#x}); convert it with `qemu-img convert -O qcow2` first"
        )));
    }
    if incompatible & INCOMPATIBLE_CORRUPT != 0 {
        return Err(corrupt("it is marked as corrupt; `qemu-img check -r all` repairs it"));
    }
    Ok(())
}

fn backing_name(
    head: &[u8],
    cluster_size: u64,
    read_at: &impl Fn(u64, &mut [u8]) -> Result<(), ImageError>,
) -> Result<Option<Vec<u8>>, ImageError> {
    let (offset, length) = (be64(head, 8), be32(head, 16));
    if offset == 0 {
        return Ok(None);
    }
    if offset > cluster_size {
        return Err(corrupt("the name of its backing file lies outside the header"));
    }
    // Some writers leave an offset with no name.
    if length == 0 {
        return Ok(None);
    }
    if length > LONGEST_BACKING_NAME || offset > cluster_size - u64::from(length).min(cluster_size)
    {
        return Err(corrupt("the name of its backing file lies outside the header"));
    }
    let mut name = vec![0; length as usize];
    read_at(offset, &mut name)?;
    Ok(Some(name))
}

/// What the header extensions say.
#[derive(Debug, Default)]
struct Extensions {
    backing_format: Option<Vec<u8>>,
    names_data_file: bool,
    bitmaps: Option<(u64, u64)>,
    encryption_header: Option<(u64, u64)>,
}

impl Extensions {
    fn read(
        start: u64,
        head: &[u8],
        cluster_size: u64,
        read_at: &impl Fn(u64, &mut [u8]) -> Result<(), ImageError>,
    ) -> Result<Self, ImageError> {
        let mut extensions = Self::default();
        // Extensions end where the name of the backing file begins, or with the cluster.
        let end = match be64(head, 8) {
            0 => cluster_size,
            name => name.min(cluster_size),
        };
        let mut offset = start;
        while offset < end {
            let mut field = [0; 8];
            // A version 2 file may be shorter than its first cluster.
            if read_at(offset, &mut field).is_err() {
                break;
            }
            let (kind, length) = (be32(&field, 0), u64::from(be32(&field, 4)));
            offset += 8;
            // QEMU wants to see the length of the one that ends them, too.
            if offset > end || length > end - offset {
                return Err(corrupt("a header extension is longer than the header"));
            }
            if kind == 0 {
                break;
            }
            extensions.note(kind, length, |buffer| read_at(offset, buffer))?;
            offset += length.next_multiple_of(8);
        }
        Ok(extensions)
    }

    fn note(
        &mut self,
        kind: u32,
        length: u64,
        content: impl Fn(&mut [u8]) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        match (kind, length) {
            (EXTENSION_BACKING_FORMAT, 0..16) => {
                let mut name = vec![0; length as usize];
                content(&mut name)?;
                self.backing_format = Some(name);
            }
            (EXTENSION_BACKING_FORMAT, _) => {
                return Err(corrupt("the format of its backing file is too long"));
            }
            (EXTENSION_DATA_FILE_NAME, _) => self.names_data_file = true,
            (EXTENSION_ENCRYPTION_HEADER, 16) => {
                let mut place = [0; 16];
                content(&mut place)?;
                self.encryption_header = Some((be64(&place, 0), be64(&place, 8)));
            }
            (EXTENSION_BITMAPS, 24) => {
                let mut place = [0; 24];
                content(&mut place)?;
                self.bitmaps = Some((be64(&place, 16), be64(&place, 8)));
            }
            (EXTENSION_ENCRYPTION_HEADER | EXTENSION_BITMAPS, _) => {
                return Err(corrupt("a header extension has a wrong length"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Fields that mean nothing here but something to QEMU, which would refuse the image or see another disk.
fn check_for_other_readers(head: &[u8], version: u32, cluster_size: u64) -> Result<(), ImageError> {
    const AUTOCLEAR_RAW_DATA_FILE: u64 = 1 << 1;
    let size = be64(head, 24);
    if !size.is_multiple_of(SECTOR) {
        return Err(corrupt(format!(
            "its virtual size of {size} bytes is no whole number of sectors"
        )));
    }
    // Whether or not it has any.
    if !be64(head, 64).is_multiple_of(cluster_size) {
        return Err(corrupt("its table of internal snapshots lies between clusters"));
    }
    if version == 3
        && be64(head, 88) & AUTOCLEAR_RAW_DATA_FILE != 0
        && be64(head, 72) & INCOMPATIBLE_DATA_FILE == 0
    {
        return Err(corrupt("it describes an external data file that it doesn't have"));
    }
    Ok(())
}

/// Up to `length` bytes at `offset`, fewer at the end of the file.
///
/// # Errors
/// As `pread(2)`.
pub fn read_bytes(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let read = read_up_to(file, &mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads at `offset` until `buffer` is full or the file ends; how much came.
///
/// # Errors
/// As `pread(2)`.
pub fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
