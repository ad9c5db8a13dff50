//! LVM datastores. All of this runs in a virtual machine: there, the tests that are ignored here are the
//! tests.

mod faults;
mod hosts;
mod images;
mod pools;
mod snapshots;
mod stale;
mod streams;
mod trouble;

#[test]
fn images_are_volumes() {
    ferrostore_tests::ignored_tests_in_a_virtual_machine();
}
