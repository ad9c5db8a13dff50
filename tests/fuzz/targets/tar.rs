//! tar archives: their headers, and that both ways of reading them see the same disk.
//!
//! An input is an archive, byte for byte; its last byte says whether its first disk is chosen.

#![no_main]

use ferrostore::transfer::archive::{Choice, Kind};
use ferrostore_fuzz::archives::{passing, surveyed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = Kind::of(input);
    let choice = input.last().filter(|&&byte| byte == 1).map(|_| Choice::new("1"));
    let surveyed = surveyed(Kind::Tar, input, choice.as_ref());
    let passing = passing(Kind::Tar, input, choice.as_ref());
    if let (Some(one), Some(other)) = (surveyed, passing) {
        assert!(one == other, "both see the same disk");
    }
});
