//! An image as a stream of differences from an image of zeroes, as `rbd import-diff` takes it ("rbd diff v1",
//! doc/dev/rbd-diff.rst of Ceph).
//!
//! The stream is a line of text and then records: `s` and the size of the image, `w`, an offset, a length and so many
//! bytes, `e` at the end; numbers have 64 bits, the lowest byte first. What is in no record reads as zero. Records of
//! data may come in any order, and from several threads.

use super::ImageError;
use super::page_buffer::PageBuffer;
use super::run::Run;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The first line ("header" in rbd-diff.rst).
const BANNER: &[u8] = b"rbd diff v1\n";
/// Tag of the size of the image.
const SIZE: u8 = b's';
/// Tag of data.
const WRITE: u8 = b'w';
/// Tag of the end.
const END: u8 = b'e';
/// No record reaches over a multiple of this: the size of objects in RBD images where nothing else is wanted, bytes.
const OBJECT: u64 = 4 << 20;
/// RBD images consist of whole sectors: the guest would not see a part of one.
pub const SECTOR: u64 = 512;
/// An image of unknown size is this large at first, and twice as large each time that is not enough, bytes.
const FIRST_SIZE: u64 = 1 << 30;

/// The stream, while it is written into a pipe.
#[derive(Debug)]
pub struct RbdDiff {
    pipe: Arc<File>,
    /// The size that the image has by now, bytes.
    size: Mutex<u64>,
}

impl RbdDiff {
    /// Begins the stream of an image that has `size` bytes already.
    ///
    /// # Errors
    /// Where the pipe can't be written; so with all that follows.
    pub fn begin(pipe: Arc<File>, size: u64) -> Result<Self, ImageError> {
        let diff = Self { pipe, size: Mutex::new(size) };
        diff.put(&[IoSlice::new(BANNER)], 0)?;
        Ok(diff)
    }

    /// The pipe.
    #[must_use]
    pub fn pipe(&self) -> &File {
        &self.pipe
    }

    fn size(&self) -> MutexGuard<'_, u64> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that `bytes` are at `offset`.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn write(&self, bytes: &[u8], offset: u64) -> Result<(), ImageError> {
        // For all of it, so that records are whole.
        let mut size = self.size();
        let end = offset + bytes.len() as u64;
        if end > *size {
            let larger = FIRST_SIZE.max(end.checked_next_power_of_two().unwrap_or(end));
            self.resize(&mut size, larger)?;
        }
        let (mut offset, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let to_the_end = OBJECT - offset % OBJECT;
            let (now, later) = rest.split_at(rest.len().min(to_the_end as usize));
            let mut header = [WRITE; 17];
            header[1..9].copy_from_slice(&offset.to_le_bytes());
            header[9..].copy_from_slice(&(now.len() as u64).to_le_bytes());
            self.put(&[IoSlice::new(&header), IoSlice::new(now)], offset)?;
            offset += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Ends the stream: the image is whole, and has `size` bytes, in whole sectors.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn finish(&self, size: u64) -> Result<(), ImageError> {
        let mut known = self.size();
        let size = size.next_multiple_of(SECTOR);
        if *known != size {
            self.resize(&mut known, size)?;
        }
        self.put(&[IoSlice::new(&[END])], size)
    }

    fn resize(&self, known: &mut u64, size: u64) -> Result<(), ImageError> {
        let mut record = [SIZE; 9];
        record[1..].copy_from_slice(&size.to_le_bytes());
        self.put(&[IoSlice::new(&record)], size)?;
        *known = size;
        Ok(())
    }

    fn put(&self, parts: &[IoSlice], offset: u64) -> Result<(), ImageError> {
        write_all(&self.pipe, parts).map_err(ImageError::writing(offset))
    }
}

fn write_all(mut pipe: &File, parts: &[IoSlice]) -> io::Result<()> {
    let mut parts = parts.to_vec();
    let mut parts = &mut parts[..];
    while !parts.is_empty() {
        match pipe.write_vectored(parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut parts, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tag of zeroes.
const ZERO: u8 = b'z';
/// Tags of the snapshots that a difference lies between.
const SNAPSHOTS: [u8; 2] = [b'f', b't'];
/// So much is read at once, bytes.
const PIECE: usize = 256 << 10;

/// Reads a stream of differences from nothing, and hands all bytes of the image, of which there are `size`, to `take`,
/// from the first to the last.
///
/// # Errors
/// Where the stream can't be read, is not whole, or is none of such an image.
pub fn read(mut stream: impl Read, size: u64, take: &mut dyn FnMut(Run)) -> io::Result<()> {
    let invalid = || {
        io::Error::new(io::ErrorKind::InvalidData, "`rbd export-diff` printed unexpected output")
    };
    let mut banner = [0; BANNER.len()];
    stream.read_exact(&mut banner)?;
    if banner != BANNER {
        return Err(invalid());
    }
    let mut buffer = vec![0; PIECE];
    let mut position = 0;
    loop {
        let mut tag = [0];
        stream.read_exact(&mut tag)?;
        match tag[0] {
            END => break,
            SIZE => {
                if number(&mut stream)? != size {
                    return Err(io::Error::other(
                        "the image's size has changed meanwhile: try again",
                    ));
                }
            }
            WRITE | ZERO => {
                let (start, length) = (number(&mut stream)?, number(&mut stream)?);
                let end = start.checked_add(length).filter(|&end| start >= position && end <= size);
                let end = end.ok_or_else(invalid)?;
                let zeroes = if tag[0] == ZERO { end } else { start } - position;
                take(Run::Zeroes(zeroes));
                let mut rest = if tag[0] == ZERO { 0 } else { length };
                while rest > 0 {
                    let count = rest.min(PIECE as u64) as usize;
                    stream.read_exact(&mut buffer[..count])?;
                    take(Run::Bytes(&buffer[..count]));
                    rest -= count as u64;
                }
                position = end;
            }
            tag if SNAPSHOTS.contains(&tag) => {
                let length = u64::from(u32::from_le_bytes(exactly(&mut stream)?));
                io::copy(&mut stream.by_ref().take(length), &mut io::sink())?;
            }
            _ => return Err(invalid()),
        }
    }
    take(Run::Zeroes(size - position));
    // A program tells at the end whether it has done well.
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(invalid()),
    }
}

fn exactly<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn number(stream: &mut impl Read) -> io::Result<u64> {
    Ok(u64::from_le_bytes(exactly(stream)?))
}

/// Gathers small pieces that lie next to each other, so that they become one record.
#[derive(Debug)]
pub(super) struct Gathered {
    buffer: PageBuffer,
    start: u64,
    filled: usize,
}

impl Gathered {
    /// At most `capacity` bytes at once.
    pub(super) fn of(capacity: usize) -> Self {
        let mut buffer = PageBuffer::default();
        buffer.resize(capacity);
        Self { buffer, start: 0, filled: 0 }
    }

    /// Adds `bytes` at `offset`; what doesn't join them is given to `write` first.
    pub(super) fn add<E>(
        &mut self,
        offset: u64,
        bytes: &[u8],
        write: &mut impl FnMut(&[u8], u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let joins = offset == self.start + self.filled as u64
            && self.filled + bytes.len() <= self.buffer.len();
        if !joins {
            self.flush(write)?;
            self.start = offset;
        }
        if bytes.len() > self.buffer.len() {
            return write(bytes, offset);
        }
        self.buffer[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    /// Gives what is left to `write`.
    pub(super) fn flush<E>(
        &mut self,
        write: &mut impl FnMut(&[u8], u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let filled = std::mem::take(&mut self.filled);
        if filled > 0 { write(&self.buffer[..filled], self.start) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn stream(write: impl FnOnce(&RbdDiff), size: u64) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("diff");
        let file = Arc::new(File::create(&path).unwrap());
        let diff = RbdDiff::begin(file, size).unwrap();
        write(&diff);
        fs::read(path).unwrap()
    }

    fn write_record(offset: u64, bytes: &[u8]) -> Vec<u8> {
        [&b"w"[..], &offset.to_le_bytes(), &(bytes.len() as u64).to_le_bytes(), bytes].concat()
    }

    #[test]
    fn an_image_of_known_size_needs_no_record_of_it() {
        let written = stream(|diff| diff.finish(4096).unwrap(), 4096);
        assert_eq!(written, b"rbd diff v1\ne");
    }

    #[test]
    fn data_is_written_where_it_lies() {
        let written = stream(
            |diff| {
                diff.write(b"abc", 512).unwrap();
                diff.finish(4096).unwrap();
            },
            4096,
        );
        assert_eq!(written, [b"rbd diff v1\n", &*write_record(512, b"abc"), b"e"].concat());
    }

    #[test]
    fn no_record_reaches_into_the_next_object() {
        let data = vec![7; 12];
        let written = stream(|diff| diff.write(&data, OBJECT - 4).unwrap(), 2 * OBJECT);
        let (first, second) = (write_record(OBJECT - 4, &[7; 4]), write_record(OBJECT, &[7; 8]));
        assert_eq!(written, [b"rbd diff v1\n", &*first, &*second].concat());
    }

    #[test]
    fn an_image_of_unknown_size_grows_and_ends_in_whole_sectors() {
        let written = stream(
            |diff| {
                diff.write(b"x", 0).unwrap();
                diff.write(b"y", FIRST_SIZE).unwrap();
                diff.finish(FIRST_SIZE + 1).unwrap();
            },
            0,
        );
        let size = |bytes: u64| [&b"s"[..], &bytes.to_le_bytes()].concat();
        let expected = [
            b"rbd diff v1\n",
            &*size(FIRST_SIZE),
            &*write_record(0, b"x"),
            &*size(2 * FIRST_SIZE),
            &*write_record(FIRST_SIZE, b"y"),
            &*size(FIRST_SIZE + SECTOR),
            b"e",
        ];
        assert_eq!(written, expected.concat());
    }

    fn expanded(stream: &[u8], size: u64) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        read(stream, size, &mut |run| match run {
            Run::Bytes(bytes) => all.extend_from_slice(bytes),
            Run::Zeroes(count) => all.resize(all.len() + count as usize, 0),
        })?;
        Ok(all)
    }

    #[test]
    fn what_was_written_is_read_again_with_zeroes_between() {
        let written = stream(
            |diff| {
                diff.write(b"abc", 2).unwrap();
                diff.write(b"d", 511).unwrap();
                diff.finish(1024).unwrap();
            },
            1024,
        );
        let mut expected = vec![0; 1024];
        expected[2..5].copy_from_slice(b"abc");
        expected[511] = b'd';
        assert_eq!(expanded(&written, 1024).unwrap(), expected);
        // Cut off anywhere, it is no image.
        for length in 0..written.len() {
            assert!(expanded(&written[..length], 1024).is_err(), "{length}");
        }
        let more = [&written[..], b"x"].concat();
        assert!(expanded(&more, 1024).is_err());
    }

    #[test]
    fn records_beyond_the_image_or_out_of_order_are_refused() {
        let record = |bytes: &[u8]| [&b"rbd diff v1\n"[..], bytes, b"e"].concat();
        let zeroes = |start: u64, count: u64| {
            [&b"z"[..], &start.to_le_bytes(), &count.to_le_bytes()].concat()
        };
        assert_eq!(expanded(&record(&zeroes(0, 8)), 8).unwrap(), [0; 8]);
        for wrong in [
            zeroes(0, 9),
            zeroes(u64::MAX, 2),
            [zeroes(4, 4), zeroes(3, 1)].concat(),
            b"q".to_vec(),
        ] {
            assert!(expanded(&record(&wrong), 8).is_err(), "{wrong:?}");
        }
        let named = [&b"t"[..], &2_u32.to_le_bytes(), b"ab"].concat();
        assert_eq!(expanded(&record(&named), 1).unwrap(), [0]);
    }

    #[test]
    fn neighbours_are_gathered() {
        let mut seen: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut write = |bytes: &[u8], offset| -> Result<(), ()> {
            seen.push((offset, bytes.to_vec()));
            Ok(())
        };
        let mut gathered = Gathered::of(4);
        for (offset, bytes) in [(0, "ab"), (2, "cd"), (4, "e"), (9, "f"), (10, "ghijk"), (15, "l")]
        {
            gathered.add(offset, bytes.as_bytes(), &mut write).unwrap();
        }
        gathered.flush(&mut write).unwrap();
        let expected = [(0, "abcd"), (4, "e"), (9, "f"), (10, "ghijk"), (15, "l")];
        let expected: Vec<_> =
            expected.map(|(offset, text)| (offset, text.as_bytes().to_vec())).to_vec();
        assert_eq!(seen, expected);
    }
}
