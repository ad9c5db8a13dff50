//! What can be wrong with an archive. The texts go on after `IMAGE/PATH` and its value.

use super::Kind;
use std::io;

/// Archives can't be in archives.
pub(crate) const NESTED: &str =
    "that holds another archive; unpack the outer one and register what is in it";

/// Why nothing is taken out of an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It can't be read.
    #[error("can't be read: {0}")]
    Read(#[from] io::Error),
    /// It contradicts its format, or ends too early.
    #[error("is a damaged {} archive ({what}); fetch or make it again", kind.name())]
    Damaged {
        /// The format.
        kind: Kind,
        /// What is wrong.
        what: String,
    },
    /// It is valid but can't be used.
    #[error("is a {} archive {what}", kind.name())]
    Unsupported {
        /// The format.
        kind: Kind,
        /// What it has, and what to do.
        what: String,
    },
    /// Its OVF file can't be used.
    #[error("is an appliance whose OVF file {0}")]
    Ovf(String),
    /// More than one disk is inside.
    #[error(
        "holds {count} disks: {list}; choose one by its number or name at the end of IMAGE/PATH, as in #1 or #{example}"
    )]
    Several {
        /// How many.
        count: usize,
        /// Their numbers, names and sizes.
        list: String,
        /// One of the names.
        example: String,
    },
    /// No disk is inside.
    #[error(
        "holds no disk image: {list}; register the file of a disk, or name the member with # at the end of IMAGE/PATH"
    )]
    NoDisk {
        /// What is inside.
        list: String,
    },
    /// It is of a format that is not read.
    #[error(
        "is a file in the format {0}, which is not read here: unpack it and register the disk in it, or pack it as gz, xz, zst, bz2, tar or zip"
    )]
    NotRead(&'static str),
    /// A member was chosen of what has none.
    #[error("is no archive, so #{0} names nothing in it: leave that out")]
    NoArchive(String),
    /// What was chosen is not inside.
    #[error("holds no {wanted:?}: {list}")]
    NotInside {
        /// What was chosen.
        wanted: String,
        /// What is inside.
        list: String,
    },
    /// What was chosen is inside twice.
    #[error(
        "holds two members named {0:?}, so it is not clear which is meant; make the archive again"
    )]
    Twice(String),
    /// A digest of the manifest does not hold.
    #[error(
        "holds {name:?}, which is not what its manifest says: {algorithm} is {actual} instead of {expected}; fetch or make it again"
    )]
    Digest {
        /// The member.
        name: String,
        /// The algorithm.
        algorithm: &'static str,
        /// The digest that it has.
        actual: String,
        /// The digest in the manifest.
        expected: String,
    },
}

impl ArchiveError {
    pub(super) fn damaged(kind: Kind, what: impl Into<String>) -> Self {
        Self::Damaged { kind, what: what.into() }
    }

    pub(super) fn unsupported(kind: Kind, what: impl Into<String>) -> Self {
        Self::Unsupported { kind, what: what.into() }
    }
}

/// What is wrong with an archive, as an error of the stream that its member is read as.
impl From<ArchiveError> for io::Error {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Read(error) => error,
            error => Self::other(error),
        }
    }
}
