//! One qcow2 file of a chain: where its L1 and L2 tables say that guest bytes are.

use super::header::{Header, read_up_to};
use super::{Compression, be64};
use crate::{Format, ImageError};
use std::cell::RefCell;
use std::fs::File;

/// Bits 9 to 55 of an L1 or L2 entry: the offset in the file.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 62 of an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an L2 entry: the cluster reads as zero.
const ZERO: u64 = 1;
/// Subclusters in a cluster with extended L2 entries.
const SUBCLUSTERS: u64 = 32;
/// Most bytes of a table that are held in memory at once.
const SLICE: u64 = 64 << 10;

/// Where a run of guest bytes is, as one file of a chain says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// Not in this file: ask the backing file.
    Unallocated,
    /// Nowhere: zero.
    Zero,
    /// At this offset of the file.
    Data(u64),
    /// Compressed, at this offset of the file, in at most so many bytes. The run is one cluster.
    Compressed(u64, usize),
}

/// Guest bytes `start..end` with one mapping.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// First guest byte.
    pub start: u64,
    /// First guest byte behind it.
    pub end: u64,
    /// Where the first byte is.
    pub mapping: Mapping,
}

/// A part of a table.
#[derive(Debug, Default)]
struct Slice {
    offset: u64,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Cursor {
    l1: Slice,
    l2: Slice,
    run: Option<Run>,
}

/// A qcow2 file without regard to its backing file.
#[derive(Debug)]
pub struct Layer {
    file: File,
    length: u64,
    header: Header,
    cursor: RefCell<Cursor>,
}

pub(super) fn corrupt(what: impl Into<String>) -> ImageError {
    ImageError::Corrupt { format: Format::Qcow2, what: what.into() }
}

impl Layer {
    /// The image in `file`, its header checked.
    ///
    /// # Errors
    /// As [`Header::read`], and where a table lies outside the file.
    pub fn open(file: File) -> Result<Self, ImageError> {
        let length = file.metadata().map_err(ImageError::reading(0))?.len();
        let header = Header::read(&file)?;
        let l1_end = header.l1_offset + header.l1_entries * 8;
        if l1_end > length {
            return Err(corrupt(format!(
                "its L1 table ends at byte {l1_end} of a file of {length}: the file is cut off"
            )));
        }
        if header.refcount_table.0 >= length {
            return Err(corrupt("its reference count table lies outside the file"));
        }
        let (snapshots, count) = header.internal_snapshots;
        if count > 0 && snapshots >= length {
            return Err(corrupt("its table of internal snapshots lies outside the file"));
        }
        Ok(Self { file, length, header, cursor: RefCell::default() })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Length of the file when it was opened, bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How compressed clusters are compressed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.header.compression
    }

    /// The run that holds the guest byte `position`, which must lie within the virtual size.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`], or where the file can't be read.
    pub fn run_at(&self, position: u64) -> Result<Run, ImageError> {
        let mut cursor = self.cursor.borrow_mut();
        let run = match cursor.run {
            Some(run) if (run.start..run.end).contains(&position) => run,
            _ => self.find_run(&mut cursor, position)?,
        };
        cursor.run = Some(run);
        let mapping = match run.mapping {
            Mapping::Data(offset) => Mapping::Data(offset + (position - run.start)),
            other => other,
        };
        // A compressed run keeps its start: the caller has to skip what comes before.
        let start = if matches!(mapping, Mapping::Compressed(..)) { run.start } else { position };
        Ok(Run { start, end: run.end, mapping })
    }

    fn find_run(&self, cursor: &mut Cursor, position: u64) -> Result<Run, ImageError> {
        let cluster_size = self.header.cluster_size();
        let table_entries = cluster_size / self.header.l2_entry_size();
        let table_span = table_entries * cluster_size;
        let l1_index = position / table_span;
        let l2_table = self.l2_table(cursor, l1_index)?;
        if l2_table == 0 {
            let mut next = l1_index + 1;
            while next < self.header.l1_entries
                && next * table_span < self.header.size
                && self.l2_table(cursor, next)? == 0
            {
                next += 1;
            }
            return Ok(Run {
                start: l1_index * table_span,
                end: (next * table_span).min(self.header.size),
                mapping: Mapping::Unallocated,
            });
        }
        self.run_in_table(cursor, position, l2_table, l1_index * table_span)
    }

    /// Offset of the L2 table that entry `index` of the L1 table names; 0: none.
    fn l2_table(&self, cursor: &mut Cursor, index: u64) -> Result<u64, ImageError> {
        let bytes = self.header.l1_entries * 8;
        let entry = self.entry(&mut cursor.l1, self.header.l1_offset, bytes, index * 8)?;
        let table = entry & OFFSET_MASK;
        let cluster_size = self.header.cluster_size();
        if !table.is_multiple_of(cluster_size) || (table != 0 && table + cluster_size > self.length)
        {
            return Err(corrupt(format!(
                "entry {index} of its L1 table points to byte {table} of a file of {}",
                self.length
            )));
        }
        Ok(table)
    }

    /// The 8 bytes at `position` of the table at `offset` that is `length` bytes long.
    fn entry(
        &self,
        slice: &mut Slice,
        offset: u64,
        length: u64,
        position: u64,
    ) -> Result<u64, ImageError> {
        let first = position / SLICE * SLICE;
        let wanted = offset + first;
        if slice.bytes.is_empty() || slice.offset != wanted {
            slice.bytes.resize(SLICE.min(length - first) as usize, 0);
            slice.offset = wanted;
            let read = read_up_to(&self.file, &mut slice.bytes, wanted)
                .map_err(ImageError::reading(wanted))?;
            if read < slice.bytes.len() {
                slice.bytes.clear();
                return Err(corrupt(format!(
                    "a table is cut off at byte {}",
                    wanted + read as u64
                )));
            }
        }
        Ok(be64(&slice.bytes, (position - first) as usize))
    }

    /// The run at `position` as the L2 table at `table`, which begins at guest byte `base`, says.
    fn run_in_table(
        &self,
        cursor: &mut Cursor,
        position: u64,
        table: u64,
        base: u64,
    ) -> Result<Run, ImageError> {
        let unit = self.unit();
        let units = self.header.cluster_size() / self.header.l2_entry_size()
            * (self.header.cluster_size() / unit);
        let first = (position - base) / unit;
        let mapping = self.mapping(&mut cursor.l2, table, first)?;
        if let Mapping::Compressed(..) = mapping {
            let per_cluster = self.header.cluster_size() / unit;
            let start = base + first / per_cluster * self.header.cluster_size();
            return Ok(Run { start, end: start + self.header.cluster_size(), mapping });
        }
        let mut count = 1;
        while first + count < units {
            let expected = match mapping {
                Mapping::Data(offset) => Mapping::Data(offset + count * unit),
                other => other,
            };
            // Whatever is wrong further on is reported when its turn comes.
            match self.mapping(&mut cursor.l2, table, first + count) {
                Ok(next) if next == expected => count += 1,
                _ => break,
            }
        }
        let start = base + first * unit;
        Ok(Run { start, end: start + count * unit, mapping })
    }

    /// Bytes that one mapping is about: a cluster, or a subcluster.
    fn unit(&self) -> u64 {
        let cluster_size = self.header.cluster_size();
        if self.header.extended_l2 { cluster_size / SUBCLUSTERS } else { cluster_size }
    }

    fn mapping(&self, slice: &mut Slice, table: u64, unit: u64) -> Result<Mapping, ImageError> {
        let cluster_size = self.header.cluster_size();
        if !self.header.extended_l2 {
            let entry = self.entry(slice, table, cluster_size, unit * 8)?;
            if entry & COMPRESSED != 0 {
                return self.compressed(entry);
            }
            if entry & ZERO != 0 {
                if self.header.version < 3 {
                    return Err(corrupt("it is of version 2 but has a zero cluster"));
                }
                let offset = entry & OFFSET_MASK;
                if !offset.is_multiple_of(cluster_size) {
                    return Err(corrupt(format!(
                        "a cluster lies at byte {offset}, between clusters"
                    )));
                }
                return Ok(Mapping::Zero);
            }
            return match entry & OFFSET_MASK {
                0 => Ok(Mapping::Unallocated),
                offset => self.data(offset, 0),
            };
        }
        let (cluster, subcluster) = (unit / SUBCLUSTERS, unit % SUBCLUSTERS);
        let entry = self.entry(slice, table, cluster_size, cluster * 16)?;
        let bitmap = self.entry(slice, table, cluster_size, cluster * 16 + 8)?;
        if entry & COMPRESSED != 0 {
            if bitmap != 0 {
                return Err(corrupt("a compressed cluster has subclusters"));
            }
            return self.compressed(entry);
        }
        let allocated = bitmap >> subcluster & 1 != 0;
        let zero = bitmap >> (subcluster + 32) & 1 != 0;
        match (allocated, zero) {
            (true, true) => Err(corrupt("a subcluster is both zero and allocated")),
            (false, true) => Ok(Mapping::Zero),
            (false, false) => Ok(Mapping::Unallocated),
            (true, false) => match entry & OFFSET_MASK {
                0 => Err(corrupt("an allocated subcluster lies nowhere")),
                offset => self.data(offset, subcluster * self.unit()),
            },
        }
    }

    fn data(&self, cluster: u64, within: u64) -> Result<Mapping, ImageError> {
        if !cluster.is_multiple_of(self.header.cluster_size()) {
            return Err(corrupt(format!("a cluster lies at byte {cluster}, between clusters")));
        }
        if cluster >= self.length {
            return Err(corrupt(format!(
                "a cluster lies at byte {cluster} of a file of {}: the file is cut off",
                self.length
            )));
        }
        Ok(Mapping::Data(cluster + within))
    }

    /// The descriptor of a compressed cluster: offset below, number of further sectors above.
    fn compressed(&self, entry: u64) -> Result<Mapping, ImageError> {
        let split = 62 - (self.header.cluster_bits - 8);
        let offset = entry & ((1 << split) - 1);
        let sectors = (entry & (COMPRESSED - 1)) >> split;
        let length = (sectors + 1) * 512 - offset % 512;
        // The number of sectors is a bound: it may go past the end, by less than a cluster.
        if offset >= self.length || offset + length > self.length + self.header.cluster_size() {
            return Err(corrupt(format!(
                "a compressed cluster lies at byte {offset} of a file of {}: the file is cut off",
                self.length
            )));
        }
        Ok(Mapping::Compressed(offset, length as usize))
    }
}
