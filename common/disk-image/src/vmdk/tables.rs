//! The grain directory and the grain tables: where the bytes of the disk are in the file.

use super::header::{HEADER, Header};
use super::{SECTOR, corrupt, cut_off, le32, le64, read};
use crate::ImageError;
use crate::foreign::ReadAt;

pub(super) const END_MARKER: u32 = 0;
pub(super) const FOOTER_MARKER: u32 = 3;

/// A marker, the footer and a marker, at the end of a file: a sector each, bytes.
const FOOTER: u64 = 3 * SECTOR;
/// So much of the grain directory is held in memory at once, bytes.
const PIECE: u64 = 64 << 10;
/// Tables that are accepted: those of a disk of 128 TiB with grains of the usual size. Each takes 4 bytes of memory.
const MOST_TABLES: usize = 4 << 20;
/// What a grain has in front of it: its place on the disk and its length, bytes.
pub(super) const GRAIN_HEADER: usize = 12;

/// A run of the disk's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First byte of the disk.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// Where the bytes are.
    pub place: Place,
}

/// Where the bytes of a [`Run`] are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: they read as zero.
    Zero,
    /// At this offset, as they are.
    Data(u64),
    /// At this offset, compressed. The run is one grain.
    Grain(u64),
}

/// The header of a file, and all that is needed to read its tables.
#[derive(Debug)]
pub struct Tables {
    header: Header,
    /// Offset of the grain directory, bytes.
    directory: u64,
    /// Length of the file, bytes.
    length: u64,
}

impl Tables {
    /// Reads header, descriptor and footer of a file of `length` bytes.
    ///
    /// # Errors
    /// As [`Header::read`], and where a part of the file lies outside.
    pub fn open(length: u64, read_at: ReadAt) -> Result<Self, ImageError> {
        let header = Header::read(read_at)?;
        let header = match header.directory {
            Some(_) => header,
            None => footer_of(&header, length, read_at)?,
        };
        let start = header.overhead().saturating_mul(SECTOR);
        if start > length {
            return Err(cut_off(start));
        }
        let first = header.directory.unwrap_or(0);
        let size = header.tables() * 4;
        let parts = [
            Some(("the grain directory", first)),
            header.second_directory().map(|at| ("the second grain directory", at)),
        ];
        for (name, sector) in parts.into_iter().flatten() {
            let inside = sector
                .checked_mul(SECTOR)
                .and_then(|at| at.checked_add(size))
                .is_some_and(|end| end <= length);
            if !inside || sector * SECTOR < header.descriptor_end() {
                return Err(corrupt(format!(
                    "{name} of it lies at sector {sector}, {size} bytes long, in a file of {length} bytes"
                )));
            }
        }
        Ok(Self { directory: first * SECTOR, header, length })
    }

    /// As [`Tables::open`], for a file of unknown length whose first `length` bytes are at hand, with all tables.
    pub(super) fn at_start(length: u64, read_at: ReadAt) -> Result<Self, ImageError> {
        Ok(Self { length: u64::MAX, ..Self::open(length, read_at)? })
    }

    /// The header, or the footer where there is one.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Calls `visit` with the runs of the disk, from its first byte to its last.
    ///
    /// # Errors
    /// What `visit` returns, or what is wrong with the tables.
    pub fn walk(
        &self,
        read_at: ReadAt,
        visit: &mut dyn FnMut(Run) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let mut pending: Option<Run> = None;
        self.entries(read_at, &mut |index, sector| {
            let start = index * self.header.table_span();
            let length = self.header.table_span().min(self.header.size() - start);
            if sector == 0 {
                return join(&mut pending, Run { start, length, place: Place::Zero }, visit);
            }
            let table =
                read(read_at, u64::from(sector) * SECTOR, self.header.table_length() as usize)?;
            let grains = length.div_ceil(self.header.grain_size()) as usize;
            for (number, entry) in table.chunks_exact(4).take(grains).enumerate() {
                let start = start + number as u64 * self.header.grain_size();
                join(&mut pending, self.grain(start, le32(entry, 0))?, visit)?;
            }
            Ok(())
        })?;
        pending.map_or(Ok(()), visit)
    }

    /// Calls `visit` with the entries of the grain directory.
    fn entries(
        &self,
        read_at: ReadAt,
        visit: &mut dyn FnMut(u64, u32) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let (mut done, size) = (0, self.header.tables() * 4);
        while done < size {
            let piece = read(read_at, self.directory + done, PIECE.min(size - done) as usize)?;
            for (number, entry) in piece.chunks_exact(4).enumerate() {
                visit(done / 4 + number as u64, le32(entry, 0))?;
            }
            done += piece.len() as u64;
        }
        Ok(())
    }

    /// The grain at the byte `start` of the disk, for which a table says `entry`.
    fn grain(&self, start: u64, entry: u32) -> Result<Run, ImageError> {
        let length = self.header.grain_length(start);
        if self.header.is_zero(entry) {
            return Ok(Run { start, length, place: Place::Zero });
        }
        let offset = u64::from(entry) * SECTOR;
        if offset < self.header.descriptor_end() {
            return Err(corrupt(format!("a grain of it lies at byte {offset}, in its header")));
        }
        let (stored, place) = if self.header.is_compressed() {
            (1, Place::Grain(offset))
        } else {
            (length, Place::Data(offset))
        };
        if offset + stored > self.length {
            return Err(corrupt(format!(
                "a grain lies at byte {offset} of a file of {} bytes: the file is cut off",
                self.length
            )));
        }
        Ok(Run { start, length, place })
    }

    /// Walks all tables: each must lie in the file at a place of its own, all that they point to must lie in
    /// the file beside them, and be no more data than the file can hold.
    ///
    /// # Errors
    /// Where that is not so, or the file can't be read.
    pub fn verify(&self, read_at: ReadAt) -> Result<(), ImageError> {
        let tables = self.places_of_tables(read_at)?;
        let directory = self.directory..self.directory + self.header.tables() * 4;
        let length = self.header.table_length();
        let (mut data, mut grains) = (0, 0_u64);
        self.walk(read_at, &mut |run| {
            let (offset, stored) = match run.place {
                Place::Zero => return Ok(()),
                Place::Data(offset) => (offset, run.length),
                Place::Grain(offset) => (offset, 1),
            };
            data += stored;
            grains += 1;
            let end = offset + stored;
            let first = tables.partition_point(|&at| u64::from(at) * SECTOR + length <= offset);
            let in_table = tables.get(first).is_some_and(|&at| u64::from(at) * SECTOR < end);
            if in_table || (offset < directory.end && directory.start < end) {
                return Err(corrupt(format!("its grain at byte {offset} lies in a table")));
            }
            Ok(())
        })?;
        // Compressed grains begin at sectors.
        let least = if self.header.is_compressed() { grains * SECTOR } else { data };
        if least > self.length.saturating_add(SECTOR - 1) {
            return Err(corrupt("its tables point to the same place more than once"));
        }
        Ok(())
    }

    /// The sectors at which grain tables begin, in order.
    fn places_of_tables(&self, read_at: ReadAt) -> Result<Vec<u32>, ImageError> {
        let mut tables = Vec::new();
        self.entries(read_at, &mut |_, sector| {
            if sector == 0 {
                return Ok(());
            }
            if tables.len() == MOST_TABLES {
                return Err(corrupt(format!("it has more than {MOST_TABLES} tables")));
            }
            tables.push(sector);
            Ok(())
        })?;
        tables.sort_unstable();
        let sectors = self.header.table_length().div_ceil(SECTOR);
        if tables.windows(2).any(|pair| u64::from(pair[1] - pair[0]) < sectors) {
            return Err(corrupt("two of its grain tables lie at the same place"));
        }
        let directory = self.directory / SECTOR;
        let directory = directory..directory + (self.header.tables() * 4).div_ceil(SECTOR);
        for &table in &tables {
            let table = u64::from(table);
            if table * SECTOR < self.header.descriptor_end()
                || (table < directory.end && directory.start < table + sectors)
            {
                return Err(corrupt(format!(
                    "its grain table at sector {table} lies in its header or its directory"
                )));
            }
        }
        Ok(tables)
    }

    /// Where the compressed grain at `offset`, which is that of the byte `start` of the disk, has its data, and
    /// how many bytes of it.
    ///
    /// # Errors
    /// Where the grain is none, or lies outside the file.
    pub fn compressed(
        &self,
        read_at: ReadAt,
        offset: u64,
        start: u64,
    ) -> Result<(u64, usize), ImageError> {
        if !self.header.has_markers() {
            // QEMU takes as much as a grain has, if it is not compressed.
            return Ok((offset, self.header.grain_size() as usize));
        }
        let marker = read(read_at, offset, GRAIN_HEADER)?;
        let length = grain_data(&self.header, &marker, offset, start)?;
        let data = offset + GRAIN_HEADER as u64;
        if data + length as u64 > self.length {
            return Err(cut_off(data + length as u64));
        }
        Ok((data, length))
    }
}

/// How many bytes of data a grain at `offset` of the file has, as `marker` in front of it says; it must be that of
/// the byte `start` of the disk.
pub(super) fn grain_data(
    header: &Header,
    marker: &[u8],
    offset: u64,
    start: u64,
) -> Result<usize, ImageError> {
    let (sector, length) = (le64(marker, 0), u64::from(le32(marker, 8)));
    if sector.checked_mul(SECTOR) != Some(start) {
        return Err(corrupt(format!(
            "the grain at byte {offset} says that it is of sector {sector} of the disk, its table that it is of sector {}",
            start / SECTOR
        )));
    }
    if length == 0 || length > 2 * header.grain_size() {
        return Err(corrupt(format!(
            "the grain at byte {offset} says that it is {length} bytes long"
        )));
    }
    Ok(length as usize)
}

fn footer_of(header: &Header, length: u64, read_at: ReadAt) -> Result<Header, ImageError> {
    let start = length.checked_sub(FOOTER);
    let end = read(read_at, start.ok_or_else(|| cut_off(FOOTER))?, FOOTER as usize)?;
    let (marker, rest) = end.split_at(HEADER);
    let (footer, last) = rest.split_at(HEADER);
    if !is_footer(marker) || !is_end(last) {
        return Err(corrupt("its footer is missing"));
    }
    header.footer(footer)
}

/// Adds `next` to the run before it, or has that visited.
fn join(
    pending: &mut Option<Run>,
    next: Run,
    visit: &mut dyn FnMut(Run) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    if let Some(before) = pending {
        let goes_on = match (before.place, next.place) {
            (Place::Zero, Place::Zero) => true,
            (Place::Data(offset), Place::Data(further)) => offset + before.length == further,
            _ => false,
        };
        if goes_on {
            before.length += next.length;
            return Ok(());
        }
        visit(*before)?;
    }
    *pending = Some(next);
    Ok(())
}

/// Whether a sector is the marker in front of a footer.
pub(super) fn is_footer(marker: &[u8]) -> bool {
    le32(marker, 8) == 0 && le32(marker, 12) == FOOTER_MARKER
}

/// Whether a sector is the marker at the end of a stream.
pub(super) fn is_end(marker: &[u8]) -> bool {
    le64(marker, 0) == 0 && le32(marker, 8) == 0 && le32(marker, 12) == END_MARKER
}
