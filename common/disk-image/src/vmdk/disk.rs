//! A vmdk image in a file, whose bytes are found through its tables.

use super::tables::{Place, Tables};
use crate::qcow2::read_up_to;
use crate::{ClusterCompression, CompressedCluster, Content, Disk, Extent, ImageError};
use std::fs::File;
use std::io;

/// A vmdk image in a file.
#[derive(Debug)]
pub struct SparseDisk {
    file: File,
    tables: Tables,
}

impl SparseDisk {
    /// The image in `file`; its header, descriptor and footer checked.
    ///
    /// # Errors
    /// As [`Tables::open`].
    pub fn open(file: File) -> Result<Self, ImageError> {
        let length = file.metadata().map_err(ImageError::reading(0))?.len();
        let tables = Tables::open(length, &|offset, count| read_some(&file, offset, count))?;
        Ok(Self { file, tables })
    }

    /// As [`Tables::verify`].
    ///
    /// # Errors
    /// As [`Tables::verify`].
    pub fn verify(&self) -> Result<(), ImageError> {
        self.tables.verify(&|offset, count| read_some(&self.file, offset, count))
    }
}

impl Disk for SparseDisk {
    fn virtual_size(&self) -> u64 {
        self.tables.header().size()
    }

    fn again(&self) -> Option<Box<dyn Disk + Send>> {
        Some(Box::new(Self::open(self.file.try_clone().ok()?).ok()?))
    }

    fn extents<'a>(
        &'a self,
        visit: &mut dyn FnMut(Extent<'a>) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let read_at = |offset, count| read_some(&self.file, offset, count);
        let file = &self.file;
        self.tables.walk(&read_at, &mut |run| {
            let content = match run.place {
                Place::Zero => Content::Zero,
                Place::Data(offset) => Content::Data { file, offset },
                Place::Grain(at) => {
                    let (offset, length) = self.tables.compressed(&read_at, at, run.start)?;
                    Content::Compressed(CompressedCluster {
                        file,
                        offset,
                        length,
                        cluster_size: self.tables.header().grain_size() as usize,
                        skip: 0,
                        compression: ClusterCompression::Zlib,
                    })
                }
            };
            visit(Extent { start: run.start, length: run.length, content })
        })
    }
}

fn read_some(file: &File, offset: u64, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    let read = read_up_to(file, &mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}
