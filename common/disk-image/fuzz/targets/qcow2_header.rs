//! The header of a qcow2 image.

#![no_main]

use disk_image::ImageError;
use disk_image::qcow2::{Header, LARGEST_DISK};
// For its limit on memory.
use disk_image_fuzz as _;
use libfuzzer_sys::fuzz_target;
use std::io;

fuzz_target!(|input: &[u8]| {
    let head = &input[..input.len().min(4096)];
    let header = Header::parse(head, |offset, buffer| {
        let bytes = usize::try_from(offset).ok().and_then(|offset| input.get(offset..));
        match bytes.and_then(|bytes| bytes.get(..buffer.len())) {
            Some(bytes) => buffer.copy_from_slice(bytes),
            None => {
                let source = io::ErrorKind::UnexpectedEof.into();
                return Err(ImageError::Read { offset, source });
            }
        }
        Ok(())
    });
    if let Ok(header) = header {
        assert!(header.size <= LARGEST_DISK);
        assert!((9..=21).contains(&header.cluster_bits));
        assert!(header.l1_entries * 8 <= 32 << 20);
        assert!(header.backing_file.is_none_or(|name| name.len() <= 1023));
    }
});
