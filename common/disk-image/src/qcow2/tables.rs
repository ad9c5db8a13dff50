//! Whether the tables of a qcow2 file lie where tables may lie: in the file, each in clusters of its own.
//!
//! A program that opens an image for writing trusts its tables. One that points outside the file, into the header
//! or into another table would have them overwritten, or read as something that they are not.
//!
//! Memory: 8 bytes for each L2 table and each block of reference counts, of which the largest accepted L1
//! and refcount tables name 40 MiB; for an ordinary image a few KiB.

use super::header::read_up_to;
use super::layer::{Layer, Mapping, corrupt};
use super::{be16, be32, be64};
use crate::ImageError;

/// More than any compressor makes of a cluster: deflate gets to 1032, zstd further on zeroes, which no
/// writer stores.
const LARGEST_RATIO: u64 = 4096;
/// Largest L1 tables of internal snapshots in all, bytes: those of 2000 snapshots of 2 TiB.
const LARGEST_SNAPSHOT_TABLES: u64 = 64 << 20;
/// Largest table of internal snapshots, and directory of bitmaps, bytes: what QEMU accepts.
const LARGEST_DIRECTORY: u64 = 64 << 20;
/// Most bytes that QEMU accepts as extra data of an internal snapshot.
const LARGEST_EXTRA_DATA: u32 = 1024;
/// Bits 9 to 63 of an entry of the refcount table: the offset in the file.
pub(super) const REFCOUNT_BLOCK_MASK: u64 = !0x1ff;
/// Bits 9 to 55 of an entry of an L1 table or a bitmap table.
pub(super) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Size of the pieces in which tables are read, bytes.
const PIECE: u64 = 64 << 10;

impl Layer {
    /// Walks all tables: each must lie in the file in clusters of its own, all that they point to must lie
    /// in the file beside them, and be no more data than the file can hold.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`], or where the file can't be read.
    pub fn verify(&self) -> Result<(), ImageError> {
        let metadata = Metadata::of(self)?;
        let whole = self.length().next_multiple_of(self.header().cluster_size());
        let (mut position, mut data, mut inflated) = (0, 0_u64, 0_u64);
        while position < self.header().size {
            let run = self.run_at(position)?;
            let length = run.end.min(self.header().size) - position;
            match run.mapping {
                Mapping::Data(offset) => {
                    data += length;
                    metadata.apart_from(offset, length)?;
                }
                Mapping::Compressed(offset, _) => {
                    inflated += length;
                    metadata.apart_from(offset, 1)?;
                }
                Mapping::Zero | Mapping::Unallocated => {}
            }
            position = run.end;
        }
        if data > whole || inflated / LARGEST_RATIO > self.length() {
            return Err(corrupt("its tables point to the same place more than once"));
        }
        Ok(())
    }

    /// Calls `visit` with the `count` entries of 8 bytes at `offset`. What lies behind the end of the file
    /// reads as zero.
    pub(super) fn entries(
        &self,
        offset: u64,
        count: u64,
        visit: &mut dyn FnMut(u64, u64) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let mut piece = vec![0; PIECE.min(count * 8) as usize];
        let mut index = 0;
        while index < count {
            let at = offset + index * 8;
            let length = PIECE.min((count - index) * 8) as usize;
            let read = read_up_to(self.file(), &mut piece[..length], at)
                .map_err(ImageError::reading(at))?;
            piece[read..length].fill(0);
            for entry in piece[..length].chunks_exact(8) {
                visit(index, be64(entry, 0))?;
                index += 1;
            }
        }
        Ok(())
    }

    /// That a table lies in the file, at the beginning of a cluster. The last cluster of a file may not
    /// have been written to its end.
    fn inside(&self, name: &str, offset: u64, length: u64) -> Result<(), ImageError> {
        let cluster_size = self.header().cluster_size();
        let end = offset.checked_add(length);
        let limit = self.length().next_multiple_of(cluster_size);
        if !offset.is_multiple_of(cluster_size) || end.is_none_or(|end| end > limit) {
            return Err(corrupt(format!(
                "{name} of it lies at byte {offset}, {length} bytes long, in a file of {}",
                self.length()
            )));
        }
        Ok(())
    }
}

/// Where a file holds anything but data.
pub(super) struct Metadata {
    cluster_size: u64,
    /// Offsets of L2 tables and blocks of reference counts, a cluster each, in order.
    clusters: Vec<u64>,
    /// Start and end of everything else, in order.
    regions: Vec<(u64, u64)>,
}

impl Metadata {
    pub(super) fn of(layer: &Layer) -> Result<Self, ImageError> {
        let header = layer.header();
        let cluster_size = header.cluster_size();
        let mut metadata = Self { cluster_size, clusters: Vec::new(), regions: Vec::new() };
        metadata.regions.push((0, cluster_size));
        metadata.add(layer, "the L1 table", header.l1_offset, header.l1_entries * 8)?;
        let (counts, count_clusters) = header.refcount_table;
        metadata.add(layer, "the refcount table", counts, count_clusters * cluster_size)?;
        if let Some((offset, length)) = header.encryption_header {
            metadata.add(layer, "the encryption header", offset, length)?;
        }
        metadata.add_snapshots(layer)?;
        metadata.add_bitmaps(layer)?;
        metadata.regions.sort_unstable();
        if metadata.regions.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            return Err(corrupt("one of its tables lies in another one, or in the header"));
        }
        metadata.add_clusters(layer)?;
        Ok(metadata)
    }

    /// Start and end of each part.
    pub(super) fn places(&self) -> impl Iterator<Item = (u64, u64)> {
        let clusters = self.clusters.iter().map(|&start| (start, start + self.cluster_size));
        clusters.chain(self.regions.iter().copied())
    }

    fn add(
        &mut self,
        layer: &Layer,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<(), ImageError> {
        layer.inside(name, offset, length)?;
        if length > 0 {
            self.regions.push((offset, offset + length));
        }
        Ok(())
    }

    /// L2 tables and blocks of reference counts.
    fn add_clusters(&mut self, layer: &Layer) -> Result<(), ImageError> {
        let header = layer.header();
        let cluster_size = self.cluster_size;
        let (counts, count_clusters) = header.refcount_table;
        let count_entries = count_clusters * cluster_size / 8;
        let mut number = 0_usize;
        let mut count = |_: u64, entry: u64| -> Result<(), ImageError> {
            number += usize::from(entry & OFFSET_MASK != 0);
            Ok(())
        };
        layer.entries(header.l1_offset, header.l1_entries, &mut count)?;
        layer.entries(counts, count_entries, &mut count)?;
        let overlapping = || corrupt("its tables point to the same place more than once");
        let whole = layer.length().next_multiple_of(cluster_size);
        if (number as u64).saturating_mul(cluster_size) > whole {
            return Err(overlapping());
        }
        self.clusters.reserve_exact(number);
        let clusters = &mut self.clusters;
        layer.entries(header.l1_offset, header.l1_entries, &mut |_, entry| {
            let table = entry & OFFSET_MASK;
            if table != 0 {
                layer.inside("an L2 table", table, cluster_size)?;
                clusters.push(table);
            }
            Ok(())
        })?;
        layer.entries(counts, count_entries, &mut |_, entry| {
            let block = entry & REFCOUNT_BLOCK_MASK;
            if block != 0 {
                layer.inside("a block of reference counts", block, cluster_size)?;
                clusters.push(block);
            }
            Ok(())
        })?;
        self.clusters.sort_unstable();
        if self.clusters.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(overlapping());
        }
        for &(start, end) in &self.regions {
            let next = self.clusters.partition_point(|&cluster| cluster + cluster_size <= start);
            if self.clusters.get(next).is_some_and(|&cluster| cluster < end) {
                return Err(corrupt("one of its tables lies in another one, or in the header"));
            }
        }
        Ok(())
    }

    /// The table of internal snapshots, and their L1 tables.
    fn add_snapshots(&mut self, layer: &Layer) -> Result<(), ImageError> {
        const FIXED: u64 = 40;
        let (start, count) = layer.header().internal_snapshots;
        let (mut position, mut tables) = (start, 0);
        for _ in 0..count {
            let mut head = [0; FIXED as usize];
            let read = read_up_to(layer.file(), &mut head, position)
                .map_err(ImageError::reading(position))?;
            let extra = be32(&head, 36);
            if read < head.len() || extra > LARGEST_EXTRA_DATA {
                return Err(corrupt("its table of internal snapshots is not valid"));
            }
            let (l1, entries) = (be64(&head, 0), u64::from(be32(&head, 8)));
            tables += entries * 8;
            if tables > LARGEST_SNAPSHOT_TABLES {
                return Err(corrupt("the tables of its internal snapshots are too large"));
            }
            self.add(layer, "the L1 table of an internal snapshot", l1, entries * 8)?;
            let cluster_size = self.cluster_size;
            layer.entries(l1, entries, &mut |_, entry| match entry & OFFSET_MASK {
                0 => Ok(()),
                // Snapshots share L2 tables with each other and with the disk.
                table => layer.inside("an L2 table of an internal snapshot", table, cluster_size),
            })?;
            let names = u64::from(be16(&head, 12)) + u64::from(be16(&head, 14));
            position += (FIXED + u64::from(extra) + names).next_multiple_of(8);
            if position - start > LARGEST_DIRECTORY {
                return Err(corrupt("its table of internal snapshots is too large"));
            }
        }
        if count > 0 {
            self.add(layer, "the table of internal snapshots", start, position - start)?;
        }
        Ok(())
    }

    /// The directory of bitmaps, and their tables.
    fn add_bitmaps(&mut self, layer: &Layer) -> Result<(), ImageError> {
        const FIXED: u64 = 24;
        let Some((start, length)) = layer.header().bitmaps else { return Ok(()) };
        if length > LARGEST_DIRECTORY {
            return Err(corrupt("its directory of bitmaps is too large"));
        }
        self.add(layer, "the directory of bitmaps", start, length)?;
        let (mut position, mut tables) = (start, 0);
        while position + FIXED <= start + length {
            let mut head = [0; FIXED as usize];
            read_up_to(layer.file(), &mut head, position).map_err(ImageError::reading(position))?;
            let (table, entries) = (be64(&head, 0), u64::from(be32(&head, 8)));
            tables += entries * 8;
            if tables > LARGEST_SNAPSHOT_TABLES {
                return Err(corrupt("the tables of its bitmaps are too large"));
            }
            self.add(layer, "the table of a bitmap", table, entries * 8)?;
            let cluster_size = self.cluster_size;
            layer.entries(table, entries, &mut |_, entry| match entry & OFFSET_MASK {
                0 => Ok(()),
                cluster => layer.inside("a cluster of a bitmap", cluster, cluster_size),
            })?;
            let (name, extra) = (u64::from(be16(&head, 18)), u64::from(be32(&head, 20)));
            position += (FIXED + name + extra).next_multiple_of(8);
        }
        Ok(())
    }

    /// That no table lies among these bytes of data.
    fn apart_from(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        let end = offset.saturating_add(length);
        let next = self.clusters.partition_point(|&cluster| cluster + self.cluster_size <= offset);
        let region = self.regions.partition_point(|&(_, end)| end <= offset);
        let overlaps = self.clusters.get(next).is_some_and(|&cluster| cluster < end)
            || self.regions.get(region).is_some_and(|&(start, _)| start < end);
        if overlaps {
            return Err(corrupt(format!(
                "the data at byte {offset} of it lies in one of its tables"
            )));
        }
        Ok(())
    }
}
