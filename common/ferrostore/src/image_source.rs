//! An image on its way into a datastore: what its bytes are and where they come from.
//!
//! `cp` stores the source that `IMAGE/PATH` names; `clone` stores the source that an image of a datastore is. With a
//! bridge host, the source is opened on one machine and stored on another.

use crate::transfer::archive::Choice;
use crate::transfer::digest::{DigestError, StreamDigests, Verification};
use disk_image::{Disk, Format};
use std::fmt;
use std::fs::File;
use std::io::Read;

/// What an image is brought in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `cp`: `IMAGE/PATH` names a file from outside.
    Register,
    /// `clone`: `IMAGE/PATH` names an image of a datastore.
    Clone,
}

impl Purpose {
    /// The action's name.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            Self::Register => "cp",
            Self::Clone => "clone",
        }
    }
}

/// What the bytes of an image mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// What is at `IMAGE/PATH`: it has yet to be decompressed, recognised and admitted.
    Unvalidated,
    /// As [`Payload::Unvalidated`], but taken out of an archive at `IMAGE/PATH`: it must be none itself.
    Member,
    /// The file of an image of a datastore, in this format.
    File(Format),
    /// The bytes that the guest sees of an image of a datastore, to be kept in this format.
    Disk(Format),
    /// Existing storage, which is registered where it is: no bytes are read or written.
    InPlace,
}

impl Payload {
    /// What such bytes are brought in for.
    #[must_use]
    pub fn purpose(self) -> Purpose {
        match self {
            Self::Unvalidated | Self::Member | Self::InPlace => Purpose::Register,
            Self::File(_) | Self::Disk(_) => Purpose::Clone,
        }
    }
}

/// The bytes of an image, where they are.
pub enum Bytes {
    /// In a file on this machine.
    File(File),
    /// In a disk whose extents are known, so that nothing else need be read or sent.
    Disk(Box<dyn Disk>),
    /// One after the other.
    Stream(Box<dyn Read + Send>),
    /// Nowhere: those of [`Payload::InPlace`].
    Nothing,
}

/// Digests that are computed while the bytes are read.
pub enum PendingDigests {
    /// None.
    Nothing,
    /// Of a file.
    File(Verification),
    /// Of a stream.
    Stream(StreamDigests),
}

impl PendingDigests {
    /// Compares, once all bytes have been read.
    ///
    /// # Errors
    /// [`DigestError`].
    pub fn verify(self) -> Result<(), DigestError> {
        match self {
            Self::Nothing => Ok(()),
            Self::File(verification) => verification.finish(),
            Self::Stream(digests) => digests.verify(),
        }
    }
}

/// Keeps an image as it is for as long as it lives: a lock, an active volume.
pub trait Guard {}

impl<T> Guard for T {}

/// An image that is open.
pub struct ImageSource {
    /// What its bytes mean.
    pub payload: Payload,
    /// The bytes. A stream ends without an error only where all of them came.
    pub bytes: Bytes,
    /// How many bytes a stream will have, where that is known.
    pub length: Option<u64>,
    /// The member that is wanted, of an archive of several.
    pub member: Option<Choice>,
    /// What must hold of the bytes.
    pub digests: PendingDigests,
    /// Keeps others from changing the image while it is read.
    pub guard: Option<Box<dyn Guard>>,
}

impl ImageSource {
    /// Existing storage at `IMAGE/PATH`.
    #[must_use]
    pub fn in_place() -> Self {
        Self::new(Payload::InPlace, Bytes::Nothing)
    }

    /// Bytes with nothing to verify and nothing to guard.
    #[must_use]
    pub fn new(payload: Payload, bytes: Bytes) -> Self {
        Self {
            payload,
            bytes,
            length: None,
            member: None,
            digests: PendingDigests::Nothing,
            guard: None,
        }
    }
}

impl fmt::Debug for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageSource({:?}, {:?} bytes)", self.payload, self.length)
    }
}
