//! Turns one disk into another: the only loop that moves whole images.

use super::copy::Copier;
use super::inflate::{Packed, Pool};
use super::needed;
use super::observer::{self, Moved};
use super::target::Target;
use super::{Content, Disk, ImageError};
use runtime::space;

/// Writes `disk` to `target`, whose size is the disk's virtual size (in whole sectors where the
/// format has them).
///
/// Memory does not grow with the image: a few buffers, an L2 table, and a few clusters for each core.
///
/// # Errors
/// Where the disk can't be read or the target can't be written.
pub fn convert(disk: &dyn Disk, mut target: Target) -> Result<(), ImageError> {
    target.check_size(disk.virtual_size())?;
    observer::begin(disk.virtual_size());
    let size = target.disk_size(disk.virtual_size());
    if let Some(source) = disk.whole_file()
        && target.share_whole(source)
    {
        observer::moved(Moved::Shared, disk.virtual_size());
        observer::advance(disk.virtual_size());
        return target.finish(size);
    }
    // Its files are closed by the time that the target is.
    let _expected = needed::expect(disk, &target);
    space::prepare(target.file(), Some(size));
    let output = target.output();
    std::thread::scope(|scope| {
        let mut copier = Copier::new(scope, &target);
        let mut pool: Option<Pool> = None;
        disk.extents(&mut |extent| {
            match extent.content {
                Content::Zero => {
                    observer::moved(Moved::Zero, extent.length);
                    observer::advance(extent.length);
                }
                Content::Data { file, offset } => {
                    copier.copy(file, offset, extent.start, extent.length, &mut target)?;
                }
                Content::Compressed(cluster) => {
                    copier.finish(&mut target)?;
                    let pool = pool.get_or_insert_with(|| Pool::start(scope, output));
                    let packed = Packed::File(cluster);
                    pool.write(&packed, extent.start, extent.length, &mut target)?;
                }
            }
            Ok(())
        })?;
        copier.finish(&mut target)?;
        pool.map_or(Ok(()), Pool::finish)
    })?;
    target.finish(size)
}
