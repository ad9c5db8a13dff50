//! A new image: a volume that is made under its own name, and tagged until it is done.

use super::group::Group;
use super::lock::{GroupLock, VolumeLock};
use super::names::{ImageName, making_tag};
use super::source::Source;
use super::{LvmError, trash};
use crate::kinds::DatastoreError;
use crate::kinds::intake::{Destination, check_writeback, reading};
use disk_image::device::Device;
use disk_image::raw::RawDisk;
use disk_image::target::Target;
use disk_image::{Disk as _, Format, ImageError, convert};
use nix::fcntl::OFlag;
use runtime::command::CommandError;
use runtime::command::lvm;
use runtime::lock_provider;
use runtime::process::{self, CleanupGuard, Unreported};
use runtime::staging;
use runtime::staging::Staged;
use runtime::sys::Revocable;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A place for one new image in a volume group.
#[derive(Debug)]
pub(super) struct NewVolume<'d> {
    group: &'d Group,
    image: ImageName,
    /// Persistent images lie in a thin pool of their own.
    thin: bool,
    staging_directory: &'d Path,
    /// Whether the group is looked at first, or only where making the volume fails.
    look_first: bool,
    made: Option<Made>,
    /// The size that was asked for, bytes.
    size: Option<u64>,
}

/// The volume, while it is being filled. Dropped while it has its lock, it is removed.
#[derive(Debug)]
struct Made {
    group: Group,
    image: ImageName,
    thin: bool,
    device: Opened,
    path: PathBuf,
    // These go last, and in this order.
    clean_up: Option<CleanupGuard>,
    /// Until it is complete.
    lock: Option<VolumeLock>,
}

/// The volume, once it is complete: oned does not know it yet.
struct Complete {
    group: Group,
    image: ImageName,
    lock: VolumeLock,
}

/// The volume's device. Unless all of it is closed, the volume can't be removed.
#[derive(Debug, Clone, Default)]
struct Opened {
    file: Revocable,
    /// Past the page cache.
    direct: Revocable,
}

impl Opened {
    fn open(&self, path: &Path) -> io::Result<()> {
        self.file.set(OpenOptions::new().read(true).write(true).open(path)?);
        let mut direct = OpenOptions::new();
        if let Ok(file) = direct.write(true).custom_flags(OFlag::O_DIRECT.bits()).open(path) {
            self.direct.set(file);
        }
        Ok(())
    }

    fn revoke(&self) {
        self.file.revoke();
        self.direct.revoke();
    }
}

impl<'d> NewVolume<'d> {
    pub(super) fn of(
        group: &'d Group,
        image: ImageName,
        thin: bool,
        staging_directory: &'d Path,
    ) -> Self {
        Self { group, image, thin, staging_directory, look_first: true, made: None, size: None }
    }

    /// Does without a call of `lvs` where nothing speaks for one.
    pub(super) fn without_looking(mut self) -> Self {
        self.look_first = self.group.may_have_stale();
        self
    }

    fn create(&self, size: u64, locked: &GroupLock) -> Result<(), CommandError> {
        let (group, volume, tag) = (&self.group.name, &self.image.volume, making_tag());
        trash::with_space(group, (size, self.thin), locked, || {
            if self.thin {
                lvm::create_thin(group, volume, &self.image.pool(), size, &tag)
            } else {
                lvm::create_thick(group, volume, size, &tag)
            }
        })
    }

    /// Makes the volume, of `size` bytes.
    fn make(&self, size: u64) -> Result<Made, LvmError> {
        let (group, image) = (self.group, &self.image);
        let lock = VolumeLock::exclusive(&group.name, &image.volume)?;
        let device = Opened::default();
        // Before there is anything, since a signal may come at any time.
        let clean_up = {
            let (group, image, device) = (group.clone(), image.clone(), device.clone());
            process::on_stop(move || {
                undo(&group, &image, &device, None);
                VolumeLock::discard(&group.name, &image.volume);
            })
        };
        let made = Made {
            group: group.clone(),
            image: image.clone(),
            thin: self.thin,
            device,
            path: group.device(&image.volume),
            clean_up: Some(clean_up),
            lock: Some(lock),
        };
        let locked = group.lock()?;
        let mine = made.lock.as_ref().map(|lock| (image, lock));
        if self.look_first {
            group.volumes(&locked, mine)?;
        }
        match self.create(size, &locked) {
            Err(error) if !self.look_first && error.says("already exists") => {
                group.volumes(&locked, mine)?;
                self.create(size, &locked)?;
            }
            result => result?,
        }
        // Still under the lock: a roll back comes before or after.
        let failed = |source| LvmError::Device { path: made.path.clone(), source };
        made.device.open(&made.path).map_err(failed)?;
        drop(locked);
        Ok(made)
    }

    /// Completes the image: its data is on disk, the volume is inactive and no longer tagged. The volume
    /// that it was copied from is released.
    pub(super) fn finish(&mut self, source: Option<&Source>) -> Result<(), DatastoreError> {
        let Some(made) = &mut self.made else {
            return Err(disk_image::admission::ImageRefusal::Empty.into());
        };
        made.file()?.sync_all().map_err(|source| ImageError::Write { offset: 0, source })?;
        process::check_before_commit();
        process::mark_committed();
        made.note_unreported();
        made.device.revoke();
        let locked = made.group.lock()?;
        let mut names = vec![made.image.volume.as_str()];
        let pool = made.image.pool();
        if made.thin {
            names.push(&pool);
        }
        names.extend(source.and_then(|source| source.stop(&made.group, &locked)));
        lvm::deactivate(&made.group.name, &names, Some(&making_tag())).map_err(LvmError::from)?;
        drop(locked);
        if let Some(lock) = made.lock.take() {
            let (group, image) = (made.group.clone(), made.image.clone());
            process::published_other(Complete { group, image, lock });
        }
        Ok(())
    }

    /// The device, for programs that write it.
    pub(super) fn device(&self) -> Option<&Path> {
        self.made.as_ref().map(|made| made.path.as_path())
    }
}

impl Made {
    fn file(&self) -> Result<&File, DatastoreError> {
        self.device.file.file().ok_or_else(|| reading(io::ErrorKind::NotFound.into()).into())
    }

    /// Has the next driver remove the volume, should this one be killed or lose the group's lock before oned knows of
    /// it: the tag goes with the last program.
    fn note_unreported(&self) {
        let noted = self
            .device
            .file
            .file()
            .zip(self.lock.as_ref())
            .map(|(file, lock)| lock.note_unreported(&lvm::uuid(file)?));
        if let Some(Err(error)) = noted {
            let (group, volume) = (&self.group.name, &self.image.volume);
            log::warn!(
                "volume {group}/{volume} would be left behind if this driver were killed now: {error}"
            );
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        let nothing_left = undo(&self.group, &self.image, &self.device, Some(&lock));
        self.clean_up = None;
        if !nothing_left {
            lock.leave();
        }
    }
}

/// Removes what this driver has made of an image, and whatever else is tagged as being made under its
/// name; whether nothing is left.
fn undo(group: &Group, image: &ImageName, device: &Opened, lock: Option<&VolumeLock>) -> bool {
    let removed = group.lock().and_then(|_locked| {
        device.revoke();
        let volumes = lvm::volumes(&group.name)?;
        let tagged = image.tagged(&volumes, &making_tag());
        // The program that takes the tag off may have failed to deactivate the volume.
        match tagged.or_else(|| image.unreported(lock?, &volumes)) {
            Some(name) => Ok(lvm::remove(&group.name, &[name])?),
            None => Ok(()),
        }
    });
    is_gone(group, image, &removed)
}

fn is_gone(group: &Group, image: &ImageName, removed: &Result<(), LvmError>) -> bool {
    if let Err(error) = removed {
        log::warn!(
            "volume {}/{} is left for the next call to remove: {error}",
            group.name,
            image.volume
        );
    }
    removed.is_ok()
}

impl Unreported for Complete {
    fn roll_back_new_image(self: Box<Self>) {
        let Self { group, image, lock } = *self;
        let removed = group.lock().and_then(|_locked| {
            let volumes = lvm::volumes(&group.name)?;
            let name = image.whole(&volumes).unwrap_or(&image.volume);
            Ok(lvm::remove(&group.name, &[name])?)
        });
        if !is_gone(&group, &image, &removed) {
            lock.leave();
        }
    }

    fn confirm(&self) -> io::Result<()> {
        self.lock.report()
    }
}

impl Destination for NewVolume<'_> {
    fn needs_size(&self) -> bool {
        true
    }

    fn begin(&mut self, _: Format, size: Option<u64>) -> Result<Target<'_>, DatastoreError> {
        self.size = size;
        let size = size.unwrap_or(0).max(1);
        // The one before goes first: both have the same name.
        self.made = None;
        let made = self.make(size)?;
        let made = self.made.insert(made);
        let device = Device::new(made.file()?, made.device.direct.file());
        Ok(Target::device(device, made.thin)?)
    }

    fn stage(&self) -> Result<Staged, DatastoreError> {
        lock_provider::release_early();
        staging::remove_stale(self.staging_directory);
        Staged::create(self.staging_directory).map_err(|error| {
            let directory = self.staging_directory.display().to_string();
            DatastoreError::value("DATASTORE/TEMPLATE/STAGING_DIR", directory, error)
        })
    }

    fn adopt(&mut self, staged: Staged, format: Format) -> Result<(), DatastoreError> {
        let disk = RawDisk::open(staged.file().try_clone().map_err(reading)?).map_err(reading)?;
        let target = self.begin(format, Some(disk.virtual_size()))?;
        convert(&disk, target)?;
        Ok(check_writeback(staged.file())?)
    }

    fn disk_size(&self, _: Format) -> Option<u64> {
        self.size
    }
}
