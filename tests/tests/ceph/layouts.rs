//! What `snap_revert` leaves, for each layout that the transfer drivers make: the next one must find it all.

use ferrostore_tests::Ceph;

#[test]
fn an_image_with_snapshots_becomes_their_carrier() {
    let ceph = Ceph::with_two_snapshots();
    ceph.snap("snap_revert", 5, 0).run().succeeds().silently();
    assert_eq!(ceph.layout(), ["one-5 [] < one-5-0:1@0", "one-5-0:1 [0* 1*]"]);
    assert_eq!(ceph.head("one-5"), "s0");
    assert_eq!(ceph.head("one-5-0:1"), "head");
    ceph.is_at_rest();
}

#[test]
fn an_image_without_snapshots_of_its_own_is_replaced() {
    let ceph = Ceph::with_two_snapshots();
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.write("one-5", "lost");
    ceph.snap("snap_revert", 5, 1).run().succeeds();
    assert_eq!(ceph.layout(), ["one-5 [] < one-5-0:1@1", "one-5-0:1 [0* 1*]"]);
    assert_eq!(ceph.head("one-5"), "s1");
    ceph.is_at_rest();
}

#[test]
fn the_tree_of_an_image_that_was_reverted_again_and_again_is_whole() {
    let ceph = Ceph::with_two_snapshots();
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.write("one-5", "s2");
    ceph.take_snapshot("one-5", "2");
    ceph.snap("snap_revert", 5, 1).run().succeeds();
    ceph.take_snapshot("one-5", "3");
    ceph.take_snapshot("one-5", "10");
    ceph.snap("snap_revert", 5, 2).run().succeeds();
    ceph.take_snapshot("one-5", "11");
    assert_eq!(
        ceph.layout(),
        [
            "one-5 [11*] < one-5-2@2",
            "one-5-0:1 [0* 1*]",
            "one-5-2 [2*] < one-5-0:1@0",
            "one-5-3:10 [3* 10*] < one-5-0:1@1",
        ]
    );
    assert_eq!(ceph.head("one-5"), "s2");
    for (snapshot, text) in [(0, "s0"), (3, "s1"), (10, "s1"), (11, "s2"), (2, "s2")] {
        ceph.snap("snap_revert", 5, snapshot).run().succeeds();
        assert_eq!(ceph.head("one-5"), text, "{snapshot}");
    }
    ceph.is_at_rest();
}

#[test]
fn a_carrier_is_named_after_the_snapshots_that_are_left_on_it() {
    let ceph = Ceph::with_two_snapshots();
    ceph.take_snapshot("one-5", "2");
    ceph.snap("snap_revert", 5, 1).run().succeeds();
    ceph.snap("snap_delete", 5, 0).run().succeeds().silently();
    assert_eq!(ceph.layout(), ["one-5 [] < one-5-1:2@1", "one-5-1:2 [1* 2*]"]);
    ceph.snap("snap_delete", 5, 2).run().succeeds();
    assert_eq!(ceph.layout(), ["one-5 [] < one-5-1@1", "one-5-1 [1*]"]);
    ceph.is_at_rest();
}

#[test]
fn the_snapshot_that_the_image_was_reverted_to_can_be_deleted() {
    let ceph = Ceph::with_two_snapshots();
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.snap("snap_delete", 5, 1).run().succeeds();
    let reply = ceph.snap("snap_delete", 5, 0).run().succeeds();
    let log = reply.outcome.log_lines();
    assert!(log.iter().any(|line| line.starts_with("INFO: ") && line.contains("one-5")), "{log:?}");
    assert_eq!(ceph.layout(), ["one-5 []"]);
    assert_eq!(ceph.head("one-5"), "s0");
    ceph.is_at_rest();
}

#[test]
fn a_carrier_that_reads_from_a_deleted_snapshot_stands_alone() {
    let ceph = Ceph::with_two_snapshots();
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.take_snapshot("one-5", "2");
    ceph.snap("snap_revert", 5, 1).run().succeeds();
    ceph.snap("snap_delete", 5, 0).run().succeeds();
    assert_eq!(ceph.layout(), ["one-5 [] < one-5-1@1", "one-5-1 [1*]", "one-5-2 [2*]"]);
    assert_eq!(ceph.head("one-5-2@2"), "s0");
    ceph.is_at_rest();
}

#[test]
fn a_flattened_image_stands_alone_without_snapshots_in_any_layout() {
    for target in [0_u32, 1, 2] {
        let ceph = Ceph::with_two_snapshots();
        ceph.snap("snap_revert", 5, 0).run().succeeds();
        ceph.write("one-5", "s2");
        ceph.take_snapshot("one-5", "2");
        ceph.write("one-5", "head");
        ceph.snap("snap_flatten", 5, target).run().succeeds().silently();
        assert_eq!(ceph.layout(), ["one-5 []"], "{target}");
        assert_eq!(ceph.head("one-5"), format!("s{target}"));
        ceph.is_at_rest();
    }
}

#[test]
fn other_images_and_disks_of_virtual_machines_are_left_alone() {
    let ceph = Ceph::with_two_snapshots();
    for other in [
        "one-51",
        "one-51-0",
        "one-5-7-0",
        "one-5-7-0-3",
        "one-sys-5-1",
        "one-5.new.1a2b",
        "one-05",
    ] {
        ceph.image(other, "mine");
        ceph.take_snapshot(other, "0");
    }
    let others = |ceph: &Ceph| -> Vec<String> {
        let all = ceph.layout();
        all.into_iter()
            .filter(|line| !line.starts_with("one-5 ") && !line.starts_with("one-5-0:1 "))
            .collect()
    };
    let before = others(&ceph);
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.snap("snap_delete", 5, 1).run().succeeds();
    ceph.take_snapshot("one-5", "3");
    ceph.snap("snap_flatten", 5, 3).run().succeeds();
    ceph.on_image("rm", 5).run().succeeds();
    assert_eq!(others(&ceph), before);
    assert!(!ceph.names().contains(&"one-5".to_owned()));
}

#[test]
fn the_snapshot_of_the_transfer_driver_for_images_that_are_not_persistent_counts_for_nothing() {
    let ceph = Ceph::with_snapshot();
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.take_snapshot("one-5", "snap");
    ceph.clone_snapshot("one-5", "snap", "one-5-7-0");
    let before = ceph.layout();
    for call in [ceph.on_image("rm", 5), ceph.snap("snap_revert", 5, 0)] {
        call.run().fails().naming("IMAGE/SOURCE").saying("one-5-7-0");
    }
    assert_eq!(ceph.layout(), before);
    ceph.rbd(["rm", "--no-progress", &ceph.spec("one-5-7-0")]);
    ceph.snap("snap_revert", 5, 0).run().succeeds().silently();
    assert_eq!(ceph.layout(), ["one-5 [] < one-5-0@0", "one-5-0 [0*]"]);
    ceph.take_snapshot("one-5", "snap");
    ceph.snap("snap_delete", 5, 0).run().succeeds();
    ceph.take_snapshot("one-5", "3");
    ceph.snap("snap_flatten", 5, 3).run().succeeds();
    ceph.take_snapshot("one-5", "snap");
    ceph.on_image("rm", 5).run().succeeds().silently();
    assert_eq!(ceph.names(), [""; 0]);
}
