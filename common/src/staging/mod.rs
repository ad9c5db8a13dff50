//! Writing aside, making durable, and putting in place in one step.
//!
//! A staged file lies in the datastore's own directory, named `.ferrostore-staging.<random>`, and is
//! locked (`flock(2)`) for as long as its driver lives. Whoever opens the directory next removes
//! staged files that nobody holds the lock of: the lock, not the age, tells a dead one from a live
//! one, on NFS too (where Linux turns `flock` into a byte-range lock that the server keeps).
//! What is on its way out is moved into a directory `.ferrostore-trash.<random>` first (see [`Aside`]), so
//! that it disappears in one step, can be put back, and what a kill leaves of it is swept as well.

mod aside;
pub mod interrupt;

pub use aside::{Aside, discard};

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const STAGED: &str = ".ferrostore-staging.";
const TRASH: &str = ".ferrostore-trash.";

/// Mode of new images: the user and group that OpenNebula runs as, within the umask.
const IMAGE_MODE: u32 = 0o660;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{path} can't be {step}: {}{source}", no_space_hint(source))]
pub struct StagingError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What to say in front of an error that says that there is no space.
pub(crate) fn no_space_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the datastore has no space left; free some or enlarge it: "
        }
        _ => "",
    }
}

fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StagingError {
    move |source| StagingError { step, path: path.to_owned(), source }
}

/// Removes what killed drivers left in `directory`. A directory that isn't there holds nothing.
pub fn sweep(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.as_bytes().starts_with(STAGED.as_bytes()) {
            sweep_file(&entry.path());
        } else if name.as_bytes().starts_with(TRASH.as_bytes()) {
            aside::sweep(&entry.path());
        }
    }
}

fn sweep_file(path: &Path) {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    // Write access, because NFS grants an exclusive lock to nobody else.
    let Ok(file) = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) else {
        return;
    };
    if file.try_lock().is_ok() && same_file(&file, path) && fs::remove_file(path).is_ok() {
        // An empty one was most likely on its way into a live driver's hands, which will make another.
        if file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            log::info!("removed {}, which a killed driver had left", path.display());
        }
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// A file that is being written and has no name of its own yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Staged {
    /// Locked for as long as it is open: closing it is what lets the lock go.
    file: File,
    path: PathBuf,
    published: bool,
}

impl Staged {
    /// A new, empty, locked file in `directory`.
    ///
    /// # Errors
    /// Where it can't be created or locked.
    pub fn create(directory: &Path) -> Result<Self, StagingError> {
        // Between its creation and its lock a sweep may take it for a dead one: then try again.
        loop {
            if let Some(staged) = Self::create_once(directory)? {
                return Ok(staged);
            }
        }
    }

    fn create_once(directory: &Path) -> Result<Option<Self>, StagingError> {
        let create = || {
            tempfile::Builder::new().prefix(STAGED).rand_bytes(16).make_in(directory, |path| {
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode(IMAGE_MODE)
                    .open(path)
            })
        };
        let named = interrupt::stage(create, |named| named.path())
            .map_err(at("written into (DATASTORE/BASE_PATH must be writable)", directory))?;
        let (file, path) = named.into_parts();
        let path = path.keep().map_err(|error| at("kept", directory)(error.error))?;
        let staged = Self { file, path, published: false };
        match staged.file.try_lock() {
            Ok(()) if same_file(&staged.file, &staged.path) => {
                staged.belong_to(directory)?;
                Ok(Some(staged))
            }
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(at("locked", &staged.path)(error)),
        }
    }

    /// Where root runs a driver by hand, the image must still be the datastore's owner's.
    fn belong_to(&self, directory: &Path) -> Result<(), StagingError> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        let owner = directory.metadata().map_err(at("examined", directory))?;
        if owner.uid() == 0 {
            return Ok(());
        }
        std::os::unix::fs::fchown(&self.file, Some(owner.uid()), Some(owner.gid()))
            .map_err(at("given to the datastore's owner", &self.path))
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it lies for now, for programs that need a path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has the data on disk, so that putting the file in place takes a moment only.
    ///
    /// # Errors
    /// As `fsync(2)`.
    pub fn make_durable(&self) -> Result<(), StagingError> {
        self.file.sync_all().map_err(at("written to disk", &self.path))
    }

    /// Gives the file its final name, where no file may be yet, once it is on disk.
    ///
    /// # Errors
    /// Where the data can't be made durable or the name is taken.
    pub fn publish(mut self, destination: &Path) -> Result<(), StagingError> {
        self.make_durable()?;
        interrupt::point_of_no_return();
        rename_noreplace(&self.path, destination).map_err(at("put in place", destination))?;
        self.published = true;
        interrupt::forget(&self.path);
        interrupt::published(destination);
        sync_directory_of(destination).map_err(at("written to disk", destination))
    }

    /// Puts the file in the place of `destination`, once it is on disk. What `destination` was (a
    /// file, or a link) goes to `aside` in the same step, under the name that is returned.
    ///
    /// # Errors
    /// Where the data can't be made durable or the name can't be taken; then `destination` is as
    /// it was.
    pub fn replace(mut self, destination: &Path, aside: &Aside) -> Result<PathBuf, StagingError> {
        let failed = at("written to disk", destination);
        self.make_durable()?;
        interrupt::point_of_no_return();
        let old = aside.second_name(destination)?;
        let directory = match open_directory_of(destination) {
            Ok(directory) => directory,
            Err(error) => return Err(failed(error)),
        };
        fs::rename(&self.path, destination).map_err(at("put in place", destination))?;
        self.published = true;
        interrupt::forget(&self.path);
        match directory.sync_all() {
            Ok(()) => Ok(old),
            Err(error) => {
                put_back(&old, destination);
                Err(failed(error))
            }
        }
    }

    /// Gives the staged file owner, group and mode of `model`.
    ///
    /// # Errors
    /// Where they can't be changed.
    pub fn look_like(&self, model: &fs::Metadata) -> Result<(), StagingError> {
        use nix::libc::EPERM;
        let own = self.file.metadata().map_err(at("examined", &self.path))?;
        if (own.uid(), own.gid()) != (model.uid(), model.gid()) {
            match std::os::unix::fs::fchown(&self.file, Some(model.uid()), Some(model.gid())) {
                // Only root may give files away; whoever runs the driver can read what it makes.
                Err(error) if error.raw_os_error() == Some(EPERM) => {
                    log::warn!("the new file belongs to the driver's user: {error}");
                }
                result => result.map_err(at("given its owner", &self.path))?,
            }
        }
        self.file.set_permissions(model.permissions()).map_err(at("given its mode", &self.path))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.path);
            interrupt::forget(&self.path);
        }
    }
}

fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // NFS, for one, knows no flags; a hard link refuses a name that is taken just as well.
        Err(nix::Error::EINVAL | nix::Error::ENOSYS | nix::Error::EOPNOTSUPP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from).inspect_err(|_| drop(fs::remove_file(to)))
        }
        result => result.map_err(io::Error::from),
    }
}

/// Makes the names in the directory that holds `path` durable.
///
/// # Errors
/// As `open(2)` and `fsync(2)`.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    open_directory_of(path)?.sync_all()
}

fn open_directory_of(path: &Path) -> io::Result<File> {
    File::open(path.parent().unwrap_or(Path::new("/")))
}

/// Puts what is at `kept` in the place of `path`, whatever is there now.
pub fn put_back(kept: &Path, path: &Path) {
    // Where both are the same file already, this does nothing.
    if let Err(error) = fs::rename(kept, path) {
        log::error!("{} can't be put back: {error}", path.display());
    }
    // It was there before: if the system can't tell the disk now, there is nothing more to do.
    let _ = sync_directory_of(path);
}

/// A name for a new image: 32 hexadecimal digits that no other image has.
///
/// # Errors
/// Where the kernel gives no random bytes.
pub fn image_name() -> io::Result<String> {
    use std::io::Read as _;
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Whether a name in a datastore is one of ours and none of an image.
#[must_use]
pub fn is_left_over(name: &OsStr) -> bool {
    name.as_bytes().starts_with(STAGED.as_bytes()) || name.as_bytes().starts_with(TRASH.as_bytes())
}

/// Whether a driver that lives holds the left-over at `path`: a staged file, or a directory of what is on its
/// way out.
///
/// # Errors
/// Where that can't be found out: it is gone, or may not be read.
pub fn is_held(path: &Path) -> io::Result<bool> {
    let lock =
        if fs::symlink_metadata(path)?.is_dir() { aside::lock_of(path) } else { path.into() };
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(&lock) {
        Ok(file) => file,
        // A directory whose owner was killed before it came to lock it, or while removing it.
        Err(error) if error.kind() == io::ErrorKind::NotFound && lock != path => return Ok(false),
        Err(error) => return Err(error),
    };
    // Shared, which takes no right to write.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
