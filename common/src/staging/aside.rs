//! A place for what is on its way out, and for what may have to be put back.

use super::{StagingError, TRASH, at, image_name, interrupt, same_file, sync_directory_of};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The file by whose lock others know that the owner of the directory lives.
const LOCK: &str = "lock";

/// A directory of this driver's own beside the images. Dropped, it is gone with all that is in it.
#[derive(Debug)]
pub struct Aside {
    path: PathBuf,
    _lock: File,
    taken: std::cell::Cell<u32>,
}

/// The file whose lock says whether the owner of the directory `path` lives.
pub(super) fn lock_of(path: &Path) -> PathBuf {
    path.join(LOCK)
}

fn lock(path: &Path) -> io::Result<Option<File>> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(path);
    let file = match file {
        Ok(file) => file,
        // A sweep was faster: with the lock, or with the whole directory.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(same_file(&file, path).then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes a directory that a killed driver left.
pub(super) fn sweep(path: &Path) {
    let existing = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path.join(LOCK));
    let held = match existing {
        Ok(file) => file.try_lock().is_ok().then_some(file),
        // Its owner has not come to lock it yet, and will make another one; or was killed while
        // removing it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            lock(&path.join(LOCK)).ok().flatten()
        }
        Err(_) => None,
    };
    if held.is_some() && empty_and_remove(path).is_ok() {
        log::debug!("removed {}, which a killed driver had left", path.display());
    }
}

/// Removes a directory with all that is in it, the lock last.
fn empty_and_remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    match fs::remove_dir_all(path) {
        // A sweep came between the lock's removal and the directory's.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl Aside {
    /// A new one in `directory`, which must be on the file system of whatever is put there.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn create(directory: &Path) -> Result<Self, StagingError> {
        let step = "written into (DATASTORE/BASE_PATH must be writable)";
        loop {
            let name = image_name().map_err(at(step, directory))?;
            let path = directory.join(TRASH.to_owned() + &name);
            interrupt::stage(|| fs::create_dir(&path).map(|()| path.clone()), PathBuf::as_path)
                .map_err(at(step, directory))?;
            match lock(&path.join(LOCK)) {
                Ok(Some(lock)) => return Ok(Self { path, _lock: lock, taken: 0.into() }),
                Ok(None) => interrupt::forget(&path),
                Err(error) => {
                    interrupt::forget(&path);
                    let _ = fs::remove_dir_all(&path);
                    return Err(at(step, directory)(error));
                }
            }
        }
    }

    fn place(&self) -> PathBuf {
        self.taken.set(self.taken.get() + 1);
        self.path.join(self.taken.get().to_string())
    }

    /// Gives the file or link `path` a second name (hard link) in here; that name.
    ///
    /// # Errors
    /// Where the file system has no hard links.
    pub fn second_name(&self, path: &Path) -> Result<PathBuf, StagingError> {
        let place = self.place();
        fs::hard_link(path, &place).map_err(at("kept", path))?;
        Ok(place)
    }

    /// Makes a symbolic link to `target` in here; its name.
    ///
    /// # Errors
    /// As `symlink(2)`.
    pub fn link_to(&self, target: &Path) -> Result<PathBuf, StagingError> {
        let place = self.place();
        std::os::unix::fs::symlink(target, &place).map_err(at("made a link", &place))?;
        Ok(place)
    }

    /// Removes `paths`, files or directories with all they hold: a reader sees each of them whole or not
    /// at all. Missing ones are no error; how many there were.
    ///
    /// # Errors
    /// Where one can't be moved out of the way; then all are there as before. Once they are moved,
    /// nothing fails any more: what can't be deleted now is swept later.
    pub fn discard(&self, paths: &[PathBuf]) -> Result<usize, StagingError> {
        interrupt::point_of_no_return();
        let mut moved: Vec<(&PathBuf, PathBuf)> = Vec::new();
        let put_back = |moved: &[(&PathBuf, PathBuf)]| {
            for (path, place) in moved.iter().rev() {
                if let Err(error) = fs::rename(place, path) {
                    log::error!("{} can't be put back: {error}", path.display());
                }
            }
        };
        for path in paths {
            let place = self.place();
            match fs::rename(path, &place) {
                Ok(()) => moved.push((path, place)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    put_back(&moved);
                    return Err(at("removed", path)(error));
                }
            }
        }
        let mut synced: Vec<&Path> = Vec::new();
        for (path, _) in &moved {
            let parent = path.parent().unwrap_or(Path::new("/"));
            if !synced.contains(&parent) {
                if let Err(error) = sync_directory_of(path) {
                    put_back(&moved);
                    return Err(at("removed for good", path)(error));
                }
                synced.push(parent);
            }
        }
        Ok(moved.len())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Err(error) = empty_and_remove(&self.path) {
            log::warn!("{} is left for the next sweep: {error}", self.path.display());
        }
        interrupt::forget(&self.path);
    }
}

/// Removes `paths` in `directory`, or below it; see [`Aside::discard`].
///
/// # Errors
/// As [`Aside::discard`]. Where none of them is there, nothing is written.
pub fn discard(directory: &Path, paths: &[PathBuf]) -> Result<usize, StagingError> {
    if paths.iter().all(|path| fs::symlink_metadata(path).is_err()) {
        return Ok(0);
    }
    Aside::create(directory)?.discard(paths)
}
