//! Decompresses qcow2 clusters and vmdk grains on all cores, each straight to its place in the target file.

use super::observer::{self, Moved};
use super::page_buffer::PageBuffer;
use super::qcow2::read_up_to;
use super::rbd_diff::Gathered;
use super::target::{Output, Target};
use super::{ClusterCompression, CompressedCluster, Format, ImageError, strict};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

/// More threads than this only wait for the disk.
const MOST_THREADS: usize = 8;
/// Decompressed bytes that a thread takes at once.
const BATCH: usize = 1 << 20;

/// A compressed cluster, wherever it is.
#[derive(Debug, Clone)]
pub(super) enum Packed<'a> {
    File(CompressedCluster<'a>),
    Memory(Grain),
}

/// A compressed grain out of a stream.
#[derive(Debug, Clone)]
pub(super) struct Grain {
    /// The compressed bytes.
    pub bytes: Arc<Vec<u8>>,
    /// Where in the stream they began, bytes.
    pub offset: u64,
    /// Size of the grain once decompressed, bytes.
    pub size: usize,
    /// Where in the decompressed grain what is wanted begins, bytes.
    pub skip: usize,
}

impl Packed<'_> {
    /// Size once decompressed, bytes.
    fn size(&self) -> usize {
        match self {
            Self::File(cluster) => cluster.cluster_size,
            Self::Memory(grain) => grain.size,
        }
    }

    /// What begins `count` bytes further on in the decompressed cluster.
    pub(super) fn skipping(&self, count: u64) -> Self {
        let mut piece = self.clone();
        match &mut piece {
            Self::File(cluster) => cluster.skip += count as usize,
            Self::Memory(grain) => grain.skip += count as usize,
        }
        piece
    }
}

/// One cluster, or a part of it, and where in the target file it goes.
#[derive(Debug, Clone)]
struct Job<'a> {
    packed: Packed<'a>,
    length: usize,
    host: u64,
}

/// Threads that decompress.
pub(super) struct Pool<'scope, 'a> {
    sender: SyncSender<Vec<Job<'a>>>,
    batch: Vec<Job<'a>>,
    threads: Vec<ScopedJoinHandle<'scope, Result<(), ImageError>>>,
}

impl<'scope, 'a: 'scope> Pool<'scope, 'a> {
    pub(super) fn start(scope: &'scope Scope<'scope, '_>, target: Output<'a>) -> Self {
        let count = std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS));
        let (sender, receiver) = sync_channel(count);
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = (0..count)
            .map(|_| {
                let receiver = Arc::clone(&receiver);
                scope.spawn(move || work(&receiver, target))
            })
            .collect();
        Self { sender, batch: Vec::new(), threads }
    }

    /// Gives `length` bytes of a cluster their places in `target`, from the guest offset `guest` on, and has
    /// them decompressed and written there.
    pub(super) fn write(
        &mut self,
        packed: &Packed<'a>,
        guest: u64,
        length: u64,
        target: &mut Target,
    ) -> Result<(), ImageError> {
        let mut done = 0;
        while done < length {
            let (host, count) = target.place(guest + done, length - done)?;
            self.submit(Job { packed: packed.skipping(done), length: count as usize, host })?;
            done += count;
        }
        Ok(())
    }

    fn submit(&mut self, job: Job<'a>) -> Result<(), ImageError> {
        let size = job.packed.size();
        self.batch.push(job);
        if self.batch.len() * size >= BATCH {
            self.hand_over()?;
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), ImageError> {
        let batch = std::mem::take(&mut self.batch);
        if self.sender.send(batch).is_err() {
            // Every thread has ended, which only an error makes them do.
            return join(std::mem::take(&mut self.threads));
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), ImageError> {
        self.hand_over()?;
        drop(self.sender);
        join(self.threads)
    }
}

fn join(threads: Vec<ScopedJoinHandle<Result<(), ImageError>>>) -> Result<(), ImageError> {
    let mut outcome = Ok(());
    for thread in threads {
        let result = thread.join().unwrap_or_else(|_| {
            Err(ImageError::reading(0)(std::io::Error::other("decompression broke off")))
        });
        outcome = outcome.and(result);
    }
    outcome
}

fn work(receiver: &Mutex<Receiver<Vec<Job>>>, target: Output) -> Result<(), ImageError> {
    let mut decompressor = Decompressor::default();
    let mut gathered = target.gathers().map(Gathered::of);
    let mut write = |bytes: &[u8], offset| target.write_sparsely(bytes, offset);
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = next else { return Ok(()) };
        let first = batch.first().map_or(0, |job| job.host);
        let mut end = first;
        for job in batch {
            let bytes = decompressor.decompress(&job.packed, job.length)?;
            match &mut gathered {
                Some(gathered) => gathered.add(job.host, bytes, &mut write)?,
                None => write(bytes, job.host)?,
            }
            observer::advance(job.length as u64);
            end = end.max(job.host + job.length as u64);
        }
        if let Some(gathered) = &mut gathered {
            gathered.flush(&mut write)?;
        }
        target.begin_writeback(first, end - first);
    }
}

/// Decompresses one cluster after the other.
#[derive(Default)]
pub(super) struct Decompressor {
    compressed: Vec<u8>,
    cluster: PageBuffer,
    deflate: Option<libdeflater::Decompressor>,
}

impl Decompressor {
    /// What `packed` wants of its cluster, `length` bytes, which stay until the next one.
    pub(super) fn decompress(
        &mut self,
        packed: &Packed,
        length: usize,
    ) -> Result<&[u8], ImageError> {
        self.cluster.resize(packed.size());
        let (count, skip) = match packed {
            Packed::File(cluster) => {
                self.compressed.resize(cluster.length, 0);
                // The last cluster's sectors may reach beyond the end of the file.
                let read = read_up_to(cluster.file, &mut self.compressed, cluster.offset)
                    .map_err(ImageError::reading(cluster.offset))?;
                observer::moved(Moved::Read, read as u64);
                let compressed = &self.compressed[..read];
                let into = &mut self.cluster;
                (inflate(&mut self.deflate, cluster.compression, compressed, into), cluster.skip)
            }
            Packed::Memory(grain) => {
                let (zlib, into) = (ClusterCompression::Zlib, &mut self.cluster);
                (inflate(&mut self.deflate, zlib, &grain.bytes, into), grain.skip)
            }
        };
        self.cluster[..count.unwrap_or(0)]
            .get(skip..skip + length)
            .ok_or_else(|| undecompressed(packed))
    }
}

/// Decompresses `compressed` into `into`: how much came.
fn inflate(
    deflate: &mut Option<libdeflater::Decompressor>,
    compression: ClusterCompression,
    compressed: &[u8],
    into: &mut [u8],
) -> Option<usize> {
    let full = into.len();
    match compression {
        ClusterCompression::Deflate => deflate
            .get_or_insert_with(libdeflater::Decompressor::new)
            .deflate_decompress(compressed, into)
            .ok()
            .filter(|&count| count == full && strict::has_valid_deflate_codes(compressed)),
        ClusterCompression::Zlib => deflate
            .get_or_insert_with(libdeflater::Decompressor::new)
            .zlib_decompress(compressed, into)
            .ok()
            .filter(|_| strict::has_valid_deflate_codes(compressed.get(2..).unwrap_or(&[]))),
        ClusterCompression::Zstd => inflate_zstd(compressed, into).filter(|&count| count == full),
    }
}

fn undecompressed(packed: &Packed) -> ImageError {
    let (format, what, offset) = match packed {
        Packed::File(cluster) if cluster.compression != ClusterCompression::Zlib => {
            (Format::Qcow2, "compressed cluster", cluster.offset)
        }
        Packed::File(cluster) => (Format::Vmdk, "grain", cluster.offset),
        Packed::Memory(grain) => (Format::Vmdk, "grain", grain.offset),
    };
    let what = format!("the {what} at byte {offset} can't be decompressed");
    ImageError::Corrupt { format, what }
}

/// Decompresses frames until `cluster` is full; what follows them is padding. How much came.
fn inflate_zstd(compressed: &[u8], cluster: &mut [u8]) -> Option<usize> {
    use zstd::stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer};
    let mut decoder = Decoder::new().ok()?;
    let mut input = InBuffer::around(compressed);
    let mut output = OutBuffer::around(cluster);
    while output.pos() < output.capacity() {
        let before = (input.pos(), output.pos());
        decoder.run(&mut input, &mut output).ok()?;
        if (input.pos(), output.pos()) == before {
            return None;
        }
    }
    Some(output.pos())
}
