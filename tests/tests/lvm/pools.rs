//! Thin pools: they grow before they are full, and where they can't, nothing is lost.

use ferrostore_tests::{Lvm, MIB, pattern, persistent, run};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Image 1, whose 8 MiB are all written, and snapshot 0 of it, in a pool that can't hold both.
fn tight() -> (Lvm, Vec<u8>) {
    let lvm = Lvm::new();
    let bytes = pattern(1, 8 * MIB as usize);
    let disk = lvm.cloud.file("disk.img", &bytes);
    // It fills its pool to the last block.
    persistent(lvm.cp(1, &disk)).run().succeeds();
    run("lvcreate", ["-q", "-s", "-n", "img-one-1_one_s0", "vg-one-104/img-one-1"]);
    assert_eq!(lvm.volume("img-one-1-pool").size, 8 * MIB);
    assert!(lvm.content("img-one-1") == bytes);
    (lvm, bytes)
}

/// Leaves no extent of the group free.
fn fill(lvm: &Lvm) {
    run("lvcreate", ["-q", "-Wn", "-Zn", "-an", "-l", "100%FREE", "-n", "rest", "vg-one-104"]);
    assert!(lvm.names().contains(&"rest".to_owned()));
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_pool_grows_to_the_size_of_its_volumes() {
    let (lvm, bytes) = tight();
    lvm.snap("snap_revert", 1, 0).run().succeeds().silently();
    assert_eq!(lvm.volume("img-one-1-pool").size, 16 * MIB);
    lvm.is_at_rest();
    // All of the image can be written again.
    lvm.write("img-one-1", &pattern(2, 8 * MIB as usize), 0);
    assert!(lvm.content("img-one-1") == pattern(2, 8 * MIB as usize));
    assert!(lvm.content("img-one-1_one_s0") == bytes);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn an_image_in_a_full_pool_goes_back_to_its_snapshot() {
    let (lvm, bytes) = tight();
    run("lvchange", ["-q", "--errorwhenfull", "y", "vg-one-104/img-one-1-pool"]);
    lvm.with_device("img-one-1", |device| {
        let file = File::options().write(true).open(device).unwrap();
        let written =
            file.write_all_at(&pattern(2, MIB as usize), 0).and_then(|()| file.sync_all());
        assert!(written.is_err(), "the pool is full");
    });
    lvm.snap("snap_revert", 1, 0).run().succeeds().silently();
    assert!(lvm.content("img-one-1") == bytes);
    lvm.is_at_rest();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_pool_that_can_not_grow_is_an_error_before_anything_is_lost() {
    let (lvm, bytes) = tight();
    fill(&lvm);
    let before = lvm.volumes();
    lvm.snap("snap_revert", 1, 0).run().fails().naming("DATASTORE/ID").saying("no space");
    assert_eq!(lvm.volumes(), before);
    assert!(lvm.content("img-one-1") == bytes);
    // These need no more than there is.
    lvm.snap("snap_flatten", 1, 0).run().succeeds().silently();
    assert_eq!(lvm.names(), ["img-one-1", "img-one-1-pool", "rest"]);
    assert!(lvm.content("img-one-1") == bytes);
    lvm.is_at_rest();
}
