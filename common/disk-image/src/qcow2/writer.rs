//! Writes a qcow2 image of version 3 from the first cluster to the last.
//!
//! Data clusters come first, each L2 table behind the data that it describes, then the L1 table and
//! the reference counts, and last of all the header: until that is written the file is no image.
//! Every cluster of the file is in use exactly once, so the reference counts are all 1 and need no
//! memory. Memory: one L2 table, and 8 bytes for each 512 MiB of the disk.

use super::header::LARGEST_DISK;
use crate::ImageError;
use runtime::space::with_space;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

const CLUSTER_BITS: u32 = 16;
/// Cluster size of the images that are written: qemu-img's default.
pub const CLUSTER: u64 = 1 << CLUSTER_BITS;
const ENTRIES: u64 = CLUSTER / 8;
/// Guest bytes that one L2 table describes.
const TABLE_SPAN: u64 = ENTRIES * CLUSTER;
/// Reference counts of 16 bits in one refcount block.
const REFCOUNTS: u64 = CLUSTER / 2;
/// Bit 63 of L1 and L2 entries: the reference count is exactly 1.
const COPIED: u64 = 1 << 63;
/// Length of the version 3 header with the compression type and its padding.
const HEADER_LENGTH: u32 = 112;
/// The header with everything behind it fits in this, bytes.
const HEADER_BLOCK: usize = 4096;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;

/// What an image backs on.
#[derive(Debug, Clone, Copy)]
pub struct Backing<'a> {
    /// Name as it shall stand in the image, at most 1023 bytes.
    pub name: &'a [u8],
    /// `qcow2` or `raw`.
    pub format: &'a str,
}

/// An image that is being written.
#[derive(Debug)]
pub struct Writer<'f> {
    file: &'f File,
    /// Where the next cluster of the file goes.
    next: u64,
    l1: Vec<u64>,
    l2: Vec<u64>,
    /// Index of the table in `l2`.
    table: u64,
    table_in_use: bool,
    /// The guest cluster that was placed last, and where.
    last: Option<(u64, u64)>,
}

/// Whether a disk of `size` bytes can be a qcow2 image here.
///
/// # Errors
/// [`ImageError::TooLarge`].
pub fn check_size(size: u64) -> Result<(), ImageError> {
    if size > LARGEST_DISK {
        return Err(ImageError::TooLarge {
            limit: LARGEST_DISK,
            why: "which is the most that a qcow2 image is made for; make it smaller, or keep it raw",
        });
    }
    Ok(())
}

fn big_endian(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

impl<'f> Writer<'f> {
    /// Begins an image in `file`, which must be empty.
    #[must_use]
    pub fn new(file: &'f File) -> Self {
        Self {
            file,
            next: CLUSTER,
            l1: Vec::new(),
            l2: vec![0; ENTRIES as usize],
            table: 0,
            table_in_use: false,
            last: None,
        }
    }

    /// Where in the file the guest bytes from `guest` on shall be written, and for how many of
    /// `length` bytes that holds. What is never written reads as zero.
    ///
    /// Guest offsets must not go back behind the cluster that was placed last.
    ///
    /// # Errors
    /// Where a finished L2 table can't be written.
    pub fn place(&mut self, guest: u64, length: u64) -> Result<(u64, u64), ImageError> {
        check_size(guest.saturating_add(length))?;
        let cluster = guest / CLUSTER;
        let within = guest % CLUSTER;
        if let Some((last, host)) = self.last
            && last == cluster
        {
            return Ok((host + within, length.min(CLUSTER - within)));
        }
        if cluster / ENTRIES != self.table {
            self.finish_table()?;
            self.table = cluster / ENTRIES;
        }
        let host = self.next;
        let until = (guest + length).min((self.table + 1) * TABLE_SPAN);
        let clusters = until.div_ceil(CLUSTER) - cluster;
        for index in 0..clusters {
            let entry = (cluster + index) % ENTRIES;
            self.l2[entry as usize] = (host + index * CLUSTER) | COPIED;
        }
        self.table_in_use = true;
        self.next += clusters * CLUSTER;
        self.last = Some((cluster + clusters - 1, host + (clusters - 1) * CLUSTER));
        Ok((host + within, until - guest))
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), ImageError> {
        with_space(bytes.len() as u64, || self.file.write_all_at(bytes, offset))
            .map_err(ImageError::writing(offset))
    }

    fn finish_table(&mut self) -> Result<(), ImageError> {
        if !self.table_in_use {
            return Ok(());
        }
        self.write(&big_endian(&self.l2), self.next)?;
        self.l1.resize(self.table as usize + 1, 0);
        self.l1[self.table as usize] = self.next | COPIED;
        self.next += CLUSTER;
        self.l2.fill(0);
        self.table_in_use = false;
        Ok(())
    }

    /// Completes the image: a disk of `size` bytes.
    ///
    /// # Errors
    /// Where the file can't be written, or the disk or the backing file's name is too large.
    pub fn finish(mut self, size: u64, backing: Option<Backing>) -> Result<(), ImageError> {
        check_size(size)?;
        self.finish_table()?;
        self.l1.resize(size.div_ceil(TABLE_SPAN).max(1) as usize, 0);
        let l1_offset = self.next;
        self.write(&big_endian(&self.l1), l1_offset)?;
        self.next += (self.l1.len() as u64 * 8).next_multiple_of(CLUSTER);

        let refcounts = self.write_refcounts()?;
        self.write(&self.header(size, l1_offset, refcounts, backing)?, 0)?;
        self.file.set_len(self.next).map_err(ImageError::writing(self.next))
    }

    /// Writes reference count 1 for every cluster, those of the counts included; where the table
    /// is, and how many clusters it takes.
    fn write_refcounts(&mut self) -> Result<(u64, u64), ImageError> {
        let used = self.next / CLUSTER;
        let (mut blocks, mut table_clusters) = (1, 1);
        loop {
            let total = used + blocks + table_clusters;
            let wanted = total.div_ceil(REFCOUNTS);
            let table = (wanted * 8).div_ceil(CLUSTER);
            if (wanted, table) == (blocks, table_clusters) {
                break;
            }
            (blocks, table_clusters) = (wanted, table);
        }
        let total = used + blocks + table_clusters;
        let table_offset = self.next;
        let first_block = table_offset + table_clusters * CLUSTER;
        let table: Vec<u64> = (0..blocks).map(|index| first_block + index * CLUSTER).collect();
        self.write(&big_endian(&table), table_offset)?;
        for index in 0..blocks {
            let ones = (total - index * REFCOUNTS).min(REFCOUNTS) as usize;
            self.write(&[0_u8, 1].repeat(ones), first_block + index * CLUSTER)?;
        }
        self.next = total * CLUSTER;
        Ok((table_offset, table_clusters))
    }

    fn header(
        &self,
        size: u64,
        l1_offset: u64,
        (refcount_table, refcount_clusters): (u64, u64),
        backing: Option<Backing>,
    ) -> Result<Vec<u8>, ImageError> {
        let mut extensions = Vec::new();
        let mut name = &[][..];
        if let Some(backing) = backing {
            name = backing.name;
            extensions.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
            extensions.extend((backing.format.len() as u32).to_be_bytes());
            extensions.extend(backing.format.as_bytes());
            extensions.resize(extensions.len().next_multiple_of(8), 0);
        }
        extensions.extend([0; 8]);
        if name.len() > 1023 {
            return Err(ImageError::writing(0)(io::Error::other(
                "the name of the backing file is longer than the 1023 bytes that qcow2 allows",
            )));
        }
        let name_offset =
            if name.is_empty() { 0 } else { u64::from(HEADER_LENGTH) + extensions.len() as u64 };
        let mut header = Vec::with_capacity(HEADER_BLOCK);
        header.extend(b"QFI\xfb");
        header.extend(3_u32.to_be_bytes());
        header.extend(name_offset.to_be_bytes());
        header.extend((name.len() as u32).to_be_bytes());
        header.extend(CLUSTER_BITS.to_be_bytes());
        header.extend(size.to_be_bytes());
        header.extend(0_u32.to_be_bytes()); // not encrypted
        header.extend((self.l1.len() as u32).to_be_bytes());
        header.extend(l1_offset.to_be_bytes());
        header.extend(refcount_table.to_be_bytes());
        header.extend((refcount_clusters as u32).to_be_bytes());
        header.extend([0; 12]); // no internal snapshots: their number and offset
        header.extend([0; 24]); // no incompatible, compatible or autoclear features
        header.extend(4_u32.to_be_bytes()); // reference counts of 2^4 bits
        header.extend(HEADER_LENGTH.to_be_bytes());
        header.extend([0; 8]); // compression type zlib, and padding
        header.extend(extensions);
        header.extend(name);
        // Whatever stood in the block before is gone.
        header.resize(HEADER_BLOCK, 0);
        Ok(header)
    }
}
