//! Locks on files, which end with the process that holds them: the kernel, or the NFS server, sees to that.

use crate::clock::Clock;
use crate::lock_wait;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// The byte that [`LockScope::Byte`] locks: far behind the end of any file, and so none of those that QEMU locks in an
/// image (around 100 and 200), which on NFS a lock on the whole file would keep from it.
const BYTE: libc::off_t = 1 << 62;

/// Between two attempts at a lock that another process holds: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// After this time of waiting, the log says so.
const LOG_WAIT_AFTER: Duration = Duration::from_secs(2);

/// How a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// No other process has it locked.
    Exclusive,
    /// Others may have it locked, too, but none exclusively.
    Shared,
}

/// What is locked of a file. Locks of different scope know nothing of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockScope {
    /// One byte behind its end (open file description locks, `fcntl_locking(2)`).
    Byte,
    /// All of it (`flock(2)`), as OpenNebula's own drivers do.
    File,
}

/// A file that can be locked. A lock belongs to the open file, not to the process, and ends when that is closed.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    scope: LockScope,
}

impl FileLock {
    /// `file`, not locked yet. For [`LockScope::Byte`] it must be open for reading and writing.
    #[must_use]
    pub fn on(file: File, scope: LockScope) -> Self {
        Self { file, scope }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Locks the file, or changes how it is locked; `false` where another holds a lock that excludes this one. A
    /// `flock(2)` that can't be changed is lost.
    ///
    /// # Errors
    /// Where the file system has no locks.
    pub fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        if self.scope == LockScope::File {
            let locked = match mode {
                LockMode::Exclusive => self.file.try_lock(),
                LockMode::Shared => self.file.try_lock_shared(),
            };
            return match locked {
                Ok(()) => Ok(true),
                Err(TryLockError::WouldBlock) => Ok(false),
                Err(TryLockError::Error(error)) => Err(error),
            };
        }
        let lock = byte_lock(match mode {
            LockMode::Exclusive => libc::F_WRLCK,
            LockMode::Shared => libc::F_RDLCK,
        });
        match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Locks the file; waits no longer than `timeout` for others to release it. `describe` says for the log which lock
    /// is waited for. `false` where it is still held then.
    ///
    /// # Errors
    /// As [`Self::try_lock`].
    pub fn lock(
        &self,
        mode: LockMode,
        timeout: Duration,
        describe: impl Fn() -> String,
    ) -> io::Result<bool> {
        let attempt = || self.try_lock(mode).map(|locked| if locked { Ok(()) } else { Err(()) });
        Ok(wait_for_lock(timeout, attempt, |()| describe())?.is_ok())
    }

    /// The file, locked for as long as it is open.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }

    /// As [`is_named`], of this file.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        is_named(&self.file, path)
    }

    /// Removes the file at `path` where this is its last lock; else the others' last one does.
    pub(crate) fn release(&self, path: &Path) {
        if self.try_lock(LockMode::Exclusive).unwrap_or(false) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether `path` is (still) the name of the open `file`.
#[must_use]
pub fn is_named(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Whether a process holds a [`LockScope::Byte`] lock on `file`.
///
/// # Errors
/// Where the file system has no locks.
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    let mut lock = byte_lock(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}

fn byte_lock(l_type: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: l_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: BYTE,
        l_len: 1,
        l_pid: 0,
    }
}

/// How to open a file so that it can be locked: whatever it is, nothing waits, nothing is followed.
pub(crate) fn lockable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// Repeats `attempt` until it has its lock or `timeout` has passed. `attempt` returns the lock, or who holds it, as does
/// this; `describe` makes of that a line for the log.
///
/// # Errors
/// Those of `attempt`.
pub(crate) fn wait_for_lock<T, H, E>(
    timeout: Duration,
    attempt: impl FnMut() -> Result<Result<T, H>, E>,
    describe: impl Fn(&H) -> String,
) -> Result<Result<T, H>, E> {
    let start = Instant::now();
    let result = wait_by(&mut start.clone(), timeout, attempt, describe);
    lock_wait::add_since(start);
    result
}

fn wait_by<T, H, E>(
    clock: &mut impl Clock,
    timeout: Duration,
    mut attempt: impl FnMut() -> Result<Result<T, H>, E>,
    describe: impl Fn(&H) -> String,
) -> Result<Result<T, H>, E> {
    let mut pause = PAUSES.0;
    let mut logged = false;
    loop {
        let holder = match attempt()? {
            Err(holder) if clock.elapsed() < timeout => holder,
            result => return Ok(result),
        };
        if !logged && clock.elapsed() >= LOG_WAIT_AFTER {
            log::info!("waiting for {}", describe(&holder));
            logged = true;
        }
        clock.sleep(pause.min(timeout.saturating_sub(clock.elapsed())));
        pause = (pause * 2).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::clock::ManualClock;
    use std::cell::Cell;

    fn wait(timeout: Duration, free_at_attempt: u32) -> (Duration, u32, Result<(), &'static str>) {
        let (mut clock, attempts) = (ManualClock::default(), Cell::new(0));
        let attempt = || -> Result<_, io::Error> {
            attempts.set(attempts.get() + 1);
            Ok(if attempts.get() >= free_at_attempt { Ok(()) } else { Err("another") })
        };
        let result = wait_by(&mut clock, timeout, attempt, |&holder| holder.to_owned());
        (clock.0, attempts.get(), result.unwrap())
    }

    #[test]
    fn a_free_lock_is_not_waited_for() {
        assert_eq!(wait(Duration::from_secs(60), 1), (Duration::ZERO, 1, Ok(())));
    }

    #[test]
    fn a_lock_that_becomes_free_is_had_soon() {
        let (waited, _, result) = wait(Duration::from_secs(60), 4);
        assert_eq!((waited, result), (Duration::from_millis(1 + 2 + 4), Ok(())));
    }

    #[test]
    fn the_wait_ends_at_the_timeout_with_the_holder() {
        for timeout in [0, 1, 7, 1000, 60_000].map(Duration::from_millis) {
            let (waited, attempts, result) = wait(timeout, u32::MAX);
            assert_eq!((waited, result), (timeout, Err("another")));
            // The last attempt is made when the time is over, and not many are made before.
            assert!(u128::from(attempts) <= 8 + timeout.as_millis() / 50, "{attempts}");
        }
    }

    #[test]
    fn locks_of_one_scope_exclude_each_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || lockable().open(file.path()).unwrap();
        for scope in [LockScope::Byte, LockScope::File] {
            let [one, other] = [(); 2].map(|()| FileLock::on(open(), scope));
            assert!(one.try_lock(LockMode::Shared).unwrap());
            assert!(other.try_lock(LockMode::Shared).unwrap());
            assert!(!one.try_lock(LockMode::Exclusive).unwrap());
            drop(other);
            assert!(one.try_lock(LockMode::Exclusive).unwrap());
            let other = FileLock::on(open(), scope);
            assert!(!other.lock(LockMode::Shared, Duration::ZERO, String::new).unwrap());
            drop(one);
            assert!(other.lock(LockMode::Exclusive, Duration::ZERO, String::new).unwrap());
            assert!(other.is_at(file.path()));
            assert_eq!(is_locked(&open()).unwrap(), scope == LockScope::Byte);
        }
    }
}
