//! How much space an image needs that is written into a file: at least so much.

use super::page_buffer::PageBuffer;
use super::qcow2::read_up_to;
use super::target::{Target, non_zero_runs};
use super::{Content, Disk, Extent, ImageError};
use runtime::space::{self, Expectation};
use std::os::unix::fs::MetadataExt as _;

/// So much is read at once, bytes.
const PIECE: usize = 1 << 20;

/// Has it be counted, should the disk be full, how much `target` needs yet for `disk`. Until then it costs nothing.
pub(super) fn expect(disk: &dyn Disk, target: &Target) -> Option<Expectation> {
    let need = target.needs(disk).filter(|_| space::has_maker())?;
    let (disk, file) = (disk.again()?, target.file().try_clone().ok()?);
    Some(space::expect(move |limit| {
        let allocated = file.metadata().map_or(0, |metadata| metadata.blocks() * 512);
        let count = || data(disk.as_ref(), need.granularity, limit.saturating_add(allocated));
        need.whole.unwrap_or_else(count).saturating_sub(allocated)
    }))
}

/// Bytes of the blocks of `disk` that are not zero, or more than `limit`.
fn data(disk: &dyn Disk, granularity: u64, limit: u64) -> u64 {
    let mut buffer = PageBuffer::default();
    buffer.resize(PIECE);
    let mut blocks = Blocks { granularity, limit, bytes: 0, end: 0 };
    // Where it can't be read any further, it is at least what came before.
    let _ = disk.extents(&mut |extent| {
        count(&extent, &mut buffer, &mut blocks)?;
        if blocks.are_too_many() {
            return Err(ImageError::TooLarge { limit, why: "" });
        }
        Ok(())
    });
    blocks.bytes
}

/// Blocks that were counted, in the order of the disk.
struct Blocks {
    granularity: u64,
    limit: u64,
    bytes: u64,
    /// Where the last one ends.
    end: u64,
}

impl Blocks {
    /// Counts the blocks with these bytes of the disk.
    fn add(&mut self, start: u64, length: u64) {
        let first = (start - start % self.granularity).max(self.end);
        self.end = (start + length).next_multiple_of(self.granularity).max(first);
        self.bytes += self.end - first;
    }

    fn are_too_many(&self) -> bool {
        self.bytes > self.limit
    }
}

fn count(extent: &Extent, buffer: &mut [u8], blocks: &mut Blocks) -> Result<(), ImageError> {
    let (file, offset) = match extent.content {
        Content::Zero => return Ok(()),
        Content::Compressed(_) => {
            blocks.add(extent.start, extent.length);
            return Ok(());
        }
        Content::Data { file, offset } => (file, offset),
    };
    let mut done = 0;
    while done < extent.length && !blocks.are_too_many() {
        let position = extent.start + done;
        // Blocks stay in one piece.
        let within = position % PIECE as u64;
        let length = (PIECE as u64 - within).min(extent.length - done) as usize;
        let read = read_up_to(file, &mut buffer[..length], offset + done)
            .map_err(ImageError::reading(offset + done))?;
        for (start, run) in non_zero_runs(position, &buffer[..read], blocks.granularity) {
            blocks.add(start, run.len() as u64);
        }
        done += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::raw::RawDisk;
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn blocks_with_data_are_counted_up_to_the_limit() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(16 << 20).unwrap();
        file.write_all_at(&vec![1; 3 << 20], 1 << 20).unwrap();
        file.write_all_at(&vec![0; 3 << 20], 5 << 20).unwrap();
        file.write_all_at(&[1], (9 << 20) + 5).unwrap();
        let disk = RawDisk::open(file).unwrap();
        assert_eq!(data(&disk, 4096, u64::MAX), (3 << 20) + 4096);
        assert_eq!(data(&disk, 65536, u64::MAX), (3 << 20) + 65536);
        assert!((2 << 20..3 << 20).contains(&data(&disk, 4096, (2 << 20) - 1)));
    }
}
