//! Locks: OpenNebula's own of a volume group, which every driver that changes the group takes, and one
//! for each volume that a driver of this machine is at work on.

use super::LvmError;
use crate::kinds::lock_file::{self, DIRECTORY, existing, is_free};
use runtime::file_lock::{FileLock, LockMode};
use runtime::lock_provider::{self, Held};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// OpenNebula's transfer drivers wait as long.
pub(super) const TIMEOUT: Duration = Duration::from_secs(120);

/// What a reader that has activated a volume records in its lock file: the last driver to read it
/// deactivates it again.
const ACTIVATED: &[u8] = b"activated";

/// What the driver that has made a volume records in its lock file, before the volume's UUID, until oned has been told of it.
const UNREPORTED: &str = "unreported ";

/// The exclusive right to change a volume group. It excludes other threads of this driver too: one that
/// takes things back after a signal waits for the program that is running to end.
#[derive(Debug)]
pub(super) struct GroupLock(#[allow(dead_code)] Held);

impl GroupLock {
    /// Waits for the lock of `group`, and says for whom if that takes a while. On a bridge host it is the
    /// front-end's.
    pub(super) fn take(group: &str) -> Result<Self, LvmError> {
        match lock_provider::acquire_remote(group) {
            Some(lock) => lock.map(Self).map_err(|reason| LvmError::FrontEnd { reason }),
            None => Self::here(group, TIMEOUT),
        }
    }

    /// As [`Self::take`], on this machine.
    pub(super) fn here(group: &str, timeout: Duration) -> Result<Self, LvmError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let name: String = group.chars().map(|c| if plain(c) { c } else { '_' }).collect();
        let path = Path::new(DIRECTORY).join(format!("tm-onelvm-{name}.lock"));
        let lock = lock_file::open(&path, 0o640)?;
        lock_file::wait_for(&lock, &path, timeout, LockMode::Exclusive)?;
        Ok(Self(Box::new(lock)))
    }

    /// The lock, for another machine.
    pub(super) fn into_held(self) -> Held {
        self.0
    }
}

/// The right to work on one volume, of all drivers on this machine.
#[derive(Debug)]
pub(super) struct VolumeLock {
    lock: FileLock,
    path: PathBuf,
}

fn prefix(group: &str) -> String {
    format!("ferrostore-{group}-")
}

fn path_of(group: &str, volume: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{}{volume}.lock", prefix(group)))
}

impl VolumeLock {
    /// For a driver that makes or changes the volume.
    pub(super) fn exclusive(group: &str, volume: &str) -> Result<Self, LvmError> {
        Self::take(group, volume, LockMode::Exclusive)
    }

    /// For a driver that reads it, perhaps with others.
    pub(super) fn shared(group: &str, volume: &str) -> Result<Self, LvmError> {
        Self::take(group, volume, LockMode::Shared)
    }

    fn take(group: &str, volume: &str, mode: LockMode) -> Result<Self, LvmError> {
        let path = path_of(group, volume);
        let lock = lock_file::take(&path, TIMEOUT, mode)?;
        Ok(Self { lock, path })
    }

    /// The volumes of `group` whose lock files drivers left that are dead, locked now.
    pub(super) fn stale_locks(group: &str) -> Vec<(String, Self)> {
        let dead = lock_file::abandoned(&prefix(group), |volume| Some(volume.to_owned()));
        dead.into_iter().map(|(volume, lock, path)| (volume, Self { lock, path })).collect()
    }

    /// Whether a driver on this machine is at work on a volume.
    pub(super) fn is_locked(group: &str, volume: &str) -> bool {
        let lock = existing(&path_of(group, volume));
        lock.is_ok_and(|lock| matches!(lock.try_lock(LockMode::Exclusive), Ok(false)))
    }

    /// Takes away the lock file of a volume that this process holds alone and will not go on with.
    pub(super) fn discard(group: &str, volume: &str) {
        let _ = fs::remove_file(path_of(group, volume));
    }

    /// Whether a reader noted that it has activated the volume.
    pub(super) fn is_activated(&self) -> bool {
        let mut note = [0; ACTIVATED.len()];
        self.lock.file().read_exact_at(&mut note, 0).is_ok() && note == ACTIVATED
    }

    /// Notes that this reader activates the volume.
    pub(super) fn note_activation(&self) -> Result<(), LvmError> {
        self.lock
            .file()
            .write_all(ACTIVATED)
            .map_err(lock_file::at(&self.path))
            .map_err(LvmError::from)
    }

    /// Records that the new volume with this UUID has not been reported yet.
    pub(super) fn note_unreported(&self, uuid: &str) -> io::Result<()> {
        self.lock.file().set_len(0)?;
        self.lock.file().write_all_at(format!("{UNREPORTED}{uuid}").as_bytes(), 0)
    }

    /// Takes that note away.
    pub(super) fn report(&self) -> io::Result<()> {
        fs::remove_file(&self.path).or_else(|_| self.lock.file().set_len(0))
    }

    /// The UUID of the volume that a dead driver has made and not reported.
    pub(super) fn unreported(&self) -> Option<String> {
        let mut note = [0; 128];
        let length = self.lock.file().read_at(&mut note, 0).ok()?;
        let note = std::str::from_utf8(&note[..length]).ok()?;
        note.strip_prefix(UNREPORTED).map(str::to_owned)
    }

    /// Lets the lock go, and leaves its file and the note in it to the next driver.
    pub(super) fn leave(self) {
        let _ = self.lock.file().unlock();
        std::mem::forget(self);
    }

    /// Whether this is the last reader of the volume. Call it under the group's lock: where others do,
    /// the own lock may be gone.
    pub(super) fn is_last(&self) -> bool {
        is_free(&self.lock)
    }
}

impl Drop for VolumeLock {
    fn drop(&mut self) {
        // Only who holds it alone may take the file away.
        if is_free(&self.lock) && self.lock.is_at(&self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
