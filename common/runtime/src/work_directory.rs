//! The directory in a datastore that holds what is not finished.
//!
//! It is there only while a driver works, or after one was killed: so a driver that finds none knows
//! with one system call that there is nothing to remove, however many images the datastore holds.

use crate::sys;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Its name.
pub const NAME: &str = ".ferrostore-work";

/// So often another driver may remove the empty directory before anything is made in it.
const ATTEMPTS: u32 = 10_000;

/// With NFS, names of removed files in it that are still open begin with this.
const REMOVED: &[u8] = b"/.ferrostore-work/.nfs";

/// The directory in the datastore `datastore`.
pub(crate) fn of(datastore: &Path) -> PathBuf {
    datastore.join(NAME)
}

/// Runs `make`, which makes an entry in the directory that it is given, where need be after making that
/// directory.
///
/// # Errors
/// Those of `make`, and where the directory can't be made or is none.
pub(crate) fn enter<T>(
    datastore: &Path,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let area = of(datastore);
    let mut last = io::ErrorKind::NotFound.into();
    for _ in 0..ATTEMPTS {
        match fs::symlink_metadata(&area) {
            Ok(metadata) if metadata.is_dir() => match make(&area) {
                // The last driver has left, and removed the directory, in between.
                Err(error) if is_gone(&error) => last = error,
                Err(error) => {
                    leave(datastore);
                    return Err(error);
                }
                entered => return entered,
            },
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match fs::DirBuilder::new().mode(0o770).create(&area) {
                    Ok(()) => chown_to_datastore_owner(&area, datastore)?,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Whether what was asked for is not there; NFS says "stale" of what another host has removed.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle)
}

/// Removes the directory if nothing is in it any more.
pub(crate) fn leave(datastore: &Path) {
    // While others work, it isn't empty: the last one removes it.
    let _ = fs::remove_dir(of(datastore));
}

/// The same for `area` itself, in a process that ends now: what its threads still have open does not count.
pub(crate) fn leave_at_the_end(area: &Path) {
    if fs::remove_dir(area).is_ok() || !sys::close_files(REMOVED) {
        return;
    }
    // Who is in the middle of a system call keeps its file open until that returns.
    for _ in 0..30 {
        if fs::remove_dir(area).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where root runs a driver by hand, what it makes must still be the datastore's owner's, who could neither
/// use nor remove it otherwise.
pub(crate) fn chown_to_datastore_owner(path: &Path, datastore: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = datastore.metadata()?;
    if owner.uid() == 0 {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(test)]
mod tests;
