//! The trash of an LVM datastore.

use super::{Item, Trash, TrashError, refused};
use crate::kinds::lvm::{Trashed, VolumeTrash};
use std::error::Error;
use std::path::PathBuf;

/// The images in it, oldest first.
#[derive(Debug)]
pub(super) struct Volumes {
    group: VolumeTrash,
    name: PathBuf,
    items: Vec<Item>,
    trashed: Vec<Trashed>,
}

impl Volumes {
    pub(super) fn open(group: VolumeTrash, name: PathBuf) -> Result<Self, Box<dyn Error>> {
        let trashed = group.list()?;
        let items = trashed.iter().map(item).collect();
        Ok(Self { group, name, items, trashed })
    }

    /// What the trash calls an item.
    fn entry(&self, item: &Item) -> Result<&Trashed, TrashError> {
        let found = self.trashed.iter().find(|trashed| trashed.volume == item.key);
        found.ok_or_else(|| refused(item, GONE))
    }
}

const GONE: &str = "is not in the trash any more";

impl Trash for Volumes {
    fn datastore(&self) -> String {
        self.name.display().to_string()
    }

    fn items(&self) -> &[Item] {
        &self.items
    }

    fn restore(&self, item: &Item) -> Result<String, Box<dyn Error>> {
        let restored = self.group.restore(self.entry(item)?);
        let restored = restored.map_err(|error| refused(item, error))?;
        Ok(restored.ok_or_else(|| refused(item, GONE))?)
    }

    fn purge(&self, item: &Item) -> Result<(), Box<dyn Error>> {
        self.group.purge(self.entry(item)?).map_err(|error| refused(item, error))?;
        Ok(())
    }

    fn finish(&self) {}
}

fn item(trashed: &Trashed) -> Item {
    Item {
        name: trashed.name().to_owned(),
        key: trashed.volume.clone(),
        deleted: trashed.deleted,
        expires: trashed.deleted.saturating_add(trashed.keep),
        bytes: trashed.bytes,
        record: trashed.record(),
    }
}
