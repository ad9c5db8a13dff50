//! `rm`, and the trash.

use ferrostore_tests::{Ceph, Rule};

/// Image 5 after a revert, with snapshots on both volumes.
fn with_tree() -> Ceph {
    let ceph = Ceph::new();
    ceph.image("one-5", "s0");
    ceph.take_snapshot("one-5", "0");
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.write("one-5", "head");
    ceph.take_snapshot("one-5", "1");
    ceph.take_snapshot("one-5", "one_backup_0");
    ceph
}

#[test]
fn an_image_goes_with_all_its_snapshots_and_carriers() {
    let ceph = with_tree();
    ceph.on_image("rm", 5).run().succeeds().silently();
    assert_eq!(ceph.names(), [""; 0]);
    let objects = ceph.rados(["ls"]);
    assert!(!objects.contains("rbd_data") && !objects.contains("rbd_header"), "{objects}");
    ceph.is_at_rest();
}

#[test]
fn an_image_that_is_gone_already_is_a_success() {
    let ceph = Ceph::new();
    let reply = ceph.on_image("rm", 5).run().succeeds();
    assert!(reply.outcome.stderr_text().contains("gone"));
    // Its carriers may be all that is left.
    ceph.image("one-5-0", "s0");
    ceph.take_snapshot("one-5-0", "0");
    ceph.on_image("rm", 5).run().succeeds();
    assert_eq!(ceph.names(), [""; 0]);
}

#[test]
fn an_image_from_which_others_read_stays_with_all_of_its_own() {
    let ceph = with_tree();
    ceph.clone_snapshot("one-5-0", "0", "stranger");
    ceph.clone_snapshot("one-5", "1", "one-5-7-0");
    let before = ceph.layout();
    let failure = ceph.on_image("rm", 5).run().refused(Rule::ReadByOthers).naming("IMAGE/SOURCE");
    failure.saying(&ceph.spec("stranger")).saying(&ceph.spec("one-5-7-0"));
    let call = ceph.on_image("rm", 5).set("DATASTORE/TEMPLATE/CEPH_TRASH", "yes");
    call.run().refused(Rule::ReadByOthers).naming("IMAGE/SOURCE");
    assert_eq!(ceph.layout(), before);
    ceph.is_at_rest();
}

#[test]
fn the_trash_gets_one_image_that_can_be_restored_and_purged() {
    let ceph = with_tree();
    ceph.configure("CEPH_TRASH=yes\n");
    ceph.on_image("rm", 5).run().succeeds();
    assert_eq!(ceph.names(), [""; 0]);
    let trash = ceph.rbd(["trash", "ls", ceph.pool()]);
    assert_eq!(trash.lines().count(), 1, "{trash}");
    let id = trash.split_whitespace().next().unwrap();
    ceph.rbd(["trash", "restore", "--pool", ceph.pool(), id]);
    assert_eq!(
        (ceph.layout(), ceph.head("one-5")),
        (vec!["one-5 []".to_owned()], "head".to_owned())
    );
    ceph.on_image("rm", 5).run().succeeds();
    ceph.rbd(["trash", "purge", "--no-progress", ceph.pool()]);
    let objects = ceph.rados(["ls"]);
    assert!(!objects.contains("rbd_data") && !objects.contains("rbd_header"), "{objects}");
}

#[test]
fn an_image_that_is_open_stays() {
    let ceph = with_tree();
    let before = ceph.layout();
    let open = ceph.open("one-5");
    for call in [
        ceph.on_image("rm", 5),
        ceph.snap("snap_revert", 5, 0),
        ceph.snap("snap_revert", 5, 1),
        ceph.snap("snap_flatten", 5, 0),
    ] {
        call.run().fails().naming("IMAGE/SOURCE").saying("open").saying("127.0.0.1");
    }
    assert_eq!(ceph.layout(), before);
    drop(open);
    ceph.on_image("rm", 5).run().succeeds();
    assert_eq!(ceph.names(), [""; 0]);
}
