//! Another name for the same backing file.

use super::header::{Header, read_up_to};
use crate::{Format, ImageError};
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Where the offset (8 bytes) and the length (4 bytes) of the name stand in the header.
const FIELD: usize = 8;

/// Lets the image in `file`, open for reading and writing, name its backing file `name`. The image has the old
/// name or the new one at every moment, on disk too: the new one is written into the free end of the
/// first cluster, and then the one field that points to it.
///
/// # Errors
/// Where there is no space for the name, or the file can't be written.
pub fn rename_backing_file(file: &File, name: &[u8]) -> Result<(), ImageError> {
    let no_space = || ImageError::Unsupported {
        format: Format::Qcow2,
        what: "has no space in its header for another name of its backing file".to_owned(),
    };
    let header = Header::read(file)?;
    let cluster = header.cluster_size() as usize;
    let mut head = vec![0; cluster];
    read_up_to(file, &mut head, 0).map_err(ImageError::reading(0))?;
    let start = cluster.checked_sub(name.len()).ok_or_else(no_space)? / 8 * 8;
    let free = head.get(start..).unwrap_or_default();
    // A program that was killed before it let the field point there has left the name.
    let begun = free.starts_with(name);
    if free.len() < name.len() || (!begun && free.iter().any(|&byte| byte != 0)) {
        return Err(no_space());
    }
    let mut field = [0; 12];
    field[..8].copy_from_slice(&(start as u64).to_be_bytes());
    field[8..].copy_from_slice(&(name.len() as u32).to_be_bytes());
    // All else must read as before: what ended where the old name began could go on behind it.
    head[start..start + name.len()].copy_from_slice(name);
    head[FIELD..FIELD + field.len()].copy_from_slice(&field);
    let renamed = Header::parse(&head, |offset, buffer| {
        let from = offset as usize;
        let bytes = head.get(from..from + buffer.len()).ok_or_else(no_space)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    })?;
    if renamed.backing_file.as_deref() != Some(name)
        || renamed.backing_format != header.backing_format
        || renamed.has_data_file != header.has_data_file
    {
        return Err(no_space());
    }
    let written = |offset: usize| move |source| ImageError::Write { offset: offset as u64, source };
    file.write_all_at(name, start as u64).map_err(written(start))?;
    file.sync_data().map_err(written(start))?;
    file.write_all_at(&field, FIELD as u64).map_err(written(FIELD))?;
    file.sync_data().map_err(written(FIELD))
}
