//! Which files of an image's snapshots back on which.

use super::{SnapshotError, Snapshots, same};
use disk_image::qcow2::{BackingFile, mentioned_files};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

impl Snapshots {
    /// Checks that no file but `except` backs on `file`.
    ///
    /// # Errors
    /// [`SnapshotError::InUse`] for what was to be done to snapshot `id`.
    pub fn nothing_depends_on(
        &self,
        file: &Path,
        id: u32,
        change: &'static str,
    ) -> Result<(), SnapshotError> {
        for dependent in self.files.values().chain([&self.image]) {
            // A link that leads nowhere holds no name.
            let Ok(holder) = dependent.canonicalize() else { continue };
            if same(&holder, file) {
                continue;
            }
            let Some(name) = self.backing_name(&holder)? else { continue };
            let backing = BackingFile::named(&holder, &name).map(|backing| backing.path);
            if backing.as_deref().is_some_and(|backing| same(backing, file)) {
                return Err(SnapshotError::InUse {
                    id,
                    change,
                    dependent: dependent.clone(),
                    file: file.to_owned(),
                });
            }
            // A datastore that was moved or a link that was lost leaves names that lead nowhere, or elsewhere.
            let elsewhere = !backing.is_some_and(|backing| self.is_inside(&backing));
            if elsewhere && self.is_called_like_one_of(file, &mentioned_files(&name)) {
                return Err(SnapshotError::MayBeInUse {
                    id,
                    change,
                    dependent: dependent.clone(),
                    name: String::from_utf8_lossy(&name).into_owned(),
                    file: file.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Whether a path leads to a file of the datastore.
    fn is_inside(&self, path: &Path) -> bool {
        match (path.canonicalize(), self.datastore.canonicalize()) {
            (Ok(path), Ok(datastore)) => path.starts_with(datastore),
            _ => false,
        }
    }

    /// Whether one of `names` is a name of `file`, among its entries in `S.snap` or by its own.
    fn is_called_like_one_of(&self, file: &Path, names: &[OsString]) -> bool {
        let entries = self.files.values().chain([&self.image]).filter(|entry| same(entry, file));
        let real = file.canonicalize().ok();
        let paths = entries.map(PathBuf::as_path).chain(real.as_deref()).chain([file]);
        paths.filter_map(Path::file_name).any(|name| names.iter().any(|other| other == name))
    }
}
