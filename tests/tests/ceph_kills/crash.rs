//! Drivers that are killed at every boundary of programs, or told to stop.

use ferrostore_tests::{Call, Ceph, MIB, Page, Web, pattern};
use std::thread;
use std::time::Duration;

/// Has the next driver look at the pool.
fn recover(ceph: &Ceph) {
    ceph.settle();
    ceph.mkfs(99, "raw", 1).run().succeeds();
    ceph.on_image("rm", 99).run().succeeds();
}

#[test]
fn a_new_image_whose_driver_is_killed_anywhere_is_gone_after_the_next_call() {
    let ceph = Ceph::new();
    ceph.use_librbd("NO");
    ceph.image("one-1", "mine");
    let file = ceph.cloud.raw("disk.img", 3 * MIB);
    for name in ["cp", "mkfs", "mkfs with FS", "clone"] {
        let mut step = 1;
        loop {
            let call = match name {
                "cp" => ceph.cp(5, &file),
                "mkfs" => ceph.mkfs(5, "raw", 4),
                "clone" => ceph.clone_of(5, &ceph.spec("one-1")),
                _ => ceph.mkfs(5, "raw", 4).set("IMAGE/FS", "ext4"),
            };
            if ceph.killed_at(step, call) {
                break;
            }
            recover(&ceph);
            assert_eq!(ceph.layout(), ["one-1 []"], "{name}, killed at program {step}");
            ceph.is_at_rest();
            step += 1;
        }
        assert!(step > 2, "{name} waits for programs");
        ceph.on_image("rm", 5).run().succeeds();
    }
}

#[test]
fn a_new_image_whose_driver_is_killed_beside_librbd_is_gone_after_the_next_call() {
    let ceph = Ceph::new();
    ceph.use_librbd("YES");
    let file = ceph.cloud.raw("disk.img", 3 * MIB);
    // Each reply of the process is read, and all that goes to it is written, by the thread that is killed.
    for calls in ["read", "write,writev"] {
        for name in ["cp", "mkfs"] {
            let mut step = 1;
            loop {
                let call = if name == "cp" { ceph.cp(5, &file) } else { ceph.mkfs(5, "raw", 4) };
                if ceph.killed_in(calls, step, call) {
                    break;
                }
                recover(&ceph);
                assert_eq!(ceph.layout(), [""; 0], "{name}, killed in {calls} {step}");
                ceph.is_at_rest();
                step += 1;
            }
            assert!(step > 4, "{name} talks to the process in {calls}: {step}");
            ceph.on_image("rm", 5).run().succeeds();
        }
    }
}

/// Image 5 in one of the layouts that the transfer drivers make.
fn prepared(layout: &str) -> Ceph {
    let ceph = Ceph::with_two_snapshots();
    if layout != "own" {
        ceph.snap("snap_revert", 5, 0).run().succeeds();
        ceph.write("one-5", "head");
    }
    if layout == "both" {
        ceph.take_snapshot("one-5", "2");
        ceph.write("one-5", "head");
    }
    ceph
}

const KNOWN: &str = "<ALLOW_ORPHANS>NO</ALLOW_ORPHANS><SNAPSHOT><ID>0</ID></SNAPSHOT>\
                     <SNAPSHOT><ID>1</ID></SNAPSHOT><SNAPSHOT><ID>2</ID></SNAPSHOT>";

fn snap<'c>(ceph: &'c Ceph, action: &str, target: u32) -> Call<'c> {
    ceph.snap(action, 5, target).set_xml("IMAGE/SNAPSHOTS", KNOWN)
}

/// The layout and the head of image 5 as they are, and as they are once the action is done.
fn before_and_after(layout: &str, action: &str, target: u32) -> [(Vec<String>, String); 2] {
    let ceph = prepared(layout);
    let state = |ceph: &Ceph| (ceph.layout(), ceph.head("one-5"));
    let before = state(&ceph);
    snap(&ceph, action, target).run().succeeds();
    [before, state(&ceph)]
}

fn killed_everywhere(layout: &str, action: &str, target: u32) {
    let states = before_and_after(layout, action, target);
    for step in 1.. {
        let ceph = prepared(layout);
        if ceph.killed_at(step, snap(&ceph, action, target)) {
            assert!(step > 2, "{action} waits for programs");
            return;
        }
        ceph.settle();
        let what = format!("{layout}, {action} {target}, killed at program {step}");
        if action != "snap_delete" {
            // Any action on the image completes it or takes it back.
            ceph.on_image("export", 5).run().succeeds();
            let now = (ceph.layout(), ceph.head("one-5"));
            assert!(states.contains(&now), "{what}: {now:?} is none of {states:?}");
        }
        let again = snap(&ceph, action, target).run();
        if again.status.code() != Some(0) {
            // A flattened image has no snapshots any more.
            assert_eq!(action, "snap_flatten", "{what}: {}", again.stderr_text());
        }
        let now = (ceph.layout(), ceph.head("one-5"));
        assert_eq!(now, states[1], "{what}, and called again");
        ceph.is_at_rest();
    }
}

#[test]
fn a_revert_that_is_killed_anywhere_is_done_or_not() {
    killed_everywhere("own", "snap_revert", 0);
    killed_everywhere("carrier", "snap_revert", 1);
    killed_everywhere("both", "snap_revert", 1);
}

#[test]
fn a_flatten_that_is_killed_anywhere_is_done_or_not() {
    killed_everywhere("own", "snap_flatten", 0);
    killed_everywhere("both", "snap_flatten", 1);
}

#[test]
fn a_deletion_that_is_killed_anywhere_is_completed_by_the_next_one() {
    killed_everywhere("own", "snap_delete", 0);
    killed_everywhere("carrier", "snap_delete", 0);
    killed_everywhere("both", "snap_delete", 0);
}

#[test]
fn an_rm_that_is_killed_anywhere_is_completed_by_the_next_one() {
    for trash in ["no", "yes"] {
        for step in 1.. {
            let ceph = prepared("both");
            let call = || ceph.on_image("rm", 5).set("DATASTORE/TEMPLATE/CEPH_TRASH", trash);
            let lived = ceph.killed_at(step, call());
            ceph.settle();
            call().run().succeeds();
            assert_eq!(ceph.names(), [""; 0], "killed at program {step}");
            ceph.is_at_rest();
            if lived {
                break;
            }
        }
    }
}

#[test]
fn a_driver_that_is_told_to_stop_leaves_nothing() {
    let ceph = Ceph::new();
    let web = Web::new();
    let file = ceph.cloud.file("disk.img", pattern(1, 40 * MIB as usize));
    let url = web.page("disk.img", Page::of(&file).at_rate(MIB));
    let begun = || ceph.names().contains(&"one-5.ferrostore".to_owned());
    for milliseconds in [0, 100, 1000] {
        ceph.stop_when(&ceph.cp(5, &url), || {
            let begun = begun();
            thread::sleep(Duration::from_millis(if begun { milliseconds } else { 0 }));
            begun
        });
        assert_eq!(ceph.names(), [""; 0], "after {milliseconds} ms");
    }
    // The cluster copies it, and the signal ends that.
    ceph.image("one-1", "mine");
    let call = ceph.clone_of(5, &ceph.spec("one-1"));
    let call = ceph.with_rbd(call, "[ $number != 2 ] || { \"$real\" \"$@\"; exec sleep 60; }");
    ceph.stop_when(&call, begun);
    assert_eq!(ceph.names(), ["one-1"]);
}

#[test]
fn a_rename_that_was_cut_off_after_its_first_or_second_step_is_completed() {
    // `rbd rename` writes rbd_id.<new>, changes the directory, and removes rbd_id.<old>.
    let stray = |ceph: &Ceph, from: &str, to: &str| {
        let (from, to) = (format!("rbd_id.{from}"), format!("rbd_id.{to}"));
        ceph.rados(["cp", &from, &to]);
    };
    // A second name of the image itself, where the temporary image is to be.
    let ceph = prepared("own");
    stray(&ceph, "one-5", "one-5.ferrostore");
    ceph.snap("snap_revert", 5, 1).run().succeeds();
    assert_eq!(ceph.head("one-5"), "s1");
    // A second name of the carrier, left when the image gave up its name.
    let ceph = prepared("own");
    stray(&ceph, "one-5", "one-5-0:1");
    ceph.snap("snap_revert", 5, 1).run().succeeds();
    assert_eq!(ceph.layout(), ["one-5 [] < one-5-0:1@1", "one-5-0:1 [0* 1*]"]);
    // The new image under both names, listed by the old one.
    let ceph = prepared("carrier");
    ceph.clone_snapshot("one-5-0:1", "1", "one-5.ferrostore");
    ceph.rbd(["rm", "--no-progress", &ceph.spec("one-5")]);
    stray(&ceph, "one-5.ferrostore", "one-5");
    ceph.on_image("export", 5).run().succeeds();
    assert_eq!(ceph.layout(), ["one-5 [] < one-5-0:1@1", "one-5-0:1 [0* 1*]"]);
    assert_eq!(ceph.head("one-5"), "s1");
}
