//! What makes reverting an image repairable: LVM can't exchange two volumes in one step, so which
//! snapshot an image is to be made from is on disk before its volume goes. It is a file
//! `.ferrostore-revert.<volume>` in BASE_PATH that holds the snapshot's name.

use super::LvmError;
use super::lock::GroupLock;
use super::names::ImageName;
use runtime::command::lvm::{self, Volume};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const PREFIX: &str = ".ferrostore-revert.";

/// The entry of one image. It is there until [`Entry::done`].
#[derive(Debug)]
pub(super) struct Entry(PathBuf);

fn at(path: &Path) -> impl FnOnce(io::Error) -> LvmError {
    move |source| LvmError::Journal { path: path.to_owned(), source }
}

impl Entry {
    /// Notes that `image` will be made anew out of `snapshot`.
    pub(super) fn write(
        directory: &Path,
        image: &ImageName,
        snapshot: &str,
    ) -> Result<Self, LvmError> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        let path = directory.join(format!("{PREFIX}{}", image.volume));
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(snapshot.as_bytes())?;
            file.sync_all()?;
            runtime::staging::sync_directory_of(&path)
        };
        write().map_err(at(&path))?;
        Ok(Self(path))
    }

    /// Takes the note away.
    pub(super) fn done(self) {
        if let Err(error) = fs::remove_file(&self.0) {
            // Harmless: the image is there, so nothing will be made of it.
            log::warn!("the note {} stays: {error}", self.0.display());
        }
    }
}

/// Completes what drivers that were killed had begun; whether there was anything to complete.
pub(super) fn repair(
    group: &str,
    directory: &Path,
    _: &GroupLock,
    volumes: &[Volume],
) -> Result<bool, LvmError> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(false) };
    let mut repaired = false;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(image) =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(ImageName::parse)
        else {
            continue;
        };
        let there = |name: &str| volumes.iter().any(|volume| volume.name == name);
        let snapshot = fs::read_to_string(entry.path()).map_err(at(&entry.path()))?;
        if !there(&image.volume) && image.has_snapshot(&snapshot) && there(&snapshot) {
            lvm::snapshot(group, &snapshot, &image.volume)?;
            log::info!(
                "made {group}/{} out of {snapshot}, as a killed driver was about to",
                image.volume
            );
            repaired = true;
        }
        Entry(entry.path()).done();
    }
    Ok(repaired)
}
