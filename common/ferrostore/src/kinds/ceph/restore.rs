//! Restoring a backup: `restic+rbd://` and `rsync+rbd://`.
//!
//! OpenNebula's downloader sends a tar archive, compressed or not, of `disk.<n>.0.rbd2`, a full export of an image
//! (format 2 of `rbd export`), and `disk.<n>.<k>.rbdiff`, its increments. They are imported in the order of their numbers,
//! whatever their order in the archive.

use super::new::NewImage;
use super::tree::purge;
use crate::image_source::{Bytes, ImageSource};
use crate::kinds::DatastoreError;
use crate::kinds::intake::{path_error, reading};
use crate::transfer::decompress::decompress;
use crate::transfer::{ReadAhead, location::Location};
use disk_image::admission::ImageRefusal;
use disk_image::probe::{self, Content};
use disk_image::{ImageError, stream};
use one_protocol::message::{Image, Mebibytes};
use runtime::command::rbd::{Import, Pool};
use runtime::staging::Staged;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};

/// Schemes of backups.
const SCHEMES: [&str; 2] = ["restic+rbd", "rsync+rbd"];
/// Unit of a tar archive, bytes.
const BLOCK: usize = 512;
/// So much is moved at once, bytes.
const PIECE: usize = 256 << 10;
/// More increments than this no backup has.
const MOST_PARTS: usize = 10_000;

/// Whether `IMAGE/PATH` names a backup of an RBD image.
pub(super) fn is_backup(image: &Image) -> bool {
    let location = image.path().map(Location::parse);
    matches!(location, Ok(Location::Helper { scheme }) if SCHEMES.contains(&scheme.as_ref()))
}

/// The size of a backup's disk: what OpenNebula has recorded, since only the whole backup would tell it.
pub(super) fn size(image: &Image) -> Result<Mebibytes, DatastoreError> {
    image.size.filter(|size| size.0 > 0).ok_or_else(|| {
        path_error(
            image,
            "is a backup, whose size only the whole of it would tell: give the image a SIZE",
        )
    })
}

/// A member of the archive: an export, number 0, or the increment with this number.
type Part = u32;

/// Reads `disk.<n>.0.rbd2` and `disk.<n>.<k>.rbdiff`, in whatever folder.
fn part_of(name: &str) -> Option<Part> {
    let name = name.rsplit('/').next()?;
    let mut words = name.strip_prefix("disk.")?.split('.');
    let (disk, number, end) = (words.next()?, words.next()?, words.next()?);
    let number: Part = number.parse().ok()?;
    let fits = (number == 0 && end == "rbd2") || (number > 0 && end == "rbdiff");
    (fits && words.next().is_none() && disk.parse::<u32>().is_ok()).then_some(number)
}

/// The header of a tar member (`tar(5)`, POSIX.1-1988): its name, its length in bytes, and its type. `None` at the end of
/// the archive.
fn header(block: &[u8; BLOCK]) -> Result<Option<(String, u64, u8)>, ImageError> {
    if block.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let field = |range: std::ops::Range<usize>| {
        let text = block[range].split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).trim().to_owned()
    };
    let sum: u64 = block
        .iter()
        .enumerate()
        // The sum is made with blanks in its own place.
        .map(|(at, &byte)| u64::from(if (148..156).contains(&at) { b' ' } else { byte }))
        .sum();
    let octal = |range| u64::from_str_radix(&field(range), 8);
    let length = if block[124] & 0x80 == 0 {
        octal(124..136).ok()
    } else {
        // GNU's way for what octal digits can't hold: the last eight bytes, the highest first.
        block[128..136].try_into().ok().map(u64::from_be_bytes)
    };
    match (octal(148..156), length) {
        (Ok(expected), Some(length)) if expected == sum => {
            Ok(Some((field(0..100), length, block[156])))
        }
        _ => Err(reading(invalid("the backup is no tar archive, or damaged"))),
    }
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// An end in the middle of a header, in words.
fn cut_off(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => invalid("the backup ends too early"),
        _ => error,
    }
}

impl NewImage<'_> {
    /// Makes the image of the backup that `source` brings.
    pub(super) fn restore(
        &mut self,
        source: ImageSource,
        memory: u64,
    ) -> Result<(), DatastoreError> {
        let stream: Box<dyn Read + Send> = match source.bytes {
            Bytes::Stream(stream) => stream,
            Bytes::File(file) => Box::new(file),
            Bytes::Disk(_) | Bytes::Nothing => return Err(ImageRefusal::Empty.into()),
        };
        self.restore_stream(stream, memory)?;
        Ok(source.digests.verify()?)
    }

    fn restore_stream(
        &mut self,
        stream: Box<dyn Read + Send>,
        memory: u64,
    ) -> Result<(), DatastoreError> {
        let mut stream = ReadAhead::of(stream).map_err(reading)?;
        let mut head = vec![0; probe::HEAD];
        let length = stream::fill(&mut stream, &mut head).map_err(reading)?;
        head.truncate(length);
        let compression = match Content::of(&head) {
            Content::Compressed(compression) => Some(compression),
            _ => None,
        };
        let whole = io::Cursor::new(head).chain(stream);
        match compression {
            None => self.take_parts(whole),
            Some(compression) => {
                self.take_parts(decompress(compression, whole, memory).map_err(reading)?)
            }
        }
    }

    fn take_parts(&mut self, mut archive: impl Read) -> Result<(), DatastoreError> {
        let mut waiting: Vec<(Part, Staged)> = Vec::new();
        let mut next: Part = 0;
        loop {
            let mut block = [0; BLOCK];
            archive.read_exact(&mut block).map_err(cut_off).map_err(reading)?;
            let Some((name, length, kind)) = header(&block)? else { break };
            let is_file = matches!(kind, 0 | b'0');
            let mut member = archive.by_ref().take(length);
            match part_of(&name).filter(|_| is_file) {
                Some(part) if part == next => {
                    self.import(part, &mut member, length)?;
                    next += 1;
                    while let Some(at) = waiting.iter().position(|(part, _)| *part == next) {
                        let (part, staged) = waiting.swap_remove(at);
                        self.import_staged(part, &staged)?;
                        next += 1;
                    }
                }
                Some(part) if part > next && waiting.len() < MOST_PARTS => {
                    waiting.push((part, self.staged(&mut member)?));
                }
                Some(part) => {
                    return Err(
                        reading(invalid(format!("the backup has part {part} twice"))).into()
                    );
                }
                None => {
                    io::copy(&mut member, &mut io::sink()).map_err(reading)?;
                }
            }
            if member.limit() > 0 {
                return Err(reading(invalid("the backup ends too early")).into());
            }
            let padding = length.next_multiple_of(BLOCK as u64) - length;
            io::copy(&mut archive.by_ref().take(padding), &mut io::sink()).map_err(reading)?;
        }
        // What follows the end of an archive is padding; its checksum is at the very end.
        io::copy(&mut archive, &mut io::sink()).map_err(reading)?;
        if next == 0 || !waiting.is_empty() {
            let what = format!("the backup lacks part {next} of the disk");
            return Err(reading(invalid(what)).into());
        }
        self.without_snapshots()
    }

    fn staged(&self, member: &mut impl Read) -> Result<Staged, DatastoreError> {
        use crate::kinds::intake::Destination as _;
        let staged = self.stage()?;
        let writing = |source| ImageError::Write { offset: 0, source };
        io::copy(member, &mut staged.file()).map_err(writing)?;
        Ok(staged)
    }

    fn import_staged(&mut self, part: Part, staged: &Staged) -> Result<(), DatastoreError> {
        let mut file: File = staged.file().try_clone().map_err(reading)?;
        file.rewind().map_err(reading)?;
        let length = file.metadata().map_err(reading)?.len();
        self.import(part, &mut file, length)
    }

    /// Has `rbd` read one part.
    fn import(
        &mut self,
        part: Part,
        member: &mut impl Read,
        length: u64,
    ) -> Result<(), DatastoreError> {
        let import = if part == 0 {
            self.begin_with(|pool: &Pool, temporary| pool.import_whole(temporary))?
        } else {
            self.go_on_with(|pool: &Pool, temporary| pool.import_increment(temporary))?
        };
        let fed = feed(&import, member, length);
        // The program says better why it took no more.
        match (import.finish(), fed) {
            (Err(error), Err(ImageError::Write { .. }) | Ok(())) => Err(error.into()),
            (_, Err(error)) => Err(error.into()),
            (Ok(()), Ok(())) => Ok(()),
        }
    }

    /// Removes the snapshots that increments lie between.
    fn without_snapshots(&self) -> Result<(), DatastoreError> {
        let (pool, temporary) = (self.pool(), self.name().temporary());
        Ok(purge(pool, &temporary, &pool.snapshots(&temporary)?)?)
    }
}

fn feed(import: &Import, member: &mut impl Read, length: u64) -> Result<(), ImageError> {
    let mut buffer = vec![0; PIECE];
    let mut left = length;
    while left > 0 {
        let count = left.min(PIECE as u64) as usize;
        member
            .read_exact(&mut buffer[..count])
            .map_err(|_| reading(invalid("the backup ends too early")))?;
        (&*import.pipe())
            .write_all(&buffer[..count])
            .map_err(|source| ImageError::Write { offset: length - left, source })?;
        left -= count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_are_known_by_their_names() {
        assert_eq!(part_of("disk.0.0.rbd2"), Some(0));
        assert_eq!(part_of("./backup/disk.12.10.rbdiff"), Some(10));
        for other in [
            "disk.0.1.rbd2",
            "disk.0.0.rbdiff",
            "disk.0.rbd2",
            "vm.xml",
            "disk.0.1.rbdiff.x",
            "disk.x.0.rbd2",
        ] {
            assert_eq!(part_of(other), None, "{other}");
        }
    }

    fn block(name: &str, length: &str) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..124 + length.len()].copy_from_slice(length.as_bytes());
        block[156] = b'0';
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum::<u64>() + 8 * 32;
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block[155] = b' ';
        block
    }

    #[test]
    fn headers_are_read_and_checked_by_their_sums() {
        let good = block("disk.0.0.rbd2", "00000001000");
        assert_eq!(header(&good).unwrap(), Some(("disk.0.0.rbd2".to_owned(), 512, b'0')));
        assert_eq!(header(&[0; BLOCK]).unwrap(), None);
        let mut damaged = good;
        damaged[3] ^= 1;
        assert!(header(&damaged).is_err());
    }
}
