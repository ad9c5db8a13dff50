//! A volume that is read: active while it has a reader, and no longer.

use super::LvmError;
use super::group::Group;
use super::lock::{GroupLock, VolumeLock};
use super::names::ImageName;
use crate::kinds::intake::reading;
use disk_image::device;
use disk_image::{Disk, Extent, ImageError};
use runtime::command::{lvm, thin};
use runtime::process::{self, CleanupGuard};
use runtime::sys::Revocable;
use std::fs::OpenOptions;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Up to this size, bytes, reading zeroes is quicker than asking where they are.
const WORTH_ASKING: u64 = 64 << 20;

/// A volume of an image, open for reading. Once the last copy of this is dropped, the volume is released.
#[derive(Debug, Clone)]
pub(super) struct Source(Arc<Reading>);

#[derive(Debug)]
struct Reading {
    volume: Arc<Volume>,
    _cleanup: CleanupGuard,
}

#[derive(Debug)]
struct Volume {
    group: Group,
    image: ImageName,
    device: Revocable,
    /// Where in a thin volume data is, as offset and length in bytes.
    ranges: OnceLock<Vec<(u64, u64)>>,
    /// Gone once the volume has been released.
    lock: Mutex<Option<VolumeLock>>,
}

impl Source {
    /// Activates the volume, where it is not active yet.
    pub(super) fn open(group: &Group, image: &ImageName) -> Result<Self, LvmError> {
        let lock = VolumeLock::shared(&group.name, &image.volume)?;
        let volume = Arc::new(Volume {
            group: group.clone(),
            image: image.clone(),
            device: Revocable::default(),
            ranges: OnceLock::new(),
            lock: Mutex::new(Some(lock)),
        });
        let shared = Arc::clone(&volume);
        let cleanup = process::on_stop(move || shared.give_back());
        let source = Self(Arc::new(Reading { volume, _cleanup: cleanup }));
        source.0.volume.activate()?;
        Ok(source)
    }

    /// Stops reading. Whether it was the last reader, so that the volume, of which this is the name, must
    /// be deactivated by the caller, under the lock that it holds.
    pub(super) fn stop(&self, group: &Group, lock: &GroupLock) -> Option<&str> {
        let volume = &self.0.volume;
        (volume.group.name == group.name && volume.stop(lock))
            .then_some(volume.image.volume.as_str())
    }
}

impl Disk for Source {
    fn virtual_size(&self) -> u64 {
        let file = self.0.volume.device.file();
        file.and_then(|file| device::size_of(file).ok()).unwrap_or(0)
    }

    fn extents<'a>(
        &'a self,
        visit: &mut dyn FnMut(Extent<'a>) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let file = self.0.volume.device.file();
        let file = file.ok_or_else(|| reading(io::ErrorKind::NotFound.into()))?;
        device::extents(file, self.0.volume.ranges.get().map(Vec::as_slice), visit)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.volume.give_back();
    }
}

impl Volume {
    fn activate(&self) -> Result<(), LvmError> {
        let path = self.group.device(&self.image.volume);
        let _locked = self.group.lock()?;
        if !path.exists() {
            let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(lock) = &*lock {
                lock.note_activation()?;
            }
            lvm::activate(&self.group.name, &self.image.volume)?;
        }
        let opened = OpenOptions::new().read(true).open(&path);
        let file = opened.map_err(|source| LvmError::Device { path, source })?;
        // Under the lock: a pool can tell one at a time.
        if device::size_of(&file).is_ok_and(|size| size > WORTH_ASKING)
            && let Some(ranges) = thin::allocated_ranges(&file)
        {
            let _ = self.ranges.set(ranges);
        }
        self.device.set(file);
        Ok(())
    }

    /// Stops reading; whether it must be deactivated now.
    fn stop(&self, _: &GroupLock) -> bool {
        self.device.revoke();
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        lock.is_some_and(|lock| lock.is_activated() && lock.is_last())
    }

    fn give_back(&self) {
        if self.lock.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return;
        }
        let given = self.group.lock().and_then(|locked| {
            if self.stop(&locked) {
                lvm::deactivate(&self.group.name, &[&self.image.volume], None)?;
            }
            Ok(())
        });
        if let Err(error) = given {
            log::warn!("volume {}/{} stays active: {error}", self.group.name, self.image.volume);
        }
    }
}
