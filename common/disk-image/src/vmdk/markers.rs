//! The part of a stream behind the header: grains with a marker each, grain tables, the grain directory, and a footer
//! (Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents").
//!
//! A reader that seeks goes by the tables, which come last; one that doesn't by the markers. Both must see the same
//! disk, so what the tables hold is compared with the grains that came. Of a table only a number is kept, made with a
//! random key: 16 bytes for each table of grains that came, and of tables.

use super::header::{HEADER, Header};
use super::input::{Input, Piece, Take};
use super::tables::{END_MARKER, GRAIN_HEADER, grain_data, is_end, is_footer};
use super::{SECTOR, corrupt, le32, le64, unsupported};
use crate::ImageError;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read;

const TABLE: u32 = 1;
const DIRECTORY: u32 = 2;
/// Tables that are accepted: those of a disk of 32 TiB with grains of the usual size.
const MOST_TABLES: usize = 1 << 20;
/// A file has one directory, perhaps a second.
const MOST_DIRECTORIES: usize = 4;
/// The directory is read in pieces of this size, bytes.
const PIECE: u64 = 64 << 10;

/// What has come so far.
pub(super) struct Markers<'h> {
    header: &'h Header,
    hasher: RandomState,
    /// The end of the grain that came last, bytes of the disk.
    reached: u64,
    /// Which table the grains belong to that come at present, and what must be in it.
    current: Option<(u64, Vec<u32>)>,
    /// Numbers of tables, and what must be in them.
    expected: Vec<(u32, u64)>,
    /// Sectors of tables that came, and what is in them.
    seen: Vec<(u32, u64)>,
    /// Sectors of directories that came.
    directories: Vec<u64>,
    /// Whether the footer came.
    complete: bool,
}

impl<'h> Markers<'h> {
    pub(super) fn new(header: &'h Header) -> Self {
        Self {
            header,
            hasher: RandomState::new(),
            reached: 0,
            current: None,
            expected: Vec::new(),
            seen: Vec::new(),
            directories: Vec::new(),
            complete: false,
        }
    }

    /// Reads the stream to its end.
    pub(super) fn read<R: Read>(
        mut self,
        input: &mut Input<R>,
        take: Take,
    ) -> Result<(), ImageError> {
        let mut first = [0; SECTOR as usize];
        loop {
            let offset = input.position;
            input.fill(&mut first)?;
            let (value, size, kind) = (le64(&first, 0), le32(&first, 8), le32(&first, 12));
            if self.complete {
                return self.end(&first, input);
            }
            if size != 0 {
                self.grain(&first, offset, input, take)?;
                continue;
            }
            match kind {
                // Nothing comes behind the last marker, so this is padding.
                END_MARKER if first.iter().all(|&byte| byte == 0) => {}
                TABLE => self.table(value, input)?,
                DIRECTORY => self.directory(value, input)?,
                _ if is_footer(&first) => self.footer(input)?,
                _ => {
                    return Err(corrupt(format!(
                        "the marker at byte {offset} is of the unknown kind {kind}, {value} sectors long"
                    )));
                }
            }
        }
    }

    fn end<R: Read>(&self, marker: &[u8], input: &mut Input<R>) -> Result<(), ImageError> {
        if !is_end(marker) || !input.is_at_end()? {
            return Err(corrupt("something follows its footer"));
        }
        if self.directories.is_empty() {
            return Err(corrupt("it has no grain directory"));
        }
        Ok(())
    }

    fn grain<R: Read>(
        &mut self,
        first: &[u8],
        offset: u64,
        input: &mut Input<R>,
        take: Take,
    ) -> Result<(), ImageError> {
        let sector = le64(first, 0);
        if !sector.is_multiple_of(self.header.grain()) || sector >= self.header.capacity() {
            return Err(corrupt(format!(
                "the grain at byte {offset} is for sector {sector} of the disk, which is none"
            )));
        }
        let start = sector * SECTOR;
        if start < self.reached {
            return Err(unsupported(format!(
                "has its grains out of order (the one at byte {offset}), so that it can't be read as a stream; copy it with `qemu-img convert` first"
            )));
        }
        let stored = grain_data(self.header, first, offset, start)?;
        let mut data = Vec::with_capacity(stored);
        data.extend_from_slice(&first[GRAIN_HEADER..first.len().min(GRAIN_HEADER + stored)]);
        if data.len() < stored {
            let rest = stored - data.len();
            data.resize(stored, 0);
            input.fill(&mut data[stored - rest..])?;
            input.skip_to(input.position.next_multiple_of(SECTOR))?;
        }
        let length = self.header.grain_length(start);
        self.reached = start + length;
        self.note(sector / self.header.grain(), offset)?;
        take(Piece::Grain { start, length, data, offset: offset + GRAIN_HEADER as u64 })
    }

    /// Notes down that a table must name the grain at `offset` of the stream.
    fn note(&mut self, grain: u64, offset: u64) -> Result<(), ImageError> {
        let place = u32::try_from(offset / SECTOR)
            .map_err(|_| corrupt(format!("no table can name its grain at byte {offset}")))?;
        let (table, entry) =
            (grain / self.header.table_entries(), grain % self.header.table_entries());
        if self.current.as_ref().is_none_or(|(current, _)| *current != table) {
            self.finish_table()?;
            self.current = Some((table, vec![0; self.header.table_entries() as usize]));
        }
        if let Some((_, entries)) = &mut self.current {
            entries[entry as usize] = place;
        }
        Ok(())
    }

    fn finish_table(&mut self) -> Result<(), ImageError> {
        if let Some((table, entries)) = self.current.take() {
            check_count(self.expected.len())?;
            // There are at most 32 Mi tables.
            self.expected.push((table as u32, self.hasher.hash_one(entries)));
        }
        Ok(())
    }

    fn table<R: Read>(&mut self, sectors: u64, input: &mut Input<R>) -> Result<(), ImageError> {
        let length = self.header.table_length();
        check_length("a grain table", sectors, length)?;
        check_count(self.seen.len())?;
        let sector = sector_of(input.position)?;
        let bytes = input.take((sectors * SECTOR) as usize)?;
        let entries: Vec<u32> = bytes[..length as usize]
            .chunks_exact(4)
            .map(|entry| le32(entry, 0))
            .map(|entry| if self.header.is_zero(entry) { 0 } else { entry })
            .collect();
        self.seen.push((sector, self.hasher.hash_one(entries)));
        Ok(())
    }

    fn directory<R: Read>(&mut self, sectors: u64, input: &mut Input<R>) -> Result<(), ImageError> {
        let length = self.header.tables() * 4;
        check_length("the grain directory", sectors, length)?;
        if self.directories.len() == MOST_DIRECTORIES {
            return Err(corrupt("it has too many grain directories"));
        }
        self.finish_table()?;
        self.directories.push(input.position / SECTOR);
        let mut number = 0;
        let mut expected = self.expected.iter().peekable();
        let nothing = self.hasher.hash_one(vec![0_u32; self.header.table_entries() as usize]);
        while number < self.header.tables() {
            let piece = input.take(PIECE.min((self.header.tables() - number) * 4) as usize)?;
            for sector in piece.chunks_exact(4).map(|entry| le32(entry, 0)) {
                let wanted = expected.next_if(|(table, _)| u64::from(*table) == number);
                let wanted = wanted.map_or(nothing, |(_, hash)| *hash);
                let found = match sector {
                    0 => Some(nothing),
                    _ => self
                        .seen
                        .binary_search_by_key(&sector, |(sector, _)| *sector)
                        .ok()
                        .map(|at| self.seen[at].1),
                };
                if found != Some(wanted) {
                    return Err(corrupt(format!(
                        "its grain table {number} is missing or names other grains than there are"
                    )));
                }
                number += 1;
            }
        }
        input.skip_to(input.position.next_multiple_of(SECTOR))
    }

    fn footer<R: Read>(&mut self, input: &mut Input<R>) -> Result<(), ImageError> {
        let footer = self.header.footer(&input.take(HEADER)?)?;
        if !footer.directory.is_some_and(|sector| self.directories.contains(&sector)) {
            return Err(corrupt("its footer names a grain directory that is not there"));
        }
        let end = |sector: u64| {
            sector.checked_mul(SECTOR).and_then(|at| at.checked_add(self.header.tables() * 4))
        };
        if footer
            .second_directory()
            .is_some_and(|at| end(at).is_none_or(|end| end > input.position))
        {
            return Err(corrupt("its second grain directory lies outside the file"));
        }
        self.complete = true;
        Ok(())
    }
}

/// That a table of `bytes` bytes has as many sectors as its marker says.
fn check_length(what: &str, sectors: u64, bytes: u64) -> Result<(), ImageError> {
    if sectors == bytes.div_ceil(SECTOR) {
        return Ok(());
    }
    Err(corrupt(format!(
        "{what} of it has {sectors} sectors instead of {}",
        bytes.div_ceil(SECTOR)
    )))
}

fn check_count(count: usize) -> Result<(), ImageError> {
    if count < MOST_TABLES {
        return Ok(());
    }
    Err(unsupported(format!(
        "has more than {MOST_TABLES} grain tables; copy it with `qemu-img convert` first"
    )))
}

fn sector_of(offset: u64) -> Result<u32, ImageError> {
    u32::try_from(offset / SECTOR)
        .map_err(|_| corrupt(format!("nothing can name its table at byte {offset}")))
}
