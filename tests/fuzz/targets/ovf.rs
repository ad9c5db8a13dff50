//! The descriptions of appliances.
//!
//! An input is an OVF file, byte for byte.

#![no_main]

use ferrostore::transfer::archive::Ovf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let plain = Ovf::parse(input, "");
    let in_folder = Ovf::parse(input, "folder/");
    assert_eq!(plain.is_ok(), in_folder.is_ok(), "a folder is no part of what is judged");
});
