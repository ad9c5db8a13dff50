//! Compressed streams.

use super::http::HttpError;
use super::xz::XzReader;
use disk_image::probe::Compression;
use flate2::bufread::GzDecoder;
use runtime::command::CommandError;
use std::io::{self, BufRead, BufReader, Read};

/// Input is read in pieces of this size, bytes.
const INPUT: usize = 256 << 10;
/// Largest zstd window that is accepted, log2 of bytes: all memory of a driver stays under 64 MiB.
const ZSTD_WINDOW: u32 = 25;

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
        Compression::Gzip => explained(compression, GzipReader(Some(GzDecoder::new(input)))),
        Compression::Bzip2 => explained(compression, bzip2::bufread::MultiBzDecoder::new(input)),
        Compression::Xz => explained(compression, XzReader::new(input)?),
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

/// The members of a gzip file, one behind the other, with zeroes as padding after each, as tapes leave
/// them; `None` at the end.
struct GzipReader<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for GzipReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = self.0.as_mut() {
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(mut input) = self.0.take().map(GzDecoder::into_inner) else { break };
            if skip_padding(&mut input)? {
                self.0 = Some(GzDecoder::new(input));
            }
        }
        Ok(0)
    }
}

/// Passes over zero bytes; whether anything follows.
pub(super) fn skip_padding(input: &mut impl BufRead) -> io::Result<bool> {
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
