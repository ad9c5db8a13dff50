//! How long a compressed file is once decompressed, decoding as little of it as its format allows.

use crate::image::probe::Compression;
use crate::image::qcow2::read_up_to;
use std::fs::File;
use std::io;

/// Length in bytes of what `file` decompresses to.
///
/// An xz file says so at its end and a zstd file in front of each frame; gzip (whose trailer counts
/// modulo 4 GiB, for the last member only), bzip2, and zstd from a pipe have to be decoded.
///
/// # Errors
/// Where the file can't be read or decoded.
pub fn decompressed_length(compression: Compression, file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let stated = match compression {
        Compression::Xz => xz_length(file, length)?,
        Compression::Zstd => zstd_length(file, length)?,
        Compression::Gzip | Compression::Bzip2 => None,
    };
    if let Some(length) = stated {
        Ok(length)
    } else {
        let whole = super::decompress::decompress(
            compression,
            Whole { file: file.try_clone()?, offset: 0 },
        )?;
        let mut ahead = super::Ahead::of(whole)?;
        io::copy(&mut ahead, &mut io::sink())
    }
}

/// A file from its first byte, whatever its cursor says.
#[derive(Debug)]
pub struct Whole {
    /// The file.
    pub file: File,
    /// Where reading goes on.
    pub offset: u64,
}

impl io::Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = std::os::unix::fs::FileExt::read_at(&self.file, buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Walks the streams of an .xz file from the last to the first by their footers and indexes (The .xz
/// File Format, 2.1.2 and 4); `None` where that does not work out, which decoding will explain.
fn xz_length(file: &File, length: u64) -> io::Result<Option<u64>> {
    const HEADER: u64 = 12;
    const MOST_PADDING: u64 = 4096;
    let mut padding = 0;
    let mut end = length;
    let mut total = 0_u64;
    while end > 0 {
        let mut footer = [0; 12];
        if !end.is_multiple_of(4)
            || end < 2 * HEADER
            || read_up_to(file, &mut footer, end - HEADER)? < 12
        {
            return Ok(None);
        }
        if footer[8..] == [0; 4] {
            // Stream padding: a file that is full of it is left to the decoder.
            padding += 4;
            if padding > MOST_PADDING {
                return Ok(None);
            }
            end -= 4;
            continue;
        }
        if !footer.ends_with(b"YZ") {
            return Ok(None);
        }
        let backward = u32::from_le_bytes([footer[4], footer[5], footer[6], footer[7]]);
        let index = (u64::from(backward) + 1) * 4;
        let Some(index_start) = (end - HEADER).checked_sub(index) else { return Ok(None) };
        let Some((blocks, uncompressed)) = xz_index(file, index_start, index)? else {
            return Ok(None);
        };
        let Some(start) = index_start.checked_sub(blocks).and_then(|at| at.checked_sub(HEADER))
        else {
            return Ok(None);
        };
        let mut magic = [0; 6];
        if read_up_to(file, &mut magic, start)? < 6 || magic != *b"\xfd7zXZ\0" {
            return Ok(None);
        }
        let Some(sum) = total.checked_add(uncompressed) else { return Ok(None) };
        total = sum;
        end = start;
    }
    Ok(Some(total))
}

/// Sum of the padded sizes of the blocks in an index, and of their uncompressed sizes.
fn xz_index(file: &File, start: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    use std::io::{BufReader, Read as _};
    let mut bytes =
        BufReader::new(Whole { file: file.try_clone()?, offset: start }.take(length)).bytes();
    let mut number = || -> io::Result<Option<u64>> {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let Some(byte) = bytes.next().transpose()? else { return Ok(None) };
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(Some(value));
            }
        }
        Ok(None)
    };
    if number()? != Some(0) {
        return Ok(None);
    }
    let Some(count) = number()? else { return Ok(None) };
    let (mut padded, mut uncompressed) = (0_u64, 0_u64);
    for _ in 0..count {
        let (Some(block), Some(data)) = (number()?, number()?) else { return Ok(None) };
        let sums = (padded.checked_add(block.next_multiple_of(4)), uncompressed.checked_add(data));
        let (Some(sum), Some(data)) = sums else { return Ok(None) };
        (padded, uncompressed) = (sum, data);
    }
    Ok(Some((padded, uncompressed)))
}

/// Adds up the content sizes in the frame headers of a zstd file (RFC 8878, 3.1.1), passing over the
/// blocks by their headers; `None` where a frame doesn't say.
fn zstd_length(file: &File, length: u64) -> io::Result<Option<u64>> {
    let mut position = 0;
    let mut total = 0_u64;
    while position < length {
        let mut head = [0; 18];
        let read = read_up_to(file, &mut head, position)?;
        let word = |at: usize| {
            head.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
        };
        if read < 8 {
            return Ok(None);
        }
        if word(0) & 0xffff_fff0 == 0x184d_2a50 {
            position += 8 + u64::from(word(4));
            continue;
        }
        if word(0) != 0xfd2f_b528 {
            return Ok(None);
        }
        let descriptor = head[4];
        let single_segment = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let at = 5 + usize::from(!single_segment) + dictionary;
        let (size, width) = match (descriptor >> 6, single_segment) {
            (0, false) => return Ok(None),
            (0, true) => (u64::from(head[at]), 1),
            (1, _) => (u64::from(word(at) & 0xffff) + 256, 2),
            (2, _) => (u64::from(word(at)), 4),
            _ => (u64::from(word(at)) | u64::from(word(at + 4)) << 32, 8),
        };
        let Some(sum) = total.checked_add(size) else { return Ok(None) };
        total = sum;
        position += (at + width) as u64;
        let Some(end) = zstd_blocks(file, position, length)? else { return Ok(None) };
        position = end + if descriptor & 4 == 0 { 0 } else { 4 };
    }
    Ok((position == length).then_some(total))
}

/// Where the blocks of a frame that begin at `position` end.
fn zstd_blocks(file: &File, mut position: u64, length: u64) -> io::Result<Option<u64>> {
    // More blocks than a file with anything in them has: left to the decoder.
    const MOST_BLOCKS: u64 = 1 << 22;
    for _ in 0..MOST_BLOCKS {
        let mut header = [0; 3];
        if read_up_to(file, &mut header, position)? < 3 {
            return Ok(None);
        }
        let header = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        // A block of one repeated byte holds just that byte.
        let size = if header >> 1 & 3 == 1 { 1 } else { header >> 3 };
        position += 3 + u64::from(size);
        if position > length {
            return Ok(None);
        }
        if header & 1 != 0 {
            return Ok(Some(position));
        }
    }
    Ok(None)
}
