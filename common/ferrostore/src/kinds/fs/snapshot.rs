//! Snapshots of a persistent image: `snap_revert`, `snap_delete`, `snap_flatten`.
//!
//! Whatever is replaced is complete and on disk before its predecessor goes, and what others still
//! back on stays.

use super::FileDatastore;
use crate::kinds::DatastoreError;
use crate::kinds::intake::DISKS;
use crate::policy::open_inside;
use crate::snapshots::{Layout, SnapshotError, Snapshots, directory_of, with_suffix};
use disk_image::convert;
use disk_image::qcow2::overlay;
use disk_image::raw::RawDisk;
use disk_image::target::Target;
use disk_image::{Disk as _, Format};
use one_protocol::message::Image;
use runtime::process;
use runtime::staging;
use runtime::staging::intent;
use runtime::staging::{ImageLock, Staged, Transaction};
use std::io;
use std::path::{Path, PathBuf};

impl FileDatastore {
    /// The image's file, and the number of the snapshot that `verb` is asked for.
    fn asked_for(&self, image: &Image, verb: &str) -> Result<(PathBuf, u32), DatastoreError> {
        self.intake.check_types(image, verb, &DISKS)?;
        Ok((self.own_image(image)?, image.target_snapshot()?))
    }

    /// The snapshots of the image in `file`, of which there must be some to look for number `id` in.
    fn snapshots(&self, image: &Image, file: &Path, id: u32) -> Result<Snapshots, DatastoreError> {
        let inside = file
            .canonicalize()
            .and_then(|real| Ok(real.starts_with(self.directory.canonicalize()?)));
        match inside {
            Ok(true) => {}
            Ok(false) => {
                return Err(self.source_error(
                    image,
                    "is a link that leads out of the datastore: put the image's file back",
                ));
            }
            Err(error) => {
                return Err(self.source_error(
                    image,
                    format_args!("can't be used: {error}; put the image's file back"),
                ));
            }
        }
        Snapshots::read(file, &image.format, &self.directory)?.ok_or_else(|| {
            let present = "no snapshot".to_owned();
            SnapshotError::Missing { id, directory: directory_of(file), present }.into()
        })
    }

    /// `snap_revert`.
    pub(super) fn revert(&self, image: &Image) -> Result<(), DatastoreError> {
        let (file, id) = self.asked_for(image, "snap_revert")?;
        let lock = self.lock(image, &file)?;
        let snapshots = self.snapshots(image, &file, id)?;
        let snapshot = snapshots.file_of(id)?;
        let staged = self.stage()?;
        let place = match snapshots.layout() {
            Layout::Copies => {
                self.copy_snapshot(&snapshot, &staged)?;
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
        staged.make_durable()?;
        let transaction = Transaction::atomic(&lock)?;
        // First, since without it nothing is wrong.
        transaction.take(&digest_of(&file))?;
        staged.replace(&place, &transaction)?;
        transaction.commit()?;
        Ok(())
    }

    /// `snap_delete`.
    pub(super) fn delete_snapshot(&self, image: &Image) -> Result<(), DatastoreError> {
        let (file, id) = self.asked_for(image, "snap_delete")?;
        let lock = self.lock(image, &file)?;
        let (place, intent_text) = (directory_of(&file), format!("snap_delete {id}"));
        let files = self.snapshots(image, &file, id).and_then(|snapshots| {
            Ok(match snapshots.layout() {
                Layout::Chain => snapshots.removal_of(id)?,
                Layout::Copies => vec![snapshots.file_of(id)?],
            })
        });
        let mut files = match files {
            Err(error) if is_missing(&error) && intent::is_recorded(&place, &intent_text) => {
                log::info!("snapshot {id} was deleted by a call that was then interrupted");
                Vec::new()
            }
            files => files?,
        };
        files.push(digest_of(&file));
        intent::record(&place, &intent_text);
        let deleted = staging::discard(lock, &files);
        intent::clear(&place);
        deleted?;
        Ok(())
    }

    /// `snap_flatten`.
    pub(super) fn flatten(&self, image: &Image) -> Result<(), DatastoreError> {
        let (file, id) = self.asked_for(image, "snap_flatten")?;
        let lock = self.lock(image, &file)?;
        let intent_text = format!("snap_flatten {id}");
        match self.snapshots(image, &file, id) {
            Err(error) if is_missing(&error) && intent::is_recorded(&file, &intent_text) => {
                log::info!("the image was flattened by a call that was then interrupted");
            }
            Err(error) => return Err(error),
            Ok(snapshots) => self.flatten_to(&lock, &file, &snapshots, id, &intent_text)?,
        }
        drop(lock);
        intent::clear(&file);
        Ok(())
    }

    fn flatten_to(
        &self,
        lock: &ImageLock,
        file: &Path,
        snapshots: &Snapshots,
        id: u32,
        intent_text: &str,
    ) -> Result<(), DatastoreError> {
        let snapshot = snapshots.file_of(id)?;
        let staged = self.stage()?;
        let model = file.metadata().map_err(|error| unreadable(file, error))?;
        match snapshots.layout() {
            Layout::Copies => self.copy_snapshot(&snapshot, &staged)?,
            Layout::Chain => {
                let chain = snapshots.chain(&snapshot)?;
                convert(&chain, Target::qcow2(staged.file()))?;
            }
        }
        staged.look_like(&model)?;
        intent::record(staged.path(), intent_text);
        staged.make_durable()?;
        snapshots.know_base_by_link()?;
        process::check_before_commit();
        let transaction = Transaction::with_rollback(lock)?;
        // A reader of S.snap sees the old chain until that directory is gone, in one step:
        // its base must survive the replacement of S.
        if let Some(link) = snapshots.link_to_base() {
            transaction.replace_by_second_name(link, file)?;
        }
        staged.replace(file, &transaction)?;
        transaction.take(snapshots.directory())?;
        transaction.take(&digest_of(file))?;
        transaction.commit()?;
        Ok(())
    }

    /// Writes a copy of a snapshot's file, its holes and zeroes left out if the datastore wants that.
    fn copy_snapshot(&self, from: &Path, to: &Staged) -> Result<(), DatastoreError> {
        let unreadable = |error| unreadable(from, error);
        let file = open_inside(from, &self.directory).map_err(unreadable)?;
        let disk = RawDisk::open(file).map_err(unreadable)?;
        Ok(convert(&disk, Target::raw(to.file(), self.intake.attributes.sparse))?)
    }
}

/// The digest that a marketplace export once noted, which is that of the old content.
fn digest_of(image: &Path) -> PathBuf {
    with_suffix(image, ".md5sum")
}

fn is_missing(error: &DatastoreError) -> bool {
    matches!(error, DatastoreError::Snapshot(SnapshotError::Missing { .. }))
}

fn unreadable(path: &Path, source: io::Error) -> DatastoreError {
    SnapshotError::Unreadable { path: path.to_owned(), source }.into()
}
