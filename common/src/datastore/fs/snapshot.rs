//! Snapshots of a persistent image: `snap_revert`, `snap_delete`, `snap_flatten`.
//!
//! Whatever is replaced is complete and on disk before its predecessor goes, and what others still
//! back on stays.

use super::FileDatastore;
use crate::datastore::DatastoreError;
use crate::datastore::intake::DISKS;
use crate::gate::path::open_inside;
use crate::image::convert;
use crate::image::qcow2::overlay;
use crate::image::raw::RawDisk;
use crate::image::target::Target;
use crate::image::{Disk as _, Format};
use crate::message::Image;
use crate::snapshots::{Layout, SnapshotError, Snapshots, directory_of, with_suffix};
use crate::staging::{self, Aside, Staged, interrupt};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

impl FileDatastore {
    /// The image's file, its snapshots, and the number of the target.
    fn snapshots(
        &self,
        image: &Image,
        verb: &str,
    ) -> Result<(PathBuf, Snapshots, u32), DatastoreError> {
        self.intake.check_types(image, verb, &DISKS)?;
        let id = image.target_snapshot()?;
        let file = self.own_image(image)?;
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
        staged.replace(&place, &Aside::create(&self.directory)?)?;
        self.forget_digest(&file);
        Ok(())
    }

    /// `snap_delete`.
    pub(super) fn delete_snapshot(&self, image: &Image) -> Result<(), DatastoreError> {
        let (file, snapshots, id) = self.snapshots(image, "snap_delete")?;
        let files = match snapshots.layout() {
            Layout::Chain => snapshots.removal_of(id)?,
            Layout::Copies => vec![snapshots.file_of(id)?],
        };
        staging::discard(&self.directory, &files)?;
        self.forget_digest(&file);
        Ok(())
    }

    /// `snap_flatten`.
    pub(super) fn flatten(&self, image: &Image) -> Result<(), DatastoreError> {
        let (file, snapshots, id) = self.snapshots(image, "snap_flatten")?;
        let snapshot = snapshots.file_of(id)?;
        let staged = self.stage()?;
        let model = file.metadata().map_err(|error| unreadable(&file, error))?;
        match snapshots.layout() {
            Layout::Copies => self.copy_snapshot(&snapshot, &staged)?,
            Layout::Chain => {
                let chain = snapshots.chain(&snapshot)?;
                convert(&chain, Target::qcow2(staged.file()))?;
            }
        }
        staged.look_like(&model)?;
        staged.make_durable()?;
        interrupt::point_of_no_return();
        // Whoever knows of S.snap goes on seeing the old chain until that directory is gone, in one step:
        // its base must survive the replacement of S.
        let aside = Aside::create(&self.directory)?;
        let base =
            snapshots.link_to_base().map(|link| KeptBase::new(&aside, link, &file)).transpose()?;
        let gone = staged.replace(&file, &aside).and_then(|old| {
            aside
                .discard(&[snapshots.directory().to_owned()])
                .inspect_err(|_| staging::put_back(&old, &file))
        });
        if let Err(error) = gone {
            if let Some(base) = base {
                base.undo(&aside);
            }
            return Err(error.into());
        }
        drop(aside);
        self.forget_digest(&file);
        Ok(())
    }

    /// Writes a copy of a snapshot's file, its holes and zeroes left out if the datastore wants that.
    fn copy_snapshot(&self, from: &Path, to: &Staged) -> Result<(), DatastoreError> {
        let unreadable = |error| unreadable(from, error);
        let file = open_inside(from, &self.directory).map_err(unreadable)?;
        let disk = RawDisk::open(file).map_err(unreadable)?;
        Ok(convert(&disk, Target::raw(to.file(), self.intake.attributes.sparse))?)
    }

    /// The digest that a marketplace export once noted is that of the old content.
    fn forget_digest(&self, image: &Path) {
        if let Err(error) = staging::discard(&self.directory, &[with_suffix(image, ".md5sum")]) {
            log::warn!("{error}");
        }
    }
}

/// `S.snap/0` as a file of its own, where it was a link to `S`.
struct KeptBase {
    entry: PathBuf,
    link: PathBuf,
}

impl KeptBase {
    fn new(aside: &Aside, entry: &Path, image: &Path) -> Result<Self, DatastoreError> {
        let link = fs::read_link(entry).map_err(|error| unreadable(entry, error))?;
        let name = aside.second_name(image)?;
        fs::rename(name, entry).map_err(|error| unreadable(entry, error))?;
        Ok(Self { entry: entry.to_owned(), link })
    }

    /// Makes it the link again.
    fn undo(self, aside: &Aside) {
        match aside.link_to(&self.link) {
            Ok(link) => staging::put_back(&link, &self.entry),
            Err(error) => log::warn!("{} stays a file: {error}", self.entry.display()),
        }
    }
}

fn unreadable(path: &Path, source: io::Error) -> DatastoreError {
    SnapshotError::Unreadable { path: path.to_owned(), source }.into()
}
