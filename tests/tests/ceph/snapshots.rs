//! Snapshots that stand in the way, and clones of format 2.

use ferrostore_tests::{Ceph, Rule};

#[test]
fn snapshots_of_backups_go_with_the_state_that_they_belong_to() {
    let ceph = Ceph::with_snapshot();
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.write("one-5", "next");
    ceph.take_snapshot("one-5", "one_backup_0");
    ceph.rbd(["snap", "create", "--no-progress", &format!("{}@one_backup", ceph.spec("one-5"))]);
    let reply = ceph.snap("snap_revert", 5, 0).run().succeeds();
    let log = reply.outcome.log_lines();
    assert!(log.iter().any(|line| line.contains("one_backup_0")), "{log:?}");
    assert_eq!(ceph.layout(), ["one-5 [] < one-5-0@0", "one-5-0 [0*]"]);
    ceph.is_at_rest();
}

#[test]
fn snapshots_of_backups_stay_on_a_carrier_that_has_others() {
    let ceph = Ceph::with_snapshot();
    ceph.take_snapshot("one-5", "one_backup_0");
    let reply = ceph.snap("snap_revert", 5, 0).run().succeeds();
    assert!(reply.outcome.stderr_text().contains("backup"));
    assert_eq!(ceph.layout(), ["one-5 [] < one-5-0@0", "one-5-0 [0* one_backup_0*]"]);
    // With the last of the others they go too.
    ceph.snap("snap_delete", 5, 0).run().succeeds();
    assert_eq!(ceph.layout(), ["one-5 []"]);
    ceph.is_at_rest();
}

#[test]
fn a_snapshot_that_was_not_yet_protected_serves_all_the_same() {
    for action in ["snap_revert", "snap_flatten", "snap_delete"] {
        let ceph = Ceph::new();
        ceph.image("one-5", "s0");
        ceph.rbd(["snap", "create", "--no-progress", &format!("{}@0", ceph.spec("one-5"))]);
        ceph.write("one-5", "head");
        ceph.snap(action, 5, 0).run().succeeds();
        assert_eq!(ceph.head("one-5"), if action == "snap_delete" { "head" } else { "s0" });
        ceph.is_at_rest();
    }
}

#[test]
fn a_snapshot_with_clones_of_others_is_not_deleted_and_they_are_named() {
    let ceph = Ceph::with_snapshot();
    ceph.clone_snapshot("one-5", "0", "stranger");
    let before = ceph.layout();
    for action in ["snap_delete", "snap_flatten"] {
        let failure = ceph.snap(action, 5, 0).run().refused(Rule::ReadByOthers);
        failure.saying(&ceph.spec("stranger"));
    }
    assert_eq!(ceph.layout(), before);
    // Reverting harms nothing.
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.snap("snap_delete", 5, 0).run().fails().naming("IMAGE/TARGET_SNAPSHOT").saying("stranger");
    assert_eq!(ceph.layout(), ["one-5 [] < one-5-0@0", "one-5-0 [0*]", "stranger [] < one-5-0@0"]);
    ceph.is_at_rest();
}

#[test]
fn with_clones_of_format_2_every_snapshot_can_be_deleted_at_once() {
    let ceph = Ceph::with_snapshot();
    let two = "rbd_default_clone_format = 2\n";
    let conf = std::fs::read_to_string(ceph.conf()).unwrap();
    std::fs::write(ceph.conf(), conf.replace("[global]\n", &format!("[global]\n{two}"))).unwrap();
    ceph.take_snapshot("one-5", "1");
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    let reply = ceph.snap("snap_delete", 5, 0).run().succeeds();
    assert!(!reply.outcome.stderr_text().contains("copying"), "{}", reply.outcome.stderr_text());
    let names = ceph.names();
    assert_eq!(names, ["one-5", "one-5-1"]);
    assert_eq!(ceph.head("one-5"), "s0");
    ceph.snap("snap_delete", 5, 1).run().succeeds();
    assert_eq!((ceph.names(), ceph.head("one-5")), (vec!["one-5".to_owned()], "s0".to_owned()));
    ceph.take_snapshot("one-5", "2");
    ceph.snap("snap_flatten", 5, 2).run().succeeds();
    assert_eq!((ceph.layout(), ceph.head("one-5")), (vec!["one-5 []".to_owned()], "s0".to_owned()));
    ceph.on_image("rm", 5).run().succeeds();
    assert_eq!(ceph.names(), [""; 0]);
}

#[test]
fn a_snapshot_that_oned_knows_and_rbd_does_not_is_deleted_already() {
    let ceph = Ceph::with_snapshot();
    let known = "<ALLOW_ORPHANS>NO</ALLOW_ORPHANS><SNAPSHOT><ID>4</ID></SNAPSHOT>";
    ceph.snap("snap_delete", 5, 4)
        .run()
        .refused(Rule::NoSuchRbdSnapshot)
        .naming("IMAGE/TARGET_SNAPSHOT")
        .saying("0");
    ceph.snap("snap_delete", 5, 4).set_xml("IMAGE/SNAPSHOTS", known).run().succeeds();
    assert_eq!(ceph.layout(), ["one-5 [0*]"]);
}
