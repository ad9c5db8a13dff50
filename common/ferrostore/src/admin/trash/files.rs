//! The trash of a file datastore.

use super::{Item, Trash, TrashError, refused};
use crate::trash::Record;
use one_protocol::settings::Settings;
use runtime::staging::trash::{self, Trashed};
use runtime::staging::{self, ImageLock};
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// The images in it, oldest first.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    items: Vec<Item>,
    trashed: Vec<Trashed>,
}

impl Files {
    /// The trash of the datastore in `directory`. What killed drivers left there is recovered first.
    pub(super) fn open(directory: PathBuf) -> Result<Self, TrashError> {
        let failed = |source| TrashError::Unreadable { datastore: directory.clone(), source };
        if !directory.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        staging::remove_stale(&directory);
        let trashed = trash::list(&directory).map_err(failed)?.images;
        let items = trashed.iter().map(|trashed| item(&directory, trashed)).collect();
        Ok(Self { directory, items, trashed })
    }

    /// Whether a path is that of an image of this datastore.
    fn is_place(&self, path: &Path, trashed: &Trashed) -> bool {
        let real = |path: &Path| path.canonicalize().ok();
        let here = path.parent().and_then(real).is_some_and(|it| Some(it) == real(&self.directory));
        path.is_absolute() && here && path.file_name() == Some(trashed.image.as_os_str())
    }

    /// What the trash calls an item.
    fn entry(&self, item: &Item) -> Result<&Trashed, TrashError> {
        let found = self.trashed.iter().zip(&self.items).find(|(_, other)| other.key == item.key);
        found.map(|(trashed, _)| trashed).ok_or_else(|| refused(item, "is not in the trash"))
    }
}

impl Trash for Files {
    fn datastore(&self) -> String {
        self.directory.display().to_string()
    }

    fn items(&self) -> &[Item] {
        &self.items
    }

    fn restore(&self, item: &Item) -> Result<String, Box<dyn Error>> {
        let trashed = self.entry(item)?;
        let wait = Settings::from_environment().lock_wait()?;
        let lock = ImageLock::exclusive(&self.directory, &trashed.image, wait)
            .map_err(|error| refused(item, error))?;
        trash::restore(&lock, trashed).map_err(|error| refused(item, error))?;
        let recorded = &item.record.source;
        if self.is_place(Path::new(recorded), trashed) {
            // As oned wrote it, with its slashes.
            return Ok(recorded.clone());
        }
        let place = std::path::absolute(self.directory.join(&trashed.image))?;
        Ok(place.display().to_string())
    }

    fn purge(&self, item: &Item) -> Result<(), Box<dyn Error>> {
        let trashed = self.entry(item)?;
        trash::purge(&self.directory, trashed).map_err(|error| refused(item, error))?;
        Ok(())
    }

    fn finish(&self) {
        trash::finish_purge(&self.directory);
    }
}

fn item(directory: &Path, trashed: &Trashed) -> Item {
    // Without its record an image can still be brought back.
    let record = Record::read(directory, trashed).unwrap_or_default();
    Item {
        name: trashed.image.to_string_lossy().into_owned(),
        key: trashed.key().to_string_lossy().into_owned(),
        deleted: trashed.deleted,
        expires: trashed.expires(),
        bytes: trashed.bytes,
        record,
    }
}
