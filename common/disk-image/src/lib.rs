//! The bytes of disk images: what a file is ([`probe`]), which of its bytes mean anything
//! ([`Disk::extents`]), and how they get into another file ([`convert()`], [`stream`]).
//!
//! Formats own their folder or file: [`raw`], [`qcow2`], [`vmdk`], and in [`foreign`] those that are only
//! measured here and converted by qemu-img.
//!
#![doc = include_str!("../README.md")]

pub mod admission;
pub mod convert;
mod copy;
pub mod device;
pub mod foreign;
mod inflate;
pub mod markup;
mod needed;
pub mod observer;
mod page_buffer;
pub mod probe;
pub mod qcow2;
pub mod raw;
pub mod rbd_diff;
mod reader;
mod run;
pub mod sequence;
pub mod stream;
mod strict;
pub mod target;
pub mod vmdk;

pub use convert::convert;

use observer::hint;
use std::fmt;
use std::fs::File;
use std::io;

/// A format that images are kept in, by its usual name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes and nothing else; LUKS and ISO count as this.
    Raw,
    /// QEMU copy-on-write, version 2 or 3.
    Qcow2,
    /// `VMware` disk with its extent inside.
    Vmdk,
    /// `VirtualBox` disk.
    Vdi,
    /// Hyper-V disk, second generation.
    Vhdx,
    /// Virtual PC or first-generation Hyper-V disk.
    Vhd,
}

impl Format {
    /// The name that qemu-img uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
            Self::Vhdx => "vhdx",
            Self::Vhd => "vpc",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What goes wrong with the bytes of an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The source can't be read.
    #[error("reading the image failed at byte {offset}: {source}")]
    Read {
        /// Where, in bytes from the start of the file (or stream).
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The target can't be written.
    #[error("writing the image failed at byte {offset}: {}{source}", hint(source))]
    Write {
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The image contradicts its format.
    #[error("it is a corrupt {format} image ({what}); repair it or make it anew")]
    Corrupt {
        /// The format that it claims to be.
        format: Format,
        /// What is wrong.
        what: String,
    },
    /// The image is valid but asks for something that is not supported.
    #[error("it is a {format} image that {what}")]
    Unsupported {
        /// The format.
        format: Format,
        /// What it asks for, and what to do.
        what: String,
    },
    /// More data came than may come.
    #[error("it is larger than {limit} bytes, {why}")]
    TooLarge {
        /// The limit, bytes.
        limit: u64,
        /// Where the limit comes from, and what to do.
        why: &'static str,
    },
}

impl ImageError {
    fn reading(offset: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read { offset, source }
    }

    fn writing(offset: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write { offset, source }
    }
}

/// A run of guest bytes that come from the same place.
#[derive(Debug, Clone, Copy)]
pub struct Extent<'a> {
    /// First guest byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// Where the bytes are.
    pub content: Content<'a>,
}

/// Where the bytes of an [`Extent`] are.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// Nowhere: they read as zero.
    Zero,
    /// In a file, as they are. The extent ends where the file ends, or before.
    Data {
        /// The file.
        file: &'a File,
        /// Where in the file the extent begins, bytes.
        offset: u64,
    },
    /// In a file, compressed; the extent is (part of) one cluster.
    Compressed(CompressedCluster<'a>),
}

/// A compressed cluster of a qcow2 image, or a compressed grain of a vmdk one.
#[derive(Debug, Clone, Copy)]
pub struct CompressedCluster<'a> {
    /// The file that holds it.
    pub file: &'a File,
    /// Where the compressed bytes begin.
    pub offset: u64,
    /// How many bytes belong to it at most.
    pub length: usize,
    /// Size of the cluster once decompressed, bytes.
    pub cluster_size: usize,
    /// Where in the decompressed cluster the extent begins, bytes.
    pub skip: usize,
    /// How it is compressed.
    pub compression: ClusterCompression,
}

/// How a cluster is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterCompression {
    /// qcow2: a deflate stream (RFC 1951).
    Deflate,
    /// qcow2: zstd frames (RFC 8878).
    Zstd,
    /// vmdk: a zlib stream (RFC 1950). The grain at the end of a disk may be shorter than the others.
    Zlib,
}

impl From<qcow2::Compression> for ClusterCompression {
    fn from(compression: qcow2::Compression) -> Self {
        match compression {
            qcow2::Compression::Zlib => Self::Deflate,
            qcow2::Compression::Zstd => Self::Zstd,
        }
    }
}

/// A disk whose bytes can be located.
pub trait Disk {
    /// Size of the disk in bytes.
    fn virtual_size(&self) -> u64;

    /// The file that the disk is, byte for byte, where it is one.
    fn whole_file(&self) -> Option<&File> {
        None
    }

    /// The same disk once more, for another thread; `None` where that can't be.
    fn again(&self) -> Option<Box<dyn Disk + Send>> {
        None
    }

    /// Calls `visit` with the extents of the disk, from its first byte to its last, without a gap.
    ///
    /// # Errors
    /// What `visit` returns, or what is wrong with the image.
    fn extents<'a>(
        &'a self,
        visit: &mut dyn FnMut(Extent<'a>) -> Result<(), ImageError>,
    ) -> Result<(), ImageError>;
}
