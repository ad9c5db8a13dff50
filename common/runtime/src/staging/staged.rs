//! An image that is being written.

use super::error::{StagingError, at};
use super::sync_directory_of;
use super::transaction::Transaction;
use crate::file_lock::{FileLock, LockMode, LockScope, lockable};
use crate::space::with_space_for_entry;
use crate::sys;
use crate::{process, work_directory};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub(super) const PREFIX: &str = "staging.";

/// Mode of new images: the user and group that OpenNebula runs as, within the umask.
const IMAGE_MODE: u32 = 0o660;

/// A file that is being written and has no name of its own yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Staged {
    // Fields drop in this order: NFS keeps a removed file in its directory for as long as it is open.
    /// Locked for as long as it is open.
    lock: FileLock,
    entry: Entry,
    /// The name that a new image gets.
    name: String,
    /// Whether recovery can tell that a new image was never reported.
    recallable: bool,
}

/// The name under which a file is staged. Dropped, it is removed, unless the file has another one by then.
#[derive(Debug)]
struct Entry {
    datastore: PathBuf,
    path: PathBuf,
    published: bool,
}

impl Staged {
    /// A new, empty file for the datastore in `directory`, held by this driver.
    ///
    /// # Errors
    /// Where it can't be created or held.
    pub fn create(directory: &Path) -> Result<Self, StagingError> {
        // Between its creation and its hold recovery may take it for a dead one: then try again.
        loop {
            if let Some(staged) = Self::create_once(directory)? {
                return Ok(staged);
            }
        }
    }

    fn create_once(directory: &Path) -> Result<Option<Self>, StagingError> {
        let step = "written into (DATASTORE/BASE_PATH must be writable)";
        let name = image_name().map_err(at(step, directory))?;
        let session = session_of(directory);
        let entry = match &session {
            Some(session) => format!("{PREFIX}{name}.{session}"),
            None => format!("{PREFIX}{name}"),
        };
        let create = || {
            work_directory::enter(directory, |area| {
                let path = area.join(&entry);
                let file = lockable().create_new(true).mode(IMAGE_MODE).open(&path)?;
                Ok((file, path))
            })
        };
        let (file, path) = process::stage(|| with_space_for_entry(create), |(_, path)| path)
            .map_err(at(step, directory))?;
        let staged = Self {
            lock: FileLock::on(file, LockScope::Byte),
            entry: Entry { datastore: directory.to_owned(), path, published: false },
            name,
            recallable: session.is_some(),
        };
        match staged.lock.try_lock(LockMode::Exclusive) {
            Ok(true) if staged.lock.is_at(staged.path()) => {
                work_directory::chown_to_datastore_owner(staged.path(), directory)
                    .map_err(at("given to the datastore's owner", staged.path()))?;
                Ok(Some(staged))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(at("locked", staged.path())(error)),
        }
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        self.lock.file()
    }

    /// Where it lies for now, for programs that need a path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.entry.path
    }

    /// Has the data on disk, so that putting the file in place takes a moment only.
    ///
    /// # Errors
    /// As `fsync(2)`.
    pub fn make_durable(&self) -> Result<(), StagingError> {
        self.file().sync_all().map_err(at("written to disk", self.path()))
    }

    /// Makes the file a new image of its datastore, once it is on disk; the image's name there, which is one
    /// of 32 hexadecimal digits that no other image has.
    ///
    /// Until [`process::confirm`] is called, the image is rolled back should the call fail or its driver be
    /// killed.
    ///
    /// # Errors
    /// Where the data can't be made durable or the name is taken.
    pub fn publish(mut self) -> Result<String, StagingError> {
        // A new name must never be on disk before the data is. A file without data has its size and its name
        // committed in the order in which they were made, by one fsync instead of two.
        let without_data = self.file().metadata().is_ok_and(|metadata| metadata.blocks() == 0);
        if !without_data {
            self.make_durable()?;
        }
        let destination = self.entry.datastore.join(&self.name);
        let hold = self.file().try_clone().map_err(at("held", self.path()))?;
        process::check_before_commit();
        process::mark_committed();
        let recallable = self.recallable && link(self.path(), &destination)?;
        if !recallable {
            rename_noreplace(self.path(), &destination)
                .map_err(at("put in place", &destination))?;
        }
        self.entry.published = true;
        process::forget(self.path());
        process::published(process::Published {
            image: destination.clone(),
            staged: recallable.then(|| self.entry.path.clone()),
            _hold: hold,
            datastore: self.entry.datastore.clone(),
        });
        if without_data {
            self.make_durable()?;
        }
        sync_directory_of(&destination).map_err(at("written to disk", &destination))?;
        Ok(std::mem::take(&mut self.name))
    }

    /// Puts the file in the place of `destination`, once it is on disk. What `destination` was (a file, or
    /// a link) is kept in `transaction` in the same step. The directory is yet to be synchronised.
    ///
    /// # Errors
    /// Where the data can't be made durable or the name can't be taken; then `destination` is as
    /// it was.
    pub fn replace(
        mut self,
        destination: &Path,
        transaction: &Transaction,
    ) -> Result<(), StagingError> {
        self.make_durable()?;
        process::mark_committed();
        transaction.keep(destination)?;
        fs::rename(self.path(), destination).map_err(at("put in place", destination))?;
        self.entry.published = true;
        process::forget(self.path());
        Ok(())
    }

    /// Gives the staged file a mode of its own.
    ///
    /// # Errors
    /// As `fchmod(2)`.
    pub fn set_mode(&self, mode: u32) -> Result<(), StagingError> {
        let mode = fs::Permissions::from_mode(mode);
        self.file().set_permissions(mode).map_err(at("given its mode", self.path()))
    }

    /// Gives the staged file owner, group and mode of `model`.
    ///
    /// # Errors
    /// Where they can't be changed.
    pub fn look_like(&self, model: &fs::Metadata) -> Result<(), StagingError> {
        use nix::libc::EPERM;
        let own = self.file().metadata().map_err(at("examined", self.path()))?;
        if (own.uid(), own.gid()) != (model.uid(), model.gid()) {
            match std::os::unix::fs::fchown(self.file(), Some(model.uid()), Some(model.gid())) {
                // Only root may give files away; the driver's user can read what it makes.
                Err(error) if error.raw_os_error() == Some(EPERM) => {
                    log::warn!("the new file belongs to the driver's user: {error}");
                }
                result => result.map_err(at("given its owner", self.path()))?,
            }
        }
        self.file().set_permissions(model.permissions()).map_err(at("given its mode", self.path()))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.path);
            process::forget(&self.path);
            work_directory::leave(&self.datastore);
        }
    }
}

/// Removes the staged file `name` if its driver is dead; and the image that it became, if that was never
/// reported.
pub(super) fn remove_stale(datastore: &Path, name: &OsStr) {
    let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { return };
    let path = work_directory::of(datastore).join(name);
    let Ok(file) = lockable().open(&path) else { return };
    let lock = FileLock::on(file, LockScope::Byte);
    if !lock.try_lock(LockMode::Exclusive).unwrap_or(false) || !lock.is_at(&path) {
        return;
    }
    if let Some((image, session)) = rest.split_once('.') {
        let image = datastore.join(image);
        // After a restart the disk may still know of a staged file whose image was reported long ago.
        if lock.is_at(&image) && Some(session) == session_of(datastore).as_deref() {
            if fs::remove_file(&image).is_err() {
                return;
            }
            log::info!("removed {}, whose driver was killed before it replied", image.display());
        }
    }
    // An empty one was most likely on its way into a live driver's hands, which will make another.
    let empty = lock.file().metadata().is_ok_and(|metadata| metadata.len() == 0);
    if fs::remove_file(&path).is_ok() && !empty {
        log::info!("removed {}, left by a killed driver", path.display());
    }
}

/// What tells this mount of a file system, since this start of the machine, from any other one: as long as
/// it lasts, what was done last is what is seen. `None` where the kernel can't tell (before Linux 6.8).
fn session_of(directory: &Path) -> Option<String> {
    let mount = sys::unique_mount_id(&File::open(directory).ok()?)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let boot: String = boot.chars().filter(char::is_ascii_hexdigit).collect();
    Some(format!("{boot}-{mount:x}"))
}

/// Gives a file a second name, where none may be yet; `false` where the file system has no such links.
fn link(from: &Path, to: &Path) -> Result<bool, StagingError> {
    use nix::libc::{EMLINK, EOPNOTSUPP, EPERM};
    match with_space_for_entry(|| fs::hard_link(from, to)) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(EPERM | EOPNOTSUPP | EMLINK)) => {
            Ok(false)
        }
        Err(error) => Err(at("put in place", to)(error)),
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

/// A name for a new image: 32 hexadecimal digits that no other image has.
///
/// # Errors
/// Where the kernel gives no random bytes.
pub fn image_name() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
