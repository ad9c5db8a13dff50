//! What an administrator does with the trash of a volume group.

use super::LvmError;
use super::group::Group;
use super::trash::{RESTORED, Trashed, among, parts};
use runtime::command::lvm;
use std::path::Path;

/// The trash of a volume group, for an administrator.
#[derive(Debug)]
pub struct VolumeTrash {
    group: Group,
}

impl VolumeTrash {
    /// That of the group with this name, which is one of OpenNebula's.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let id = name.strip_prefix("vg-one-")?.parse().ok()?;
        let group = Group::of(id, Path::new(""));
        (group.name == name).then_some(Self { group })
    }

    /// What is in it, oldest first.
    ///
    /// # Errors
    /// Where LVM fails.
    pub fn list(&self) -> Result<Vec<Trashed>, LvmError> {
        let _locked = self.group.lock()?;
        Ok(among(&lvm::volumes(&self.group.name)?))
    }

    /// Takes an image out of the trash; its SOURCE. `None` where it is not there any more.
    ///
    /// # Errors
    /// Where LVM fails.
    pub fn restore(&self, trashed: &Trashed) -> Result<Option<String>, LvmError> {
        let _locked = self.group.lock()?;
        let group = &self.group.name;
        if !self.is_there(trashed)? {
            return Ok(None);
        }
        let tags: Vec<&str> = trashed.tags.iter().map(String::as_str).collect();
        lvm::change_tags(group, &trashed.volume, &[RESTORED], &tags)?;
        Ok(Some(format!("{group}/{}", trashed.image.volume)))
    }

    /// Removes an image; `false` where it is not there any more.
    ///
    /// # Errors
    /// Where LVM fails.
    pub fn purge(&self, trashed: &Trashed) -> Result<bool, LvmError> {
        let _locked = self.group.lock()?;
        if !self.is_there(trashed)? {
            return Ok(false);
        }
        let volumes = lvm::volumes(&self.group.name)?;
        lvm::remove(&self.group.name, &parts(&trashed.image, &volumes))?;
        Ok(true)
    }

    fn is_there(&self, trashed: &Trashed) -> Result<bool, LvmError> {
        let now = among(&lvm::volumes(&self.group.name)?);
        let same = |one: &Trashed| one.volume == trashed.volume && one.deleted == trashed.deleted;
        Ok(now.iter().any(same))
    }
}
