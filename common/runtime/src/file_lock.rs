//! Locks that tell whether a driver lives: the kernel, or the NFS server, lets them go with it.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The byte that is locked: far behind the end of any file, and so none of those that QEMU locks in an
/// image (around 100 and 200), which on NFS a lock on the whole file would keep from it.
const BYTE: libc::off_t = 1 << 62;

/// How a file is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// By one holder.
    Exclusive,
    /// By none that wants it alone.
    Shared,
}

/// Holds `file`, which must be open for reading and writing, until it is closed; or changes how it is held.
/// `false` where another holds it.
///
/// # Errors
/// Where the file system has no locks.
pub(crate) fn try_lock(file: &File, mode: LockMode) -> io::Result<bool> {
    let lock = lock_of_type(match mode {
        LockMode::Exclusive => libc::F_WRLCK,
        LockMode::Shared => libc::F_RDLCK,
    });
    // Of the open file, not of the process: closing another descriptor of the same file lets nothing go.
    match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether `file` is locked.
///
/// # Errors
/// Where the file system has no locks.
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    let mut lock = lock_of_type(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}

fn lock_of_type(l_type: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: l_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: BYTE,
        l_len: 1,
        l_pid: 0,
    }
}

/// How to open a file so that it can be held: whatever it is, nothing waits, nothing is followed.
pub(crate) fn lockable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// Whether `path` is (still) the name of the open `file`.
pub(crate) fn is_named(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Releases a lock, whose file goes with its last holder.
pub(crate) fn release(file: &File, path: &Path) {
    if try_lock(file, LockMode::Exclusive).unwrap_or(false) {
        let _ = fs::remove_file(path);
    }
}
