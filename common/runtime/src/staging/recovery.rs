//! What a killed action left: what it was to delete is deleted, and an unfinished change is rolled back.

use super::sync_directory;
use crate::work_directory;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What lies in such a directory is only to be deleted.
pub(super) const TRASH: &str = "trash.";
/// What lies in such a directory is put back where it came from, should its driver die.
pub(super) const UNDO: &str = "undo.";

/// Where an entry came from: beside the image, or out of its `S.snap`.
pub(super) const BESIDE: char = 'd';
/// As [`BESIDE`], out of `S.snap`.
pub(super) const SNAPSHOTS: char = 's';

pub(super) fn name_of(kind: &str, image: &OsStr) -> OsString {
    let mut name = OsString::from(kind);
    name.push(image);
    name
}

/// The image that a directory of this kind is for.
pub(super) fn image_of(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(TRASH.as_bytes()).or_else(|| name.strip_prefix(UNDO.as_bytes()))
}

pub(super) fn snapshots_of(datastore: &Path, image: &OsStr) -> PathBuf {
    let mut name = image.to_owned();
    name.push(".snap");
    datastore.join(name)
}

/// What a killed action on `image` left, whose lock is held: an unfinished change is undone, and what
/// was to be deleted is.
pub(super) fn recover(datastore: &Path, image: &OsStr) {
    let area = work_directory::of(datastore);
    let undo = area.join(name_of(UNDO, image));
    match roll_back(&undo, datastore, image) {
        Ok(()) => {
            if fs::remove_dir_all(&undo).is_ok() {
                log::info!(
                    "rolled back the unfinished transaction of a killed driver on {}",
                    image.display()
                );
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => log::error!("file {} can't be rolled back: {error}", undo.display()),
    }
    let trash = area.join(name_of(TRASH, image));
    if fs::remove_dir_all(&trash).is_ok() {
        log::info!("removed {}, left by a killed driver", trash.display());
    }
}

/// Number, kind and name of what is kept in `directory`, the last first.
pub(super) fn entries(directory: &Path) -> io::Result<Vec<(u32, char, OsString)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let mut parts = name.as_bytes().splitn(2, |&byte| byte == b'.');
        let head = parts.next().and_then(|head| std::str::from_utf8(head).ok()).unwrap_or_default();
        let number = head.strip_suffix([BESIDE, SNAPSHOTS]).and_then(|digits| digits.parse().ok());
        if let (Some(number), Some(kind), Some(rest)) = (number, head.chars().last(), parts.next())
        {
            entries.push((number, kind, OsStr::from_bytes(rest).to_owned()));
        }
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.0));
    Ok(entries)
}

/// Puts all that is in `directory` back in the places where it was, whatever is there now.
pub(super) fn roll_back(directory: &Path, datastore: &Path, image: &OsStr) -> io::Result<()> {
    let snapshots = snapshots_of(datastore, image);
    for (number, kind, name) in entries(directory)? {
        let origin = if kind == BESIDE { datastore } else { &snapshots }.join(&name);
        let mut entry = OsString::from(format!("{number}{kind}."));
        entry.push(&name);
        // Where both are the same file already, this does nothing.
        fs::rename(directory.join(entry), origin)?;
    }
    // It was there before: if the system can't tell the disk now, there is nothing more to do.
    let _ = sync_directory(datastore);
    let _ = sync_directory(&snapshots);
    Ok(())
}
