//! How long a compressed file is once decompressed, decoding as little of it as its format allows.

use disk_image::foreign::ReadAt;
use disk_image::probe::Compression;
use disk_image::qcow2::{read_bytes, read_up_to};
use std::fs::File;
use std::io;
use std::time::Instant;

/// Length in bytes of what `file` decompresses to, counted no further than beyond `largest` and no longer than
/// `until`. A window or dictionary may take `memory` bytes.
///
/// An xz file says so at its end and a zstd file in front of each frame; gzip (whose trailer counts
/// modulo 4 GiB, for the last member only), bzip2, and zstd from a pipe have to be decoded.
///
/// # Errors
/// Where the file can't be read or decoded.
pub fn decompressed_length(
    compression: Compression,
    file: &File,
    memory: u64,
    largest: u64,
    until: Instant,
) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let stated = match compression {
        Compression::Xz => {
            let read_at = |offset, count| read_bytes(file, offset, count);
            length_in_trailer(&read_at, length)?
        }
        Compression::Zstd => zstd_length(file, length)?,
        Compression::Gzip | Compression::Bzip2 => None,
    };
    if let Some(length) = stated {
        Ok(length)
    } else {
        let whole = super::decompress::decompress(
            compression,
            Whole { file: file.try_clone()?, offset: 0 },
            memory,
        )?;
        let mut ahead = super::ReadAhead::of(whole)?;
        count(&mut ahead, until, largest)
    }
}

/// How many bytes `stream` holds, if it ends before `until`; counting stops beyond `largest`.
///
/// # Errors
/// As the stream; [`io::ErrorKind::TimedOut`].
pub fn count(stream: &mut dyn io::Read, until: Instant, largest: u64) -> io::Result<u64> {
    let mut buffer = vec![0; super::PIECE];
    let mut length = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(length),
            count => length += count as u64,
        }
        if length > largest {
            return Ok(length);
        }
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
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

/// Length of what an .xz file of `length` bytes decompresses to, out of the footers and indexes of its
/// streams, from the last to the first (The .xz File Format, 2.1.2 and 4); `None` where that does not
/// work out, which decoding will explain.
///
/// # Errors
/// As `read_at`.
pub fn length_in_trailer(read_at: ReadAt, length: u64) -> io::Result<Option<u64>> {
    const HEADER: u64 = 12;
    const MOST_PADDING: u64 = 4096;
    // Of 32 bytes or so for each block.
    const LARGEST_INDEX: u64 = 16 << 20;
    let (mut end, mut total, mut padding) = (length, 0_u64, 0);
    while end > 0 {
        if end % 4 != 0 || end < 2 * HEADER {
            return Ok(None);
        }
        let footer = read_at(end - HEADER, HEADER as usize)?;
        let Some(backward) = footer.get(4..8).and_then(|b| b.try_into().ok()) else {
            return Ok(None);
        };
        if footer.ends_with(&[0; 4]) {
            // Stream padding: a file that is full of it is left to the decoder.
            padding += 4;
            if padding > MOST_PADDING {
                return Ok(None);
            }
            end -= 4;
            continue;
        }
        let index = (u64::from(u32::from_le_bytes(backward)) + 1) * 4;
        if !footer.ends_with(b"YZ") || index > LARGEST_INDEX || index > end - HEADER {
            return Ok(None);
        }
        let index_start = end - HEADER - index;
        let Some((blocks, uncompressed)) = xz_index(&read_at(index_start, index as usize)?) else {
            return Ok(None);
        };
        let Some(start) = index_start.checked_sub(blocks).and_then(|at| at.checked_sub(HEADER))
        else {
            return Ok(None);
        };
        if start > 0 && read_at(start, 6)? != b"\xfd7zXZ\0" {
            return Ok(None);
        }
        let Some(sum) = total.checked_add(uncompressed) else { return Ok(None) };
        total = sum;
        end = start;
    }
    Ok(Some(total))
}

/// Sum of the padded sizes of the blocks in an index, and of their uncompressed sizes.
fn xz_index(index: &[u8]) -> Option<(u64, u64)> {
    let mut bytes = index.iter();
    let mut number = || super::xz::number(&mut bytes);
    if number()? != 0 {
        return None;
    }
    let (mut padded, mut uncompressed) = (0_u64, 0_u64);
    for _ in 0..number()? {
        padded = padded.checked_add(number()?.checked_next_multiple_of(4)?)?;
        uncompressed = uncompressed.checked_add(number()?)?;
    }
    Some((padded, uncompressed))
}

/// Content size and length of the frame header in `head`.
fn zstd_frame(head: &[u8; 18]) -> Option<(Option<u64>, usize)> {
    let word = |at: usize| {
        head.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
    };
    if word(0) != 0xfd2f_b528 {
        return None;
    }
    let descriptor = head[4];
    let single_segment = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let at = 5 + usize::from(!single_segment) + dictionary;
    let (size, width) = match (descriptor >> 6, single_segment) {
        (0, false) => (None, 0),
        (0, true) => (Some(u64::from(head[at])), 1),
        (1, _) => (Some(u64::from(word(at) & 0xffff) + 256), 2),
        (2, _) => (Some(u64::from(word(at))), 4),
        _ => (Some(u64::from(word(at)) | u64::from(word(at + 4)) << 32), 8),
    };
    Some((size, at + width))
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
        let Some((Some(size), header)) = zstd_frame(&head) else { return Ok(None) };
        let Some(sum) = total.checked_add(size) else { return Ok(None) };
        total = sum;
        position += header as u64;
        let Some(end) = zstd_blocks(file, position, length)? else { return Ok(None) };
        position = end + if head[4] & 4 == 0 { 0 } else { 4 };
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
