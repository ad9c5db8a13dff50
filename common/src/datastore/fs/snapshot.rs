//! Snapshots of a persistent image: `snap_revert`, `snap_delete`, `snap_flatten`.
//!
//! Whatever is replaced is complete and on disk before its predecessor goes, and what others still
//! back on stays.

use super::{DISKS, FileDatastore};
use crate::datastore::DatastoreError;
use crate::image::convert;
use crate::image::qcow2::overlay;
use crate::image::raw::RawDisk;
use crate::image::target::Target;
use crate::image::{Disk as _, Format};
use crate::message::Image;
use crate::snapshots::{Layout, SnapshotError, Snapshots, directory_of, with_suffix};
use crate::staging::{self, Staged};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

impl FileDatastore {
    /// The image's file, its snapshots, and the number of the target.
    fn snapshots(
        &self,
        image: &Image,
        verb: &str,
    ) -> Result<(PathBuf, Snapshots, u32), DatastoreError> {
        self.check_types(image, verb, &DISKS)?;
        let id = image.target_snapshot()?;
        let file = self.own_image(image)?;
        if let Err(error) = fs::symlink_metadata(&file) {
            return Err(self.source_error(
                image,
                format_args!("can't be used: {error}; the image's file is gone"),
            ));
        }
        match Snapshots::read(&file, &image.format, &self.directory)? {
            Some(snapshots) => Ok((file, snapshots, id)),
            None => Err(SnapshotError::Missing {
                id,
                directory: directory_of(&file),
                present: "no snapshot".to_owned(),
            }
            .into()),
        }
    }

    /// `snap_revert`.
    pub(super) fn revert(&self, image: &Image) -> Result<(), DatastoreError> {
        let (file, snapshots, id) = self.snapshots(image, "snap_revert")?;
        let snapshot = snapshots.file_of(id)?;
        let staged = self.stage()?;
        let place = match snapshots.layout() {
            Layout::Copies => {
                copy(&snapshot, &staged, self.attributes.sparse)?;
                file.clone()
            }
            Layout::Chain => {
                let active = snapshots.active_file();
                snapshots.nothing_depends_on(active, id, "reverted to")?;
                let size = snapshots.chain(&snapshot)?.virtual_size();
                let name = snapshots.backing_name_for(&snapshot)?;
                overlay(staged.file(), size, &name, Format::Qcow2.name())?;
                active.to_owned()
            }
        };
        let model = place.metadata().map_err(|error| unreadable(&place, error))?;
        staged.look_like(&model)?;
        staged.replace(&place)?;
        forget_digest(&file);
        Ok(())
    }

    /// `snap_delete`.
    pub(super) fn delete_snapshot(&self, image: &Image) -> Result<(), DatastoreError> {
        let (_, snapshots, id) = self.snapshots(image, "snap_delete")?;
        let files = match snapshots.layout() {
            Layout::Chain => snapshots.removal_of(id)?,
            Layout::Copies => vec![snapshots.file_of(id)?],
        };
        staging::discard(&files)?;
        Ok(())
    }

    /// `snap_flatten`.
    pub(super) fn flatten(&self, image: &Image) -> Result<(), DatastoreError> {
        let (file, snapshots, id) = self.snapshots(image, "snap_flatten")?;
        let snapshot = snapshots.file_of(id)?;
        let staged = self.stage()?;
        let model = snapshots.active_file().metadata().map_err(|error| unreadable(&file, error))?;
        match snapshots.layout() {
            Layout::Copies => copy(&snapshot, &staged, self.attributes.sparse)?,
            Layout::Chain => {
                let chain = snapshots.chain(&snapshot)?;
                convert(&chain, Target::qcow2(staged.file()))?;
            }
        }
        staged.look_like(&model)?;
        // Whoever knows of S.snap goes on seeing the old chain until that directory is gone, in one step:
        // its base must survive the replacement of S.
        let base = snapshots.link_to_base().map(|link| KeptBase::new(link, &file)).transpose()?;
        let old = staging::second_name(&file)?;
        if let Err(error) = staged
            .replace(&file)
            .and_then(|()| staging::discard(&[snapshots.directory().to_owned()]))
        {
            old.put_back(&file);
            if let Some(base) = base {
                base.undo();
            }
            return Err(error.into());
        }
        forget_digest(&file);
        Ok(())
    }
}

/// `S.snap/0` as a file of its own, where it was a link to `S`.
struct KeptBase {
    entry: PathBuf,
    link: PathBuf,
}

impl KeptBase {
    fn new(entry: &Path, image: &Path) -> Result<Self, DatastoreError> {
        let link = fs::read_link(entry).map_err(|error| unreadable(entry, error))?;
        staging::second_name(image)?.put_at(entry)?;
        Ok(Self { entry: entry.to_owned(), link })
    }

    /// Makes it the link again.
    fn undo(self) {
        if let Err(error) = staging::replace_by_link(&self.entry, &self.link) {
            log::warn!("{} stays a second name of the image: {error}", self.entry.display());
        }
    }
}

/// Writes a copy of the file at `from`, its holes and zeroes left out if `sparse`.
fn copy(from: &Path, to: &Staged, sparse: bool) -> Result<(), DatastoreError> {
    let file = File::open(from).map_err(|error| unreadable(from, error))?;
    let disk = RawDisk::open(file).map_err(|error| unreadable(from, error))?;
    Ok(convert(&disk, Target::raw(to.file(), sparse))?)
}

fn unreadable(path: &Path, source: io::Error) -> DatastoreError {
    SnapshotError::Unreadable { path: path.to_owned(), source }.into()
}

/// The digest that a marketplace export once noted is that of the old content.
fn forget_digest(image: &Path) {
    let noted = with_suffix(image, ".md5sum");
    if let Err(error) = staging::discard(&[noted]) {
        log::warn!("{error}");
    }
}
