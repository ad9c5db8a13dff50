//! The last bytes of a stream, and a footer that is no part of the disk.

use disk_image::probe::{self, TAIL};
use std::io::{self, Read};

/// Passes a stream on, but for the footer of a fixed vhd at its end, and remembers how it ended.
#[derive(Debug)]
pub struct Tail<R> {
    stream: R,
    /// The last bytes that came, which are passed on once more come, or it is known that none will.
    held: Vec<u8>,
    /// How many bytes came.
    length: u64,
    ended: bool,
    last: Vec<u8>,
}

impl<R: Read> Tail<R> {
    /// `stream`, whose last bytes are of interest.
    pub fn new(stream: R) -> Self {
        Self { stream, held: Vec::new(), length: 0, ended: false, last: Vec::new() }
    }

    /// The stream, of which some bytes more may have been read than were passed on.
    pub fn into_inner(self) -> R {
        self.stream
    }

    /// The last bytes ([`TAIL`] of them) of a stream that has been read to its end; none where they were a footer.
    #[must_use]
    pub fn last(&self) -> &[u8] {
        &self.last
    }

    /// How many of the bytes in `buffer`, of which `count` have just come, are to be passed on: all that more than
    /// [`TAIL`] follow.
    fn hold_back(&mut self, buffer: &mut [u8], count: usize) -> usize {
        let held = self.held.len();
        let passed = (held + count).saturating_sub(TAIL);
        if passed < held {
            self.held.extend_from_slice(&buffer[..count]);
            buffer[..passed].copy_from_slice(&self.held[..passed]);
            self.held.drain(..passed);
            return passed;
        }
        let rest = buffer[passed - held..count].to_vec();
        buffer.copy_within(..passed - held, held);
        buffer[..held].copy_from_slice(&self.held);
        self.held = rest;
        passed
    }
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buffer.is_empty() {
            let count = self.stream.read(buffer)?;
            self.length += count as u64;
            let passed = self.hold_back(buffer, count);
            if passed > 0 {
                return Ok(passed);
            }
            if count == 0 {
                self.ended = true;
                let disk = self.length - self.held.len() as u64;
                if probe::fixed_vhd(&self.held) == Some(disk) {
                    self.held.clear();
                }
                self.last.clone_from(&self.held);
            }
        }
        let count = self.held.len().min(buffer.len());
        if self.ended {
            buffer[..count].copy_from_slice(&self.held[..count]);
            self.held.drain(..count);
            return Ok(count);
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(bytes: &[u8], step: usize) -> (Vec<u8>, Vec<u8>) {
        let mut tail = Tail::new(bytes);
        let (mut buffer, mut all) = (vec![0; step], Vec::new());
        loop {
            match tail.read(&mut buffer).unwrap() {
                0 => return (all, tail.last().to_vec()),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// The footer of a fixed vhd of `size` bytes.
    fn footer(size: u64) -> Vec<u8> {
        let mut footer = vec![0; TAIL];
        footer[..8].copy_from_slice(b"conectix");
        footer[48..56].copy_from_slice(&size.to_be_bytes());
        footer[63] = 2;
        let sum = !footer.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        footer[64..68].copy_from_slice(&sum.to_be_bytes());
        footer
    }

    #[test]
    fn the_last_bytes_are_known_however_a_stream_is_read() {
        for length in [0, 1, 511, 512, 513, 1023, 1024, 5000] {
            let bytes: Vec<u8> = (0..length).map(|number: usize| (number % 251) as u8).collect();
            for step in [1, 7, 500, 512, 513, 4096, 10_000] {
                let (all, last) = read(&bytes, step);
                assert_eq!(all, bytes, "{length} bytes, {step} at a time");
                assert_eq!(last, bytes[length.saturating_sub(TAIL)..], "{length}, {step}");
            }
        }
    }

    #[test]
    fn a_footer_is_left_out_if_it_is_that_of_what_came() {
        let disk: Vec<u8> = (0..3000).map(|number: usize| (number % 251) as u8).collect();
        for step in [1, 7, 512, 4096] {
            let (all, last) = read(&[disk.clone(), footer(3000)].concat(), step);
            assert!(all == disk && last.is_empty(), "{step}");
            let (all, last) = read(&[disk.clone(), footer(3001)].concat(), step);
            assert_eq!((all.len(), last), (3512, footer(3001)), "{step}");
        }
    }
}
