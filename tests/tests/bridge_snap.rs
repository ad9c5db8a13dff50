//! Snapshots of images that are on a bridge host.

use ferrostore_tests::layouts::{Chain, Copies, Layout};
use ferrostore_tests::{Bridges, Cloud, Rule};

#[test]
fn snapshots_are_reverted_to_deleted_and_flattened_there() {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, Layout::MOVABLE);
    let bridges = Bridges::of(&cloud, 1);
    let host = bridges.host(1);
    let connections = host.connections();
    let there = |name: String| host.datastore().join(name);

    let reply = bridges.bridged(chain.call("snap_revert", 1)).run().succeeds();
    reply.silently();
    chain.check_content(there(chain.entry(3)), 1);
    bridges.bridged(chain.call("snap_delete", 2)).run().succeeds().silently();
    assert!(!there(chain.entry(2)).exists(), "snapshot 2 is gone");
    let failure = bridges.bridged(chain.call("snap_delete", 9)).run().refused(Rule::NoSuchSnapshot);
    failure.naming("IMAGE/TARGET_SNAPSHOT").saying("snap_delete: host1: ");
    bridges.bridged(chain.call("snap_flatten", 0)).run().succeeds().silently();
    chain.check_content(there(chain.name().to_owned()), 0);
    assert!(!there(format!("{}.snap", chain.name())).exists(), "no snapshots are left");
    assert_eq!(host.connections() - connections, 4, "one connection for each action");
}

#[test]
fn snapshots_that_are_copies_are_reverted_to_there() {
    let cloud = Cloud::new();
    for format in ["raw", "qcow2"] {
        std::fs::create_dir_all(cloud.datastore()).unwrap();
        let copies = Copies::of_three(&cloud, format);
        let bridges = Bridges::of(&cloud, 1);
        bridges.bridged(copies.call("snap_revert", 1)).run().succeeds().silently();
        copies.check_content(bridges.host(1).datastore().join(copies.name()), 1);
    }
}
