//! zip archives: the directory at their end, and the headers of their members.
//!
//! An input is an archive, byte for byte; its last byte says whether its first disk is chosen.

#![no_main]

use ferrostore::transfer::archive::{Choice, Kind};
use ferrostore_fuzz::archives::{passing, surveyed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = Kind::of(input);
    let choice = input.last().filter(|&&byte| byte == 1).map(|_| Choice::new("1"));
    // What has no place in the directory can still pass by, so the two may differ.
    let _ = surveyed(Kind::Zip, input, choice.as_ref());
    let _ = passing(Kind::Zip, input, choice.as_ref());
});
