//! What can go wrong with a volume group.

use crate::kinds::lock_file::LockFileError;
use runtime::command::CommandError;
use std::io;
use std::path::PathBuf;

/// Why something in a volume group failed.
#[derive(Debug, thiserror::Error)]
pub enum LvmError {
    /// A program of LVM failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A lock can't be taken.
    #[error(transparent)]
    LockFile(#[from] LockFileError),
    /// The front-end's lock can't be acquired.
    #[error("the front-end's lock can't be had: {reason}")]
    FrontEnd {
        /// Why.
        reason: String,
    },
    /// The journal can't be used.
    #[error("{} can't be used: {source}; BASE_PATH must be writable for the user that runs OpenNebula", path.display())]
    Journal {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A device can't be opened.
    #[error(
        "the device {} can't be opened: {source}; the user that runs OpenNebula must be in the group disk", path.display()
    )]
    Device {
        /// The device.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
