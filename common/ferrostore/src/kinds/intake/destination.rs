//! Where a new image is written: what differs between datastores that keep files and those that keep
//! volumes.

use crate::kinds::DatastoreError;
use disk_image::Format;
use disk_image::target::Target;
use runtime::staging::Staged;

/// A place for one new image. Dropped before its datastore has made the image its own, it leaves
/// nothing.
pub(in crate::kinds) trait Destination {
    /// Whether an image can only be begun once its size is known.
    fn needs_size(&self) -> bool;

    /// Whether what is written can't be read back, nor be written by other programs.
    fn is_stream(&self) -> bool {
        false
    }

    /// Begins the image: bytes laid out as `layout` says, for a disk of `size` bytes where that is known.
    /// What was begun before is given up.
    fn begin(&mut self, layout: Format, size: Option<u64>) -> Result<Target<'_>, DatastoreError>;

    /// A staged file, for an image that is needed whole before it can be written.
    fn stage(&self) -> Result<Staged, DatastoreError>;

    /// Makes such a file the image, as it is: one of `format`.
    fn adopt(&mut self, staged: Staged, format: Format) -> Result<(), DatastoreError>;

    /// Size in bytes of the disk in the image, which is complete and of `format`; `None` where that can't be told.
    fn disk_size(&self, format: Format) -> Option<u64>;
}
