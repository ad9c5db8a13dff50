//! RBD datastores (`ceph`): an image is an RBD image `one-<id>` in a pool of a Ceph cluster, its format is always raw.
//!
//! Names, snapshots and their protection are those of OpenNebula's transfer drivers for Ceph: see `names` and
//! `docs/ceph.md`. All that is done to the cluster is done by `rbd`, see `command/rbd.rs`.

mod copy;
mod error;
mod export;
mod lock;
mod names;
mod new;
mod place;
mod recovery;
mod remove;
mod restore;
mod snapshot;
mod stale;
mod survey;
mod tree;

use super::intake::{DISKS, Intake, Policy};
use super::{Datastore, DatastoreError, Export, FrontEndLock, Registered, Usage};
use crate::image_source::{ImageSource, Purpose};
use disk_image::Format;
use lock::NameLock;
use names::ImageName;
use new::NewImage;
use one_protocol::message::{Image, ImageType, Mebibytes, Message};
use one_protocol::settings::Settings;
use place::Place;
use runtime::command::cluster::ClusterError;
use runtime::command::rbd::{Pool, PoolSpace};
use std::cell::RefCell;
use std::fmt::Display;
use std::time::{Duration, Instant};
pub use survey::{Part, Volume, is_pool, is_user, pool_of, survey};

/// Types of images that are registered.
const TYPES: [ImageType; 3] = [DISKS[0], ImageType::Cdrom, DISKS[1]];
/// What an image of unknown size counts as, bytes: programs that work through it have that much time.
const LARGE: u64 = 1 << 40;
/// How long a manager that has just started may take to know how much is in its pools.
const STATISTICS: Duration = Duration::from_secs(20);

/// A pool that holds images.
#[derive(Debug)]
pub struct CephDatastore {
    intake: Intake,
    place: Place,
    /// The image that is being cloned, by its full name, where the cluster copies it itself.
    reading: RefCell<Option<String>>,
}

impl Datastore for CephDatastore {
    const BRINGS_IN: bool = true;

    fn front_end_lock(datastore: u64, message: &Message) -> Option<FrontEndLock> {
        let image = ImageName { id: message.image().ok()?.id? };
        Some(FrontEndLock { name: lock::front_end_name(datastore, image), acquire: lock::acquire })
    }

    fn open(message: &Message, settings: &Settings) -> Result<Self, DatastoreError> {
        let intake = Intake::new(message, settings)?;
        let place = Place::of(&intake.attributes, settings)?;
        Ok(Self { intake, place, reading: RefCell::default() })
    }

    fn ds_mad(&self) -> &str {
        &self.intake.attributes.ds_mad
    }

    fn located(&self, error: DatastoreError) -> DatastoreError {
        self.remedied(error)
    }

    fn source(&self, image: &Image, purpose: Purpose) -> Result<ImageSource, DatastoreError> {
        self.intake.check_types(image, purpose.action(), &TYPES)?;
        match purpose {
            Purpose::Register => self.intake.open(image),
            Purpose::Clone => self.open_image(image),
        }
    }

    fn store(&self, image: &Image, source: ImageSource) -> Result<Registered, DatastoreError> {
        self.intake.check_types(image, source.payload.purpose().action(), &TYPES)?;
        let name = new_name(image)?;
        let mut new = NewImage::of(self, name);
        self.fill(image, source, &mut new).map_err(|error| new.explained(error))?;
        new.finish()?;
        Ok(Registered { source: self.source_of(name), format: Format::Raw.name() })
    }

    fn mkfs(&self, image: &Image) -> Result<String, DatastoreError> {
        self.make(image)
    }

    fn rm(&self, image: &Image) -> Result<(), DatastoreError> {
        self.remove(image)
    }

    fn stat(&self, image: &Image) -> Result<Mebibytes, DatastoreError> {
        if restore::is_backup(image) {
            return restore::size(image);
        }
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
        self.usage()
    }

    fn export(&self, image: &Image) -> Result<Export, DatastoreError> {
        self.exported(image)
    }
}

impl CephDatastore {
    fn pool(&self) -> &Pool {
        &self.place.pool
    }

    /// Writes a source into a new image, in the way that fits it.
    fn fill(
        &self,
        image: &Image,
        source: ImageSource,
        new: &mut NewImage,
    ) -> Result<(), DatastoreError> {
        if let Some(original) = self.reading.take() {
            return self.copy(image, &original, new);
        }
        if restore::is_backup(image) {
            return new.restore(source, self.intake.settings.decompress_memory()?);
        }
        let policy = Policy {
            driver: Some(Format::Raw),
            decompress: !self.intake.attributes.no_decompress,
            plain_file: false,
            largest_disk: self.intake.settings.largest_disk()?,
            memory: self.intake.settings.decompress_memory()?,
        };
        self.intake.import(image, source, policy, new).map(drop)
    }

    fn source_of(&self, name: ImageName) -> String {
        self.pool().spec(&name.main())
    }

    #[allow(clippy::unused_self)] // reads as the others
    fn source_error(&self, image: &Image, reason: impl Display) -> DatastoreError {
        DatastoreError::value("IMAGE/SOURCE", image.source().unwrap_or_default(), reason)
    }

    /// The image that `IMAGE/SOURCE` names, which must be of this datastore.
    fn own_image(&self, image: &Image) -> Result<ImageName, DatastoreError> {
        let pool = &self.pool().name;
        let name = names::split(image.source()?)
            .filter(|(named, _)| named == pool)
            .and_then(|(_, name)| ImageName::parse(name))
            .filter(|name| image.id.is_none_or(|id| id == name.id));
        name.ok_or_else(|| {
            let id = image.id.map_or_else(|| "<id>".to_owned(), |id| id.to_string());
            self.source_error(
                image,
                format_args!("is not the image's own {pool}/one-{id}: only the datastore's own images are touched; if the pool was another once, let POOL_NAME name that"),
            )
        })
    }

    /// The lock of an image. Programs that change names keep it to their end, even if this driver is killed.
    fn lock(&self, name: ImageName) -> Result<NameLock, DatastoreError> {
        let mut lock = NameLock::take(&self.pool().name, name, self.intake.settings.lock_wait()?)?;
        if let Some(datastore) = self.intake.attributes.id {
            lock.join_front_end(datastore, name)
                .map_err(|reason| DatastoreError::value("IMAGE/ID", name.id.to_string(), reason))?;
        }
        let _ = self.pool().cluster.lock.set(lock.file());
        Ok(lock)
    }

    /// An image of the datastore, locked, and the names in its pool once what a killed driver was at is completed.
    fn locked(&self, image: &Image) -> Result<(ImageName, NameLock, Vec<String>), DatastoreError> {
        let name = self.own_image(image)?;
        let lock = self.lock(name)?;
        let names = recovery::recover(self.pool(), name, self.pool().images()?)?.names;
        Ok((name, lock, names))
    }

    /// `monitor`.
    fn usage(&self) -> Result<Usage, DatastoreError> {
        let pool = self.pool();
        let name = pool.name.split('/').next().unwrap_or_default();
        let own = self.space(name, "DATASTORE/TEMPLATE/POOL_NAME")?;
        let (used, free) = match &pool.data_pool {
            None => (own.stored, own.free()),
            Some(data) => {
                let data = self.space(data, "DATASTORE/TEMPLATE/EC_POOL_NAME")?;
                (own.stored.saturating_add(data.stored), data.free())
            }
        };
        let whole = |bytes: u64| Mebibytes(bytes >> 20);
        let total = whole(used.saturating_add(free));
        Ok(Usage { used: whole(used), total, free: whole(free) })
    }

    /// Space in a pool, as soon as the manager knows it.
    fn space(&self, name: &str, attribute: &'static str) -> Result<PoolSpace, DatastoreError> {
        let until = Instant::now() + STATISTICS;
        loop {
            if let Some(space) = self.pool().space(name)? {
                return Ok(space);
            }
            // A pool that is not there is known at once: its images can't be listed.
            if let Err(error) = self.exists(name) {
                return Err(error.into());
            }
            if Instant::now() >= until {
                return Err(DatastoreError::value(
                    attribute,
                    name,
                    format_args!(
                        "is a pool of which `ceph df` tells nothing after {} s: see whether the cluster has an active manager (`ceph mgr stat`)",
                        STATISTICS.as_secs()
                    ),
                ));
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn exists(&self, name: &str) -> Result<(), ClusterError> {
        self.pool().images_of(name).map(drop)
    }
}

/// Makes a new image by librbd, where a driver has started this process for that; it ends with that. The executables that
/// make images call this first of all.
pub fn serve_librbd() {
    runtime::command::librbd::serve(std::env::args_os());
}

/// The name of an image that is not there yet.
fn new_name(image: &Image) -> Result<ImageName, DatastoreError> {
    let id = image.id.ok_or(one_protocol::message::MessageError::Missing {
        attribute: "IMAGE/ID",
        remedy: "the RBD image is named after it",
    })?;
    Ok(ImageName { id })
}
