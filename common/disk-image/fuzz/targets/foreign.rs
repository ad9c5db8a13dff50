//! Images in formats that are only measured: vmdk, vdi, vhdx, vhd; and LUKS.
//!
//! The first byte of an input chooses the format; the rest is a sparse file.

#![no_main]

use disk_image::Format;
use disk_image::foreign;
use disk_image_fuzz::Sparse;
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
            let _ = foreign::luks_disk(image.length(), &read);
            return;
        }
    };
    let size = foreign::virtual_size(format, &read);
    let whole = foreign::check_whole(format, image.length(), &read);
    if let Ok(size) = size {
        assert!(i64::try_from(size).is_ok());
        assert!(whole.is_err() || whole.is_ok_and(|whole| whole == size));
    } else {
        assert!(whole.is_err(), "more is asked of an image that is at hand");
    }
});
