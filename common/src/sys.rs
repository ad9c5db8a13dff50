//! The system calls that `nix` does not wrap: the only `unsafe` code of the project.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Arc, OnceLock};

/// Argument of FICLONERANGE (`struct file_clone_range`, `ioctl_ficlonerange(2)`).
#[repr(C)]
struct FileCloneRange {
    src_fd: i64,
    src_offset: u64,
    src_length: u64,
    dest_offset: u64,
}

mod ioctl {
    nix::ioctl_write_ptr!(ficlonerange, 0x94, 13, super::FileCloneRange);
}

/// Lets `target` share `length` bytes of `source` (`FICLONERANGE`, all in bytes).
///
/// # Errors
/// As `ioctl_ficlonerange(2)`: `EOPNOTSUPP`, `EXDEV` and `EINVAL` where the file system can't.
pub(crate) fn clone_range(
    source: &File,
    source_offset: u64,
    target: &File,
    target_offset: u64,
    length: u64,
) -> io::Result<()> {
    let range = FileCloneRange {
        src_fd: i64::from(source.as_raw_fd()),
        src_offset: source_offset,
        src_length: length,
        dest_offset: target_offset,
    };
    // SAFETY: both descriptors are open for the length of the call, and `range` is a live value
    // laid out as the kernel's `struct file_clone_range`, which it only reads.
    unsafe { ioctl::ficlonerange(target.as_raw_fd(), &raw const range) }?;
    Ok(())
}

/// Asks the kernel to begin writing `length` bytes at `offset` to disk now, without waiting.
///
/// Only a hint that spreads the work of the later fsync: failure is of no consequence.
pub(crate) fn begin_writeback(file: &File, offset: u64, length: u64) {
    use nix::libc;
    // SAFETY: sync_file_range(2) takes a descriptor, which is open, and plain numbers.
    unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset as libc::off64_t,
            length as libc::off64_t,
            libc::SYNC_FILE_RANGE_WRITE,
        );
    }
}

/// Limits that a child process lives under.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ChildLimits {
    /// Address space, bytes.
    pub memory: Option<u64>,
    /// Processor time, seconds.
    pub processor_seconds: Option<u64>,
    /// Largest file that it may write, bytes.
    pub file_size: Option<u64>,
    /// Whether it is cut off from the network, where the kernel lets this user do so.
    pub no_network: bool,
}

/// Makes the child that `command` will start die with its parent, and live under `limits`.
pub(crate) fn confine(command: &mut Command, limits: ChildLimits) {
    use nix::sched::CloneFlags;
    use nix::sys::resource::{Resource, setrlimit};

    let child = move || -> io::Result<()> {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        for (resource, limit) in [
            (Resource::RLIMIT_AS, limits.memory),
            (Resource::RLIMIT_CPU, limits.processor_seconds),
            (Resource::RLIMIT_FSIZE, limits.file_size),
        ] {
            if let Some(limit) = limit {
                setrlimit(resource, limit, limit)?;
            }
        }
        if limits.no_network {
            // As root directly, else inside a user namespace of its own; a kernel that allows
            // neither leaves the other limits, which hold by themselves.
            let _ = nix::sched::unshare(CloneFlags::CLONE_NEWNET);
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and makes only async-signal-safe system calls
    // (prctl, setrlimit, unshare); it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(child);
    }
}

/// An open file that another thread can take away from whoever uses it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Revocable(Arc<OnceLock<File>>);

impl Revocable {
    /// Gives it its file, once.
    pub(crate) fn set(&self, file: File) {
        // A second file would be dropped, which closes it.
        let _ = self.0.set(file);
    }

    /// The file, where it has one.
    pub(crate) fn file(&self) -> Option<&File> {
        self.0.get()
    }

    /// Closes the file. Whoever goes on using it reads nothing and writes nowhere.
    pub(crate) fn revoke(&self) {
        let nowhere = File::options().read(true).write(true).open("/dev/null");
        if let (Some(file), Ok(nowhere)) = (self.file(), nowhere) {
            // SAFETY: both descriptors are open for the length of the call. The second one goes on
            // belonging to the same `File`, which is neither closed nor moved.
            unsafe {
                nix::libc::dup3(nowhere.as_raw_fd(), file.as_raw_fd(), nix::libc::O_CLOEXEC);
            }
        }
    }
}
