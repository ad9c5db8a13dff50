//! Compressed streams.

use super::http::HttpError;
use crate::command::CommandError;
use crate::image::probe::Compression;
use liblzma::stream::MtStreamBuilder;
use std::io::{self, BufRead, BufReader, Read};
use std::marker::PhantomData;

/// Input is read in pieces of this size, bytes.
const INPUT: usize = 256 << 10;
/// Largest zstd window that is accepted, log2 of bytes: all memory of a driver stays under 64 MiB.
const ZSTD_WINDOW: u32 = 25;
/// Memory for each thread that decodes blocks of an xz file, bytes: a block of 24 MiB, which is what
/// xz makes by default, and its dictionary. Where blocks are larger, fewer threads are used.
const XZ_THREAD_MEMORY: u64 = 36 << 20;
/// Threads that decode an xz file at most, so that memory stays under 160 MiB.
const XZ_MOST_THREADS: usize = 4;
/// Memory that one xz dictionary may need: 64 MiB, the largest that the presets of xz use, and a little.
const XZ_MOST_MEMORY: u64 = 80 << 20;

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
            explained(compression, Multi::<flate2::bufread::GzDecoder<_>, _>::new(input)?)
        }
        Compression::Bzip2 => explained(compression, bzip2::bufread::MultiBzDecoder::new(input)),
        Compression::Xz => {
            explained(compression, Multi::<liblzma::bufread::XzDecoder<_>, _>::new(input)?)
        }
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

/// A decoder of one stream, behind which another one may follow.
trait Single<R>: Read {
    fn begin(input: R) -> io::Result<Self>
    where
        Self: Sized;
    fn input(self) -> R;
}

impl<R: BufRead> Single<R> for flate2::bufread::GzDecoder<R> {
    fn begin(input: R) -> io::Result<Self> {
        Ok(Self::new(input))
    }

    fn input(self) -> R {
        self.into_inner()
    }
}

impl<R: BufRead> Single<R> for liblzma::bufread::XzDecoder<R> {
    fn begin(input: R) -> io::Result<Self> {
        let threads =
            std::thread::available_parallelism().map_or(1, |n| n.get().min(XZ_MOST_THREADS));
        let stream = MtStreamBuilder::new()
            .threads(threads as u32)
            .memlimit_threading(XZ_THREAD_MEMORY * threads as u64)
            .memlimit_stop(XZ_MOST_MEMORY)
            .decoder()?;
        Ok(Self::new_stream(input, stream))
    }

    fn input(self) -> R {
        self.into_inner()
    }
}

/// Streams one behind the other, with zeroes as padding after each, as gzip and xz allow.
struct Multi<D, R> {
    decoder: Option<D>,
    input: PhantomData<R>,
}

impl<R: BufRead, D: Single<R>> Multi<D, R> {
    fn new(input: R) -> io::Result<Self> {
        Ok(Self { decoder: Some(D::begin(input)?), input: PhantomData })
    }
}

impl<R: BufRead, D: Single<R>> Read for Multi<D, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(decoder) = self.decoder.as_mut() else { return Ok(0) };
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(mut input) = self.decoder.take().map(D::input) else { return Ok(0) };
            if !skip_padding(&mut input)? {
                return Ok(0);
            }
            self.decoder = Some(D::begin(input)?);
        }
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
