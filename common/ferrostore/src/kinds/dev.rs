//! Raw devices (`dev`): an image *is* a block device that exists already, under its own path.
//!
//! Nothing is ever copied, made or deleted here. The path is recorded as it comes, so that a stable name
//! such as `/dev/disk/by-id/...` stays one.

use super::existing::{NO_SPACE_OF_ITS_OWN, in_place, source_of};
use super::intake::path_error;
use super::{Datastore, DatastoreError, Registered, Usage};
use crate::image_source::{ImageSource, Purpose};
use crate::policy::{Kind, Located, PathRules};
use one_protocol::message::{Datastore as Attributes, Image, Mebibytes, Message};
use one_protocol::settings::Settings;
use runtime::block_device::{SECTOR, block_device_directory};
use runtime::text;
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// Devices that are registered as images.
#[derive(Debug)]
pub struct DeviceDatastore {
    attributes: Attributes,
    rules: PathRules,
}

impl Datastore for DeviceDatastore {
    fn open(message: &Message, settings: &Settings) -> Result<Self, DatastoreError> {
        let attributes = message.datastore()?.clone();
        let rules = PathRules::for_devices(&attributes, settings);
        Ok(Self { attributes, rules })
    }

    fn ds_mad(&self) -> &str {
        &self.attributes.ds_mad
    }

    fn source(&self, image: &Image, purpose: Purpose) -> Result<ImageSource, DatastoreError> {
        let source = in_place(self, purpose)?;
        source_of(image)?;
        self.size(image)?;
        Ok(source)
    }

    fn store(&self, image: &Image, _: ImageSource) -> Result<Registered, DatastoreError> {
        Ok(Registered { source: source_of(image)?, format: "raw" })
    }

    fn rm(&self, _: &Image) -> Result<(), DatastoreError> {
        // The device is not OpenNebula's: only its record goes.
        Ok(())
    }

    fn stat(&self, image: &Image) -> Result<Mebibytes, DatastoreError> {
        let size = self.size(image)?;
        // Where oned compares, only 0 fits into the datastore.
        Ok(if self.attributes.capacity_check { Mebibytes(0) } else { Mebibytes::holding(size) })
    }

    fn monitor(&self) -> Result<Usage, DatastoreError> {
        Ok(NO_SPACE_OF_ITS_OWN)
    }
}

impl DeviceDatastore {
    /// Size of the device at `IMAGE/PATH` in bytes, which may be registered. The device itself is
    /// not opened: the front-end's user need not be able to read what virtual machines write.
    ///
    /// A device that is not there is one that only the hosts have, unless this is one of them: then it counts as
    /// size 0.
    fn size(&self, image: &Image) -> Result<u64, DatastoreError> {
        let path = text::path(image.path()?);
        let located = match self.rules.locate(&path, &[Kind::BlockDevice]) {
            Ok(located) => located,
            Err(error)
                if self.attributes.bridge_list.is_empty() && error.is_missing_device(&path) =>
            {
                log::warn!(
                    "IMAGE/PATH {} is not on this machine and is registered unseen: make sure that the hosts have it, or name one of them in BRIDGE_LIST, which then looks",
                    path.display()
                );
                return Ok(0);
            }
            Err(error) => return Err(DatastoreError::from(error).about_path(image)),
        };
        match sectors(&located) {
            Ok(Some(sectors)) if sectors > 0 => Ok(sectors.saturating_mul(SECTOR)),
            Ok(Some(_)) => Err(path_error(
                image,
                "is a device without a medium (its size is 0): attach its disk",
            )),
            Ok(None) => Err(path_error(
                image,
                "is only the name of a device that is not there: attach the device to this machine",
            )),
            Err(error) => Err(path_error(image, format_args!("can't be measured: {error}"))),
        }
    }
}

/// Size of a block device; `None` where the kernel has no device of that number.
fn sectors(located: &Located) -> io::Result<Option<u64>> {
    let directory = block_device_directory(located.metadata().rdev());
    match std::fs::read_to_string(directory.join("size")) {
        Ok(text) => text.trim().parse().map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
