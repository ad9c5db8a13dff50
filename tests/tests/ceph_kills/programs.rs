//! Programs that fail or are killed, each in turn: nothing has changed then, or all has.

use ferrostore_tests::{Call, Ceph, MIB, ProgramFault};

/// Image 5 with snapshots 0 and 1 on a carrier, and 2 on itself.
fn with_carrier() -> Ceph {
    let ceph = Ceph::with_two_snapshots();
    make_carrier(&ceph);
    ceph
}

fn make_carrier(ceph: &Ceph) {
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.write("one-5", "s2");
    ceph.take_snapshot("one-5", "2");
    ceph.write("one-5", "head");
}

/// As [`with_carrier`], in a pool that is there.
fn anew(ceph: &Ceph) {
    ceph.on_image("rm", 5).run().succeeds();
    ceph.image("one-5", "s0");
    ceph.take_snapshot("one-5", "0");
    ceph.write("one-5", "s1");
    ceph.take_snapshot("one-5", "1");
    make_carrier(ceph);
}

/// The layout of the pool, and what image 5 begins with.
fn state(ceph: &Ceph) -> (Vec<String>, String) {
    let layout = ceph.layout();
    let is_there = layout.iter().any(|line| line.starts_with("one-5 "));
    let head = if is_there { ceph.head("one-5") } else { String::new() };
    (layout, head)
}

const KNOWN: &str = "<ALLOW_ORPHANS>NO</ALLOW_ORPHANS><SNAPSHOT><ID>0</ID></SNAPSHOT>\
                     <SNAPSHOT><ID>1</ID></SNAPSHOT><SNAPSHOT><ID>2</ID></SNAPSHOT>";

fn each_fails(action: &str, target: u32) {
    let ceph = with_carrier();
    let call = || -> Call<'_> {
        if action == "rm" {
            ceph.on_image("rm", 5)
        } else {
            ceph.snap(action, 5, target).set_xml("IMAGE/SNAPSHOTS", KNOWN)
        }
    };
    let before = state(&ceph);
    call().run().succeeds();
    let after = state(&ceph);
    assert_ne!(before, after, "{action} does something");
    for fault in ProgramFault::ALL {
        for number in 1.. {
            anew(&ceph);
            let outcome = ceph.with_fault(call(), number, fault).run();
            if ceph.programs() < number {
                assert!(number > 2, "{action} runs programs");
                break;
            }
            let what = format!("{action} {target}, program {number} {fault:?}");
            if outcome.status.success() {
                assert_eq!(state(&ceph), after, "{what}");
            } else {
                outcome.fails().for_any_reason();
                settled(&ceph, action, &before, &after, &what);
            }
            // What was not done is done by the next call, and what was done is no failure.
            call().run().succeeds();
            assert_eq!(state(&ceph), after, "{what}, and called again");
            ceph.is_at_rest();
        }
    }
}

/// Checks that an action that failed has changed nothing, or all but what the next call removes.
fn settled(
    ceph: &Ceph,
    action: &str,
    before: &(Vec<String>, String),
    after: &(Vec<String>, String),
    what: &str,
) {
    let now = state(ceph);
    match action {
        "snap_revert" => assert!(now == *before || now == *after, "{what}: {now:?}"),
        // The image is one or the other; snapshots go one by one.
        "snap_flatten" => assert!(now == *before || now.1 == after.1, "{what}: {now:?}"),
        // What is left of the snapshot is protected, and what has not been renamed yet is by the next call.
        "snap_delete" => {
            assert_eq!(now.1, before.1, "{what}");
            let snapshots = now.0.iter().flat_map(|line| {
                let list = line.split(['[', ']']).nth(1).unwrap_or_default();
                list.split_whitespace()
            });
            for snapshot in snapshots {
                assert!(snapshot.ends_with('*'), "{what}: {now:?}");
            }
        }
        _ => {}
    }
}

#[test]
fn a_revert_whose_programs_fail_is_done_or_not() {
    each_fails("snap_revert", 1);
}

#[test]
fn a_flatten_whose_programs_fail_is_done_or_not() {
    each_fails("snap_flatten", 1);
}

#[test]
fn a_deletion_of_a_snapshot_whose_programs_fail_is_done_or_not() {
    // One is on the carrier and has the image for a clone, the other is on the image.
    each_fails("snap_delete", 0);
    each_fails("snap_delete", 2);
}

#[test]
fn an_rm_whose_programs_fail_is_completed_by_the_next_one() {
    each_fails("rm", 0);
}

#[test]
fn a_new_image_whose_programs_fail_leaves_nothing() {
    let ceph = Ceph::new();
    ceph.image("one-1", "mine");
    let file = ceph.cloud.raw("disk.img", 3 * MIB);
    for name in ["cp", "mkfs", "clone"] {
        for fault in ProgramFault::ALL {
            for number in 1.. {
                let call = match name {
                    "cp" => ceph.cp(5, &file),
                    "mkfs" => ceph.mkfs(5, "raw", 4),
                    _ => ceph.clone_of(5, &ceph.spec("one-1")),
                };
                let outcome = ceph.with_fault(call, number, fault).run();
                let what = format!("{name}, program {number} {fault:?}");
                if ceph.programs() < number {
                    assert!(number > 3, "{name} runs programs");
                    assert_eq!(outcome.status.code(), Some(0), "{what}");
                    ceph.on_image("rm", 5).run().succeeds();
                    break;
                }
                outcome.fails().for_any_reason();
                assert_eq!(ceph.layout(), ["one-1 []"], "{what}");
                ceph.is_at_rest();
            }
        }
    }
}
