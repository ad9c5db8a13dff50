//! Reads pieces of files on a thread of its own, in the order in which they are asked for, while what
//! came before is being written.

use super::ImageError;
use super::observer::{self, Moved};
use super::page_buffer::PageBuffer;
use super::qcow2::{CLUSTER, read_up_to};
use super::target::Place;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// Buffers on their way at most: all the memory that reading takes.
const BUFFERS: usize = 12;
/// So much the kernel has been told of at most, bytes: enough to keep a disk busy.
const PLANNED: usize = 32 << 20;

/// A part of a file that fits in a buffer, with others perhaps.
#[derive(Debug)]
struct Piece<'a> {
    source: &'a File,
    offset: u64,
    place: Place,
    /// Where in the buffer its bytes are.
    bytes: Range<usize>,
}

/// A buffer, and what it is filled with.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    pieces: Vec<Piece<'a>>,
    buffer: PageBuffer,
}

impl Batch<'_> {
    /// Its parts, each with its place.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (Place, &[u8])> {
        self.pieces.iter().map(|piece| (piece.place, &self.buffer[piece.bytes.clone()]))
    }

    fn read(&mut self, size: usize) -> Result<(), ImageError> {
        self.buffer.resize(size);
        for piece in &mut self.pieces {
            let read =
                read_up_to(piece.source, &mut self.buffer[piece.bytes.clone()], piece.offset)
                    .map_err(ImageError::reading(piece.offset))?;
            observer::moved(Moved::Read, read as u64);
            // What is missing behind the end of the file reads as zero.
            self.buffer[piece.bytes.start + read..piece.bytes.end].fill(0);
        }
        Ok(())
    }
}

/// A thread that reads. Dropped, it stops after the buffer that it is at.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// How much is read, and then written, at once: bytes.
    size: usize,
    /// Takes buffers to be filled; as many as there are fit in, so this never waits.
    jobs: SyncSender<Batch<'a>>,
    results: Receiver<Result<Batch<'a>, ImageError>>,
    /// Gathers pieces.
    next: Vec<Piece<'a>>,
    /// What waits for a buffer.
    planned: VecDeque<Vec<Piece<'a>>>,
    /// Buffers that wait for work.
    free: Vec<PageBuffer>,
    under_way: usize,
}

impl<'a> Reader<'a> {
    /// Starts the thread, which reads as many bytes at once as `size` says.
    ///
    /// # Errors
    /// Where there can't be another thread.
    pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>, size: usize) -> io::Result<Self>
    where
        'a: 'scope,
    {
        let (jobs, asked) = sync_channel::<Batch>(BUFFERS);
        let (sender, results) = sync_channel(BUFFERS);
        std::thread::Builder::new().spawn_scoped(scope, move || {
            for mut batch in asked {
                let result = batch.read(size).map(|()| batch);
                let failed = result.is_err();
                if sender.send(result).is_err() || failed {
                    return;
                }
            }
        })?;
        let free = (0..BUFFERS).map(|_| PageBuffer::default()).collect();
        let (next, planned) = (Vec::new(), VecDeque::new());
        Ok(Self { size, jobs, results, next, planned, free, under_way: 0 })
    }

    /// Asks for `length` bytes of `source` at `offset`, which go to `place`, or for their first part; for how many. Where
    /// there is more to ask for, [`Reader::filled`] comes first.
    pub(super) fn ask(&mut self, source: &'a File, offset: u64, place: Place, length: u64) -> u64 {
        let mut done = 0;
        while done < length && !self.is_full() {
            let left = length - done;
            if left > (self.size - self.gathered()) as u64 && left <= self.size as u64 {
                // In one piece, since a write to a cluster of machines costs a round trip, however small it is.
                self.submit();
            }
            let from = self.gathered();
            let place = place.plus(done);
            let mut count = left.min((self.size - from) as u64);
            if count < left {
                // Clusters stay in one piece, so that zeroes are seen to fill them.
                count = count.saturating_sub((place.offset() + count) % CLUSTER);
            }
            if count > 0 {
                let bytes = from..from + count as usize;
                read_ahead(source, offset + done, count);
                self.next.push(Piece { source, offset: offset + done, place, bytes });
                done += count;
            }
            if count == 0 || self.gathered() == self.size {
                self.submit();
            }
        }
        done
    }

    fn gathered(&self) -> usize {
        self.next.last().map_or(0, |piece| piece.bytes.end)
    }

    /// Whether so much is planned that something has to be written first.
    fn is_full(&self) -> bool {
        self.planned.len() * self.size > PLANNED
    }

    /// The next part that has been read, in the order in which it was asked for: where no more can be asked for without
    /// that, or, at the `end`, until there is none. Once written, it goes to [`Reader::recycle`].
    ///
    /// # Errors
    /// Where it can't be read.
    pub(super) fn filled(&mut self, end: bool) -> Result<Option<Batch<'a>>, ImageError> {
        if end && !self.next.is_empty() {
            self.submit();
        }
        if self.is_full() || (end && self.under_way > 0) {
            return self.receive().map(Some);
        }
        Ok(None)
    }

    fn submit(&mut self) {
        self.planned.push_back(std::mem::take(&mut self.next));
        self.hand_out();
    }

    /// Gives free buffers to what waits for one.
    fn hand_out(&mut self) {
        while !self.planned.is_empty()
            && let Some(buffer) = self.free.pop()
        {
            let pieces = self.planned.pop_front().unwrap_or_default();
            self.under_way += 1;
            // Where the thread has ended, its last result says why.
            let _ = self.jobs.send(Batch { pieces, buffer });
        }
    }

    /// The next buffer that has been filled.
    fn receive(&mut self) -> Result<Batch<'a>, ImageError> {
        let ended = |_| ImageError::reading(0)(io::Error::other("the reading thread broke off"));
        let batch = self.results.recv().map_err(ended)??;
        self.under_way -= 1;
        Ok(batch)
    }

    /// Takes back a buffer that has been written.
    pub(super) fn recycle(&mut self, batch: Batch) {
        self.free.push(batch.buffer);
        self.hand_out();
    }
}

/// Has the kernel fetch what will be read soon, while what is there is being written. A hint: reading
/// works without.
fn read_ahead(source: &File, offset: u64, length: u64) {
    let advice = PosixFadviseAdvice::POSIX_FADV_WILLNEED;
    let _ = posix_fadvise(source, offset as i64, length as i64, advice);
}
