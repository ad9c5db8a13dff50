//! The kinds of datastores, and what can be done with an image in each.
//!
//! [`open`] chooses the kind by DS_MAD. A kind is one file (or folder) here that implements
//! [`Datastore`], and one line in the list below. Kinds are an `enum` and no trait objects, so that
//! an executable holds the code of its own verb only.

pub mod ceph;
pub mod dev;
pub mod dummy;
mod error;
mod existing;
pub mod fs;
mod intake;
pub mod iscsi_libvirt;
mod lock_file;
pub mod lvm;
pub mod virtiofs;

use crate::image_source::{ImageSource, Purpose};
use crate::record;
pub use error::DatastoreError;
pub use lock_file::LockFileError;
use one_protocol::message::{Image, Mebibytes, Message};
use one_protocol::settings::{Settings, SettingsError};
use runtime::lock_provider::Held;
use std::fmt;
use std::time::Duration;

/// What a new image is recorded as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Where it is: the image's SOURCE.
    pub source: String,
    /// In which format.
    pub format: &'static str,
}

/// Space in a datastore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// In use.
    pub used: Mebibytes,
    /// In all.
    pub total: Mebibytes,
    /// Free for images.
    pub free: Mebibytes,
}

/// How a marketplace gets an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Where it can fetch the image.
    pub import_source: String,
    /// MD5 digest of the file.
    pub md5: String,
    /// Size of the disk, MiB.
    pub size: Mebibytes,
    /// Its format.
    pub format: String,
}

/// The form that oned hands to the marketplace's driver.
impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = quick_xml::escape::escape(self.import_source.as_str());
        write!(
            f,
            "<IMPORT_INFO><IMPORT_SOURCE>{escaped}</IMPORT_SOURCE><MD5>{}</MD5><SIZE>{}</SIZE>\
             <FORMAT>{}</FORMAT><DISPOSE>NO</DISPOSE></IMPORT_INFO>",
            self.md5,
            self.size,
            quick_xml::escape::escape(self.format.as_str()),
        )
    }
}

/// A lock on this machine that a bridge host works under.
#[derive(Debug, Clone)]
pub struct FrontEndLock {
    /// Its name, by which the bridge host asks for it.
    pub name: String,
    /// Waits for the lock: for this long, or for as long as the kind waits by itself.
    pub acquire: fn(&str, Option<Duration>) -> Result<Held, String>,
}

/// The actions. A kind implements those that it supports.
pub trait Datastore: Sized {
    /// Whether `IMAGE/PATH` names something to bring in, which the front-end can have; else what is where the storage
    /// is.
    const BRINGS_IN: bool = false;

    /// The lock of the front-end under which bridge hosts do what this message asks for in the datastore with this number,
    /// where the storage has none of its own.
    #[must_use]
    fn front_end_lock(_: u64, _: &Message) -> Option<FrontEndLock> {
        None
    }

    /// The datastore of `message` on this machine.
    ///
    /// # Errors
    /// Where the message asks for what this kind can't do.
    fn open(message: &Message, settings: &Settings) -> Result<Self, DatastoreError>;

    /// `DS_MAD`, the name that OpenNebula knows the datastore's driver by.
    fn ds_mad(&self) -> &str;

    /// What a verb says that the kind does not have.
    fn not_supported(&self, verb: &'static str) -> DatastoreError {
        DatastoreError::NotSupported { verb, ds_mad: self.ds_mad().to_owned() }
    }

    /// Says of an error where it happened: in which datastore.
    #[must_use]
    fn located(&self, error: DatastoreError) -> DatastoreError {
        error
    }

    /// Opens the image at `IMAGE/PATH`. The path is checked; the bytes are checked by [`Self::store`].
    ///
    /// # Errors
    /// [`DatastoreError`]; then the datastore is as before. So with all actions.
    fn source(&self, _: &Image, purpose: Purpose) -> Result<ImageSource, DatastoreError> {
        Err(self.not_supported(purpose.action()))
    }

    /// Makes a new image of `source`, which may come from another machine.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn store(&self, _: &Image, source: ImageSource) -> Result<Registered, DatastoreError> {
        Err(self.not_supported(source.payload.purpose().action()))
    }

    /// Makes a new empty image; its SOURCE.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn mkfs(&self, _: &Image) -> Result<String, DatastoreError> {
        Err(self.not_supported("mkfs"))
    }

    /// Deletes the image at `IMAGE/SOURCE`.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn rm(&self, _: &Image) -> Result<(), DatastoreError> {
        Err(self.not_supported("rm"))
    }

    /// The size that the image at `IMAGE/PATH` would have.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn stat(&self, _: &Image) -> Result<Mebibytes, DatastoreError> {
        Err(self.not_supported("stat"))
    }

    /// Takes the image back to the snapshot `IMAGE/TARGET_SNAPSHOT`.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn snap_revert(&self, _: &Image) -> Result<(), DatastoreError> {
        Err(self.not_supported("snap_revert"))
    }

    /// Deletes the snapshot `IMAGE/TARGET_SNAPSHOT`.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn snap_delete(&self, _: &Image) -> Result<(), DatastoreError> {
        Err(self.not_supported("snap_delete"))
    }

    /// Makes the image what the snapshot `IMAGE/TARGET_SNAPSHOT` holds, without any snapshots.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn snap_flatten(&self, _: &Image) -> Result<(), DatastoreError> {
        Err(self.not_supported("snap_flatten"))
    }

    /// Space in the datastore.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn monitor(&self) -> Result<Usage, DatastoreError> {
        Err(self.not_supported("monitor"))
    }

    /// Where a marketplace can fetch the image at `IMAGE/SOURCE`.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn export(&self, _: &Image) -> Result<Export, DatastoreError> {
        Err(self.not_supported("export"))
    }
}

macro_rules! kinds {
    ($($name:literal => $variant:ident($kind:ty)),+ $(,)?) => {
        /// A datastore of any kind.
        #[derive(Debug)]
        pub enum AnyDatastore {
            $(#[doc = concat!("`", $name, "`")] $variant($kind)),+
        }

        /// Names of all kinds.
        pub const KINDS: &[&str] = &[$($name),+];

        fn open_kind(
            kind: &str,
            message: &Message,
            settings: &Settings,
        ) -> Option<Result<AnyDatastore, DatastoreError>> {
            match kind {
                $($name => Some(<$kind>::open(message, settings).map(AnyDatastore::$variant)),)+
                _ => None,
            }
        }

        fn kind_brings_in(kind: &str) -> bool {
            match kind {
                $($name => <$kind>::BRINGS_IN,)+
                _ => false,
            }
        }

        fn kind_front_end_lock(
            kind: &str,
            datastore: u64,
            message: &Message,
        ) -> Option<FrontEndLock> {
            match kind {
                $($name => <$kind>::front_end_lock(datastore, message),)+
                _ => None,
            }
        }

        /// Does something with a datastore of any kind: `with_datastore!(any, datastore => expression)`.
        macro_rules! with_datastore {
            ($any:expr, $datastore:ident => $body:expr) => {
                match $any {
                    $(AnyDatastore::$variant($datastore) => $body),+
                }
            };
        }
    };
}

// The kinds: DS_MAD (or KIND in the driver's own configuration file) and type. One line each.
kinds! {
    "fs" => File(fs::FileDatastore),
    "lvm" => Lvm(lvm::LvmDatastore),
    "ceph" => Ceph(ceph::CephDatastore),
    "dev" => Device(dev::DeviceDatastore),
    "iscsi_libvirt" => Iscsi(iscsi_libvirt::IscsiDatastore),
    "virtiofs" => Directory(virtiofs::DirectoryDatastore),
    "dummy" => Dummy(dummy::DummyDatastore),
}

/// [`Datastore::BRINGS_IN`] of the datastore of a message.
///
/// # Errors
/// Where its kind can't be found out.
pub fn brings_in(message: &Message, settings: &Settings) -> Result<bool, DatastoreError> {
    Ok(kind_brings_in(&kind_of(message, settings)?))
}

/// [`Datastore::front_end_lock`] of the datastore of a message.
///
/// # Errors
/// Where its kind can't be found out.
pub fn front_end_lock(
    message: &Message,
    settings: &Settings,
) -> Result<Option<FrontEndLock>, DatastoreError> {
    let kind = kind_of(message, settings)?;
    Ok(message.datastore()?.id.and_then(|id| kind_front_end_lock(&kind, id, message)))
}

fn kind_of(message: &Message, settings: &Settings) -> Result<String, DatastoreError> {
    let name = message.datastore()?.ds_mad()?;
    let kind = settings.kind_of(name)?.unwrap_or_else(|| name.to_owned());
    record::note(|facts| facts.kind.clone_from(&kind));
    Ok(kind)
}

/// Opens the datastore of a message.
///
/// # Errors
/// Where its kind is not known, or as [`Datastore::open`].
pub fn open(message: &Message, settings: &Settings) -> Result<AnyDatastore, DatastoreError> {
    let name = message.datastore()?.ds_mad()?;
    let kind = kind_of(message, settings)?;
    open_kind(&kind, message, settings).unwrap_or_else(|| {
        Err(SettingsError::UnknownKind {
            name: kind.clone(),
            known: KINDS.join(", "),
            file: settings.driver_conf(name),
        }
        .into())
    })
}

/// Runs an action of a datastore of any kind; an error says where it happened.
macro_rules! run {
    ($any:expr, $datastore:ident => $body:expr) => {
        with_datastore!($any, $datastore => $body.map_err(|error| $datastore.located(error)))
    };
}

#[allow(clippy::missing_errors_doc)] // as the methods of `Datastore`
impl AnyDatastore {
    /// As [`Datastore::source`].
    pub fn source(&self, image: &Image, purpose: Purpose) -> Result<ImageSource, DatastoreError> {
        run!(self, datastore => datastore.source(image, purpose).map_err(|error| error.about_path(image)))
    }

    /// As [`Datastore::store`].
    pub fn store(&self, image: &Image, source: ImageSource) -> Result<Registered, DatastoreError> {
        run!(self, datastore => datastore.store(image, source).map_err(|error| error.about_path(image)))
    }

    /// As [`Datastore::mkfs`].
    pub fn mkfs(&self, image: &Image) -> Result<String, DatastoreError> {
        run!(self, datastore => datastore.mkfs(image))
    }

    /// As [`Datastore::rm`].
    pub fn rm(&self, image: &Image) -> Result<(), DatastoreError> {
        run!(self, datastore => datastore.rm(image))
    }

    /// As [`Datastore::stat`].
    pub fn stat(&self, image: &Image) -> Result<Mebibytes, DatastoreError> {
        run!(self, datastore => datastore.stat(image))
    }

    /// As [`Datastore::snap_revert`].
    pub fn snap_revert(&self, image: &Image) -> Result<(), DatastoreError> {
        run!(self, datastore => datastore.snap_revert(image))
    }

    /// As [`Datastore::snap_delete`].
    pub fn snap_delete(&self, image: &Image) -> Result<(), DatastoreError> {
        run!(self, datastore => datastore.snap_delete(image))
    }

    /// As [`Datastore::snap_flatten`].
    pub fn snap_flatten(&self, image: &Image) -> Result<(), DatastoreError> {
        run!(self, datastore => datastore.snap_flatten(image))
    }

    /// As [`Datastore::monitor`].
    pub fn monitor(&self) -> Result<Usage, DatastoreError> {
        run!(self, datastore => datastore.monitor())
    }

    /// As [`Datastore::export`].
    pub fn export(&self, image: &Image) -> Result<Export, DatastoreError> {
        run!(self, datastore => datastore.export(image))
    }
}
