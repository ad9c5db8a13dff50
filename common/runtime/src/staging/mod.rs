//! The work directory: images are written there, made durable, and renamed into place in one step.
//!
//! Incomplete images and changes are in the directory `.ferrostore-work` of the datastore, which is there only while a
//! driver works:
//!
//! - `staging.<name>`: an image that is being written. Once it is complete and on disk, it gets its place in the
//!   datastore in one step. A new image keeps its staged name beside the final one until oned has been told.
//! - `lock.<image>`: an action works on that image, and says in it who it is.
//! - `trash.<image>`: what that action removes; moved there first, it disappears in one step.
//! - `undo.<image>`: the same, before the action is committed.
//!
//! Each of them is held by its driver with a lock that ends with it. So the next driver that opens the datastore knows
//! a dead driver's from a live one's, whatever their age, on NFS too: what is staged is removed, trash as
//! well, and what is to be undone is put back in its place.
//!
//! Beside it lies the [`trash`], where there is one.

mod error;
mod image_lock;
pub mod intent;
pub mod reclaim;
mod recovery;
mod staged;
mod transaction;
pub mod trash;

pub use crate::work_directory::NAME as WORK_DIRECTORY;
pub use error::{StagingError, no_space_hint};
pub use image_lock::{ImageLock, LockError};
pub use staged::{Staged, image_name};
pub use transaction::{Transaction, discard};

use crate::{file_lock, work_directory};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// How the names of the entries of the work directory begin.
pub const PREFIXES: [&str; 4] =
    [staged::PREFIX, image_lock::PREFIX, recovery::TRASH, recovery::UNDO];

/// Removes what killed drivers left in `datastore`, or puts it back. A directory that isn't there holds
/// nothing.
pub fn remove_stale(datastore: &Path) {
    refresh(datastore);
    let Ok(entries) = fs::read_dir(work_directory::of(datastore)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        staged::remove_stale(datastore, &name);
        image_lock::remove_stale(datastore, &name);
    }
    work_directory::leave(datastore);
}

/// Has all be seen that other hosts have done in the directory: on NFS a directory that is opened is asked of the server, while
/// what is in it, or not in it any more, may come out of a cache for up to a minute.
fn refresh(directory: &Path) {
    let _ = File::open(directory);
}

/// Makes the names in the directory that holds `path` durable.
///
/// # Errors
/// As `open(2)` and `fsync(2)`.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// As [`sync_directory`] of a trash, which another driver may have found empty and removed meanwhile.
fn sync_trash(trash: &Path) -> io::Result<()> {
    sync_directory(trash)
        .or_else(|error| if work_directory::is_gone(&error) { Ok(()) } else { Err(error) })
}

/// Whether a name in a datastore is ours and none of an image: that of the directory of what is not finished, or of the
/// trash.
#[must_use]
pub fn is_own(name: &OsStr) -> bool {
    name == work_directory::NAME || name == trash::NAME
}

/// What is not finished in `datastore`.
#[must_use]
pub fn unfinished(datastore: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(work_directory::of(datastore)).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

/// Whether a driver that lives holds the entry `path` of [`unfinished`].
///
/// # Errors
/// Where that can't be found out: it is gone, or may not be read.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    fs::symlink_metadata(path)?;
    match File::open(image_lock::holding(path)) {
        Ok(file) => file_lock::is_locked(&file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
