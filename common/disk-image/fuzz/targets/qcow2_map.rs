//! The tables of a qcow2 image and of what it backs on, and the data that they lead to.
//!
//! An input is up to three files: two lengths (2 bytes each, little-endian), the top, what it backs on,
//! and a raw base.

#![no_main]

use disk_image::qcow2::{Chain, Layer};
use disk_image::raw::RawDisk;
use disk_image::target::Target;
use disk_image::{Disk as _, convert};
use libfuzzer_sys::fuzz_target;

/// Larger disks are walked but not written, bytes.
const WRITTEN: u64 = 4 << 20;
/// Extents that are looked at: a disk may have any number of them.
const EXTENTS: u32 = 100_000;

fuzz_target!(|input: &[u8]| {
    let Some((lengths, rest)) = input.split_first_chunk::<4>() else { return };
    let length = |low, high| usize::from(u16::from_le_bytes([low, high]));
    let (top, rest) = rest.split_at(length(lengths[0], lengths[1]).min(rest.len()));
    let (middle, base) = rest.split_at(length(lengths[2], lengths[3]).min(rest.len()));
    let mut layers = Vec::new();
    let mut sound = true;
    for bytes in [top, middle] {
        if let Some(layer) =
            disk_image_fuzz::file(bytes).ok().and_then(|file| Layer::open(file).ok())
        {
            sound &= layer.verify().is_ok();
            layers.push(layer);
        }
    }
    let raw = (!base.is_empty())
        .then(|| disk_image_fuzz::file(base).and_then(RawDisk::open).ok())
        .flatten();
    let chain = Chain::new(layers, raw);
    let size = chain.virtual_size();
    let (mut position, mut count) = (0, 0);
    let walked = chain.extents(&mut |extent| {
        assert_eq!(extent.start, position, "extents leave no gap and don't overlap");
        assert!(extent.length > 0, "every extent gets further");
        position += extent.length;
        count += 1;
        if count == EXTENTS { Err(std::io::Error::other("enough")).map_err(stop) } else { Ok(()) }
    });
    if walked.is_ok() {
        assert_eq!(position, size, "extents cover the disk");
    } else if count < EXTENTS {
        assert!(!sound || size == 0, "tables that were verified can be walked");
    }
    if size <= WRITTEN {
        for qcow2 in [false, true] {
            let Ok(file) = disk_image_fuzz::file(&[]) else { return };
            let target = if qcow2 { Target::qcow2(&file) } else { Target::raw(&file, true) };
            let _ = convert(&chain, target);
        }
    }
});

fn stop(source: std::io::Error) -> disk_image::ImageError {
    disk_image::ImageError::Read { offset: 0, source }
}
