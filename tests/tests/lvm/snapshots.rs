//! `snap_revert`, `snap_flatten`, `snap_delete`.

use ferrostore_tests::{Lvm, Rule, persistent, run};

/// Image 1, whose snapshots 0 and 1 begin with their numbers, and which itself begins with a 9.
fn with_snapshots() -> Lvm {
    let lvm = Lvm::new();
    persistent(lvm.mkfs(1, "raw", 8)).run().succeeds();
    for number in 0..2 {
        lvm.write("img-one-1", &[number, 77], 0);
        lvm.take_snapshot(1, u32::from(number));
    }
    lvm.write("img-one-1", &[9, 77], 0);
    lvm
}

fn begin_of(lvm: &Lvm, name: &str) -> [u8; 2] {
    lvm.content(name)[..2].try_into().unwrap()
}

#[test]
#[ignore = "runs in the virtual machine"]
fn an_image_goes_back_to_a_snapshot_and_all_snapshots_stay() {
    let lvm = with_snapshots();
    let names = lvm.names();
    for number in [0, 1, 0] {
        lvm.snap("snap_revert", 1, number).run().succeeds().silently();
        lvm.is_at_rest();
        assert_eq!(lvm.names(), names);
        assert_eq!(begin_of(&lvm, "img-one-1"), [number as u8, 77]);
        let volume = lvm.volume("img-one-1");
        assert_eq!(
            (volume.attributes.as_str(), volume.pool.as_str()),
            ("Vwi---tz-k", "img-one-1-pool")
        );
        lvm.write("img-one-1", &[8, 8], 0);
    }
    assert_eq!(begin_of(&lvm, "img-one-1_one_s0"), [0, 77]);
    assert_eq!(begin_of(&lvm, "img-one-1_one_s1"), [1, 77]);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_flattened_image_is_the_snapshot_and_nothing_else_is_left() {
    let lvm = with_snapshots();
    lvm.snap("snap_flatten", 1, 0).run().succeeds().silently();
    assert_eq!(lvm.names(), ["img-one-1", "img-one-1-pool"]);
    lvm.is_at_rest();
    assert_eq!(begin_of(&lvm, "img-one-1"), [0, 77]);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_deleted_snapshot_is_gone_and_nothing_else() {
    let lvm = with_snapshots();
    lvm.snap("snap_delete", 1, 0).run().succeeds().silently();
    assert_eq!(lvm.names(), ["img-one-1", "img-one-1-pool", "img-one-1_one_s1"]);
    lvm.is_at_rest();
    assert_eq!(begin_of(&lvm, "img-one-1"), [9, 77]);
    assert_eq!(begin_of(&lvm, "img-one-1_one_s1"), [1, 77]);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_snapshot_that_is_not_there_changes_nothing() {
    let lvm = with_snapshots();
    let before = lvm.volumes();
    for action in ["snap_revert", "snap_flatten", "snap_delete"] {
        lvm.snap(action, 1, 7)
            .run()
            .fails()
            .naming("IMAGE/TARGET_SNAPSHOT")
            .saying("img-one-1_one_s7");
        lvm.snap(action, 2, 0).run().refused(Rule::NoSuchVolume).naming("IMAGE/TARGET_SNAPSHOT");
    }
    assert_eq!(lvm.volumes(), before);
    lvm.is_at_rest();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn an_image_in_use_is_not_reverted() {
    let lvm = with_snapshots();
    run("lvchange", ["-K", "-ay", "vg-one-104/img-one-1"]);
    let open = std::fs::File::open("/dev/vg-one-104/img-one-1").unwrap();
    let before = lvm.volumes();
    for action in ["snap_revert", "snap_flatten"] {
        lvm.snap(action, 1, 0).run().fails().naming("IMAGE/SOURCE").saying("in use");
    }
    assert_eq!(lvm.volumes(), before);
    drop(open);
    run("lvchange", ["-an", "vg-one-104/img-one-1"]);
}

/// Each program of LVM that an action runs ends while its driver is dead already.
#[test]
#[ignore = "runs in the virtual machine"]
fn a_driver_that_is_killed_between_two_steps_leaves_the_old_or_the_new_image() {
    let lvm = Lvm::new();
    persistent(lvm.mkfs(1, "raw", 8)).run().succeeds();
    lvm.write("img-one-1", &[0, 77], 0);
    // A snapshot that a general activation would take along can't become the image by another name.
    for (action, flag) in [
        ("snap_revert", "-ky"),
        ("snap_flatten", "-ky"),
        ("snap_flatten", "-kn"),
        ("snap_delete", "-ky"),
    ] {
        for step in 1.. {
            if !lvm.names().iter().any(|name| name == "img-one-1_one_s0") {
                lvm.take_snapshot(1, 0);
                run("lvchange", ["-q", flag, "vg-one-104/img-one-1_one_s0"]);
            }
            lvm.write("img-one-1", &[9, 77], 0);
            let (outcome, lived) = lvm.killed_at(step, lvm.snap(action, 1, 0));
            if lived {
                let least = if flag == "-kn" { 4 } else { 2 };
                assert!(step > least, "{action} runs {step} programs: {:?}", outcome.stderr_text());
                break;
            }
            lvm.call("monitor", 0).run().succeeds();
            let begin = begin_of(&lvm, "img-one-1");
            let new = if action == "snap_delete" { [9, 77] } else { [0, 77] };
            assert!([[9, 77], new].contains(&begin), "{action} {step}: {begin:?}");
            lvm.is_at_rest();
            let names = lvm.names();
            assert_eq!(names[..2], ["img-one-1", "img-one-1-pool"], "{action} {step}");
            if names.len() > 2 {
                assert_eq!(names[2..], ["img-one-1_one_s0"], "{action} {step}");
                assert_eq!(begin_of(&lvm, "img-one-1_one_s0"), [0, 77], "{action} {step}");
                lvm.snap(action, 1, 0).run().succeeds();
            }
            assert_eq!(begin_of(&lvm, "img-one-1"), new, "{action} {step}");
            // What the next snapshot is to hold.
            lvm.write("img-one-1", &[0, 77], 0);
        }
    }
}
