//! Disks that fail, by device-mapper.

use ferrostore_tests::{Lvm, MIB, Rule, persistent};
use std::fs;

/// Where disks begin to fail: behind what LVM keeps at their beginning and a few small volumes.
const GOOD: u64 = 40 * MIB;

fn begin_of(lvm: &Lvm, name: &str) -> u8 {
    lvm.content(name)[0]
}

#[test]
#[ignore = "runs in the virtual machine"]
fn an_image_that_ends_on_a_bad_part_of_the_disk_is_not_there() {
    let lvm = Lvm::on_fragile_disk();
    let disk = lvm.cloud.raw("disk.img", 64 * MIB);
    let small = lvm.cloud.raw("small.img", 20 * MIB);
    lvm.cp(1, &small).run().succeeds();
    let before = lvm.volumes();
    lvm.fails_from(GOOD);
    for call in [
        lvm.cp(2, &disk),
        persistent(lvm.cp(2, &disk)),
        lvm.mkfs(2, "raw", 64),
        lvm.clone_of(2, "vg-one-104/img-one-1"),
        persistent(lvm.clone_of(2, "vg-one-104/img-one-1")),
    ] {
        call.run().refused_by_any(&[Rule::WriteFailed, Rule::CommandFailed]);
        lvm.is_at_rest();
        assert_eq!(lvm.volumes(), before);
    }
    assert!(lvm.content("img-one-1") == fs::read(small).unwrap());
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_disk_that_takes_no_more_writes_leaves_nothing_once_it_is_well_again() {
    let lvm = Lvm::on_fragile_disk();
    let disk = lvm.cloud.raw("disk.img", 8 * MIB);
    lvm.cp(1, &disk).run().succeeds();
    let before = lvm.volumes();
    for call in [
        lvm.cp(2, &disk),
        persistent(lvm.cp(2, &disk)),
        lvm.mkfs(2, "raw", 16).set("IMAGE/FS", "ext4"),
        persistent(lvm.mkfs(2, "raw", 16)).set("IMAGE/FS", "ext4"),
        persistent(lvm.clone_of(2, "vg-one-104/img-one-1")),
    ] {
        // The volume can be made, and nothing can be written to it.
        lvm.watch(&format!(
            "[ $program != lvcreate ] || {{ /usr/sbin/lvcreate \"$@\"; made=$?; {}; exit $made; }}",
            lvm.taking_no_writes()
        ));
        call.run().refused_by_any(&[Rule::WriteFailed, Rule::CommandFailed]);
        lvm.unwatch();
        lvm.is_well();
        lvm.call("monitor", 0).run().succeeds();
        lvm.is_at_rest();
        assert_eq!(lvm.volumes(), before);
    }
}

/// The disk takes no more writes from before the second, third, ... program of LVM on.
#[test]
#[ignore = "runs in the virtual machine"]
fn a_disk_that_fails_between_two_steps_leaves_the_old_or_the_new_image() {
    let lvm = Lvm::on_fragile_disk();
    persistent(lvm.mkfs(1, "raw", 8)).run().succeeds();
    lvm.write("img-one-1", &[1], 0);
    for action in ["snap_revert", "snap_flatten", "snap_delete"] {
        for step in 2.. {
            if !lvm.names().iter().any(|name| name == "img-one-1_one_s0") {
                lvm.take_snapshot(1, 0);
            }
            lvm.write("img-one-1", &[9], 0);
            lvm.watch(&format!("[ $count != {step} ] || {{ {}; }}", lvm.taking_no_writes()));
            let outcome = lvm.snap(action, 1, 0).run();
            lvm.unwatch();
            lvm.is_well();
            let done = outcome.status.success();
            assert!(done || outcome.user_lines().len() == 1, "{:?}", outcome.stderr_text());
            lvm.call("monitor", 0).run().succeeds();
            lvm.is_at_rest();
            let new = if action == "snap_delete" { 9 } else { 1 };
            let begin = begin_of(&lvm, "img-one-1");
            assert!(begin == new || (begin == 9 && !done), "{action} {step}: {begin}");
            let names = lvm.names();
            assert_eq!(names[..2], ["img-one-1", "img-one-1-pool"], "{action} {step}");
            if !done {
                assert_eq!(begin_of(&lvm, "img-one-1_one_s0"), 1, "{action} {step}");
                lvm.snap(action, 1, 0).run().succeeds();
            }
            assert_eq!(begin_of(&lvm, "img-one-1"), new, "{action} {step}");
            lvm.write("img-one-1", &[1], 0);
            if done {
                break;
            }
        }
    }
}
