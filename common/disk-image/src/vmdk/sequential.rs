//! A vmdk image out of a stream, in one pass: its grains come in the order of the disk.
//!
//! What comes in front of the first grain is held in memory. Where that has all the tables (as files have it that
//! qemu-img or `VMware` Workstation made) they say where each grain is; where the tables come at the end (files that
//! are meant for streams), each grain says itself which one it is, and the tables must agree in the end.

use super::header::{HEADER, Header};
use super::input::{Input, PIECE, Piece, Take};
use super::markers::Markers;
use super::tables::{GRAIN_HEADER, Place, Run, Tables, grain_data};
use super::{SECTOR, unsupported};
use crate::ImageError;
use crate::foreign::ReadAt;
use crate::inflate::{Grain, Packed, Pool};
use crate::target::{self, Target};
use std::io::{self, BufReader, Read};
use std::sync::Arc;

/// So much in front of the first grain is held in memory, bytes: the tables of a disk of 128 GiB.
const LARGEST_START: u64 = 16 << 20;

/// A stream with a vmdk image.
pub enum Opened<R: Read> {
    /// It can be read in one pass.
    Sequential(Sequential<R>),
    /// Its grains are in another order, or its tables are not where a single pass finds them. Here is the stream
    /// again, from its first byte.
    Unordered(io::Chain<io::Cursor<Vec<u8>>, BufReader<R>>),
}

/// A vmdk image that is read from its first byte to its last.
#[derive(Debug)]
pub struct Sequential<R> {
    header: Header,
    /// The first bytes of the stream.
    start: Vec<u8>,
    order: Order,
    input: Input<R>,
}

/// What says which grain comes next.
#[derive(Debug)]
enum Order {
    /// The tables, which are among the first bytes.
    Tables(Tables),
    /// The grains themselves.
    Markers,
}

impl<R: Read> Sequential<R> {
    /// Reads the header, the descriptor and all else that comes in front of the first grain.
    ///
    /// # Errors
    /// As [`Header::read`], and where the stream fails.
    pub fn open(stream: R) -> Result<Opened<R>, ImageError> {
        let mut input = Input { stream: BufReader::with_capacity(PIECE, stream), position: 0 };
        let mut start = input.take(HEADER)?;
        let header = Header::parse(&start)?;
        let length = header.overhead().saturating_mul(SECTOR);
        let unmarked = header.is_compressed() && !header.has_markers();
        if unmarked || !(header.descriptor_end()..=LARGEST_START).contains(&length) {
            return Ok(Opened::Unordered(io::Cursor::new(start).chain(input.stream)));
        }
        start.extend(input.take(length as usize - HEADER)?);
        let order = order(&header, &start)?;
        Ok(match order {
            Some(order) => Opened::Sequential(Self { header, start, order, input }),
            None => Opened::Unordered(io::Cursor::new(start).chain(input.stream)),
        })
    }

    /// Size of the disk in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.header.size()
    }

    /// Hands all pieces of the disk that are not zero to `take`, in order. Afterwards the stream has been read to
    /// its end.
    ///
    /// # Errors
    /// What `take` returns, what is wrong with the image, or where the stream fails.
    pub fn pieces(
        mut self,
        take: &mut dyn FnMut(Piece) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let Order::Tables(tables) = &self.order else {
            return Markers::new(&self.header).read(&mut self.input, take);
        };
        let mut buffer = vec![0; PIECE];
        let input = &mut self.input;
        tables.walk(&within(&self.start), &mut |run| match run.place {
            Place::Zero => Ok(()),
            Place::Data(offset) => {
                input.skip_to(offset)?;
                data(input, run, &mut buffer, take)
            }
            Place::Grain(offset) => {
                input.skip_to(offset)?;
                let marker = input.take(GRAIN_HEADER)?;
                let length = grain_data(tables.header(), &marker, offset, run.start)?;
                let offset = input.position;
                let data = input.take(length)?;
                take(Piece::Grain { start: run.start, length: run.length, data, offset })
            }
        })?;
        io::copy(&mut input.stream, &mut io::sink())
            .map_err(ImageError::reading(input.position))
            .map(drop)
    }
}

/// Bytes of the disk that are not compressed.
fn data<R: Read>(
    input: &mut Input<R>,
    run: Run,
    buffer: &mut [u8],
    take: Take,
) -> Result<(), ImageError> {
    let mut done = 0;
    while done < run.length {
        let count = (run.length - done).min(buffer.len() as u64) as usize;
        input.fill(&mut buffer[..count])?;
        take(Piece::Bytes { start: run.start + done, bytes: &buffer[..count] })?;
        done += count as u64;
    }
    Ok(())
}

/// In which order the grains behind `start`, the first bytes of a file, come; `None`: not in that of the disk.
fn order(header: &Header, start: &[u8]) -> Result<Option<Order>, ImageError> {
    let read_at = within(start);
    if header.directory.is_none() {
        Header::read(&read_at)?;
        return Ok(header.is_compressed().then_some(Order::Markers));
    }
    // What is wrong with the tables, if they are not just elsewhere, is found once all of the file is at hand.
    let Ok(tables) = Tables::at_start(start.len() as u64, &read_at) else { return Ok(None) };
    let ordered = is_in_order(&tables, &read_at, start.len() as u64);
    Ok((ordered && tables.verify(&read_at).is_ok()).then_some(Order::Tables(tables)))
}

/// Whether all grains come one behind the other, in the order of the disk, behind the first `start` bytes of the file,
/// which have all the tables.
fn is_in_order(tables: &Tables, read_at: ReadAt, start: u64) -> bool {
    let mut end = start;
    let walked = tables.walk(read_at, &mut |run| {
        let (offset, stored) = match run.place {
            Place::Zero => return Ok(()),
            Place::Data(offset) => (offset, run.length),
            Place::Grain(offset) => (offset, SECTOR),
        };
        if offset < end {
            return Err(unsupported("has its grains out of order"));
        }
        end = offset + stored;
        Ok(())
    });
    walked.is_ok()
}

/// Reads pieces of the first bytes of a file.
fn within(start: &[u8]) -> impl Fn(u64, usize) -> io::Result<Vec<u8>> {
    move |offset, length| {
        let rest = usize::try_from(offset).ok().and_then(|at| start.get(at..)).unwrap_or(&[]);
        Ok(rest[..rest.len().min(length)].to_vec())
    }
}

/// Writes the disk in `source` to `target`, whose size is the disk's, decompressing on all cores.
///
/// # Errors
/// As [`Sequential::pieces`], and where the target can't be written.
pub fn write<R: Read>(source: Sequential<R>, mut target: Target) -> Result<(), ImageError> {
    let size = source.virtual_size();
    target.check_size(size)?;
    crate::observer::begin(size);
    let grain_size = source.header.grain_size() as usize;
    let output = target.output();
    let mut reached = 0;
    std::thread::scope(|scope| {
        let mut pool: Option<Pool> = None;
        source.pieces(&mut |piece| match piece {
            Piece::Bytes { start, bytes } => {
                crate::observer::advance(start - reached);
                reached = start + bytes.len() as u64;
                target.write_sparsely(target::Place::Guest(start), bytes)
            }
            Piece::Grain { start, length, data, offset } => {
                crate::observer::advance(start - std::mem::replace(&mut reached, start + length));
                let pool = pool.get_or_insert_with(|| Pool::start(scope, output));
                let grain = Grain { bytes: Arc::new(data), offset, size: grain_size, skip: 0 };
                pool.write(&Packed::Memory(grain), start, length, &mut target)
            }
        })?;
        pool.map_or(Ok(()), Pool::finish)
    })?;
    let size = target.disk_size(size);
    target.finish(size)
}
