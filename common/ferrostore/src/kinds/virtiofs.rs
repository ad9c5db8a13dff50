//! Shared directories (`virtiofs`): an image *is* a directory that exists already and that virtual machines
//! share with their host. Nothing is copied, made or deleted here.

use super::existing::{in_place, source_of};
use super::intake::path_error;
use super::{Datastore, DatastoreError, Registered, Usage};
use crate::image_source::{ImageSource, Purpose};
use crate::policy::{Kind, PathRules};
use one_protocol::message::{Datastore as Attributes, Image, ImageType, Mebibytes, Message};
use one_protocol::settings::Settings;
use runtime::found::disk_usage;
use runtime::text;

/// The format that OpenNebula records for a directory.
const FORMAT: &str = "dir";

/// Directories that are registered as images.
#[derive(Debug)]
pub struct DirectoryDatastore {
    attributes: Attributes,
    rules: PathRules,
}

impl Datastore for DirectoryDatastore {
    fn open(message: &Message, settings: &Settings) -> Result<Self, DatastoreError> {
        let attributes = message.datastore()?.clone();
        let rules = PathRules::of(&attributes, settings);
        Ok(Self { attributes, rules })
    }

    fn ds_mad(&self) -> &str {
        &self.attributes.ds_mad
    }

    fn source(&self, image: &Image, purpose: Purpose) -> Result<ImageSource, DatastoreError> {
        let source = in_place(self, purpose)?;
        if let Some(other) = image.image_type.filter(|it| *it != ImageType::Filesystem) {
            return Err(DatastoreError::value(
                "IMAGE/TYPE",
                other.name(),
                "has no place in a datastore of directories: it must be FILESYSTEM",
            ));
        }
        source_of(image)?;
        self.rules.locate(&text::path(image.path()?), &[Kind::Directory])?;
        Ok(source)
    }

    fn store(&self, image: &Image, _: ImageSource) -> Result<Registered, DatastoreError> {
        Ok(Registered { source: source_of(image)?, format: FORMAT })
    }

    fn rm(&self, _: &Image) -> Result<(), DatastoreError> {
        // The directory is not OpenNebula's: only its record goes.
        Ok(())
    }

    fn stat(&self, image: &Image) -> Result<Mebibytes, DatastoreError> {
        let admitted = self
            .rules
            .admit(&text::path(image.path()?), &[Kind::Directory])
            .map_err(|error| DatastoreError::from(error).about_path(image))?;
        disk_usage(&admitted.file)
            .map(Mebibytes::holding)
            .map_err(|error| path_error(image, format_args!("can't be measured: {error}")))
    }

    fn monitor(&self) -> Result<Usage, DatastoreError> {
        // The directories may lie anywhere, each on a file system of its own.
        let none = Mebibytes(0);
        Ok(Usage { used: none, total: none, free: none })
    }
}
