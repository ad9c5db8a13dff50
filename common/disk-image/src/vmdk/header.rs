//! The header of a sparse extent (Virtual Disk Format 5.0, "Hosted Sparse Extents"), and the footer that
//! takes its place at the end of a stream.

use super::descriptor;
use super::{SECTOR, corrupt, le32, le64, needs_others, read, unsupported};
use crate::ImageError;
use crate::foreign::ReadAt;

/// Length of the header, bytes.
pub(super) const HEADER: usize = SECTOR as usize;
/// Where the header says that the grain directory is described by a footer.
const AT_END: u64 = u64::MAX;
/// Flags: there is a second grain directory; table entries of 1 are grains of zeroes; grains are compressed;
/// grains and tables have markers in front of them.
const SECOND_DIRECTORY: u32 = 1 << 1;
const ZERO_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;
/// Flags that a reader must know, or not read the file.
const INCOMPATIBLE: u32 = 0xffff_0000;
/// The one algorithm.
const DEFLATE: u16 = 1;
/// QEMU takes no larger grains, sectors.
const LARGEST_GRAIN: u64 = 0x20_0000;
/// A compressed grain is decompressed in memory, sectors.
const LARGEST_COMPRESSED_GRAIN: u64 = 4096;
/// QEMU takes no larger tables, entries.
const MOST_TABLE_ENTRIES: u32 = 512;
/// QEMU takes no larger grain directories, entries.
const MOST_TABLES: u64 = 32 << 20;
/// A descriptor that is larger than this is not a real one, bytes.
const LARGEST_DESCRIPTOR: u64 = 1 << 20;
/// QEMU looks for a parent in so many bytes behind the first sector, whatever the header says.
const SEARCHED: u64 = 20 * SECTOR;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    flags: u32,
    /// Size of the disk, sectors.
    capacity: u64,
    /// Size of a grain, sectors.
    grain: u64,
    /// Length of the descriptor, sectors.
    descriptor: u64,
    /// Grains of one table.
    table_entries: u32,
    /// Sector of the grain directory; `None` where a footer says it.
    pub(super) directory: Option<u64>,
    second_directory: u64,
    /// Sectors before the first grain.
    overhead: u64,
}

impl Header {
    /// Reads the header in `bytes`, the first sector of a file.
    ///
    /// # Errors
    /// Where it is no header, contradicts itself, or asks for what is not supported.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.len() < HEADER || !bytes.starts_with(b"KDMV") {
            return Err(corrupt("it has no header"));
        }
        let version = le32(bytes, 4);
        if !(1..=3).contains(&version) {
            return Err(unsupported(format!(
                "is of version {version}, which is not known here; save it as one file of version 1 (monolithicSparse or streamOptimized)"
            )));
        }
        let directory = le64(bytes, 56);
        let header = Self {
            flags: le32(bytes, 8),
            capacity: le64(bytes, 12),
            grain: le64(bytes, 20),
            descriptor: le64(bytes, 36),
            table_entries: le32(bytes, 44),
            directory: (directory != AT_END).then_some(directory),
            second_directory: le64(bytes, 48),
            overhead: le64(bytes, 64),
        };
        header.check(u16::from_le_bytes([bytes[77], bytes[78]]))?;
        header.check_descriptor_place(le64(bytes, 28))?;
        Ok(header)
    }

    fn check(&self, compression: u16) -> Result<(), ImageError> {
        if self.flags & INCOMPATIBLE & !(COMPRESSED | MARKERS) != 0 {
            return Err(unsupported(format!(
                "has the flags {:#x}, some of which are not known here; save it as one file of version 1 (monolithicSparse or streamOptimized)",
                self.flags
            )));
        }
        if compression > DEFLATE || (compression == DEFLATE) != self.is_compressed() {
            return Err(corrupt("its header contradicts itself on whether grains are compressed"));
        }
        if self.capacity == 0 {
            return Err(needs_others("has no data of its own"));
        }
        if self.capacity.checked_mul(SECTOR).is_none_or(|size| i64::try_from(size).is_err()) {
            return Err(corrupt(format!("it claims {} sectors", self.capacity)));
        }
        let largest = if self.is_compressed() { LARGEST_COMPRESSED_GRAIN } else { LARGEST_GRAIN };
        if self.grain == 0 || self.grain > largest {
            return Err(corrupt(format!(
                "its grains have {} sectors, not 1 to {largest}",
                self.grain
            )));
        }
        if !(1..=MOST_TABLE_ENTRIES).contains(&self.table_entries) {
            return Err(corrupt(format!(
                "its tables have {} entries, not 1 to {MOST_TABLE_ENTRIES}",
                self.table_entries
            )));
        }
        if self.tables() > MOST_TABLES {
            return Err(corrupt(format!(
                "its grain directory has {} entries, and at most {MOST_TABLES} are accepted",
                self.tables()
            )));
        }
        Ok(())
    }

    fn check_descriptor_place(&self, sector: u64) -> Result<(), ImageError> {
        let length = self.descriptor.saturating_mul(SECTOR);
        if sector == 0 || length == 0 || length > LARGEST_DESCRIPTOR {
            return Err(needs_others("has no usable descriptor, so it is a part of another image"));
        }
        // Every writer puts it there. Were it elsewhere, two readers could read two descriptors.
        if sector != 1 {
            return Err(needs_others(&format!(
                "has its descriptor in sector {sector} instead of 1"
            )));
        }
        Ok(())
    }

    /// Reads and checks the header and the descriptor of an image.
    ///
    /// # Errors
    /// As [`Header::parse`], and where the descriptor asks for another file.
    pub fn read(read_at: ReadAt) -> Result<Self, ImageError> {
        let header = Self::parse(&read(read_at, 0, HEADER)?)?;
        let wanted = (header.descriptor * SECTOR).max(SEARCHED) as usize;
        let text = read_at(SECTOR, wanted).map_err(ImageError::reading(SECTOR))?;
        descriptor::check(&text, header.capacity, header.grain)?;
        Ok(header)
    }

    /// The header again, out of its footer: `bytes`.
    pub(super) fn footer(&self, bytes: &[u8]) -> Result<Self, ImageError> {
        let another = || corrupt("its footer is missing or describes another disk");
        let footer = Self::parse(bytes).map_err(|_| another())?;
        let same = Self {
            directory: self.directory,
            second_directory: self.second_directory,
            ..footer.clone()
        };
        if same != *self || footer.directory.is_none() {
            return Err(another());
        }
        Ok(footer)
    }

    /// Size of the disk, bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.capacity * SECTOR
    }

    /// Size of the disk, sectors.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Size of a grain, bytes.
    #[must_use]
    pub fn grain_size(&self) -> u64 {
        self.grain * SECTOR
    }

    /// Size of a grain, sectors.
    pub(super) fn grain(&self) -> u64 {
        self.grain
    }

    /// Grains of one table.
    pub(super) fn table_entries(&self) -> u64 {
        self.table_entries.into()
    }

    /// Length of a table, bytes.
    pub(super) fn table_length(&self) -> u64 {
        self.table_entries() * 4
    }

    /// Bytes of the disk that a table is about.
    pub(super) fn table_span(&self) -> u64 {
        self.table_entries() * self.grain_size()
    }

    /// How many tables the directory has entries for.
    pub(super) fn tables(&self) -> u64 {
        self.capacity.div_ceil(self.grain * self.table_entries())
    }

    /// Sectors before the first grain.
    pub(super) fn overhead(&self) -> u64 {
        self.overhead
    }

    /// Where the header and the descriptor end, bytes.
    pub(super) fn descriptor_end(&self) -> u64 {
        (1 + self.descriptor) * SECTOR
    }

    /// Sector of the second grain directory.
    pub(super) fn second_directory(&self) -> Option<u64> {
        let there = self.flags & SECOND_DIRECTORY != 0 && self.second_directory != 0;
        there.then_some(self.second_directory)
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.flags & COMPRESSED != 0
    }

    /// Whether each compressed grain has its place on the disk and its length in front of it.
    pub(super) fn has_markers(&self) -> bool {
        self.flags & MARKERS != 0
    }

    /// Whether what a table says about a grain means zeroes.
    pub(super) fn is_zero(&self, entry: u32) -> bool {
        entry == 0 || (entry == 1 && self.flags & ZERO_GRAINS != 0)
    }

    /// How many bytes of the disk the grain at the byte `start` holds.
    pub(super) fn grain_length(&self, start: u64) -> u64 {
        self.grain_size().min(self.size() - start)
    }
}
