//! Two actions on the same image exclude each other, on one front-end or on several that share a datastore.

use super::error::{StagingError, at};
use super::recovery;
use crate::file_lock::{FileLock, LockMode, LockScope, lockable, wait_for_lock};
use crate::text::one_line;
use crate::{process, work_directory};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const PREFIX: &str = "lock.";

/// How an image can't be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another action works on it.
    #[error("is in use: {holder} still holds its exclusive lock after {} s; try again later", waited.as_secs())]
    InUse {
        /// Which action, process and host.
        holder: String,
        /// For how long it was waited for.
        waited: Duration,
    },
    /// The lock can't be made or taken.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

/// A hold on one image of a datastore, which ends when this is dropped or the driver dies.
#[derive(Debug)]
pub struct ImageLock {
    datastore: PathBuf,
    image: OsString,
    /// None where none could be made, nor needs to be.
    held: Option<PathBuf>,
}

impl ImageLock {
    /// Holds the image named `image` in the directory `datastore` exclusive, once all others let it go: they
    /// are waited for no longer than `wait`. What a killed action on it left half-done is recovered first.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn exclusive(datastore: &Path, image: &OsStr, wait: Duration) -> Result<Self, LockError> {
        Self::wait_for(datastore, image, LockMode::Exclusive, wait)
    }

    /// As [`Self::exclusive`], together with others that only read the image.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn shared(datastore: &Path, image: &OsStr, wait: Duration) -> Result<Self, LockError> {
        Self::wait_for(datastore, image, LockMode::Shared, wait)
    }

    fn wait_for(
        datastore: &Path,
        image: &OsStr,
        mode: LockMode,
        wait: Duration,
    ) -> Result<Self, LockError> {
        let lock = |held| Self { datastore: datastore.to_owned(), image: image.to_owned(), held };
        let attempt = || match attempt(datastore, image, mode) {
            Ok(attempt) => Ok(attempt.map(|path| lock(Some(path)))),
            // A driver that can't even write here disturbs no other. And on a full disk, where an image must still
            // be removable, a lock that can't be made is held by no other: its file would be there.
            Err(error) if is_needless(&error, mode) => Ok(Ok(lock(None))),
            Err(error) => {
                let step = "locked (DATASTORE/BASE_PATH must be writable)";
                Err(at(step, &datastore.join(image))(error))
            }
        };
        let describe = |holder: &String| format!("the lock of {holder} on {}", image.display());
        wait_for_lock(wait, attempt, describe)?
            .map_err(|holder| LockError::InUse { holder, waited: wait })
    }

    /// The directory of the image's datastore.
    pub(super) fn datastore(&self) -> &Path {
        &self.datastore
    }

    /// The name of the image.
    pub(super) fn image(&self) -> &OsStr {
        &self.image
    }
}

impl Drop for ImageLock {
    fn drop(&mut self) {
        if let Some(path) = &self.held {
            process::unlock(path);
            work_directory::leave(&self.datastore);
        }
    }
}

fn is_needless(error: &io::Error, mode: LockMode) -> bool {
    use io::ErrorKind::{
        NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    match error.kind() {
        // Without a datastore there is nothing to lock.
        StorageFull | QuotaExceeded | NotFound => true,
        PermissionDenied | ReadOnlyFilesystem => mode == LockMode::Shared,
        _ => false,
    }
}

fn name_of(image: &OsStr) -> OsString {
    let mut name = OsString::from(PREFIX);
    name.push(image);
    name
}

/// The path of the lock, or who holds it.
fn attempt(datastore: &Path, image: &OsStr, mode: LockMode) -> io::Result<Result<PathBuf, String>> {
    let name = name_of(image);
    let mut holder = String::new();
    let taken = process::register_lock(|| {
        loop {
            let (file, path) = work_directory::enter(datastore, |area| {
                let path = area.join(&name);
                // Not truncated: another holder's name may stand in it.
                Ok((lockable().create(true).truncate(false).mode(0o660).open(&path)?, path))
            })?;
            let lock = FileLock::on(file, LockScope::Byte);
            // For a moment exclusive, even if it is to be shared: what was left half-done must be recovered.
            let exclusive = lock.try_lock(LockMode::Exclusive)?;
            let enough =
                exclusive || (mode == LockMode::Shared && lock.try_lock(LockMode::Shared)?);
            if !enough {
                holder = holder_of(lock.file());
                return Ok(None);
            }
            // Its last holder, or recovery, may have removed it before it was ours.
            if lock.is_at(&path) {
                return Ok(Some((path, lock, exclusive)));
            }
        }
    })?;
    let Some((path, lock, exclusive)) = taken else { return Ok(Err(holder)) };
    work_directory::chown_to_datastore_owner(&path, datastore)?;
    // On a full disk the holder's name is missing.
    let _ =
        lock.file().write_all_at(format!("{:<200}\n", process::describe_process()).as_bytes(), 0);
    // NFS brings to the server what was written, for other machines to see, before it locks.
    lock.try_lock(if exclusive { LockMode::Exclusive } else { LockMode::Shared })?;
    if exclusive {
        recovery::recover(datastore, image);
        if mode == LockMode::Shared {
            lock.try_lock(LockMode::Shared)?;
        }
    }
    Ok(Ok(path))
}

/// Who holds a lock, as it has written down.
fn holder_of(mut file: &File) -> String {
    let mut text = Vec::new();
    let _ = file.by_ref().take(256).read_to_end(&mut text);
    match one_line(String::from_utf8_lossy(&text).trim()) {
        // It is about to write, or has just gone.
        text if text.is_empty() => "another action".to_owned(),
        text => text,
    }
}

/// The file that the driver of an entry of the directory of unfinished things holds while it lives.
pub(super) fn holding(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_bytes();
    match recovery::image_of(name) {
        Some(image) => path.with_file_name(name_of(OsStr::from_bytes(image))),
        None => path.to_owned(),
    }
}

/// Recovers what a killed action on an image left, of which the entry `name` is a trace.
pub(super) fn remove_stale(datastore: &Path, name: &OsStr) {
    let name = name.as_bytes();
    let image = name.strip_prefix(PREFIX.as_bytes()).or_else(|| recovery::image_of(name));
    if let Some(image) = image {
        let image = OsStr::from_bytes(image);
        if let Ok(Ok(path)) = attempt(datastore, image, LockMode::Exclusive) {
            process::unlock(&path);
        }
    }
}
