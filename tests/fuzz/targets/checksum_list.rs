//! Checksum lists: what is found in one stands in it, in a line of its own.

#![no_main]

use ferrostore::verify::list;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(listed) = list::find(input, b"/images/disk.img") {
        let digest = listed.digest.as_bytes();
        let stands = |line: &[u8]| {
            line.windows(digest.len()).any(|window| window.eq_ignore_ascii_case(digest))
        };
        assert!(input.split(|&byte| byte == b'\n').any(stands));
    }
});
