//! Lock files that the drivers of one machine share, in [`DIRECTORY`].

use nix::unistd::User;
use runtime::file_lock::{FileLock, LockMode, LockScope};
use runtime::text::shown;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where OpenNebula's transfer drivers keep theirs, too.
pub(super) const DIRECTORY: &str = "/var/lock/one";

/// Why a lock file can't be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockFileError {
    /// It can't be used.
    #[error(
        "the lock {} can't be taken: {source}; it and its directory must belong to the user that runs OpenNebula", path.display()
    )]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("the lock {} is held by {holder} for more than {seconds} s: try again once that is done", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// How long it was waited for, s.
        seconds: u64,
        /// Who holds it.
        holder: String,
    },
}

/// Waits for the lock of a file that its last holder removes, no longer than `timeout`.
pub(super) fn take(
    path: &Path,
    timeout: Duration,
    mode: LockMode,
) -> Result<FileLock, LockFileError> {
    // Where the file has been removed meanwhile, another has to be made.
    loop {
        let lock = open(path, 0o660)?;
        wait_for(&lock, path, timeout, mode)?;
        if lock.is_at(path) {
            return Ok(lock);
        }
    }
}

/// The lock files `<prefix><name>.lock` that dead drivers left, locked now. Only names that `parse` knows are touched.
pub(super) fn abandoned<N>(
    prefix: &str,
    parse: impl Fn(&str) -> Option<N>,
) -> Vec<(N, FileLock, PathBuf)> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Vec::new() };
    let abandoned = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let name = parse(name.strip_prefix(prefix)?.strip_suffix(".lock")?)?;
        let path = entry.path();
        let lock = existing(&path).ok()?;
        let is_abandoned = is_free(&lock) && lock.is_at(&path);
        is_abandoned.then_some((name, lock, path))
    };
    entries.flatten().filter_map(abandoned).collect()
}

/// Locks the file alone where no other has it locked.
pub(super) fn is_free(lock: &FileLock) -> bool {
    lock.try_lock(LockMode::Exclusive).unwrap_or(false)
}

/// A lock file that is there.
pub(super) fn existing(path: &Path) -> io::Result<FileLock> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    Ok(FileLock::on(file, LockScope::File))
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> LockFileError {
    move |source| LockFileError::Lock { path: path.to_owned(), source }
}

/// Opens a lock file. Where root makes it, it belongs to OpenNebula's user, who must be able to use it
/// too.
pub(super) fn open(path: &Path, mode: u32) -> Result<FileLock, LockFileError> {
    let directory = Path::new(DIRECTORY);
    if !directory.is_dir() {
        fs::create_dir_all(directory)
            .and_then(|()| File::open(directory))
            .and_then(|directory| chown_to_oneadmin(&directory))
            .map_err(at(directory))?;
    }
    let open = |create: bool| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .mode(mode)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)
    };
    let file = match open(false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            open(true).and_then(|file| chown_to_oneadmin(&file).map(|()| file))
        }
        result => result,
    };
    Ok(FileLock::on(file.map_err(at(path))?, LockScope::File))
}

fn chown_to_oneadmin(file: &File) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let Some(owner) = User::from_name("oneadmin").ok().flatten() else { return Ok(()) };
    std::os::unix::fs::fchown(file, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))
}

/// Waits for a lock, no longer than `timeout`, and says for whom if that takes a while.
pub(super) fn wait_for(
    lock: &FileLock,
    path: &Path,
    timeout: Duration,
    mode: LockMode,
) -> Result<(), LockFileError> {
    let describe = || format!("the lock {}, held by {}", path.display(), holder(lock.file()));
    if lock.lock(mode, timeout, describe).map_err(at(path))? {
        return Ok(());
    }
    Err(LockFileError::Busy {
        path: path.to_owned(),
        seconds: timeout.as_secs(),
        holder: holder(lock.file()),
    })
}

/// Who holds a lock on `file`, as far as the kernel tells (`proc_locks(5)`).
fn holder(file: &File) -> String {
    let unknown = || "a process of another machine or user".to_owned();
    let (Ok(metadata), Ok(mut table)) = (file.metadata(), File::open("/proc/locks")) else {
        return unknown();
    };
    let mut locks = String::new();
    if table.read_to_string(&mut locks).is_err() {
        return unknown();
    }
    let inode = format!(":{}", metadata.ino());
    let holders: Vec<String> = locks
        .lines()
        .filter(|line| !line.contains("->"))
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            (fields.get(1) == Some(&"FLOCK") && fields.get(5)?.ends_with(&inode))
                .then(|| fields.get(4).map(|&process| described(process)))?
        })
        .collect();
    if holders.is_empty() { unknown() } else { holders.join(", ") }
}

fn described(process: &str) -> String {
    match fs::read(format!("/proc/{process}/cmdline")) {
        Ok(line) if !line.is_empty() => {
            let words: Vec<_> =
                line.split(|&byte| byte == 0).map(String::from_utf8_lossy).take(2).collect();
            format!("process {process} ({})", shown(words.join(" ").trim()))
        }
        _ => format!("process {process}"),
    }
}
