//! A new image of a file datastore: written into the work directory, then put in place in one step.

use super::FileDatastore;
use crate::kinds::intake::{Destination, reader_of};
use crate::kinds::{DatastoreError, Registered};
use disk_image::admission::ImageRefusal;
use disk_image::qcow2::Header;
use disk_image::target::Target;
use disk_image::{Format, foreign};
use one_protocol::message::ImageType;
use runtime::staging::Staged;

/// Types of images that are registered.
pub(super) const REGISTERED: [ImageType; 6] = [
    ImageType::Os,
    ImageType::Cdrom,
    ImageType::Datablock,
    ImageType::Kernel,
    ImageType::Ramdisk,
    ImageType::Context,
];

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

    fn begin(&mut self, layout: Format, _: Option<u64>) -> Result<Target<'_>, DatastoreError> {
        let sparse = self.datastore.intake.attributes.sparse;
        let staged = self.staged.insert(self.datastore.stage()?);
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
