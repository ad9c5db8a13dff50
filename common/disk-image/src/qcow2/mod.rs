//! qcow2 images, as QEMU's `docs/interop/qcow2.rst` specifies them.
//!
//! Reading: [`Header`] is the checked header, [`Chain`] an image with its backing files, whose
//! extents are found by walking the L1 and L2 tables. Writing: [`Writer`] lays out a standalone image,
//! [`overlay()`] an empty one on a backing file.

mod backing;
mod chain;
mod header;
mod layer;
mod overlay;
mod refcounts;
mod rename;
mod tables;
mod writer;

pub use backing::{BackingFile, mentioned_files};
pub use chain::Chain;
pub use header::{Compression, Encryption, Header, LARGEST_DISK, read_bytes, read_up_to};
pub use layer::{Layer, Mapping};
pub use overlay::overlay;
pub use refcounts::WrongCounts;
pub use rename::rename_backing_file;
pub use writer::{CLUSTER, Writer, check_size};

/// The big-endian number of 16 bits at `offset`; 0 past the end.
fn be16(bytes: &[u8], offset: usize) -> u16 {
    bytes.get(offset..offset + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_be_bytes)
}

/// The big-endian number of 32 bits at `offset`; 0 past the end.
fn be32(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..offset + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// The big-endian number of 64 bits at `offset`; 0 past the end.
fn be64(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..offset + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
}
