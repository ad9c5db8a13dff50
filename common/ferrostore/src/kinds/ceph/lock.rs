//! The lock of an image, of all drivers on this machine: a file that its driver holds.
//!
//! A driver that is killed leaves the file, which no process holds then: so the next one knows that what is not finished of
//! that image is stale.

use super::names::ImageName;
use crate::kinds::lock_file::{self, DIRECTORY, LockFileError, existing, is_free};
use runtime::file_lock::{LockMode, is_named};
use runtime::lock_provider::{self, Held};
use runtime::process::{self, CleanupGuard};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What the driver of a new image notes in its lock file until oned has been told of the image.
const UNREPORTED: &[u8] = b"unreported";
/// How long the front-end waits for a lock for a bridge host.
const FRONT_END_TIMEOUT: Duration = Duration::from_secs(120);

/// The right to work on one image. Dropped, it is released and its file removed.
#[derive(Debug)]
pub(super) struct NameLock {
    file: Arc<File>,
    path: PathBuf,
    /// Whether the file stays, for the next driver to find.
    stays: bool,
    /// The lock of the front-end that goes with it, where this is a bridge host: the image's next driver may run on another.
    front_end: Option<Held>,
    /// Removes the file when the driver is told to stop.
    _cleanup: CleanupGuard,
}

/// How a bridge host asks the front-end for the lock of an image in the datastore with this number.
pub(super) fn front_end_name(datastore: u64, image: ImageName) -> String {
    format!("{datastore}-{}", image.main())
}

/// The lock of this name on the front-end, for a bridge host. Its file is another one than that of a driver that works on
/// the front-end, which may be a bridge host itself.
pub(super) fn acquire(name: &str, timeout: Option<Duration>) -> Result<Held, String> {
    let image = name.split_once('-').and_then(|(datastore, image)| {
        let is_number = datastore.bytes().all(|byte| byte.is_ascii_digit());
        ImageName::parse(image).filter(|_| is_number)
    });
    if image.is_none() {
        return Err("a Ceph datastore has no such lock".to_owned());
    }
    let path = Path::new(DIRECTORY).join(format!("ferrostore-bridged-{name}.lock"));
    let lock = lock_file::take(&path, timeout.unwrap_or(FRONT_END_TIMEOUT), LockMode::Exclusive)
        .map_err(|error| error.to_string())?;
    Ok(Box::new(NameLock::of(lock.into_file(), path)))
}

fn prefix(pool: &str) -> String {
    format!("ferrostore-ceph-{}-", pool.replace('/', "+"))
}

fn path_of(pool: &str, image: ImageName) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{}{}.lock", prefix(pool), image.main()))
}

impl NameLock {
    /// Waits for the lock, no longer than `timeout`.
    pub(super) fn take(
        pool: &str,
        image: ImageName,
        timeout: Duration,
    ) -> Result<Self, LockFileError> {
        let path = path_of(pool, image);
        let lock = lock_file::take(&path, timeout, LockMode::Exclusive)?;
        Ok(Self::of(lock.into_file(), path))
    }

    /// Whether a driver on this machine holds the lock.
    pub(super) fn is_held(pool: &str, image: ImageName) -> bool {
        existing(&path_of(pool, image)).is_ok_and(|lock| !is_free(&lock))
    }

    /// The images of `pool` whose lock files drivers left that are dead, locked now.
    pub(super) fn stale(pool: &str) -> Vec<(ImageName, Self)> {
        let stale = lock_file::abandoned(&prefix(pool), ImageName::parse);
        stale
            .into_iter()
            .map(|(image, lock, path)| (image, Self::of(lock.into_file(), path)))
            .collect()
    }

    fn of(file: File, path: PathBuf) -> Self {
        let named = path.clone();
        let cleanup = process::on_stop(move || drop(fs::remove_file(named)));
        Self { file: Arc::new(file), path, stays: false, front_end: None, _cleanup: cleanup }
    }

    /// On a bridge host, takes the lock of the front-end as well.
    pub(super) fn join_front_end(
        &mut self,
        datastore: u64,
        image: ImageName,
    ) -> Result<(), String> {
        let lock = lock_provider::acquire_remote(&front_end_name(datastore, image));
        self.front_end = lock.transpose()?;
        Ok(())
    }

    /// What holds the lock. Programs that have it open hold the lock too.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Notes that oned has not been told yet of the new image.
    pub(super) fn note_unreported(&self) -> io::Result<()> {
        self.file.write_all_at(UNREPORTED, 0)
    }

    /// Whether a dead driver has made the image, and oned was not told of it.
    pub(super) fn is_unreported(&self) -> bool {
        let mut note = [0; UNREPORTED.len()];
        self.file.read_exact_at(&mut note, 0).is_ok() && note == UNREPORTED
    }

    /// Takes that note away.
    pub(super) fn report(&self) -> io::Result<()> {
        fs::remove_file(&self.path).or_else(|_| self.file.set_len(0))
    }

    /// Leaves the file, and the note in it, to the next driver.
    pub(super) fn leave(mut self) {
        self.stays = true;
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        if !self.stays && is_named(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
        let _ = self.file.unlock();
    }
}
