//! A new image: written under a temporary name, and renamed when it is whole.

use super::lock::NameLock;
use super::names::ImageName;
use super::recovery::{self, make};
use super::{CephDatastore, stale};
use crate::kinds::DatastoreError;
use crate::kinds::intake::{Destination, reading};
use disk_image::raw::RawDisk;
use disk_image::rbd_diff::{RbdDiff, SECTOR};
use disk_image::target::Target;
use disk_image::{Disk as _, Format, ImageError, convert};
use runtime::command::cluster::{ClusterError, Obstacle};
use runtime::command::librbd::LibrbdProcess;
use runtime::command::rbd::{Import, Pool, Stopper};
use runtime::lock_provider;
use runtime::process::{self, CleanupGuard, Unreported};
use runtime::staging::{self, Staged};
use std::io;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

/// How long a program that is told to stop may take to end.
const STOPPING: Duration = Duration::from_secs(5);

/// A place for one new image in a pool.
#[derive(Debug)]
pub(super) struct NewImage<'d> {
    datastore: &'d CephDatastore,
    name: ImageName,
    /// From when the pool has been looked at.
    lock: Option<NameLock>,
    writing: Option<Writing<'d>>,
    /// Size of the disk, bytes, where it was known beforehand.
    size: Option<u64>,
}

/// The temporary image, while it is being filled. Dropped, it is removed.
#[derive(Debug)]
struct Writing<'d> {
    pool: &'d Pool,
    name: ImageName,
    diff: Option<Box<RbdDiff>>,
    import: Option<Import>,
    /// What makes, fills and renames it, in place of `import`, where librbd is installed.
    librbd: Option<LibrbdProcess>,
    clean_up: Option<CleanupGuard>,
    /// Whether it has its name, or is to be left for the next driver.
    settled: bool,
}

/// The image, once it is complete: oned does not know it yet.
struct Complete {
    pool: Pool,
    name: ImageName,
    lock: NameLock,
}

impl<'d> NewImage<'d> {
    pub(super) fn of(datastore: &'d CephDatastore, name: ImageName) -> Self {
        Self { datastore, name, lock: None, writing: None, size: None }
    }

    pub(super) fn pool(&self) -> &'d Pool {
        &self.datastore.place.pool
    }

    pub(super) fn name(&self) -> ImageName {
        self.name
    }

    /// Takes the lock, and sees to it that both names are free.
    fn reserve(&mut self) -> Result<(), DatastoreError> {
        if self.lock.is_some() {
            return Ok(());
        }
        let (pool, temporary) = (self.pool(), self.name.temporary());
        self.lock = Some(self.datastore.lock(self.name)?);
        let names = pool.images()?;
        if names.contains(&temporary) {
            recovery::remove(pool, &temporary)?;
        }
        self.free_main_name(&names)
    }

    /// Recovers what killed drivers have left in the pool, whose images are `names`, and sees to it that the image's
    /// name is free.
    fn free_main_name(&self, names: &[String]) -> Result<(), DatastoreError> {
        stale::recover(self.pool(), self.name, names);
        if names.contains(&self.name.main()) {
            return self.taken();
        }
        Ok(())
    }

    /// The image's name is taken: by one that was never reported, which goes, or by another.
    fn taken(&self) -> Result<(), DatastoreError> {
        let (pool, main) = (self.pool(), self.name.main());
        if self.lock.as_ref().is_some_and(NameLock::is_unreported) {
            recovery::remove(pool, &main)?;
            log::info!("removed {}, whose driver was killed before it replied", pool.spec(&main));
            return Ok(());
        }
        Err(DatastoreError::value(
            "IMAGE/ID",
            self.name.id.to_string(),
            format_args!(
                "has an image {} already, which no running driver is creating: have the administrator look at it, and rename or remove it",
                pool.spec(&main)
            ),
        ))
    }

    /// Reserves the names, and has the temporary image removed if what makes it fails or a signal comes.
    fn begin_writing(&mut self) -> Result<&mut Writing<'d>, DatastoreError> {
        self.writing = None;
        self.reserve()?;
        Ok(self.writing.insert(Writing::begin(self.pool(), self.name)))
    }

    /// Has a program that reads a stream make the temporary image.
    pub(super) fn begin_with(
        &mut self,
        begin: impl FnOnce(&Pool, &str) -> Result<Import, ClusterError>,
    ) -> Result<Import, DatastoreError> {
        let (pool, name) = (self.pool(), self.name);
        let writing = self.begin_writing()?;
        let import = begin(pool, &name.temporary())?;
        writing.clean_up_with(Some(import.stopper()));
        Ok(import)
    }

    /// Has another such program go on with it.
    pub(super) fn go_on_with(
        &mut self,
        begin: impl FnOnce(&Pool, &str) -> Result<Import, ClusterError>,
    ) -> Result<Import, DatastoreError> {
        let Some(writing) = &mut self.writing else {
            return Err(reading(io::ErrorKind::NotFound.into()).into());
        };
        // Goes on only where no signal is being handled.
        writing.clean_up_with(None);
        let import = begin(writing.pool, &writing.name.temporary())?;
        writing.clean_up_with(Some(import.stopper()));
        Ok(import)
    }

    /// Makes the temporary image, with no data and of `size` bytes.
    pub(super) fn create_empty(&mut self, size: u64) -> Result<(), DatastoreError> {
        if self.lock.is_some() {
            return self.create(|pool, temporary| pool.create(temporary, size));
        }
        let (pool, main, temporary) = (self.pool(), self.name.main(), self.name.temporary());
        self.lock = Some(self.datastore.lock(self.name)?);
        self.writing = Some(Writing::begin(pool, self.name));
        let started = LibrbdProcess::start(pool, &temporary, &main);
        let started = started.inspect_err(|error| self.leave_if_silent(error))?;
        let (names, created) = if let Some((process, names)) = started {
            self.free_main_name(&names)?;
            let created = self.create_by(process, size);
            (names, created)
        } else {
            let (names, created) = create_beside_list(pool, &temporary, size);
            let names = names.inspect_err(|error| self.leave_if_silent(error))?;
            self.free_main_name(&names)?;
            (names, created)
        };
        let created = match created {
            Err(error) if error.is_taken() => self.create_anew(&names, size),
            created => created,
        };
        Ok(created.inspect_err(|error| self.leave_if_silent(error))?)
    }

    /// Has a process with librbd make the temporary image.
    fn create_by(&mut self, process: LibrbdProcess, size: u64) -> Result<(), ClusterError> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        writing.clean_up_with(process.stopper());
        writing.librbd.insert(process).create(size)
    }

    /// As [`Self::create_empty`], where the temporary name was taken: a killed driver has left it.
    fn create_anew(&mut self, names: &[String], size: u64) -> Result<(), ClusterError> {
        let (pool, temporary) = (self.pool(), self.name.temporary());
        if names.contains(&temporary) {
            recovery::remove(pool, &temporary)?;
        }
        let (writing, main) = (self.writing.as_mut(), self.name.main());
        let mut process = writing.and_then(|writing| writing.librbd.as_mut());
        make(pool, &temporary, &[&main], || match &mut process {
            Some(process) => process.create(size),
            None => pool.create(&temporary, size),
        })
    }

    /// Leaves the temporary image to the next driver, where the cluster would not answer its removal.
    fn leave_if_silent(&mut self, error: &ClusterError) {
        if let Some(writing) = &mut self.writing {
            writing.settled |= is_silent(error) || error.is_taken();
        }
    }

    /// Makes the temporary image by `create`.
    pub(super) fn create(
        &mut self,
        create: impl Fn(&Pool, &str) -> Result<(), ClusterError>,
    ) -> Result<(), DatastoreError> {
        let (pool, name) = (self.pool(), self.name);
        let (main, temporary) = (name.main(), name.temporary());
        self.begin_writing()?;
        let created = make(pool, &temporary, &[&main], || create(pool, &temporary));
        Ok(created.inspect_err(|error| self.leave_if_silent(error))?)
    }

    /// What is behind an error in writing: mostly a program that has ended, and says why.
    pub(super) fn explained(&mut self, error: DatastoreError) -> DatastoreError {
        let is_write = matches!(error, DatastoreError::Image(ImageError::Write { .. }));
        let writing = self.writing.as_mut().filter(|_| is_write);
        let finished = writing.and_then(Writing::finish);
        match finished {
            Some(Err(failure)) => {
                if let Some(writing) = &mut self.writing {
                    writing.settled |= is_silent(&failure);
                }
                failure.into()
            }
            _ => error,
        }
    }

    /// Completes the image: all of it is in the pool, and it gets its name.
    pub(super) fn finish(mut self) -> Result<(), DatastoreError> {
        let Some(writing) = &mut self.writing else {
            return Err(disk_image::admission::ImageRefusal::Empty.into());
        };
        if let Some(Err(error)) = writing.finish() {
            writing.settled |= is_silent(&error);
            return Err(error.into());
        }
        process::check_before_commit();
        process::mark_committed();
        let lock = self.lock.take();
        if let Some(lock) = &lock
            && let Err(error) = lock.note_unreported()
        {
            log::warn!("the image would be left behind if this driver were killed now: {error}");
        }
        let (main, temporary) = (self.name.main(), self.name.temporary());
        let renamed = match writing.librbd.take().map(LibrbdProcess::rename) {
            Some(Err(error)) if !error.is_taken() => Err(error),
            Some(Ok(())) => Ok(()),
            _ => recovery::rename(writing.pool, &temporary, &main),
        };
        writing.settled = true;
        if let Err(error) = renamed {
            if !take_back(writing.pool, self.name, &error)
                && let Some(lock) = lock
            {
                lock.leave();
            }
            return Err(error.into());
        }
        if let Some(lock) = lock {
            let pool = writing.pool.clone();
            process::published_other(Complete { pool, name: self.name, lock });
        }
        Ok(())
    }
}

/// Makes the image `temporary`, while all names are read: most of the time of both programs is their start.
fn create_beside_list(
    pool: &Pool,
    temporary: &str,
    size: u64,
) -> (Result<Vec<String>, ClusterError>, Result<(), ClusterError>) {
    thread::scope(|scope| {
        let names = scope.spawn(|| pool.images());
        let created = pool.create(temporary, size);
        (names.join().unwrap_or_else(|panic| resume_unwind(panic)), created)
    })
}

/// Removes the image whose last rename failed, under whichever of its names it is by now; whether nothing is left.
fn take_back(pool: &Pool, image: ImageName, error: &ClusterError) -> bool {
    let (main, temporary) = (image.main(), image.temporary());
    let remove = || -> Result<(), ClusterError> {
        let names = pool.images()?;
        if names.contains(&temporary) {
            recovery::remove(pool, &temporary)
        } else if names.contains(&main) && !error.is_taken() {
            recovery::remove(pool, &main)
        } else {
            Ok(())
        }
    };
    let removed = if is_silent(error) { None } else { Some(remove()) };
    if let Some(Err(error)) = &removed {
        log::warn!("image {} is left for the next driver: {error}", pool.spec(&temporary));
    }
    matches!(removed, Some(Ok(())))
}

/// Whether the cluster does not answer: then removing anything would only take as long again.
fn is_silent(error: &ClusterError) -> bool {
    matches!(error.obstacle(), Obstacle::Monitors | Obstacle::Objects | Obstacle::Space)
}

impl<'d> Writing<'d> {
    fn begin(pool: &'d Pool, name: ImageName) -> Self {
        let mut writing = Self {
            pool,
            name,
            diff: None,
            import: None,
            librbd: None,
            clean_up: None,
            settled: false,
        };
        // Before there is anything, since a signal may come at any time.
        writing.clean_up_with(None);
        // Should it fail now, there may be something all the same.
        writing
    }

    /// Waits until all that was written is in the image; `None` where nothing was.
    fn finish(&mut self) -> Option<Result<(), ClusterError>> {
        let was_written = self.diff.take().is_some();
        match (self.import.take(), &mut self.librbd) {
            (Some(import), _) => Some(import.finish()),
            (None, Some(process)) if was_written => Some(process.finish_import()),
            _ => None,
        }
    }

    /// Has a signal end the program that writes the image, and remove it.
    fn clean_up_with(&mut self, stopper: Option<Stopper>) {
        let (pool, temporary) = (self.pool.at_stop(), self.name.temporary());
        self.clean_up = None;
        self.clean_up = Some(process::on_stop(move || {
            let _ = match stopper {
                Some(stopper) => {
                    stopper.stop(STOPPING);
                    recovery::remove(&pool, &temporary)
                }
                // What was copying into it has been killed.
                None => pool.remove_later(&temporary),
            };
        }));
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.diff = None;
        let (import, process) = (self.import.take(), self.librbd.take());
        let stopper = import.as_ref().map(Import::stopper);
        if let Some(stopper) = stopper.or_else(|| process.as_ref()?.stopper()) {
            stopper.stop(STOPPING);
        }
        if !self.settled
            && let Err(error) = recovery::remove(self.pool, &self.name.temporary())
        {
            log::warn!(
                "image {} is left for the next driver: {error}",
                self.pool.spec(&self.name.temporary())
            );
        }
    }
}

impl Drop for NewImage<'_> {
    fn drop(&mut self) {
        let left = self.writing.as_ref().is_some_and(|writing| writing.settled);
        self.writing = None;
        // Its file tells the next driver that what is left is of a dead one.
        if left && let Some(lock) = self.lock.take() {
            lock.leave();
        }
    }
}

impl Unreported for Complete {
    fn roll_back_new_image(self: Box<Self>) {
        let main = self.name.main();
        if let Err(error) = recovery::remove(&self.pool, &main) {
            log::warn!("image {} is left for the next driver: {error}", self.pool.spec(&main));
            self.lock.leave();
        }
    }

    fn confirm(&self) -> io::Result<()> {
        self.lock.report()
    }
}

impl Destination for NewImage<'_> {
    fn needs_size(&self) -> bool {
        false
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn begin(&mut self, _: Format, size: Option<u64>) -> Result<Target<'_>, DatastoreError> {
        self.size = size;
        let size = size.unwrap_or(0).next_multiple_of(SECTOR);
        self.create_empty(size)?;
        let (pool, temporary) = (self.pool(), self.name.temporary());
        let Some(writing) = &mut self.writing else {
            return Err(reading(io::ErrorKind::NotFound.into()).into());
        };
        let pipe = if let Some(process) = &mut writing.librbd {
            process.begin_import()?
        } else {
            let import = writing.import.insert(pool.import_diff(&temporary)?);
            let (pipe, stopper) = (import.pipe(), import.stopper());
            writing.clean_up_with(Some(stopper));
            pipe
        };
        let diff = writing.diff.insert(Box::new(RbdDiff::begin(pipe, size)?));
        Ok(Target::rbd_diff(diff))
    }

    fn stage(&self) -> Result<Staged, DatastoreError> {
        lock_provider::release_early();
        let directory = &self.datastore.place.staging_directory;
        staging::remove_stale(directory);
        Staged::create(directory).map_err(|error| {
            let directory = directory.display().to_string();
            DatastoreError::value("DATASTORE/TEMPLATE/STAGING_DIR", directory, error)
        })
    }

    fn adopt(&mut self, staged: Staged, format: Format) -> Result<(), DatastoreError> {
        let disk = RawDisk::open(staged.file().try_clone().map_err(reading)?).map_err(reading)?;
        let target = self.begin(format, Some(disk.virtual_size()))?;
        Ok(convert(&disk, target)?)
    }

    fn disk_size(&self, _: Format) -> Option<u64> {
        self.size
    }
}
