//! Tests of what is read out of the output of Ceph's programs.

use super::*;

fn failed(code: i32, reason: &str) -> ClusterError {
    ClusterError::Failed { command: "rbd ls".into(), code, reason: reason.into() }
}

#[test]
fn the_reason_of_a_failure_is_told_without_keyrings_progress_and_times() {
    let stderr = "2026-11-28T17:14:10.150+0000 7fef9a29a380 -1 auth: unable to find a keyring on /x: (2) No such file\n\
        2026-11-28T17:14:10.150+0000 7fef9a29a380 -1 AuthRegistry(0x55) no keyring found at /x, disabling cephx\n\
        \rRemoving image: 0% complete...failed.\n\
        rbd: image has snapshots - these must be deleted\n";
    assert_eq!(reason(stderr), "rbd: image has snapshots - these must be deleted");
    let stamped = "2026-11-28T17:14:05.878+0000 7f62e9e376c0 -1 librbd: parent must be protected\n";
    assert_eq!(reason(stamped), "librbd: parent must be protected");
    let pool = "2026-11-28T18:15:39.266+0000 7f5a -1 librbd: 0x55 check: data pool x does not exist\n\
        rbd: create error: (2) No such file\n";
    assert_eq!(reason(pool), "rbd: create error: (2) No such file; data pool x does not exist");
    assert_eq!(reason("\n"), "it printed no reason");
    assert_eq!(reason("plain words of another kind"), "plain words of another kind");
}

#[test]
fn exit_codes_and_words_tell_what_is_in_the_way() {
    let connect = "rbd: couldn't connect to the cluster!; rbd: listing images failed";
    assert_eq!(failed(110, connect).obstacle(), Obstacle::Monitors);
    let ceph = "[errno 110] RADOS timed out (error connecting to the cluster)";
    assert_eq!(failed(1, ceph).obstacle(), Obstacle::Monitors);
    assert_eq!(failed(2, connect).obstacle(), Obstacle::Credentials);
    assert_eq!(failed(13, connect).obstacle(), Obstacle::Credentials);
    assert_eq!(failed(2, "rbd: error opening pool 'x'").obstacle(), Obstacle::Pool);
    assert_eq!(failed(110, "rbd: create error").obstacle(), Obstacle::Objects);
    assert_eq!(failed(1, "rbd: create error").obstacle(), Obstacle::Permission);
    assert_eq!(failed(122, "rbd: import failed").obstacle(), Obstacle::Space);
    assert!(failed(2, "rbd: delete error").is_missing());
    assert!(!failed(2, connect).is_missing() && !failed(2, "error opening pool 'x'").is_missing());
    let text = failed(39, "rbd: image has snapshots").to_string();
    assert_eq!(text, "`rbd ls` failed (Directory not empty): rbd: image has snapshots");
}
