//! What the fuzz targets share: a limit on memory, and files out of bytes.

use cap::Cap;
use std::alloc::System;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// No reader may need more than this for what a file says, bytes.
const MEMORY: usize = 64 << 20;

/// Counts what the code under test holds, apart from the fuzzer's own memory, and ends the process at
/// the limit: the fuzzer reports that as a crash, with the input that did it.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY);

/// Where files are made: in memory, if there is such a place.
#[must_use]
pub fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// A file that holds `bytes` and has no name.
///
/// # Errors
/// As the file system.
pub fn file(bytes: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile_in(place())?;
    file.write_all(bytes)?;
    Ok(file)
}

/// A large file, mostly of zeros, in a small input: pieces, each an offset (4 bytes), a length (2 bytes),
/// both little-endian, and so many bytes.
pub struct Sparse<'a> {
    pieces: Vec<(u64, &'a [u8])>,
}

impl<'a> Sparse<'a> {
    /// The file that `input` describes.
    #[must_use]
    pub fn of(mut input: &'a [u8]) -> Self {
        let mut pieces = Vec::new();
        while let Some((offset, rest)) = input.split_first_chunk::<4>()
            && let Some((length, rest)) = rest.split_first_chunk::<2>()
        {
            let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
            let (piece, rest) = rest.split_at(length);
            pieces.push((u64::from(u32::from_le_bytes(*offset)), piece));
            input = rest;
        }
        Self { pieces }
    }

    /// Where the file ends, bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.pieces.iter().map(|(offset, piece)| offset + piece.len() as u64).max().unwrap_or(0)
    }

    /// Up to `length` bytes at `offset`; fewer come only at the end.
    ///
    /// # Errors
    /// None: it has the form that the readers of images ask for.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let left = self.length().saturating_sub(offset);
        let length = left.min(length as u64) as usize;
        let mut bytes = vec![0; length];
        for (start, piece) in &self.pieces {
            for (index, byte) in piece.iter().enumerate() {
                let place = (start + index as u64).checked_sub(offset).map(|place| place as usize);
                if let Some(target) = place.and_then(|place| bytes.get_mut(place)) {
                    *target = *byte;
                }
            }
        }
        Ok(bytes)
    }
}
