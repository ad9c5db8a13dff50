//! A place for what is on its way out, and for what may have to be put back.

use super::error::{StagingError, at};
use super::image_lock::ImageLock;
use super::recovery::{BESIDE, SNAPSHOTS, TRASH, UNDO, entries, name_of, roll_back, snapshots_of};
use super::{sync_directory, sync_trash};
use crate::{process, work_directory};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What becomes of what a transaction holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is put back.
    RollBack,
    /// It is deleted.
    Delete,
    /// It has been moved elsewhere.
    Moved,
}

/// A directory beside the images for one change of an image that the driver holds alone. Once the change
/// is committed, it goes with all that is in it; dropped before, it goes after all is put back.
#[derive(Debug)]
pub struct Transaction<'lock> {
    lock: &'lock ImageLock,
    path: PathBuf,
    one_step: bool,
    end: End,
    taken: std::cell::Cell<u32>,
}

impl<'lock> Transaction<'lock> {
    /// A new one, for a change that takes effect in one step: should the driver be killed, what is in here is
    /// deleted.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn atomic(lock: &'lock ImageLock) -> Result<Self, StagingError> {
        Self::create(lock, true)
    }

    /// A new one, for a change of several steps: should the driver be killed before it calls
    /// [`Self::commit`], what is in here is put back.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn with_rollback(lock: &'lock ImageLock) -> Result<Self, StagingError> {
        Self::create(lock, false)
    }

    fn create(lock: &'lock ImageLock, one_step: bool) -> Result<Self, StagingError> {
        let datastore = lock.datastore();
        let name = name_of(if one_step { TRASH } else { UNDO }, lock.image());
        let create = || {
            work_directory::enter(datastore, |area| {
                let path = area.join(&name);
                fs::create_dir(&path)?;
                Ok(path)
            })
        };
        let path = process::stage(create, PathBuf::as_path)
            .map_err(at("written into (DATASTORE/BASE_PATH must be writable)", datastore))?;
        work_directory::chown_to_datastore_owner(&path, datastore)
            .map_err(at("given to the datastore's owner", &path))?;
        Ok(Self { lock, path, one_step, end: End::RollBack, taken: 0.into() })
    }

    /// The place for what is at `origin`, numbered, so that it is put back in the reverse order.
    fn place_for(&self, origin: &Path) -> PathBuf {
        self.taken.set(self.taken.get() + 1);
        let beside = origin.parent() == Some(self.lock.datastore());
        let mut name = OsString::from(format!(
            "{}{}.",
            self.taken.get(),
            if beside { BESIDE } else { SNAPSHOTS }
        ));
        name.push(origin.file_name().unwrap_or_default());
        self.path.join(name)
    }

    /// Keeps what is at `path`, a file or a link, under a second name.
    ///
    /// # Errors
    /// Where the file system has no hard links.
    pub fn keep(&self, path: &Path) -> Result<(), StagingError> {
        process::mark_committed();
        fs::hard_link(path, self.place_for(path)).map_err(at("kept", path))
    }

    /// Puts the file `source` under a second name in the place of `path`, which is kept.
    ///
    /// # Errors
    /// Where the file system has no hard links, or the name can't be taken.
    pub fn replace_by_second_name(&self, path: &Path, source: &Path) -> Result<(), StagingError> {
        self.keep(path)?;
        let second = self.path.join("second-name");
        fs::hard_link(source, &second).map_err(at("kept", source))?;
        fs::rename(&second, path).map_err(at("put in place", path))
    }

    /// Moves what is at `path`, a file or a directory with all that it holds, in here; whether there was
    /// anything.
    ///
    /// # Errors
    /// Where it can't be moved.
    pub fn take(&self, path: &Path) -> Result<bool, StagingError> {
        process::mark_committed();
        match fs::rename(path, self.place_for(path)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at("removed", path)(error)),
        }
    }

    /// Declares that the change is complete, and has it on disk: what is in here is only deleted now.
    ///
    /// # Errors
    /// Where it can't be had on disk; then all is put back.
    pub fn commit(mut self) -> Result<(), StagingError> {
        if !self.one_step {
            let trash = self.path.with_file_name(name_of(TRASH, self.lock.image()));
            fs::rename(&self.path, &trash).map_err(at("completed", &self.path))?;
            process::forget(&self.path);
            self.path = trash;
        }
        self.synchronise()?;
        if !self.one_step {
            let area = work_directory::of(self.lock.datastore());
            sync_directory(&area).map_err(at("written to disk", &area))?;
        }
        self.end = End::Delete;
        Ok(())
    }

    /// Writes the file `name` beside what is kept.
    ///
    /// # Errors
    /// Where it can't be written.
    pub(super) fn note(&self, name: &str, bytes: &[u8]) -> Result<File, StagingError> {
        let path = self.path.join(name);
        let write = || {
            let mut file = File::create_new(&path)?;
            file.write_all(bytes)?;
            work_directory::chown_to_datastore_owner(&path, self.lock.datastore())?;
            Ok(file)
        };
        write().map_err(at("written", &path))
    }

    /// Declares that the change is complete, as [`Self::commit`] does. What is in here is not deleted but gets the
    /// name `place`, in the same step; `prepare` makes the directory for it where that is missing.
    ///
    /// # Errors
    /// Where it can't be moved there, or the step can't be had on disk; then all is put back.
    pub(super) fn commit_to(
        mut self,
        place: &Path,
        prepare: impl Fn() -> io::Result<()>,
    ) -> Result<(), StagingError> {
        let datastore = self.lock.datastore();
        // What is moved as one must be there as one.
        sync_directory(&self.path).map_err(at("written to disk", &self.path))?;
        sync_directory(datastore).map_err(at("written to disk", datastore))?;
        loop {
            match fs::rename(&self.path, place) {
                // It was empty, and another driver has removed it.
                Err(error) if work_directory::is_gone(&error) && self.path.exists() => {
                    prepare().map_err(at("written into", place))?;
                }
                moved => break moved.map_err(at("made", place))?,
            }
        }
        let parent = place.parent().unwrap_or(datastore);
        let durable =
            sync_trash(parent).and_then(|()| sync_directory(&work_directory::of(datastore)));
        if let Err(error) = durable {
            // Where that fails as well, all of it stays there.
            match fs::rename(place, &self.path) {
                Ok(()) => {}
                Err(error) => {
                    log::error!("file {} can't be put back: {error}", place.display());
                    self.end = End::Moved;
                }
            }
            return Err(at("written to disk", parent)(error));
        }
        self.end = End::Moved;
        Ok(())
    }

    fn synchronise(&self) -> Result<(), StagingError> {
        let mut beside = false;
        let mut snapshots = false;
        for (_, kind, _) in entries(&self.path).unwrap_or_default() {
            beside |= kind == BESIDE;
            snapshots |= kind == SNAPSHOTS;
        }
        let datastore = self.lock.datastore();
        let directory = snapshots_of(datastore, self.lock.image());
        if beside {
            sync_directory(datastore).map_err(at("written to disk", datastore))?;
        }
        // It may itself be in here.
        if snapshots && directory.exists() {
            sync_directory(&directory).map_err(at("written to disk", &directory))?;
        }
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        let (datastore, image) = (self.lock.datastore(), self.lock.image());
        process::forget(&self.path);
        if self.end == End::RollBack
            && let Err(error) = roll_back(&self.path, datastore, image)
        {
            log::error!("file {} can't be rolled back: {error}", self.path.display());
            // The next call on the datastore tries again.
            let _ = fs::rename(&self.path, self.path.with_file_name(name_of(UNDO, image)));
            return;
        }
        if self.end != End::Moved
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            log::warn!("file {} is left for the next call to remove: {error}", self.path.display());
        }
        work_directory::leave(datastore);
    }
}

/// Removes `paths`, files or directories with all they hold, which are the image of `lock` or belong to it, first
/// things first: a driver that is killed meanwhile has removed all or nothing once that was recovered. Missing ones are no
/// error; whether there were any.
///
/// # Errors
/// Where one can't be removed; then all are there as before. Once they are out of the way, nothing fails any more but
/// that the disk takes no more writes: what can't be deleted now is deleted later.
pub fn discard(lock: ImageLock, paths: &[PathBuf]) -> Result<bool, StagingError> {
    let paths = paths.iter().map(PathBuf::as_path);
    let present: Vec<&Path> = paths.filter(|path| fs::symlink_metadata(path).is_ok()).collect();
    match present.as_slice() {
        [] => return Ok(false),
        // That is one step, which needs no transaction.
        [only] if !only.is_dir() => remove_in_place(lock, &present)?,
        _ => match remove_as_one(&lock, &present) {
            // On a full disk not even an empty directory can be made, and removing must still work.
            Err(error) if error.is_no_space() => remove_in_place(lock, &present)?,
            removed => removed?,
        },
    }
    Ok(true)
}

fn remove_as_one(lock: &ImageLock, paths: &[&Path]) -> Result<(), StagingError> {
    let transaction = match paths {
        [_] => Transaction::atomic(lock),
        _ => Transaction::with_rollback(lock),
    }?;
    for path in paths {
        transaction.take(path)?;
    }
    transaction.commit()
}

/// Removes one after the other. The first to go is the image itself: whatever happens then, it is gone.
fn remove_in_place(lock: ImageLock, paths: &[&Path]) -> Result<(), StagingError> {
    process::mark_committed();
    let mut lock = Some(lock);
    for (number, path) in paths.iter().enumerate() {
        let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.map_err(at("removed", path))?;
        if number + 1 == paths.len() {
            // Nothing is left that it protects. What goes with it is written to disk by the same commit of the file
            // system's journal; after that, it would take as long as the commit itself.
            lock.take();
        }
        super::sync_directory_of(path).map_err(at("removed for good", path))?;
    }
    Ok(())
}
