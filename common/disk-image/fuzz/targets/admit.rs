//! Admission: what a file is, and whether it may be registered. The input is a sparse file.

#![no_main]

use disk_image::Format;
use disk_image::admission::{Admission, admit};
use disk_image::probe::HEAD;
use disk_image::qcow2::{Encryption, Header};
use disk_image_fuzz::Sparse;
use libfuzzer_sys::fuzz_target;

/// Largest disk that may be registered, bytes.
const LARGEST: u64 = 64 << 40;

fuzz_target!(|input: &[u8]| {
    let image = Sparse::of(input);
    let Ok(head) = image.read(0, HEAD) else { return };
    match admit(&head, &|offset, length| image.read(offset, length), LARGEST) {
        Ok((Admission::Disk(Format::Qcow2), size)) => {
            let file = disk_image_fuzz::file(&head);
            let header = file.ok().and_then(|file| Header::read(&file).ok());
            // Its extensions may lie behind the head; then admission alone has seen them.
            if let Some(header) = header {
                assert_eq!(size, Some(header.size));
                assert!(header.backing_file.is_none() && !header.has_data_file);
                assert!(header.encryption != Encryption::Aes);
            }
        }
        Ok((Admission::Disk(Format::Raw), _)) => {
            // A program that probes what is registered as raw must not take it for a format that names other files.
            for magic in [&b"QFI\xfb"[..], b"KDMV", b"COWD", b"QED\0", b"vhdxfile", b"conectix"] {
                assert!(!head.starts_with(magic), "{magic:?} is no raw disk");
            }
        }
        Ok(_) => {}
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
});
