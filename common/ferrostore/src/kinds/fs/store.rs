//! A new image of a file datastore: written into the work directory, then put in place in one step.

use super::FileDatastore;
use crate::kinds::intake::{Destination, reader_of};
use crate::kinds::{DatastoreError, Registered};
use disk_image::admission::ImageRefusal;
use disk_image::qcow2::Header;
use disk_image::target::Target;
use disk_image::{Format, foreign};
use nix::sys::statfs::{FsType, fstatfs};
use nix::sys::statvfs::fstatvfs;
use one_protocol::message::ImageType;
use runtime::space;
use runtime::staging::Staged;
use std::fs::File;

/// Types of images that are registered.
pub(super) const REGISTERED: [ImageType; 6] = [
    ImageType::Os,
    ImageType::Cdrom,
    ImageType::Datablock,
    ImageType::Kernel,
    ImageType::Ramdisk,
    ImageType::Context,
];

/// File systems on which a write finds out only later, when nothing can be done any more, that the disk is full: NFS and
/// SMB (`linux/magic.h`).
const LATE: [i64; 3] = [0x6969, 0xff53_4d42, 0xfe53_4d42];

/// Makes space for `size` bytes before they are written, where that would be too late afterwards.
fn make_space_on_server(file: &File, size: u64) {
    let late = fstatfs(file)
        .is_ok_and(|stat| LATE.iter().any(|&magic| stat.filesystem_type() == FsType(magic)));
    if late && let Ok(stat) = fstatvfs(file) {
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        if free < size {
            let _ = space::make(size - free);
        }
    }
}

/// A file of the datastore that is being written.
#[derive(Debug)]
pub(super) struct NewFile<'d> {
    datastore: &'d FileDatastore,
    staged: Option<Staged>,
}

impl<'d> NewFile<'d> {
    /// Nothing yet.
    pub(super) fn of(datastore: &'d FileDatastore) -> Self {
        Self { datastore, staged: None }
    }

    /// Puts the file in place; what it is recorded as.
    pub(super) fn publish(self, format: Format) -> Result<Registered, DatastoreError> {
        self.datastore.publish(self.staged.ok_or(ImageRefusal::Empty)?, format)
    }
}

impl Destination for NewFile<'_> {
    fn needs_size(&self) -> bool {
        false
    }

    fn begin(&mut self, layout: Format, size: Option<u64>) -> Result<Target<'_>, DatastoreError> {
        let sparse = self.datastore.intake.attributes.sparse;
        let staged = self.staged.insert(self.datastore.stage()?);
        make_space_on_server(staged.file(), size.unwrap_or(0));
        Target::new(layout, staged.file(), sparse).ok_or_else(|| {
            DatastoreError::value("DATASTORE/TEMPLATE/DRIVER", layout.name(), "can't be written")
        })
    }

    fn stage(&self) -> Result<Staged, DatastoreError> {
        self.datastore.stage()
    }

    fn adopt(&mut self, staged: Staged, _: Format) -> Result<(), DatastoreError> {
        self.staged = Some(staged);
        Ok(())
    }

    fn disk_size(&self, format: Format) -> Option<u64> {
        let file = self.staged.as_ref()?.file();
        match format {
            Format::Raw => Some(file.metadata().ok()?.len()),
            Format::Qcow2 => Some(Header::read(file).ok()?.size),
            _ => foreign::virtual_size(format, &reader_of(file)).ok(),
        }
    }
}
