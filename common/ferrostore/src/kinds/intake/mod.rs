//! The way into a datastore, whatever that stores images in: which of them may come
//! ([`Policy`]), where their bytes come from ([`Intake::open`]), how large they are ([`Intake::measure`]), and how
//! they are written into a [`Destination`] ([`Import`]).

mod archive;
mod bytes;
mod destination;
mod fetch;
mod foreign;
mod image_size;
mod import;
mod measure;
mod remote;
mod verification;
mod warnings;

use super::DatastoreError;
use crate::policy::{Admitted, Kind, PathRules};
use crate::transfer::location::{Location, without_password};
pub(super) use bytes::{check_writeback, head_of, reader_of, reading};
pub(super) use destination::Destination;
use disk_image::Format;
use one_protocol::message::{
    Datastore as Attributes, DatastoreType, Description, Image, ImageType, Mebibytes, Message,
};
use one_protocol::settings::Settings;
use runtime::command::CommandError;
use std::path::Path;
use std::time::Duration;

/// What every kind of datastore that takes images in knows of its message and its machine.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) attributes: Attributes,
    pub(super) settings: Settings,
    /// The message as it came, where OpenNebula's downloader will want it; else empty.
    message: String,
    /// What people know the image by, where it may be put into the trash.
    pub(super) description: Description,
}

/// What shall become of what comes in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// The format to keep it in; `None`: as it comes.
    pub(super) driver: Option<Format>,
    pub(super) decompress: bool,
    /// A kernel or a context file: bytes without a meaning.
    pub(super) plain_file: bool,
    /// Largest disk that an image may have, bytes.
    pub(super) largest_disk: u64,
    /// Memory that the window or dictionary of a compressed stream may take, bytes.
    pub(super) memory: u64,
}

/// Types of images that a virtual machine writes to.
pub(super) const DISKS: [ImageType; 2] = [ImageType::Os, ImageType::Datablock];

impl Intake {
    /// The intake of the datastore of `message`.
    pub(super) fn new(message: &Message, settings: &Settings) -> Result<Self, DatastoreError> {
        let attributes = message.datastore()?.clone();
        let path = message.image().and_then(Image::path).unwrap_or_default();
        let encoded = match Location::parse(path) {
            Location::Helper { .. } => message.encoded(),
            _ => String::new(),
        };
        let mut intake = Self {
            attributes,
            settings: settings.clone(),
            message: encoded,
            description: Description::default(),
        };
        let may_be_kept = message.image().is_ok_and(|image| image.source().is_ok());
        if may_be_kept && intake.retention().is_ok_and(|keep| !keep.is_zero()) {
            intake.description = message.description();
        }
        Ok(intake)
    }

    /// How long deleted images are kept; zero: not at all.
    pub(super) fn retention(&self) -> Result<Duration, DatastoreError> {
        match self.attributes.trash {
            Some(keep) => Ok(keep),
            None => Ok(self.settings.trash()?),
        }
    }

    /// What the datastore's template says about images of a type.
    pub(super) fn policy(&self, image_type: Option<ImageType>) -> Result<Policy, DatastoreError> {
        let attributes = &self.attributes;
        let plain_file = attributes.datastore_type == DatastoreType::File;
        let driver = match attributes.driver.as_str() {
            "" => None,
            "raw" => Some(Format::Raw),
            "qcow2" => Some(Format::Qcow2),
            other => {
                return Err(DatastoreError::value(
                    "DATASTORE/TEMPLATE/DRIVER",
                    other,
                    "is no format that images can be kept in: it must be raw or qcow2, or empty",
                ));
            }
        };
        let converts = attributes.convert && !plain_file && image_type != Some(ImageType::Cdrom);
        Ok(Policy {
            driver: driver.filter(|_| converts),
            decompress: !attributes.no_decompress,
            plain_file,
            largest_disk: self.settings.largest_disk()?,
            memory: self.settings.decompress_memory()?,
        })
    }

    /// Opens `path` (of `IMAGE/PATH`) if it is one of `kinds` and may be registered.
    pub(super) fn admit_path(
        &self,
        image: &Image,
        path: &Path,
        kinds: &[Kind],
    ) -> Result<Admitted, DatastoreError> {
        let admitted = PathRules::of(&self.attributes, &self.settings).admit(path, kinds);
        admitted.map_err(|error| DatastoreError::from(error).about_path(image))
    }

    /// Checks that the image's TYPE has a place in this datastore, and is one of those that `verb` is
    /// for.
    pub(super) fn check_types(
        &self,
        image: &Image,
        verb: &str,
        types: &[ImageType],
    ) -> Result<(), DatastoreError> {
        let (number, holds) = match self.attributes.datastore_type {
            DatastoreType::Image => ("0", "disk images (TYPE OS, CDROM, DATABLOCK)"),
            DatastoreType::File => ("2", "files (TYPE KERNEL, RAMDISK, CONTEXT)"),
            DatastoreType::System => ("1", "no images: it is a system datastore"),
            DatastoreType::Backup => ("3", "no images: it is a backup datastore"),
        };
        let wrong_place = || {
            DatastoreError::value(
                "DATASTORE/TYPE",
                number,
                format_args!("holds {holds}: use a datastore of the right type"),
            )
        };
        let keeps_disks = match self.attributes.datastore_type {
            DatastoreType::Image => true,
            DatastoreType::File => false,
            DatastoreType::System | DatastoreType::Backup => return Err(wrong_place()),
        };
        let Some(image_type) = image.image_type else { return Ok(()) };
        if !types.contains(&image_type) {
            return Err(DatastoreError::value(
                "IMAGE/TYPE",
                image_type.name(),
                format_args!("is not one that {verb} works on: it must be {}", list(types)),
            ));
        }
        if image_type.is_plain_file() == keeps_disks {
            return Err(wrong_place());
        }
        Ok(())
    }

    /// The file system to make, with the administrator's options.
    pub(super) fn file_system(
        &self,
        image: &Image,
        swap: bool,
    ) -> Result<Option<(String, Vec<String>)>, DatastoreError> {
        let fs = image.fs.as_str();
        if fs.is_empty() || (swap && fs == "swap") {
            return Ok(None);
        }
        if swap {
            return Err(DatastoreError::value(
                "IMAGE/FS",
                fs,
                "can't be made in swap space (IMAGE/FORMAT swap): leave one of the two out",
            ));
        }
        let supported = self.settings.supported_file_systems()?;
        if !supported.iter().any(|name| name == fs) {
            return Err(DatastoreError::value(
                "IMAGE/FS",
                fs,
                format_args!(
                    "is not supported: it must be one of {}, or be added to SUPPORTED_FS in datastore.conf",
                    supported.join(", ")
                ),
            ));
        }
        Ok(Some((fs.to_owned(), self.settings.file_system_options(fs)?)))
    }
}

/// `mkfs.<fs>` failed on a disk of `size`.
pub(super) fn file_system_error(fs: &str, size: Mebibytes, error: &CommandError) -> DatastoreError {
    let reason = format_args!("can't be made on a disk of {size} MiB (IMAGE/SIZE): {error}");
    DatastoreError::value("IMAGE/FS", fs, reason)
}

fn list(types: &[ImageType]) -> String {
    types.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ")
}

/// `IMAGE/PATH` is at fault; a password in it is not shown.
pub(super) fn path_error(image: &Image, reason: impl std::fmt::Display) -> DatastoreError {
    let shown = without_password(image.path().unwrap_or_default());
    DatastoreError::value("IMAGE/PATH", shown, reason)
}
