//! Images on their way between two machines: what one sends, and what the other is given.

use super::digest::{DigestError, StreamDigests, Verification};
use disk_image::{Disk, Format};
use std::fmt;
use std::io::Read;

/// What the bytes of an image on its way are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// What is at `IMAGE/PATH`, whatever that is: it has yet to be judged, unpacked and so on.
    Unjudged,
    /// The file of an image of a datastore, in this format.
    File(Format),
    /// The bytes that the guest sees of an image of a datastore, which shall be kept in this format.
    Disk(Format),
}

/// An image that comes from another machine.
pub struct Given {
    /// What its bytes are.
    pub nature: Nature,
    /// How many there are, where that is known beforehand.
    pub length: Option<u64>,
    /// The bytes. The stream ends well only where all of them came, and as they were sent.
    pub stream: Box<dyn Read + Send>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Given({:?}, {:?} bytes)", self.nature, self.length)
    }
}

/// The bytes of an image, where they are.
pub enum Bytes {
    /// At places that are known, so that nothing else need be read or sent.
    Disk(Box<dyn Disk>),
    /// One after the other.
    Stream(Box<dyn Read + Send>),
}

/// Digests that are made while the bytes are read.
pub enum Pending {
    /// None.
    Nothing,
    /// Of a file.
    File(Verification),
    /// Of a stream.
    Stream(StreamDigests),
}

impl Pending {
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

/// An image that goes to another machine.
pub struct Outgoing {
    /// What its bytes are.
    pub nature: Nature,
    /// The bytes.
    pub bytes: Bytes,
    /// What must hold of them.
    pub digests: Pending,
}
