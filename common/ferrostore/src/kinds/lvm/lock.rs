//! Locks: OpenNebula's own of a volume group, which every driver that changes the group takes, and one
//! for each volume that a driver of this machine is at work on.

use super::LvmError;
use nix::unistd::User;
use runtime::file_lock::{FileLock, LockMode, LockScope};
use runtime::lock_provider::{self, Held};
use runtime::text::shown;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(in crate::kinds) const DIRECTORY: &str = "/var/lock/one";
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
        let lock = open(&path, 0o640)?;
        wait_for(&lock, &path, timeout, LockMode::Exclusive)?;
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
        // The last holder removes the file: then another has to be made.
        loop {
            let lock = open(&path, 0o660)?;
            wait_for(&lock, &path, TIMEOUT, mode)?;
            if lock.is_at(&path) {
                return Ok(Self { lock, path });
            }
        }
    }

    /// The volumes of `group` whose lock files drivers left that are dead, locked now.
    pub(super) fn stale_locks(group: &str) -> Vec<(String, Self)> {
        let Ok(entries) = fs::read_dir(DIRECTORY) else { return Vec::new() };
        let prefix = prefix(group);
        let dead = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let volume = name.strip_prefix(&prefix)?.strip_suffix(".lock")?.to_owned();
            let path = entry.path();
            let lock = existing(&path).ok()?;
            let is_stale = is_free(&lock) && lock.is_at(&path);
            is_stale.then_some((volume, Self { lock, path }))
        };
        entries.flatten().filter_map(dead).collect()
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
        self.lock.file().write_all(ACTIVATED).map_err(at(&self.path))
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

/// Locks the file alone where no other has it locked.
pub(in crate::kinds) fn is_free(lock: &FileLock) -> bool {
    lock.try_lock(LockMode::Exclusive).unwrap_or(false)
}

/// A lock file that is there.
pub(in crate::kinds) fn existing(path: &Path) -> io::Result<FileLock> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    Ok(FileLock::on(file, LockScope::File))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LvmError {
    move |source| LvmError::Lock { path: path.to_owned(), source }
}

/// Opens a lock file. Where root makes it, it belongs to OpenNebula's user, who must be able to use it
/// too.
pub(in crate::kinds) fn open(path: &Path, mode: u32) -> Result<FileLock, LvmError> {
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

pub(in crate::kinds) fn wait_for(
    lock: &FileLock,
    path: &Path,
    timeout: Duration,
    mode: LockMode,
) -> Result<(), LvmError> {
    let describe = || format!("the lock {}, held by {}", path.display(), holder(lock.file()));
    if lock.lock(mode, timeout, describe).map_err(at(path))? {
        return Ok(());
    }
    Err(LvmError::Busy {
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
