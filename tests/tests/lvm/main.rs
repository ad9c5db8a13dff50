//! LVM datastores. All of this runs in virtual machines, one for each half, so that both processors of a small
//! computer have work: there, the tests that are ignored here are the tests.

mod faults;
mod images;
mod pools;
mod snapshots;
mod stale;
mod streams;
mod trouble;

#[test]
fn images_are_volumes() {
    let modules = ["images::", "streams::", "stale::", "faults::"];
    ferrostore_tests::ignored_tests_in_a_virtual_machine(&modules);
}

#[test]
fn volumes_survive_snapshots_and_trouble() {
    let modules = ["pools::", "snapshots::", "trouble::"];
    ferrostore_tests::ignored_tests_in_a_virtual_machine(&modules);
}
