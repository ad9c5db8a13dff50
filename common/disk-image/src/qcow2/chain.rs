//! An image with its backing files.

use super::layer::{Layer, Mapping};
use crate::raw::RawDisk;
use crate::{CompressedCluster, Content, Disk, Extent, ImageError};

/// A qcow2 image and what it backs on: files from the top to the base, the base perhaps raw.
#[derive(Debug)]
pub struct Chain {
    layers: Vec<Layer>,
    raw_base: Option<RawDisk>,
}

impl Chain {
    /// A chain of `layers`, the image itself first; where the last one backs on a raw image, that.
    #[must_use]
    pub fn new(layers: Vec<Layer>, raw_base: Option<RawDisk>) -> Self {
        Self { layers, raw_base }
    }

    /// As [`Layer::verify`], of every qcow2 file of the chain.
    ///
    /// # Errors
    /// As [`Layer::verify`].
    pub fn verify(&self) -> Result<(), ImageError> {
        self.layers.iter().try_for_each(Layer::verify)
    }

    /// Where `position` is, and for how many bytes (up to `end`) that holds.
    fn locate(&self, depth: usize, position: u64, end: u64) -> Result<Extent<'_>, ImageError> {
        let zero = Extent { start: position, length: end - position, content: Content::Zero };
        let Some(layer) = self.layers.get(depth) else {
            return match &self.raw_base {
                Some(raw) if position < raw.length() => raw.next_extent(position, end),
                _ => Ok(zero),
            };
        };
        // A backing file may be shorter than what backs on it.
        let size = layer.header().size;
        if position >= size {
            return Ok(zero);
        }
        let run = layer.run_at(position)?;
        let mut end = end.min(run.end).min(size);
        let content = match run.mapping {
            Mapping::Unallocated => return self.locate(depth + 1, position, end),
            Mapping::Zero => Content::Zero,
            // The file may end within its last cluster; what is missing there is zero.
            Mapping::Data(offset) if offset >= layer.length() => Content::Zero,
            Mapping::Data(offset) => {
                end = end.min(position + (layer.length() - offset));
                Content::Data { file: layer.file(), offset }
            }
            Mapping::Compressed(offset, length) => Content::Compressed(CompressedCluster {
                file: layer.file(),
                offset,
                length,
                cluster_size: layer.header().cluster_size() as usize,
                skip: (position - run.start) as usize,
                compression: layer.compression().into(),
            }),
        };
        Ok(Extent { start: position, length: end - position, content })
    }
}

impl Disk for Chain {
    fn virtual_size(&self) -> u64 {
        self.layers.first().map_or(0, |layer| layer.header().size)
    }

    fn again(&self) -> Option<Box<dyn Disk + Send>> {
        let again = |layer: &Layer| Layer::open(layer.file().try_clone().ok()?).ok();
        let layers = self.layers.iter().map(again).collect::<Option<_>>()?;
        let raw_base = match &self.raw_base {
            Some(raw) => Some(raw.same()?),
            None => None,
        };
        Some(Box::new(Self { layers, raw_base }))
    }

    fn extents<'a>(
        &'a self,
        visit: &mut dyn FnMut(Extent<'a>) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let size = self.virtual_size();
        let mut pending: Option<Extent<'a>> = None;
        let mut position = 0;
        while position < size {
            let next = self.locate(0, position, size)?;
            position += next.length;
            pending = match pending {
                None => Some(next),
                Some(before) => {
                    if let Some(both) = joined(before, next) {
                        Some(both)
                    } else {
                        visit(before)?;
                        Some(next)
                    }
                }
            };
        }
        pending.map_or(Ok(()), visit)
    }
}

/// The two extents as one, where the second goes on where the first ends.
fn joined<'a>(first: Extent<'a>, second: Extent<'a>) -> Option<Extent<'a>> {
    let together = match (first.content, second.content) {
        (Content::Zero, Content::Zero) => true,
        (Content::Data { file, offset }, Content::Data { file: next_file, offset: next }) => {
            std::ptr::eq(file, next_file) && offset + first.length == next
        }
        _ => false,
    };
    together.then_some(Extent { length: first.length + second.length, ..first })
}
