//! Ceph datastores that a bridge host reaches.

use ferrostore_tests::{Bridges, Call, Ceph, MIB, Page, Rule, Web, pattern};
use std::thread;
use std::time::{Duration, Instant};

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

#[test]
fn errors_of_a_bridge_host_are_those_of_the_action_and_leave_nothing() {
    let ceph = Ceph::with_snapshot();
    let before = ceph.layout();
    let disk = ceph.cloud.raw("disk.img", 3 * MIB);
    let bridges = Bridges::of(&ceph.cloud, 1);
    bridges.host(1).run("mkdir -p /run/lock");
    let conf = ceph.conf_everywhere();
    let over_bridge = |call: Call<'_>| {
        let call = call.set("DATASTORE/TEMPLATE/CEPH_CONF", conf.to_str().unwrap());
        bridges.bridged(call).run()
    };
    let call = ceph.cp(6, &disk).set("IMAGE/TEMPLATE/SHA256", "0".repeat(64));
    over_bridge(call).refused(Rule::DigestMismatch).naming("IMAGE/TEMPLATE/SHA256");
    let elsewhere = ceph.cp(6, &disk).set("DATASTORE/TEMPLATE/POOL_NAME", "nowhere");
    over_bridge(elsewhere).fails().naming("DATASTORE/TEMPLATE/POOL_NAME").saying("nowhere");
    over_bridge(ceph.snap("snap_revert", 5, 7))
        .fails()
        .for_any_reason()
        .naming("IMAGE/TARGET_SNAPSHOT");
    let open = ceph.open("one-5");
    over_bridge(ceph.snap("snap_flatten", 5, 0)).fails().naming("IMAGE/SOURCE").saying("open");
    drop(open);
    assert_eq!((ceph.layout(), ceph.head("one-5")), (before, "head".to_owned()));
    ceph.is_at_rest();
}

#[test]
fn a_front_end_that_dies_leaves_an_image_that_the_next_call_removes() {
    let ceph = Ceph::new();
    let web = Web::new();
    let disk = ceph.cloud.raw("disk.img", 40 * MIB);
    let url = web.page("disk.img", Page::of(&disk).at_rate(MIB));
    let bridges = Bridges::of(&ceph.cloud, 1);
    bridges.host(1).run("mkdir -p /run/lock");
    let conf = ceph.conf_everywhere();
    let attribute = "DATASTORE/TEMPLATE/CEPH_CONF";
    let conf = conf.to_str().unwrap();
    let call = bridges.bridged(ceph.cp(5, &url).set(attribute, conf));
    let (mut child, input) = call.start();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &input.unwrap()).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !ceph.names().contains(&"one-5.ferrostore".to_owned()) {
        assert!(Instant::now() < until, "the bridge host begins");
        thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    ceph.settle();
    bridges.bridged(ceph.mkfs(6, "raw", 4).set(attribute, conf)).run().succeeds();
    assert_eq!(ceph.names(), ["one-6"]);
}

#[test]
fn a_bridge_host_works_under_the_lock_of_the_front_end() {
    let ceph = Ceph::new();
    ceph.image("one-55", "text");
    let bridges = Bridges::of(&ceph.cloud, 1);
    bridges.host(1).run("mkdir -p /run/lock");
    let path = "/var/lock/one/ferrostore-bridged-104-one-55.lock";
    std::fs::create_dir_all("/var/lock/one").unwrap();
    // As the driver of another call holds it, whose bridge host is another one.
    let mut other = std::process::Command::new("flock").args([path, "sleep", "6"]).spawn().unwrap();
    thread::sleep(Duration::from_secs(1));
    let call = ceph.on_image("rm", 55);
    let call = call.set("DATASTORE/TEMPLATE/CEPH_CONF", ceph.conf_everywhere().to_str().unwrap());
    bridges.bridged(call).run().succeeds();
    assert!(other.try_wait().unwrap().is_some(), "the driver has waited");
    assert_eq!(ceph.names(), [""; 0]);
    assert!(!std::path::Path::new(path).exists());
}
