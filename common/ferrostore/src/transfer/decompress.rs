//! Compressed streams.

use super::archive::ArchiveError;
use super::http::HttpError;
use super::members::{Members, Rest};
use super::xz::Streams;
use disk_image::probe::Compression;
use flate2::bufread::GzDecoder;
use runtime::command::CommandError;
use std::io::{self, BufRead, BufReader, Read};

/// Input is read in pieces of this size, bytes.
const INPUT: usize = 256 << 10;
/// Smallest and largest window that zstd knows, log2 of bytes (RFC 8878, 3.1.1.1.2; `ZSTD_WINDOWLOG_MAX_64`).
const ZSTD_WINDOWS: (u32, u32) = (10, 31);
/// Where the size of a window is within a frame, bytes.
const ZSTD_HEADER: usize = 6;

/// The decompressed bytes of `stream`. After its end the rest of `stream` has been read too. The window or
/// dictionary may take `memory` bytes.
///
/// # Errors
/// Where the decoder can't be had.
pub fn decompress(
    compression: Compression,
    stream: impl Read + Send + 'static,
    memory: u64,
) -> io::Result<Box<dyn Read + Send>> {
    let input = BufReader::with_capacity(INPUT, stream);
    let reader: Box<dyn Read + Send> = match compression {
        Compression::Gzip => Box::new(Members::<GzDecoder<_>, _>::new(input)),
        Compression::Bzip2 => Box::new(Members::<bzip2::bufread::BzDecoder<_>, _>::new(input)),
        Compression::Xz => Box::new(Streams::new(input, memory)?),
        Compression::Zstd => zstd_frames(Rest::of(input), memory)?,
    };
    Ok(Box::new(Explained { compression, memory, reader }))
}

/// The decompressed bytes of all frames. A window that is larger than `memory` may be had by data that isn't.
fn zstd_frames(
    mut input: Rest<impl BufRead + Send + 'static>,
    memory: u64,
) -> io::Result<Box<dyn Read + Send>> {
    let (smallest, largest) = ZSTD_WINDOWS;
    let window = zstd_window(input.look_ahead(ZSTD_HEADER)?).unwrap_or(0);
    let is_large = window > memory;
    let log = if is_large { largest } else { memory.max(1).ilog2().clamp(smallest, largest) };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(log)?;
    Ok(if is_large { Box::new(Small::new(decoder, memory)) } else { Box::new(decoder) })
}

/// Size in bytes of the window of the frame that `head` is the start of (RFC 8878, 3.1.1.1.2); `None` where it begins
/// with none, or has no window but its content.
fn zstd_window(head: &[u8]) -> Option<u64> {
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let [descriptor, window, ..] = *head.strip_prefix(b"\x28\xb5\x2f\xfd")? else { return None };
    let base = 1_u64 << (10 + (window >> 3));
    (descriptor & SINGLE_SEGMENT == 0).then(|| base + base / 8 * u64::from(window & 7))
}

/// Data with a larger window or dictionary than there may be: it takes memory only as far as there is data.
struct Small<R> {
    reader: R,
    /// Bytes that may still come.
    allowance: u64,
}

impl<R: Read> Small<R> {
    /// `reader`, which may yield `allowance` bytes.
    fn new(reader: R, allowance: u64) -> Self {
        Self { reader, allowance }
    }
}

impl<R: Read> Read for Small<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let left = self.allowance.checked_sub(count as u64);
        self.allowance = left.ok_or_else(|| io::Error::other("that takes too much memory"))?;
        Ok(count)
    }
}

fn is_of_system(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut};
    matches!(error.kind(), Interrupted | TimedOut) || error.raw_os_error().is_some()
}

/// Says in its errors what kind of data is at fault.
struct Explained<R> {
    compression: Compression,
    memory: u64,
    reader: R,
}

impl<R: Read> Read for Explained<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| {
            let of_source = error.get_ref().is_some_and(|e| {
                e.is::<HttpError>() || e.is::<CommandError>() || e.is::<ArchiveError>()
            });
            if of_source || is_of_system(&error) {
                return error;
            }
            let name = self.compression.name();
            let text = error.to_string();
            io::Error::other(if text.contains("too much memory") || text.contains("memory limit") {
                format!(
                    "the {name} data needs a window of more than the {} MiB that DECOMPRESS_MEMORY in datastore.conf allows ({text}); compress it with a smaller one (xz -6, zstd without --long), or have the administrator raise that",
                    self.memory >> 20
                )
            } else {
                format!("the {name} data is damaged or cut off ({text}); fetch or make it again")
            })
        })
    }
}
