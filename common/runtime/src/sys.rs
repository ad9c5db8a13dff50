//! The system calls that `nix` or the standard library do not wrap as the drivers need them: the only `unsafe`
//! code of the project, beside the functions of librbd (`command/librbd/library.rs`).

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _,
};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Arc, OnceLock};

/// The executable that runs at this moment, even where its file has been replaced since.
pub const EXECUTABLE: &str = "/proc/self/exe";

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
    nix::ioctl_read_bad!(fionread, nix::libc::FIONREAD, nix::libc::c_int);
    nix::ioctl_read_bad!(tiocgwinsz, nix::libc::TIOCGWINSZ, nix::libc::winsize);
}

/// How many columns a terminal has (`TIOCGWINSZ`, `ioctl_tty(2)`); `None` where it does not tell.
#[must_use]
pub fn terminal_width(terminal: &impl AsFd) -> Option<usize> {
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open for the length of the call, and `size` is a live value of the type that the
    // kernel writes.
    unsafe { ioctl::tiocgwinsz(terminal.as_fd().as_raw_fd(), &raw mut size) }.ok()?;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// Lets `target` share `length` bytes of `source` (`FICLONERANGE`, all in bytes).
///
/// # Errors
/// As `ioctl_ficlonerange(2)`: `EOPNOTSUPP`, `EXDEV` and `EINVAL` where the file system can't.
pub fn clone_range(
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

/// How many bytes have been written into `pipe` that its reader has not taken yet (`FIONREAD`, `ioctl_pipe(2)`).
///
/// # Errors
/// Where it is no pipe.
pub fn unread_bytes(pipe: BorrowedFd) -> io::Result<usize> {
    let mut count = 0;
    // SAFETY: the descriptor is open for the length of the call, and `count` is a live integer of the type that the
    // kernel writes.
    unsafe { ioctl::fionread(pipe.as_raw_fd(), &raw mut count) }?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Asks the kernel to begin writing `length` bytes at `offset` to disk now, without waiting.
///
/// Only a hint that spreads the work of the later fsync: failure is of no consequence.
pub fn begin_writeback(file: &File, offset: u64, length: u64) {
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

/// Whether all bytes of `file` that have gone to the disk since it was opened got there: without having any
/// go there now. What has not gone yet is in memory, and is read from there.
///
/// # Errors
/// Where writing some of them failed (`EIO`, `ENOSPC`), whichever process wrote them.
pub fn check_writeback(file: &File) -> io::Result<()> {
    use nix::libc;
    const TO_THE_END: libc::off64_t = 0;
    // SAFETY: sync_file_range(2) takes a descriptor, which is open, and plain numbers.
    let result = unsafe {
        libc::sync_file_range(file.as_raw_fd(), 0, TO_THE_END, libc::SYNC_FILE_RANGE_WAIT_BEFORE)
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}

/// Limits that a child process lives under.
#[derive(Debug, Default)]
pub struct ChildLimits {
    /// Address space, bytes.
    pub memory: Option<u64>,
    /// Processor time, seconds.
    pub processor_seconds: Option<u64>,
    /// Largest file that it may write, bytes.
    pub file_size: Option<u64>,
    /// Whether it is cut off from the network, where the kernel lets this user do so.
    pub no_network: bool,
    /// The only files that it may open.
    pub ruleset: Option<LandlockRuleset>,
}

/// Makes the child that `command` will start die with its parent, and live under `limits`.
pub fn confine(command: &mut Command, limits: ChildLimits) {
    use nix::sched::{CloneFlags, unshare};
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
        if limits.no_network && unshare(CloneFlags::CLONE_NEWNET).is_err() {
            // A user other than root may do so in a user namespace, unless the administrator forbids that: then
            // the other limits have to do.
            let _ = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET);
        }
        if let Some(ruleset) = &limits.ruleset {
            nix::sys::prctl::set_no_new_privs()?;
            ruleset.enter()?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and makes only async-signal-safe system calls
    // (prctl, setrlimit, unshare, landlock_restrict_self); it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(child);
    }
}

/// Makes the child that `command` will start have `file` open, and keep it so across its exec.
pub fn keep_open(command: &mut Command, file: Arc<File>) {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    let child = move || -> io::Result<()> {
        fcntl(&*file, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and makes one async-signal-safe system call.
    unsafe {
        command.pre_exec(child);
    }
}

/// An open file that another thread can revoke.
#[derive(Debug, Clone, Default)]
pub struct Revocable(Arc<OnceLock<File>>);

impl Revocable {
    /// Gives it its file, once.
    pub fn set(&self, file: File) {
        // A second file would be dropped, which closes it.
        let _ = self.0.set(file);
    }

    /// The file, where it has one.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        self.0.get()
    }

    /// Closes the file. A thread that still uses it reads nothing and writes nowhere.
    pub fn revoke(&self) {
        if let Some(file) = self.file() {
            revoke(file);
        }
    }
}

/// Closes `file` for all that have it. A thread that still uses it reads nothing and writes nowhere.
pub fn revoke(file: &File) {
    if let Ok(nowhere) = File::options().read(true).write(true).open("/dev/null") {
        // SAFETY: both descriptors are open for the length of the call. The second one still
        // belongs to the same `File`, which is neither closed nor moved.
        unsafe {
            nix::libc::dup3(nowhere.as_raw_fd(), file.as_raw_fd(), nix::libc::O_CLOEXEC);
        }
    }
}

/// Closes the files of this process that have `part` in their real paths, whichever thread uses them: one that goes on
/// using one reads nothing and writes nowhere. Whether there were any. Only for a process that ends now, since a
/// descriptor that another thread closes at this moment may be another file's already.
#[must_use]
pub fn close_files(part: &[u8]) -> bool {
    let nowhere = File::options().read(true).write(true).open("/dev/null");
    let (Ok(nowhere), Ok(files)) = (nowhere, std::fs::read_dir("/proc/self/fd")) else {
        return false;
    };
    let mut closed = false;
    for file in files.flatten() {
        let Ok(name) = std::fs::read_link(file.path()) else { continue };
        let name = name.as_os_str().as_bytes();
        let number = file.file_name().to_str().and_then(|number| number.parse().ok());
        if let Some(number) = number
            && name.windows(part.len()).any(|window| window == part)
        {
            // SAFETY: dup3(2) takes plain numbers. The second descriptor keeps its owner.
            unsafe {
                nix::libc::dup3(nowhere.as_raw_fd(), number, nix::libc::O_CLOEXEC);
            }
            closed = true;
        }
    }
    closed
}

/// Writes a line to standard error, whole, so that it isn't mixed with those of other processes. Where it can't
/// be written, there is no reader, and the action goes on.
pub fn write_error_line(text: &str) {
    use std::io::Write as _;
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// A number for the mount that the open `file` lies on which no other mount ever has until the machine restarts
/// (`STATX_MNT_ID_UNIQUE`, Linux 6.8).
#[must_use]
pub fn unique_mount_id(file: &File) -> Option<u64> {
    use nix::libc;
    let mut status = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the descriptor is open, the path an empty string with its NUL, and `status` is large enough for the
    // structure that the kernel fills in. All zeroes is a value of it, so it may be read in any case.
    let status = unsafe {
        let failed = libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_MNT_ID_UNIQUE,
            status.as_mut_ptr(),
        ) != 0;
        if failed {
            return None;
        }
        status.assume_init()
    };
    (status.stx_mask & libc::STATX_MNT_ID_UNIQUE != 0).then_some(status.stx_mnt_id)
}

/// Files that a child may open, all others being closed to it (`landlock(7)`).
#[derive(Debug)]
pub struct LandlockRuleset(OwnedFd);

/// What a ruleset lets a child do with a file.
#[derive(Debug, Clone, Copy)]
pub enum Permission {
    /// Read what is in a directory, and run programs in it.
    Programs,
    /// Read the file.
    Read,
    /// Read and write the file.
    Write,
}

impl LandlockRuleset {
    /// A ruleset that allows this much; `None` where the kernel has no Landlock. Access that an older kernel does not
    /// know (it can't keep a program from truncating files, before 6.2) is left out.
    ///
    /// # Errors
    /// As `landlock_add_rule(2)`.
    pub fn allowing<'f>(
        rules: impl IntoIterator<Item = (&'f File, Permission)>,
    ) -> io::Result<Option<Self>> {
        let ruleset = Ruleset::default().handle_access(AccessFs::from_all(ABI::V3));
        let mut ruleset = ruleset.and_then(Ruleset::create).map_err(io::Error::other)?;
        for (file, permission) in rules {
            let access: BitFlags<AccessFs> = match permission {
                Permission::Programs => AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir,
                Permission::Read => AccessFs::ReadFile.into(),
                Permission::Write => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate,
            };
            let rule = PathBeneath::new(file, access);
            ruleset = ruleset.add_rule(rule).map_err(io::Error::other)?;
        }
        Ok(Option::<OwnedFd>::from(ruleset).map(Self))
    }

    /// Puts this process, and what it will start, behind the ruleset for good. The crate's own function for that is
    /// not made to be called between fork and exec.
    fn enter(&self) -> io::Result<()> {
        use nix::libc::{SYS_landlock_restrict_self, syscall};
        // SAFETY: the call takes a descriptor, which is open, and a number.
        let result = unsafe { syscall(SYS_landlock_restrict_self, self.0.as_raw_fd(), 0_u32) };
        nix::errno::Errno::result(result)?;
        Ok(())
    }
}
