//! A volume group and the images in it: OpenNebula's names, what may be touched, and what drivers that
//! were killed have left.

use super::lock::{GroupLock, VolumeLock};
use super::names::{ImageName, making_tag};
use super::{LvmError, journal, trash};
use runtime::command::lvm::{self, Volume};
use std::path::{Path, PathBuf};

/// A volume group of OpenNebula's.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// `vg-one-<datastore id>`.
    pub(super) name: String,
    /// BASE_PATH, where journals lie.
    pub(super) directory: PathBuf,
}

impl Group {
    pub(super) fn of(datastore: u64, directory: &Path) -> Self {
        Self { name: format!("vg-one-{datastore}"), directory: directory.to_owned() }
    }

    /// The device of an active volume.
    pub(super) fn device(&self, volume: &str) -> PathBuf {
        Path::new("/dev").join(&self.name).join(volume)
    }

    /// The right to change the group.
    pub(super) fn lock(&self) -> Result<GroupLock, LvmError> {
        GroupLock::take(&self.name)
    }

    /// All volumes of the group, once what drivers that were killed left is gone. The caller holds the
    /// lock of the image `mine`, in which a killed driver may have left its note.
    pub(super) fn volumes(
        &self,
        lock: &GroupLock,
        mine: Option<(&ImageName, &VolumeLock)>,
    ) -> Result<Vec<Volume>, LvmError> {
        let volumes = lvm::volumes(&self.name)?;
        let repaired = journal::repair(&self.name, &self.directory, lock, &volumes)?;
        let removed = self.remove_stale(&volumes, mine) | trash::expire(&self.name, &volumes);
        if repaired || removed { Ok(lvm::volumes(&self.name)?) } else { Ok(volumes) }
    }

    /// Whether drivers that were killed on this machine have left anything.
    pub(super) fn may_have_stale(&self) -> bool {
        let stale = VolumeLock::stale_locks(&self.name);
        let any = !stale.is_empty();
        for (_, lock) in stale {
            lock.leave();
        }
        any
    }

    /// Removes volumes whose driver is dead, and deactivates those without a reader;
    /// whether there were any.
    fn remove_stale(&self, volumes: &[Volume], mine: Option<(&ImageName, &VolumeLock)>) -> bool {
        let there = |name: &str| volumes.iter().any(|volume| volume.name == name);
        let mut changed = false;
        let mut unfinished: Vec<ImageName> = Vec::new();
        // Held up to the end, so that no driver makes what is being removed.
        let mut stale = VolumeLock::stale_locks(&self.name);
        for (name, lock) in &stale {
            if lock.is_activated() && there(name) {
                changed = true;
                if let Err(error) = lvm::deactivate(&self.name, &[name], None) {
                    log::warn!("a killed driver left {}/{name} active: {error}", self.name);
                }
            }
            unfinished.extend(ImageName::parse(name));
        }
        // A volume without a tag is complete, but oned will never ask for the removal of an image that it does
        // not know.
        if let Some((image, lock)) = mine {
            if let Some(name) = image.unreported(lock, volumes) {
                changed = true;
                self.remove_left_over(name);
            }
            unfinished.push(image.clone());
        }
        for index in (0..stale.len()).rev() {
            let (name, lock) = &stale[index];
            let image = ImageName::parse(name);
            if let Some(name) = image.and_then(|image| image.unreported(lock, volumes)) {
                changed = true;
                if !self.remove_left_over(name) {
                    stale.swap_remove(index).1.leave();
                }
            }
        }
        // After a restart of the machine its lock files are gone, and only the tags tell.
        let tag = making_tag();
        let tagged = volumes.iter().filter(|volume| volume.tags.contains(&tag));
        unfinished.extend(
            tagged
                .filter_map(|volume| ImageName::owner_of(&volume.name))
                .filter(|image| !VolumeLock::is_locked(&self.name, &image.volume)),
        );
        unfinished.sort_unstable_by_key(|image| image.id);
        unfinished.dedup();
        for image in unfinished {
            if let Some(name) = image.tagged(volumes, &tag) {
                changed = true;
                self.remove_left_over(name);
            }
        }
        changed
    }

    fn remove_left_over(&self, name: &str) -> bool {
        let removed = lvm::remove(&self.name, &[name]);
        match &removed {
            Ok(()) => log::info!("removed {}/{name}, left by a killed driver", self.name),
            Err(error) => {
                log::warn!("a killed driver left {}/{name}, which stays: {error}", self.name);
            }
        }
        removed.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_the_names_that_opennebula_gives_them() {
        let image = ImageName::of(5);
        assert_eq!(image.volume, "img-one-5");
        assert_eq!(image.pool(), "img-one-5-pool");
        assert_eq!(image.snapshot(12), "img-one-5_one_s12");
        assert_eq!(ImageName::parse("img-one-5"), Some(image));
        for other in ["img-one-", "img-one-05", "img-one-+5", "img-one-5-pool", "vm-one-5", "5"] {
            assert_eq!(ImageName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn only_numbered_snapshots_are_snapshots_of_an_image() {
        let image = ImageName::of(5);
        assert!(image.has_snapshot("img-one-5_one_s0"));
        for other in ["img-one-5", "img-one-5_one_s", "img-one-5_one_sx", "img-one-55_one_s0"] {
            assert!(!image.has_snapshot(other), "{other}");
        }
    }
}
