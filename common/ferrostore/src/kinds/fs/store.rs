//! A new image of a file datastore: written into the work directory, then put in place in one step.

use super::FileDatastore;
use crate::image_source::ImageSource;
use crate::kinds::intake::{Destination, reader_of};
use crate::kinds::{DatastoreError, Registered};
use disk_image::admission::ImageRefusal;
use disk_image::qcow2::Header;
use disk_image::target::Target;
use disk_image::{Format, foreign};
use one_protocol::message::{Image, ImageType};
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

impl FileDatastore {
    /// Makes `source` a new image.
    pub(super) fn store_image(
        &self,
        image: &Image,
        source: ImageSource,
    ) -> Result<Registered, DatastoreError> {
        let policy = self.check(image, source.payload.purpose())?;
        let mut new = NewFile { datastore: self, staged: None };
        let format = self.intake.import(image, source, policy, &mut new)?;
        self.publish(new.staged.ok_or(ImageRefusal::Empty)?, format)
    }
}

/// A file of the datastore that is being written.
#[derive(Debug)]
struct NewFile<'d> {
    datastore: &'d FileDatastore,
    staged: Option<Staged>,
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
