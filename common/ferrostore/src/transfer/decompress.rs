//! Compressed streams.

use super::archive::ArchiveError;
use super::http::HttpError;
use super::members::Members;
use super::xz::Streams;
use disk_image::probe::Compression;
use flate2::bufread::GzDecoder;
use runtime::command::CommandError;
use std::io::{self, BufReader, Read};

/// Input is read in pieces of this size, bytes.
const INPUT: usize = 256 << 10;
/// Smallest and largest window that zstd knows, log2 of bytes (RFC 8878, 3.1.1.1.2; `ZSTD_WINDOWLOG_MAX_64`).
const ZSTD_WINDOWS: (u32, u32) = (10, 31);

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
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            let (smallest, largest) = ZSTD_WINDOWS;
            decoder.window_log_max(memory.max(1).ilog2().clamp(smallest, largest))?;
            Box::new(decoder)
        }
    };
    Ok(Box::new(Explained { compression, memory, reader }))
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
