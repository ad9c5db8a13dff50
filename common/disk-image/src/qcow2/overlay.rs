//! An empty image on a backing file: what a snapshot's successor, or a reverted disk, starts as.

use super::writer::{Backing, Writer};
use crate::ImageError;
use std::fs::File;

/// Makes the empty file `file` an overlay of `size` bytes on the file that `backing_name` names
/// (as it shall stand in the image), of format `backing_format` (`qcow2` or `raw`).
///
/// # Errors
/// Where the file can't be written or the name is too long.
pub fn overlay(
    file: &File,
    size: u64,
    backing_name: &[u8],
    backing_format: &str,
) -> Result<(), ImageError> {
    let backing = Backing { name: backing_name, format: backing_format };
    Writer::new(file).finish(size, Some(backing))
}
