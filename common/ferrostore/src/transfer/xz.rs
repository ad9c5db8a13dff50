//! xz streams, one behind the other (The .xz File Format 1.2.1).
//!
//! Blocks that tell their length, as `xz -T` makes them, are decoded at once, as far as memory goes; others as they
//! come.

use super::members::{Rest, skip_padding};
use liblzma::bufread::XzDecoder;
use liblzma::stream::MtStreamBuilder;
use std::io::{self, BufRead, Read};

/// Memory for decoding blocks at once, bytes: two of `xz -6`, compressed to three quarters and decompressed. With what the
/// C library's allocator keeps beside it (up to 35 MiB where blocks come and go), all memory of a driver stays under
/// 160 MiB. Where it is not enough, blocks come one after the other.
const THREADING: u64 = 104 << 20;
/// Threads that decode at most.
const THREADS: usize = 4;
/// What a decoder needs beside its dictionary, bytes.
const DECODER: u64 = 2 << 20;
/// A stream header and the longest block header (2.1.1 and 3.1.1), bytes.
const HEADERS: usize = 12 + 1024;

/// The decompressed bytes of all streams. Anything else behind them but zeroes is an error, as with `xz -d`.
pub(super) struct Streams<R> {
    /// `None` at the end.
    decoder: Option<XzDecoder<Rest<R>>>,
    /// Memory that a dictionary may take, bytes.
    memory: u64,
    /// How many bytes may come out of a stream whose dictionary could grow larger than that; they are all that
    /// there is in it.
    allowance: Option<u64>,
}

impl<R: BufRead> Streams<R> {
    /// The streams that `input` begins with.
    ///
    /// # Errors
    /// Where it can't be read, or there is no memory for a decoder.
    pub(super) fn new(input: R, memory: u64) -> io::Result<Self> {
        let mut streams = Self { decoder: None, memory, allowance: None };
        streams.begin(Rest::of(input))?;
        Ok(streams)
    }

    fn begin(&mut self, mut input: Rest<R>) -> io::Result<()> {
        let dictionary = dictionary(input.look_ahead(HEADERS)?).unwrap_or(0);
        self.allowance = (dictionary > self.memory).then_some(self.memory);
        let limit = self.memory.max(dictionary).saturating_add(DECODER);
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(THREADS));
        let stream = MtStreamBuilder::new()
            .threads(threads as u32)
            .memlimit_threading(THREADING)
            .memlimit_stop(limit.max(THREADING))
            .decoder()?;
        self.decoder = Some(XzDecoder::new_stream(input, stream));
        Ok(())
    }
}

impl<R: BufRead> Read for Streams<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = self.decoder.as_mut() {
            let count = decoder.read(buffer)?;
            if let Some(allowance) = &mut self.allowance {
                *allowance = allowance
                    .checked_sub(count as u64)
                    .ok_or_else(|| io::Error::other("its dictionary takes too much memory"))?;
            }
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(mut input) = self.decoder.take().map(XzDecoder::into_inner) else { break };
            if skip_padding(&mut input)? {
                self.begin(input)?;
            }
        }
        Ok(0)
    }
}

/// Size in bytes of the dictionary that the first block of a stream has (3.1 and 5.3.1); `None` where there is no
/// such block.
fn dictionary(head: &[u8]) -> Option<u64> {
    const LZMA2: u64 = 0x21;
    let block = head.get(12..).filter(|block| block.first().is_some_and(|&size| size != 0))?;
    let flags = *block.get(1)?;
    let mut fields = block.get(2..)?.iter();
    for size in [0x40, 0x80] {
        if flags & size != 0 {
            number(&mut fields)?;
        }
    }
    for _ in 0..=flags & 3 {
        let (id, length) = (number(&mut fields)?, number(&mut fields)?);
        if id == LZMA2 {
            let bits = u32::from(*fields.next()?);
            return Some(match bits {
                40.. => u64::from(u32::MAX),
                bits => (2 | u64::from(bits & 1)) << (bits / 2 + 11),
            });
        }
        for _ in 0..length {
            fields.next()?;
        }
    }
    None
}

/// A number of 7 bits a byte (1.2).
pub(super) fn number(bytes: &mut std::slice::Iter<u8>) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use liblzma::stream::{Check, Filters, LzmaOptions, Stream};

    fn packed(bytes: &[u8], dictionary: u32) -> Vec<u8> {
        let mut options = LzmaOptions::new_preset(0).unwrap();
        options.dict_size(dictionary);
        let mut filters = Filters::new();
        filters.x86().lzma2(&options);
        let stream = Stream::new_stream_encoder(&filters, Check::Crc32).unwrap();
        let mut out = Vec::new();
        liblzma::read::XzEncoder::new_stream(bytes, stream).read_to_end(&mut out).unwrap();
        out
    }

    fn unpacked(packed: &[u8], memory: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Streams::new(packed, memory)?.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn a_dictionary_may_be_larger_than_its_memory_where_little_is_in_it() {
        let bytes = vec![7; 3 << 20];
        let packed = packed(&bytes, 64 << 20);
        assert_eq!(dictionary(&packed), Some(64 << 20));
        assert_eq!(unpacked(&packed, 256 << 20).unwrap(), bytes);
        assert_eq!(unpacked(&packed, 4 << 20).unwrap(), bytes);
        let error = unpacked(&packed, 2 << 20).unwrap_err();
        assert!(error.to_string().contains("too much memory"), "{error}");
    }

    #[test]
    fn streams_are_joined_and_garbage_behind_them_is_an_error() {
        let one = packed(b"one", 1 << 20);
        assert_eq!(unpacked(&[&one[..], &[0; 8], &one].concat(), 1 << 20).unwrap(), b"oneone");
        assert!(unpacked(&[&one[..], b"garbage that is no stream"].concat(), 1 << 20).is_err());
    }
}
