//! The kinds of datastores, and what can be done with an image in each.
//!
//! [`open`] chooses the kind by DS_MAD. A kind is one file (or folder) here that implements
//! [`Datastore`], and one line in the list below. Kinds are an `enum` and no trait objects, so that
//! an executable holds the code of its own verb only.

pub mod dev;
pub mod dummy;
mod error;
mod existing;
pub mod fs;
mod intake;
pub mod iscsi_libvirt;
pub mod lvm;
pub mod virtiofs;

use crate::transfer::given::{Given, Outgoing};
pub use error::DatastoreError;
use one_protocol::message::{Image, Mebibytes, Message};
use one_protocol::settings::{Settings, SettingsError};
use std::fmt;

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

/// The verbs. A kind implements those that it supports.
pub trait Datastore: Sized {
    /// Whether `IMAGE/PATH` names something to bring in, which the front-end can have; else what is where the storage
    /// is.
    const BRINGS_IN: bool = false;

    /// The lock of the front-end's under which bridge hosts change the datastore with this number, where
    /// the storage has none of its own.
    #[must_use]
    fn locks(_: u64) -> Option<String> {
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

    /// Registers the image at `IMAGE/PATH`.
    ///
    /// # Errors
    /// [`DatastoreError`]; then the datastore is as before. So with all verbs.
    fn cp(&self, _: &Image) -> Result<Registered, DatastoreError> {
        Err(self.not_supported("cp"))
    }

    /// As [`Self::cp`], with what is at `IMAGE/PATH` on another machine, which has checked its path and its
    /// digests.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn cp_given(&self, _: &Image, _: Given) -> Result<Registered, DatastoreError> {
        Err(self.not_supported("cp by a bridge host"))
    }

    /// What is at `IMAGE/PATH`, for [`Self::cp_given`] on another machine.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn cp_source(&self, _: &Image) -> Result<Outgoing, DatastoreError> {
        Err(self.not_supported("cp by a bridge host"))
    }

    /// Makes a new empty image; its SOURCE.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn mkfs(&self, _: &Image) -> Result<String, DatastoreError> {
        Err(self.not_supported("mkfs"))
    }

    /// Copies the image at `IMAGE/PATH`, a SOURCE in this or another datastore.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn clone(&self, _: &Image) -> Result<Registered, DatastoreError> {
        Err(self.not_supported("clone"))
    }

    /// As [`Self::clone`], with the image at `IMAGE/PATH` of another machine.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn clone_given(&self, _: &Image, _: Given) -> Result<Registered, DatastoreError> {
        Err(self.not_supported("clone by a bridge host"))
    }

    /// The image at `IMAGE/PATH`, for [`Self::clone_given`] on another machine.
    ///
    /// # Errors
    /// [`DatastoreError`].
    fn clone_source(&self, _: &Image) -> Result<Outgoing, DatastoreError> {
        Err(self.not_supported("clone by a bridge host"))
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
        const KINDS: &[&str] = &[$($name),+];

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

        fn kind_locks(kind: &str, datastore: u64) -> Option<String> {
            match kind {
                $($name => <$kind>::locks(datastore),)+
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

/// [`Datastore::locks`] of the datastore of a message.
///
/// # Errors
/// Where its kind can't be found out.
pub fn locks(message: &Message, settings: &Settings) -> Result<Option<String>, DatastoreError> {
    let kind = kind_of(message, settings)?;
    Ok(message.datastore()?.id.and_then(|id| kind_locks(&kind, id)))
}

fn kind_of(message: &Message, settings: &Settings) -> Result<String, DatastoreError> {
    let name = message.datastore()?.ds_mad()?;
    Ok(settings.kind_of(name)?.unwrap_or_else(|| name.to_owned()))
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

#[allow(clippy::missing_errors_doc)] // as the methods of `Datastore`
impl AnyDatastore {
    /// As [`Datastore::cp`], or [`Datastore::cp_given`].
    pub fn cp(&self, image: &Image, given: Option<Given>) -> Result<Registered, DatastoreError> {
        with_datastore!(self, datastore => match given {
            None => datastore.cp(image),
            Some(given) => datastore.cp_given(image, given),
        })
    }

    /// As [`Datastore::cp_source`].
    pub fn cp_source(&self, image: &Image) -> Result<Outgoing, DatastoreError> {
        with_datastore!(self, datastore => datastore.cp_source(image))
    }

    /// As [`Datastore::mkfs`].
    pub fn mkfs(&self, image: &Image) -> Result<String, DatastoreError> {
        with_datastore!(self, datastore => datastore.mkfs(image))
    }

    /// As [`Datastore::clone`], or [`Datastore::clone_given`].
    pub fn clone(&self, image: &Image, given: Option<Given>) -> Result<Registered, DatastoreError> {
        with_datastore!(self, datastore => match given {
            None => Datastore::clone(datastore, image),
            Some(given) => datastore.clone_given(image, given),
        })
    }

    /// As [`Datastore::clone_source`].
    pub fn clone_source(&self, image: &Image) -> Result<Outgoing, DatastoreError> {
        with_datastore!(self, datastore => datastore.clone_source(image))
    }

    /// As [`Datastore::rm`].
    pub fn rm(&self, image: &Image) -> Result<(), DatastoreError> {
        with_datastore!(self, datastore => datastore.rm(image))
    }

    /// As [`Datastore::stat`].
    pub fn stat(&self, image: &Image) -> Result<Mebibytes, DatastoreError> {
        with_datastore!(self, datastore => datastore.stat(image))
    }

    /// As [`Datastore::snap_revert`].
    pub fn snap_revert(&self, image: &Image) -> Result<(), DatastoreError> {
        with_datastore!(self, datastore => datastore.snap_revert(image))
    }

    /// As [`Datastore::snap_delete`].
    pub fn snap_delete(&self, image: &Image) -> Result<(), DatastoreError> {
        with_datastore!(self, datastore => datastore.snap_delete(image))
    }

    /// As [`Datastore::snap_flatten`].
    pub fn snap_flatten(&self, image: &Image) -> Result<(), DatastoreError> {
        with_datastore!(self, datastore => datastore.snap_flatten(image))
    }

    /// As [`Datastore::monitor`].
    pub fn monitor(&self) -> Result<Usage, DatastoreError> {
        with_datastore!(self, datastore => datastore.monitor())
    }

    /// As [`Datastore::export`].
    pub fn export(&self, image: &Image) -> Result<Export, DatastoreError> {
        with_datastore!(self, datastore => datastore.export(image))
    }
}
