//! Why drivers can't be put in place, or taken out.

use crate::kinds::KINDS;
use runtime::text::shown;
use std::io;
use std::path::{Path, PathBuf};

/// Why drivers can't be put in place, or taken out.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No such kind.
    #[error("{} is no kind of datastore: it must be one of {}", shown(.0), KINDS.join(", "))]
    Kind(String),
    /// oned could not call drivers of that name.
    #[error(
        "{} can't be the name of a DS_MAD: use letters, digits, '-' and '_', and begin with a letter or digit",
        shown(.0)
    )]
    Name(String),
    /// One name for several kinds.
    #[error("--name is for one kind, and {0} are given: enable each by itself")]
    NameOfSeveral(usize),
    /// A line of the list makes no sense.
    #[error("line {line} of {} is {}, but should be KIND or KIND NAME: {reason}", path.display(), shown(text))]
    Listed {
        /// The list.
        path: PathBuf,
        /// Number of the line.
        line: usize,
        /// The line.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No OpenNebula.
    #[error(
        "no OpenNebula here: {} does not exist. Set ONE_LOCATION for a self-contained installation, or use --root DIR to work below another root",
        .0.display()
    )]
    NoOpenNebula(PathBuf),
    /// A directory of OpenNebula's that may not be changed.
    #[error("{} is not writable for {user}: {remedy}", path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// The user who tries.
        user: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Another run holds the lock.
    #[error("another installation is at work on {}; try again when it is done", .0.display())]
    Busy(PathBuf),
    /// There are no drivers to install.
    #[error("{} is missing: install the ferrostore package again, or build with 'cargo build --release -p drivers' and give --drivers DIR", .0.display())]
    NoDriver(PathBuf),
    /// A driver's name is taken.
    #[error("{} is a directory, not a driver: move it away", .0.display())]
    Directory(PathBuf),
    /// Drivers that are not ours, under a name that is not a kind's.
    #[error("{} holds drivers that are not ferrostore's: choose another --name", .0.display())]
    Foreign(PathBuf),
    /// The configuration file has another kind.
    #[error("{} sets another KIND than {kind}: choose another --name or change it", path.display())]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// The kind that is asked for.
        kind: &'static str,
    },
    /// The configuration file has no kind.
    #[error("{} exists without a KIND: add the line KIND={kind} to it and run this again", path.display())]
    NoKind {
        /// The file.
        path: PathBuf,
        /// The kind that is asked for.
        kind: &'static str,
    },
    /// A driver does not work here.
    #[error(
        "self-test: {action} {what}. Nothing is installed; what was there before is in its place"
    )]
    SelfTest {
        /// The driver.
        action: &'static str,
        /// What it did.
        what: String,
    },
    /// A file or directory.
    #[error("can't {what} {}: {source}{}", path.display(), remedy(source))]
    File {
        /// What could not be done.
        what: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl InstallError {
    /// Says of an error what could not be done with `path`.
    pub(super) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

/// What to do about an error of the system, as far as that can be known.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run this with sudo or as oneadmin",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; mount that file system read-write and run this again"
        }
        io::ErrorKind::StorageFull => "; free some space and run this again",
        _ => "",
    }
}
