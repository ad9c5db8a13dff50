//! vmdk images: their tables, their grains, and that both ways of reading them see the same disk.
//!
//! An input is an image, byte for byte.

#![no_main]

use disk_image::target::Target;
use disk_image::vmdk::{Opened, Sequential, SparseDisk, write};
use disk_image::{Disk as _, ImageError, convert};
use libfuzzer_sys::fuzz_target;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

/// Larger disks are looked at but not written, bytes.
const WRITTEN: u64 = 4 << 20;

fuzz_target!(|input: &[u8]| {
    let seeking = seeking(input);
    let one_pass = match Sequential::open(input) {
        Err(_) => return,
        Ok(Opened::Unordered(mut stream)) => {
            let mut again = Vec::new();
            assert!(stream.read_to_end(&mut again).is_ok() && again == input, "nothing is lost");
            return;
        }
        Ok(Opened::Sequential(source)) => {
            let size = source.virtual_size();
            if size > WRITTEN {
                let mut reached = 0;
                let _ = source.pieces(&mut |piece| {
                    assert!(
                        piece.start() >= reached && piece.end() <= size,
                        "pieces come in order"
                    );
                    reached = piece.end();
                    Ok(())
                });
                return;
            }
            written(|target| write(source, target))
        }
    };
    if let Some(one_pass) = one_pass {
        assert!(seeking.is_some_and(|disk| disk == one_pass), "both see the same disk");
    }
});

/// What a reader that seeks makes of the image: its disk, where that is small and sound.
fn seeking(input: &[u8]) -> Option<Vec<u8>> {
    let disk = SparseDisk::open(disk_image_fuzz::file(input).ok()?).ok()?;
    disk.verify().ok()?;
    let (size, mut position) = (disk.virtual_size(), 0);
    if size > WRITTEN {
        return None;
    }
    let walked = disk.extents(&mut |extent| {
        assert_eq!(extent.start, position, "extents leave no gap and don't overlap");
        assert!(extent.length > 0, "every extent gets further");
        position += extent.length;
        Ok(())
    });
    if walked.is_ok() {
        assert_eq!(position, size, "extents cover the disk");
    }
    written(|target| convert(&disk, target))
}

fn written(write: impl FnOnce(Target) -> Result<(), ImageError>) -> Option<Vec<u8>> {
    let file: File = disk_image_fuzz::file(&[]).ok()?;
    write(Target::raw(&file, true)).ok()?;
    let mut bytes = vec![0; file.metadata().ok()?.len() as usize];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(bytes)
}
