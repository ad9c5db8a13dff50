//! LVM datastores (`lvm`): an image is a volume `img-one-<id>` of the volume group `vg-one-<datastore>`,
//! its format is always raw.
//!
//! Names, flags, states and the lock are those of OpenNebula's transfer drivers for LVM (7.x): a
//! persistent image is a thin volume in a pool of its own, `img-one-<id>-pool`, any other a plain
//! volume; snapshot n is `img-one-<id>_one_s<n>`; volumes skip activation (`-ky`) and are inactive
//! whenever no driver is at work on them.

mod error;
mod group;
mod image;
mod journal;
mod lock;
mod names;
mod new;
mod restore;
mod source;
mod trash;

use super::intake::{DISKS, Intake, Policy, file_system_error};
use super::{Datastore, DatastoreError, FrontEndLock, Registered, Usage};
use crate::image_source::{Bytes, ImageSource, Payload, Purpose};
use disk_image::{Format, ImageError};
pub use error::LvmError;
use group::Group;
use lock::GroupLock;
use names::ImageName;
use new::NewVolume;
use one_protocol::message::{Image, ImageType, Mebibytes, Message};
use one_protocol::settings::Settings;
pub use restore::VolumeTrash;
use runtime::command;
use runtime::command::lvm;
use runtime::lock_provider::Held;
use runtime::text;
use source::Source;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use trash::Trashed;

/// Types of images that are registered.
const TYPES: [ImageType; 3] = [DISKS[0], ImageType::Cdrom, DISKS[1]];

/// A pool that is as full as this, in percent, is worth a warning.
const NEARLY_FULL: u64 = 80;

/// A volume group that holds images as volumes.
#[derive(Debug)]
pub struct LvmDatastore {
    intake: Intake,
    group: Group,
    /// Where streams are kept that are needed whole.
    staging_directory: PathBuf,
    /// The volume that is being cloned: it is deactivated together with the new one.
    reading: RefCell<Option<Source>>,
}

/// The front-end's lock of a volume group, for a driver on a bridge host.
fn group_lock(group: &str, timeout: Option<Duration>) -> Result<Held, String> {
    let lock = GroupLock::here(group, timeout.unwrap_or(lock::TIMEOUT));
    lock.map(GroupLock::into_held).map_err(|error| error.to_string())
}

impl Datastore for LvmDatastore {
    const BRINGS_IN: bool = true;

    fn front_end_lock(datastore: u64, _: &Message) -> Option<FrontEndLock> {
        Some(FrontEndLock { name: Group::of(datastore, Path::new("")).name, acquire: group_lock })
    }

    fn open(message: &Message, settings: &Settings) -> Result<Self, DatastoreError> {
        let intake = Intake::new(message, settings)?;
        let attributes = &intake.attributes;
        let id = attributes.id.ok_or(one_protocol::message::MessageError::Missing {
            attribute: "DATASTORE/ID",
            remedy: "the volume group is named after it",
        })?;
        let directory = text::path(attributes.base_path()?);
        let staging_directory = match attributes.staging_dir.as_str() {
            "" => PathBuf::from("/var/tmp"),
            directory => text::path(directory),
        };
        Ok(Self {
            group: Group::of(id, &directory),
            intake,
            staging_directory,
            reading: RefCell::default(),
        })
    }

    fn ds_mad(&self) -> &str {
        &self.intake.attributes.ds_mad
    }

    fn located(&self, error: DatastoreError) -> DatastoreError {
        let group = &self.group.name;
        let reason = match &error {
            DatastoreError::Lvm(LvmError::Command(error)) => {
                let no_space = ["Insufficient free space", "insufficient free space"];
                let remedy = if no_space.iter().any(|words| error.says(words)) {
                    "has no space left for this: remove images, or add a disk with vgextend"
                } else if error.says("already exists in volume group") {
                    "holds a volume of this name already, which no running driver is creating: have the administrator look at it, and rename or remove it"
                } else if error.says("Volume group") && error.says("not found") {
                    "is not on this machine: make it with vgcreate, or attach its disks"
                } else if error.says("Failed to find logical volume") {
                    "has no such volume: it may have been removed by hand"
                } else if error.says("in use") {
                    "has the volume in use: stop the program that uses it, then try again"
                } else if error.says("sudo:") || error.says("password is required") {
                    "can't be changed: let OpenNebula's user run LVM through sudo without a password (the ONE_LVM commands in OpenNebula's sudoers file)"
                } else {
                    "can't do this"
                };
                format!("{group} (volume group) {remedy}: {error}")
            }
            DatastoreError::Lvm(error) => format!("{group} (volume group): {error}"),
            DatastoreError::Image(error @ ImageError::Write { .. }) => {
                format!("{group} (volume group) can't take the image: {error}")
            }
            _ => return error,
        };
        let id = group.trim_start_matches("vg-one-").to_owned();
        DatastoreError::value("DATASTORE/ID", id, format_args!("means {reason}"))
    }

    fn source(&self, image: &Image, purpose: Purpose) -> Result<ImageSource, DatastoreError> {
        self.intake.check_types(image, purpose.action(), &TYPES)?;
        match purpose {
            Purpose::Register => self.intake.open(image),
            Purpose::Clone => {
                let disk = self.open_image(image)?;
                *self.reading.borrow_mut() = Some(disk.clone());
                Ok(ImageSource::new(Payload::Disk(Format::Raw), Bytes::Disk(Box::new(disk))))
            }
        }
    }

    fn store(&self, image: &Image, source: ImageSource) -> Result<Registered, DatastoreError> {
        self.intake.check_types(image, source.payload.purpose().action(), &TYPES)?;
        let name = new_name(image)?;
        let policy = Policy {
            driver: Some(Format::Raw),
            decompress: !self.intake.attributes.no_decompress,
            plain_file: false,
            largest_disk: self.intake.settings.largest_disk()?,
            memory: self.intake.settings.decompress_memory()?,
        };
        let mut new = self.new_volume(&name, image);
        if matches!(source.bytes, Bytes::Disk(_)) {
            new = new.without_looking();
        }
        self.intake.import(image, source, policy, &mut new)?;
        new.finish(self.reading.borrow().as_ref())?;
        Ok(Registered { source: self.source_of(&name), format: Format::Raw.name() })
    }

    fn mkfs(&self, image: &Image) -> Result<String, DatastoreError> {
        self.make(image)
    }

    fn rm(&self, image: &Image) -> Result<(), DatastoreError> {
        self.remove(image)
    }

    fn stat(&self, image: &Image) -> Result<Mebibytes, DatastoreError> {
        self.intake.measure(image)
    }

    fn snap_revert(&self, image: &Image) -> Result<(), DatastoreError> {
        self.revert(image)
    }

    fn snap_delete(&self, image: &Image) -> Result<(), DatastoreError> {
        self.delete_snapshot(image)
    }

    fn snap_flatten(&self, image: &Image) -> Result<(), DatastoreError> {
        self.flatten(image)
    }

    fn monitor(&self) -> Result<Usage, DatastoreError> {
        let look = || -> Result<_, LvmError> {
            let locked = self.group.lock()?;
            let volumes = self.group.volumes(&locked, None)?;
            Ok((lvm::group_space(&self.group.name)?, volumes))
        };
        let (space, volumes) = look().map_err(DatastoreError::from)?;
        let pools = volumes.iter().filter(|volume| volume.is_pool() && !trash::is_trashed(volume));
        for pool in pools {
            for (what, percent) in
                [("DATA", pool.data_percent), ("METADATA", pool.metadata_percent)]
            {
                if let Some(percent) = percent.filter(|&percent| percent >= NEARLY_FULL) {
                    log::warn!(
                        "thin pool {}/{} is nearly full: {what} {percent} %; extend it with lvextend",
                        self.group.name,
                        pool.name
                    );
                }
            }
        }
        let whole = |bytes: u64| Mebibytes(bytes >> 20);
        // What goes as soon as its space is needed is as good as free.
        let trashed: u64 = trash::among(&volumes).iter().map(|trashed| trashed.bytes).sum();
        let free = space.free.saturating_add(trashed).min(space.size);
        let (total, free) = (whole(space.size), whole(free));
        Ok(Usage { used: Mebibytes(total.0 - free.0), total, free })
    }

    fn export(&self, image: &Image) -> Result<super::Export, DatastoreError> {
        self.own_image(image)?;
        Err(self.source_error(image, "is a volume, which is inactive and can't be fetched: clone the image's disk into a file datastore and export it from there"))
    }
}

/// The name of an image that is not there yet.
fn new_name(image: &Image) -> Result<ImageName, DatastoreError> {
    let id = image.id.ok_or(one_protocol::message::MessageError::Missing {
        attribute: "IMAGE/ID",
        remedy: "the image's volume is named after it",
    })?;
    Ok(ImageName::of(id))
}

impl LvmDatastore {
    fn new_volume(&self, name: &ImageName, image: &Image) -> NewVolume<'_> {
        NewVolume::of(&self.group, name.clone(), image.persistent, &self.staging_directory)
    }

    fn source_of(&self, name: &ImageName) -> String {
        format!("{}/{}", self.group.name, name.volume)
    }

    #[allow(clippy::unused_self)] // reads as the others
    fn source_error(&self, image: &Image, reason: impl std::fmt::Display) -> DatastoreError {
        DatastoreError::value("IMAGE/SOURCE", image.source().unwrap_or_default(), reason)
    }

    /// The image that `IMAGE/SOURCE` names, which must be of this datastore.
    fn own_image(&self, image: &Image) -> Result<ImageName, DatastoreError> {
        let name = image
            .source()?
            .split_once('/')
            .filter(|(group, _)| *group == self.group.name)
            .and_then(|(_, volume)| ImageName::parse(volume));
        name.ok_or_else(|| self.not_own(image))
    }

    /// `IMAGE/SOURCE` names another image.
    fn not_own(&self, image: &Image) -> DatastoreError {
        let id = image.id.map_or_else(|| "<id>".to_owned(), |id| id.to_string());
        self.source_error(
            image,
            format_args!("is not the image's volume {}/img-one-{id}: only the datastore's own images are touched", self.group.name),
        )
    }

    /// `mkfs`.
    fn make(&self, image: &Image) -> Result<String, DatastoreError> {
        self.intake.check_types(image, "mkfs", &DISKS)?;
        let name = new_name(image)?;
        let size = image.size()?;
        let bytes =
            size.bytes().filter(|&bytes| i64::try_from(bytes).is_ok()).ok_or_else(|| {
                DatastoreError::value(
                    "IMAGE/SIZE",
                    size.to_string(),
                    "is more MiB than a volume can hold",
                )
            })?;
        let swap = match image.format.as_str() {
            "" | "raw" | "save_as" => false,
            "swap" => true,
            other => {
                return Err(DatastoreError::value(
                    "IMAGE/FORMAT",
                    other,
                    "can't be made: an LVM datastore keeps raw images, so it must be raw or swap",
                ));
            }
        };
        let fs = match image.format.as_str() {
            // A transfer driver will put a virtual machine's disk there.
            "save_as" => None,
            _ => self.intake.file_system(image, swap)?,
        };
        let mut new = self.new_volume(&name, image);
        new.fill_with_zeroes(bytes)?;
        if let Some(device) = new.device() {
            if swap {
                command::mkswap(device)?;
            }
            if let Some((fs, options)) = fs {
                command::mkfs_on_device(&fs, &options, device)
                    .map_err(|error| file_system_error(&fs, size, &error))?;
            }
        }
        new.finish(None)?;
        Ok(self.source_of(&name))
    }

    /// The image to clone, open.
    fn open_image(&self, image: &Image) -> Result<Source, DatastoreError> {
        let (group, original) = self.original(image)?;
        Source::open(&group, &original).map_err(|error| {
            let path = image.path().unwrap_or_default();
            DatastoreError::value("IMAGE/PATH", path, format_args!("can't be read: {error}"))
        })
    }

    /// The image to clone and its group: `IMAGE/PATH` is a SOURCE in this or another LVM datastore.
    fn original(&self, image: &Image) -> Result<(Group, ImageName), DatastoreError> {
        let path = image.path()?;
        let number = |group: &str| group.strip_prefix("vg-one-").and_then(|id| id.parse().ok());
        let parsed = path.split_once('/').and_then(|(group, volume)| {
            let group_of = Group::of(number(group)?, &self.group.directory);
            (group_of.name == group).then_some((group_of, ImageName::parse(volume)?))
        });
        parsed.ok_or_else(|| {
            DatastoreError::value(
                "IMAGE/PATH",
                path,
                "is no image of an LVM datastore, which would be vg-one-<datastore>/img-one-<image>",
            )
        })
    }
}

impl NewVolume<'_> {
    fn fill_with_zeroes(&mut self, size: u64) -> Result<(), DatastoreError> {
        use super::intake::Destination as _;
        let target = self.begin(Format::Raw, Some(size))?;
        Ok(target.finish(size)?)
    }
}
