//! What the fuzz targets share: a limit on memory, and files out of bytes.
//!
//! The targets of disk images, `common/disk-image/fuzz`, have the same.

pub mod archives;

pub use disk_image_fuzz::{Sparse, file, place};
