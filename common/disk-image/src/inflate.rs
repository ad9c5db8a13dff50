//! Decompresses qcow2 clusters on all cores, each straight to its place in the target file.

use super::page_buffer::PageBuffer;
use super::qcow2::{Compression, read_up_to};
use super::target::Output;
use super::{CompressedCluster, Format, ImageError, strict};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

/// More threads than this only wait for the disk.
const MOST_THREADS: usize = 8;
/// Decompressed bytes that a thread takes at once.
const BATCH: usize = 1 << 20;

/// One cluster, or a part of it, and where in the target file it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    pub cluster: CompressedCluster<'a>,
    pub length: usize,
    pub host: u64,
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

    pub(super) fn submit(&mut self, job: Job<'a>) -> Result<(), ImageError> {
        self.batch.push(job);
        if self.batch.len() * job.cluster.cluster_size >= BATCH {
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
        let result = thread.join().unwrap_or_else(|_| Err(corrupt("decompression broke off")));
        outcome = outcome.and(result);
    }
    outcome
}

fn corrupt(what: impl Into<String>) -> ImageError {
    ImageError::Corrupt { format: Format::Qcow2, what: what.into() }
}

fn work(receiver: &Mutex<Receiver<Vec<Job>>>, target: Output) -> Result<(), ImageError> {
    let mut decompressor = Decompressor::default();
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = next else { return Ok(()) };
        let first = batch.first().map_or(0, |job| job.host);
        let mut end = first;
        for job in batch {
            let cluster = decompressor.decompress(&job.cluster)?;
            let bytes = &cluster[job.cluster.skip..job.cluster.skip + job.length];
            target.write_sparsely(bytes, job.host)?;
            crate::observer::advance(job.length as u64);
            end = end.max(job.host + job.length as u64);
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
    /// The whole cluster, which stays until the next one.
    pub(super) fn decompress(&mut self, cluster: &CompressedCluster) -> Result<&[u8], ImageError> {
        self.compressed.resize(cluster.length, 0);
        // The last cluster's sectors may reach beyond the end of the file.
        let read = read_up_to(cluster.file, &mut self.compressed, cluster.offset)
            .map_err(ImageError::reading(cluster.offset))?;
        let compressed = &self.compressed[..read];
        self.cluster.resize(cluster.cluster_size);
        let count = match cluster.compression {
            Compression::Zlib => self
                .deflate
                .get_or_insert_with(libdeflater::Decompressor::new)
                .deflate_decompress(compressed, &mut self.cluster)
                .ok()
                .filter(|_| strict::has_valid_deflate_codes(compressed)),
            Compression::Zstd => inflate_zstd(compressed, &mut self.cluster),
        };
        if count != Some(cluster.cluster_size) {
            return Err(corrupt(format!(
                "the compressed cluster at byte {} can't be decompressed",
                cluster.offset
            )));
        }
        Ok(&self.cluster)
    }
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
