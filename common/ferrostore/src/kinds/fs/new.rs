//! A new image of a file datastore: `cp`, and what the other verbs make images with.

use super::FileDatastore;
use crate::kinds::intake::{Begun, Destination};
use crate::kinds::{DatastoreError, Registered};
use crate::transfer::given::Given;
use disk_image::Format;
use disk_image::admission::ImageRefusal;
use disk_image::target::Target;
use one_protocol::message::{Image, ImageType};
use runtime::staging::Staged;

/// Types of images that are registered.
pub(super) const TYPES: [ImageType; 6] = [
    ImageType::Os,
    ImageType::Cdrom,
    ImageType::Datablock,
    ImageType::Kernel,
    ImageType::Ramdisk,
    ImageType::Context,
];

impl FileDatastore {
    /// `cp`.
    pub(super) fn register(&self, image: &Image) -> Result<Registered, DatastoreError> {
        self.intake.check_types(image, "cp", &TYPES)?;
        let policy = self.intake.policy(image.image_type)?;
        let mut new = NewFile::of(self);
        let format = self.intake.register(image, policy, &mut new)?;
        self.publish_new(new, format)
    }

    /// `cp`, of what another machine sends.
    pub(super) fn register_given(
        &self,
        image: &Image,
        given: Given,
    ) -> Result<Registered, DatastoreError> {
        self.intake.check_types(image, "cp", &TYPES)?;
        let policy = self.intake.policy(image.image_type)?;
        let mut new = NewFile::of(self);
        let format = self.intake.take_given(image, given, policy, &mut new)?;
        self.publish_new(new, format)
    }

    /// Puts what has become of a [`NewFile`] in place.
    pub(super) fn publish_new(
        &self,
        new: NewFile,
        format: Format,
    ) -> Result<Registered, DatastoreError> {
        let staged = new.staged.ok_or(ImageRefusal::Empty)?;
        self.publish(staged, format)
    }
}

/// A file of the datastore in the making.
#[derive(Debug)]
pub(super) struct NewFile<'d> {
    datastore: &'d FileDatastore,
    staged: Option<Staged>,
}

impl<'d> NewFile<'d> {
    /// None yet.
    pub(super) fn of(datastore: &'d FileDatastore) -> Self {
        Self { datastore, staged: None }
    }
}

impl Destination for NewFile<'_> {
    fn needs_size(&self) -> bool {
        false
    }

    fn begin(&mut self, layout: Format, _: Option<u64>) -> Result<Begun<'_>, DatastoreError> {
        let sparse = self.datastore.intake.attributes.sparse;
        let staged = self.staged.insert(self.datastore.stage()?);
        let target = Target::new(layout, staged.file(), sparse).ok_or_else(|| {
            DatastoreError::value("DATASTORE/TEMPLATE/DRIVER", layout.name(), "can't be written")
        })?;
        Ok(Begun { target, path: staged.path() })
    }

    fn stage(&self) -> Result<Staged, DatastoreError> {
        self.datastore.stage()
    }

    fn adopt(&mut self, staged: Staged, _: Format) -> Result<(), DatastoreError> {
        self.staged = Some(staged);
        Ok(())
    }
}
