//! What can go wrong with a volume group.

use runtime::command::CommandError;
use std::io;
use std::path::PathBuf;

/// Why something in a volume group failed.
#[derive(Debug, thiserror::Error)]
pub enum LvmError {
    /// A program of LVM failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A lock file can't be used.
    #[error(
        "the lock {} can't be taken: {source}; it and its directory must belong to the user that runs OpenNebula", path.display()
    )]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds a lock.
    #[error("the lock {} is held by {holder} for more than {seconds} s: try again once that is done", path.display())]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
        /// Who holds it.
        holder: String,
    },
    /// The front-end does not lend its lock.
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
