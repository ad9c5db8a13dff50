//! Ceph datastores that a bridge host reaches.

use ferrostore_tests::{Bridges, Call, Ceph, MIB, pattern};

#[test]
fn every_action_is_done_on_the_bridge_host() {
    let ceph = Ceph::new();
    let disk = ceph.cloud.file("disk.img", pattern(1, 3 * MIB as usize));
    let qcow2 = ceph.cloud.compressed_qcow2(&disk, "disk.qcow2", "");
    let bridges = Bridges::of(&ceph.cloud, 1);
    // Its /run is empty, and /var/lock leads there.
    bridges.host(1).run("mkdir -p /run/lock");
    let conf = ceph.conf_everywhere();
    let run = |call: Call<'_>| {
        let call = call.set("DATASTORE/TEMPLATE/CEPH_CONF", conf.to_str().unwrap());
        bridges.bridged(call).run().succeeds().text
    };
    assert_eq!(run(ceph.cp(5, &disk)), format!("{} raw\n", ceph.spec("one-5")));
    run(ceph.cp(6, &qcow2));
    assert!(ceph.content("one-5") == pattern(1, 3 * MIB as usize));
    assert!(ceph.content("one-6") == pattern(1, 3 * MIB as usize));
    run(ceph.mkfs(7, "raw", 16).set("IMAGE/FS", "ext4"));
    let clone = ceph.clone_of(8, &ceph.spec("one-5"));
    run(clone.set("SOURCE_BRIDGE_LIST", bridges.list()));
    // Without the list of the source, the bridge host has it too.
    run(ceph.clone_of(9, &ceph.spec("one-5")));
    ceph.take_snapshot("one-5", "0");
    ceph.write("one-5", "head");
    run(ceph.snap("snap_revert", 5, 0));
    run(ceph.snap("snap_delete", 5, 0));
    ceph.take_snapshot("one-5", "1");
    run(ceph.snap("snap_flatten", 5, 1));
    assert!(ceph.content("one-5") == pattern(1, 3 * MIB as usize));
    assert!(run(ceph.call("monitor", 0)).starts_with("USED_MB="));
    let export = run(ceph.on_image("export", 5));
    assert!(export.contains("<IMPORT_SOURCE>rbd://host1/"), "{export}");
    assert_eq!(ceph.names(), ["one-5", "one-6", "one-7", "one-8", "one-9"]);
    for id in 5..=9 {
        run(ceph.on_image("rm", id));
    }
    assert_eq!(ceph.names(), [""; 0]);
    ceph.is_at_rest();
}

#[test]
fn an_image_goes_from_a_cluster_that_only_a_bridge_host_reaches_to_this_one() {
    let ceph = Ceph::new();
    ceph.image("one-5", "five");
    let bridges = Bridges::of(&ceph.cloud, 1);
    let call = ceph.clone_of(6, &ceph.spec("one-5"));
    let call = call
        .set("SOURCE_BRIDGE_LIST", bridges.list())
        .set("DATASTORE/TEMPLATE/CEPH_CONF", ceph.conf_everywhere().to_str().unwrap());
    bridges.reachable(call).run().succeeds();
    assert!(ceph.content("one-6") == ceph.content("one-5"));
    ceph.is_at_rest();
}
