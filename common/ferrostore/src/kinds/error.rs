//! What can go wrong with a datastore: mostly what went wrong in a module below, with the attribute that
//! is at fault.

use super::lock_file::LockFileError;
use super::lvm::LvmError;
use crate::policy::PathError;
use crate::snapshots::SnapshotError;
use crate::transfer::archive::ArchiveError;
use crate::transfer::digest::DigestError;
use crate::transfer::http::HttpError;
use crate::transfer::location::without_password;
use disk_image::ImageError;
use disk_image::admission::ImageRefusal;
use one_protocol::message::{Image, MessageError};
use one_protocol::settings::SettingsError;
use runtime::command::CommandError;
use runtime::command::cluster::ClusterError;
use runtime::mount::MountError;
use runtime::staging::StagingError;
use runtime::text::shown;
use std::fmt::Display;
use std::io;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum DatastoreError {
    /// The message is at fault.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A configuration file is at fault.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A value of an attribute is at fault: what it names, or what that holds.
    #[error("{attribute} {} {reason}", shown(value))]
    Value {
        /// Path of the attribute.
        attribute: &'static str,
        /// Its value.
        value: String,
        /// The rule that it broke, and what to do.
        reason: String,
    },
    /// The kind has no such verb.
    #[error("{verb} is not supported by DS_MAD {ds_mad}: use a datastore of another kind for it")]
    NotSupported {
        /// The verb.
        verb: &'static str,
        /// The driver's name.
        ds_mad: String,
    },
    /// A digest is wrong.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The snapshots are at fault.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A staged file could not be made or put in place.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A volume group is at fault.
    #[error(transparent)]
    Lvm(#[from] LvmError),
    /// A lock can't be taken.
    #[error(transparent)]
    LockFile(#[from] LockFileError),
    /// A Ceph cluster is at fault.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The export that the datastore lies on can't be used.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The bytes of an image could not be moved.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An image is refused.
    #[error(transparent)]
    Refused(#[from] ImageRefusal),
    /// Nothing can be taken out of an archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A path is refused.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The system said no.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl DatastoreError {
    /// An attribute's value broke a rule.
    pub(crate) fn value(
        attribute: &'static str,
        value: impl Into<String>,
        reason: impl Display,
    ) -> Self {
        Self::Value { attribute, value: value.into(), reason: reason.to_string() }
    }

    /// As [`Self::about`], for `IMAGE/PATH`, of which a password is not shown.
    pub(crate) fn about_path(self, image: &Image) -> Self {
        let shown = without_password(image.path().unwrap_or_default());
        self.about("IMAGE/PATH", &shown)
    }

    /// Puts the attribute in front of errors that are about what it names. Those that name an
    /// attribute of their own, or are about the datastore, stay as they are.
    pub(crate) fn about(self, attribute: &'static str, value: &str) -> Self {
        match self {
            Self::Refused(error) => Self::value(attribute, value, error),
            Self::Path(error) => Self::value(attribute, value, error),
            Self::Command(error) => {
                Self::value(attribute, value, format_args!("can't be used: {error}"))
            }
            Self::Image(ImageError::Read { source, .. })
                if source
                    .get_ref()
                    .is_some_and(|e| e.is::<HttpError>() || e.is::<ArchiveError>()) =>
            {
                Self::value(attribute, value, source)
            }
            Self::Archive(error) => Self::value(attribute, value, error),
            Self::Image(
                error @ (ImageError::Read { .. }
                | ImageError::Corrupt { .. }
                | ImageError::Unsupported { .. }
                | ImageError::TooLarge { .. }),
            ) => Self::value(attribute, value, format_args!("can't be used: {error}")),
            other => other,
        }
    }
}
