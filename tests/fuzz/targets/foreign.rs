//! Images in formats that are only measured: vmdk, vdi, vhdx, vhd; and LUKS.
//!
//! The first byte of an input chooses the format; the rest is a sparse file.

#![no_main]

use ferrostore::image::Format;
use ferrostore::image::foreign;
use ferrostore::image::qcow2::LARGEST_DISK;
use ferrostore_fuzz::Sparse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else { return };
    let image = Sparse::of(rest);
    let read = |offset, length| image.read(offset, length);
    let format = match kind % 5 {
        0 => Format::Vmdk,
        1 => Format::Vdi,
        2 => Format::Vhdx,
        3 => Format::Vhd,
        _ => {
            let _ = foreign::luks_payload(image.length(), &read);
            return;
        }
    };
    if let Ok(size) = foreign::virtual_size(format, &read) {
        assert!(size <= LARGEST_DISK);
    }
});
