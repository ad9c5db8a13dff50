//! vdi: a header, a map of blocks, the blocks.

use super::{Field, Layout, ReadAt, corrupt, has_parent, read};
use crate::{Format, ImageError};

const FORMAT: Format = Format::Vdi;
/// The one version that there is: 1.1.
const VERSION: u32 = 0x0001_0001;
/// Kinds of images that stand for themselves: dynamic and fixed.
const OWN_KINDS: std::ops::RangeInclusive<u32> = 1..=2;

pub(super) fn layout(read_at: ReadAt) -> Result<Layout, ImageError> {
    let header = read(FORMAT, read_at, 0, 512)?;
    let header = Field { bytes: &header, format: FORMAT };
    let version = header.le32(0x44)?;
    if version != VERSION {
        return Err(corrupt(FORMAT, format!("its version is {version:#x}")));
    }
    // Identities of the image that it is linked to, and of its parent.
    let related = header.array::<32>(0x1a8)?.iter().any(|&byte| byte != 0);
    if !OWN_KINDS.contains(&header.le32(0x4c)?) || related {
        return Err(has_parent(FORMAT));
    }
    let size = header.le64(0x170)?;
    let (block_size, blocks) = (u64::from(header.le32(0x178)?), u64::from(header.le32(0x180)?));
    if block_size == 0 || size > blocks * block_size {
        return Err(corrupt(FORMAT, format!("{size} bytes don't fit in its {blocks} blocks")));
    }
    let map = ("the block map", u64::from(header.le32(0x154)?), blocks * 4);
    let allocated = u64::from(header.le32(0x184)?);
    let data = ("the data", u64::from(header.le32(0x158)?), allocated.saturating_mul(block_size));
    Ok(Layout { size, parts: vec![map, data] })
}
