//! LVM datastores. All of this runs in virtual machines, one for each half, so that both processors of a small
//! computer have work: there, the tests that are ignored here are the tests.

mod faults;
mod images;
mod pools;
mod snapshots;
mod stale;
mod streams;
mod trash;
mod trouble;

/// Whether a test is of the first half. All others are of the second, so that none is of neither.
fn is_first(name: &str) -> bool {
    ["faults", "images", "stale", "streams"].iter().any(|module| name.starts_with(module))
}

#[test]
fn images_are_volumes() {
    ferrostore_tests::ignored_tests_in_a_virtual_machine(is_first);
}

#[test]
fn volumes_survive_snapshots_and_trouble() {
    ferrostore_tests::ignored_tests_in_a_virtual_machine(|name| !is_first(name));
}
