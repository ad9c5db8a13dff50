//! Compressed streams.

use super::http::HttpError;
use disk_image::probe::Compression;
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::MtStreamBuilder;
use runtime::command::CommandError;
use std::io::{self, BufRead, BufReader, Read};

/// Input is read in pieces of this size, bytes.
const INPUT: usize = 256 << 10;
/// Largest zstd window that is accepted, log2 of bytes: all memory of a driver stays under 64 MiB.
const ZSTD_WINDOW: u32 = 25;
/// Memory of the xz decoder, bytes: two blocks of `xz -6` at once, compressed to three quarters and decompressed, or one
/// dictionary of 64 MiB, the largest that the presets use. With what the C library's allocator keeps beside it
/// (up to 35 MiB where blocks come and go), all memory of a driver stays under 160 MiB.
const XZ_MEMORY: u64 = 104 << 20;
/// Threads that decode blocks of xz at most.
const XZ_THREADS: usize = 4;

/// The decompressed bytes of `stream`. After its end the rest of `stream` has been read too.
///
/// # Errors
/// Where the decoder can't be had.
pub fn decompress(
    compression: Compression,
    stream: impl Read + Send + 'static,
) -> io::Result<Box<dyn Read + Send>> {
    let input = BufReader::with_capacity(INPUT, stream);
    Ok(match compression {
        Compression::Gzip => {
            explained(compression, Members::of(input, gzip, GzDecoder::into_inner)?)
        }
        Compression::Bzip2 => explained(compression, bzip2::bufread::MultiBzDecoder::new(input)),
        Compression::Xz => explained(compression, Members::of(input, xz, XzDecoder::into_inner)?),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            explained(compression, decoder)
        }
    })
}

fn explained(compression: Compression, reader: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(Explained { compression, reader })
}

/// Says in its errors what kind of data is at fault.
struct Explained<R> {
    compression: Compression,
    reader: R,
}

impl<R: Read> Read for Explained<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| {
            let of_source =
                error.get_ref().is_some_and(|e| e.is::<HttpError>() || e.is::<CommandError>());
            if of_source || error.kind() == io::ErrorKind::Interrupted || error.raw_os_error().is_some() {
                return error;
            }
            let name = self.compression.name();
            let text = error.to_string();
            io::Error::other(if text.contains("too much memory") || text.contains("memory limit") {
                format!("the {name} data needs more memory than is allowed ({text}); compress it with a smaller window (xz -6, zstd without --long or --ultra)")
            } else {
                format!("the {name} data is damaged or cut off ({text}); fetch or make it again")
            })
        })
    }
}

// In the form that `Members` takes.
#[allow(clippy::unnecessary_wraps)]
fn gzip<R: BufRead>(input: R) -> io::Result<GzDecoder<R>> {
    Ok(GzDecoder::new(input))
}

/// Decodes blocks at once that tell their length (`xz -T`), as far as memory goes; others as they come.
fn xz<R: BufRead>(input: R) -> io::Result<XzDecoder<R>> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(XZ_THREADS));
    let stream = MtStreamBuilder::new()
        .threads(threads as u32)
        .memlimit_threading(XZ_MEMORY)
        .memlimit_stop(XZ_MEMORY)
        .decoder()?;
    Ok(XzDecoder::new_stream(input, stream))
}

/// The members of a gzip file or the streams of an xz file, one behind the other, with zeroes as padding after
/// each, as tapes leave them.
struct Members<R, D> {
    /// The decoder of the current member; `None` after the last.
    decoder: Option<D>,
    begin: fn(R) -> io::Result<D>,
    input_of: fn(D) -> R,
}

impl<R, D> Members<R, D> {
    fn of(input: R, begin: fn(R) -> io::Result<D>, input_of: fn(D) -> R) -> io::Result<Self> {
        Ok(Self { decoder: Some(begin(input)?), begin, input_of })
    }
}

impl<R: BufRead, D: Read> Read for Members<R, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = self.decoder.as_mut() {
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(mut input) = self.decoder.take().map(self.input_of) else { break };
            if skip_padding(&mut input)? {
                self.decoder = Some((self.begin)(input)?);
            }
        }
        Ok(0)
    }
}

/// Passes over zero bytes; whether anything follows.
fn skip_padding(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = input.fill_buf()?;
        let length = bytes.len();
        let zeroes = bytes.iter().take_while(|&&byte| byte == 0).count();
        input.consume(zeroes);
        if length == 0 {
            return Ok(false);
        }
        if zeroes < length {
            return Ok(true);
        }
    }
}
