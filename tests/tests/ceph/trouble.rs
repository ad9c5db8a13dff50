//! Clusters that are full, broken, out of reach, or not for this user: no call hangs, and each says what is wrong.

use ferrostore_tests::{Call, Ceph, MIB, Outcome, Web, pattern};
use std::thread;
use std::time::{Duration, Instant};

/// Runs a call that must fail, and soon.
fn soon(call: Call, seconds: u64) -> ferrostore_tests::Failure {
    let start = Instant::now();
    let outcome: Outcome = call.run();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(seconds), "{took:?}: {}", outcome.stderr_text());
    let failure = outcome.fails();
    assert!(
        !failure.text.contains("keyring on") && !failure.text.contains("AuthRegistry"),
        "{}",
        failure.text
    );
    failure
}

#[test]
fn a_pool_at_its_quota_is_named_and_takes_images_again_once_it_may() {
    let ceph = Ceph::new();
    ceph.cp(4, ceph.cloud.file("first.img", pattern(2, 12 * MIB as usize))).run().succeeds();
    ceph.ceph(["osd", "pool", "set-quota", ceph.pool(), "max_bytes", "8388608"]);
    // The monitors notice within seconds.
    let until = Instant::now() + Duration::from_secs(60);
    while !ceph.ceph(["health", "detail"]).contains(&format!("'{}'", ceph.pool())) {
        assert!(Instant::now() < until, "the quota is noticed");
        thread::sleep(Duration::from_millis(300));
    }
    let file = ceph.cloud.file("disk.img", pattern(1, 20 * MIB as usize));
    let failure = soon(ceph.cp(5, &file), 70);
    failure.naming("DATASTORE/TEMPLATE/POOL_NAME").saying("quota").saying("set-quota");
    ceph.ceph(["osd", "pool", "set-quota", ceph.pool(), "max_bytes", "0"]);
    let until = Instant::now() + Duration::from_secs(60);
    while ceph.ceph(["health", "detail"]).contains(&format!("'{}'", ceph.pool())) {
        assert!(Instant::now() < until, "the quota is gone");
        thread::sleep(Duration::from_millis(300));
    }
    ceph.settle();
    ceph.cp(5, &file).run().succeeds();
    assert_eq!(ceph.names(), ["one-4", "one-5"]);
    ceph.is_at_rest();
}

#[test]
fn an_osd_that_stops_in_the_middle_of_a_write_ends_the_call() {
    let ceph = Ceph::alone();
    let file = ceph.cloud.file("disk.img", pattern(1, 60 * MIB as usize));
    // It takes about 6 s.
    let web = Web::new();
    let call = ceph.cp(5, web.serve(&file)).set("DATASTORE/TEMPLATE/LIMIT_TRANSFER_BW", "10M");
    let failure = thread::scope(|scope| {
        let failure = scope.spawn(|| soon(call, 100));
        thread::sleep(Duration::from_secs(3));
        ceph.daemon("stop", "osd");
        failure.join()
    });
    let before = soon(ceph.mkfs(6, "raw", 4), 100);
    ceph.daemon("start", "osd");
    let failure = failure.expect("it fails in time");
    failure.naming("DATASTORE/TEMPLATE/POOL_NAME").saying("OSDs don't answer");
    before.naming("DATASTORE/TEMPLATE/POOL_NAME").saying("OSDs don't answer");
    ceph.settle();
    ceph.cp(7, &file).run().succeeds();
    assert_eq!(ceph.names(), ["one-7"]);
    ceph.is_at_rest();
}

#[test]
fn monitors_that_do_not_answer_are_named_by_the_configuration() {
    let ceph = Ceph::alone();
    ceph.image("one-5", "five");
    ceph.daemon("stop", "mon");
    let file = ceph.cloud.raw("disk.img", 2 * MIB);
    let calls = [
        ceph.cp(6, &file),
        ceph.on_image("rm", 5),
        ceph.call("monitor", 0),
        ceph.snap("snap_delete", 5, 0),
    ];
    let failures = thread::scope(|scope| {
        let started = calls.map(|call| scope.spawn(|| soon(call, 60)));
        started.map(thread::ScopedJoinHandle::join)
    });
    ceph.daemon("start", "mon");
    for failure in failures {
        failure
            .expect("it fails in time")
            .naming("DATASTORE/TEMPLATE/CEPH_CONF")
            .saying("monitors");
    }
    assert_eq!(ceph.names(), ["one-5"]);
}

#[test]
fn keys_users_and_pools_that_the_cluster_does_not_know_are_named() {
    let ceph = Ceph::new();
    let template = |name: &str| format!("DATASTORE/TEMPLATE/{name}");
    let key = ceph.user("keyed", "profile rbd", &format!("profile rbd pool={}", ceph.pool()));
    let wrong = ceph.cloud.root().join("wrong.key");
    std::fs::write(&wrong, "AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==").unwrap();
    let missing = ceph.cloud.root().join("missing.key");
    for action in ["mkfs", "monitor"] {
        let call =
            || if action == "mkfs" { ceph.mkfs(5, "raw", 4) } else { ceph.call("monitor", 0) };
        let keyed = |key: &std::path::Path| {
            call()
                .set(&template("CEPH_USER"), "keyed")
                .set(&template("CEPH_KEY"), key.to_str().unwrap())
        };
        keyed(&key).run().succeeds();
        if action == "mkfs" {
            ceph.on_image("rm", 5).run().succeeds();
        }
        soon(keyed(&wrong), 30).naming(&template("CEPH_KEY")).saying("does not let client.keyed");
        soon(keyed(&missing), 30).naming(&template("CEPH_KEY")).saying("does not let client.keyed");
        soon(call().set(&template("CEPH_USER"), "stranger"), 30)
            .naming(&template("CEPH_USER"))
            .saying("can't log in");
        soon(call().set(&template("POOL_NAME"), "nowhere"), 60)
            .naming(&template("POOL_NAME"))
            .saying("nowhere");
    }
    ceph.is_at_rest();
}

#[test]
fn a_user_without_the_right_capabilities_is_told_which_it_needs() {
    let ceph = Ceph::new();
    ceph.image("one-5", "five");
    let key = ceph.user("elsewhere", "profile rbd", "profile rbd pool=data");
    for call in [ceph.mkfs(6, "raw", 4), ceph.on_image("rm", 5), ceph.snap("snap_revert", 5, 0)] {
        let call = call
            .set("DATASTORE/TEMPLATE/CEPH_USER", "elsewhere")
            .set("DATASTORE/TEMPLATE/CEPH_KEY", key.to_str().unwrap());
        soon(call, 30).naming("DATASTORE/TEMPLATE/CEPH_USER").saying("profile rbd");
    }
    assert_eq!(ceph.layout(), ["one-5 []"]);
}

#[test]
fn what_descends_in_a_pool_that_the_user_may_not_see_keeps_the_image() {
    let ceph = Ceph::new();
    ceph.image("one-5", "s0");
    ceph.take_snapshot("one-5", "0");
    let other = format!("{}b", ceph.pool());
    ceph.make_pool(&other);
    ceph.rbd(["clone", &format!("{}@0", ceph.spec("one-5")), &format!("{other}/hidden")]);
    let key = ceph.user("narrow", "profile rbd", &format!("profile rbd pool={}", ceph.pool()));
    let before = ceph.layout();
    for call in
        [ceph.on_image("rm", 5), ceph.snap("snap_delete", 5, 0), ceph.snap("snap_flatten", 5, 0)]
    {
        let call = call
            .set("DATASTORE/TEMPLATE/CEPH_USER", "narrow")
            .set("DATASTORE/TEMPLATE/CEPH_KEY", key.to_str().unwrap());
        soon(call, 60).saying("that CEPH_USER may not see");
    }
    assert_eq!(ceph.layout(), before);
}

#[test]
fn a_client_that_was_killed_does_not_keep_the_next_driver_for_long() {
    let ceph = Ceph::new();
    ceph.rbd(["create", "--size", "8M", &ceph.spec("one-5.ferrostore")]);
    let open = ceph.open("one-5.ferrostore");
    // One that lives, wherever that is, is left alone.
    ceph.mkfs(6, "raw", 4).run().succeeds();
    assert_eq!(ceph.names(), ["one-5.ferrostore", "one-6"]);
    drop(open);
    ceph.settle();
    ceph.mkfs(7, "raw", 4).run().succeeds();
    assert_eq!(ceph.names(), ["one-6", "one-7"]);
}

#[test]
fn a_manager_without_statistics_is_an_error_and_no_zeroes() {
    let ceph = Ceph::alone();
    ceph.daemon("stop", "mgr");
    // The monitors remember what the manager knew, but not of a pool that it has never seen.
    let new = format!("{}new", ceph.pool());
    ceph.ceph(["osd", "pool", "create", &new, "1", "1"]);
    let call = || ceph.call("monitor", 0).set("DATASTORE/TEMPLATE/POOL_NAME", &new);
    let failure = soon(call(), 60);
    ceph.daemon("start", "mgr");
    failure.naming("DATASTORE/TEMPLATE/POOL_NAME").saying(&new).saying("active manager");
    let until = Instant::now() + Duration::from_secs(90);
    while call().run().status.code() != Some(0) {
        assert!(Instant::now() < until, "the manager serves again");
    }
}

#[test]
fn a_cluster_that_is_full_ends_the_call_and_says_so() {
    let ceph = Ceph::alone();
    let file = ceph.cloud.file("disk.img", pattern(1, 20 * MIB as usize));
    ceph.cp(4, &file).run().succeeds();
    let ratio = |full: &str, nearly: &str| {
        // In the order that keeps each below the next.
        for (what, value) in [("nearfull", nearly), ("backfillfull", nearly), ("full", full)] {
            ceph.ceph(["osd", &format!("set-{what}-ratio"), value]);
        }
    };
    let own = format!("pool '{}' is full", ceph.pool());
    let is_full = || ceph.ceph(["health", "detail"]).contains(&own);
    let wait = |full: bool| {
        let until = Instant::now() + Duration::from_secs(90);
        while is_full() != full {
            assert!(Instant::now() < until, "full: {full}");
            thread::sleep(Duration::from_millis(300));
        }
    };
    ratio("0.0002", "0.0001");
    wait(true);
    let failures = [soon(ceph.cp(5, &file), 70), soon(ceph.mkfs(6, "raw", 4), 70)];
    ratio("0.95", "0.85");
    wait(false);
    for failure in failures {
        failure.naming("DATASTORE/TEMPLATE/POOL_NAME").saying("full");
    }
    ceph.settle();
    ceph.cp(5, &file).run().succeeds();
    ceph.on_image("rm", 4).run().succeeds();
    assert_eq!(ceph.names(), ["one-5"]);
    ceph.is_at_rest();
}

#[test]
fn a_user_who_may_only_read_is_told_so_and_changes_nothing() {
    let ceph = Ceph::with_snapshot();
    let before = ceph.layout();
    let key =
        ceph.user("reading", "profile rbd", &format!("profile rbd-read-only pool={}", ceph.pool()));
    let file = ceph.cloud.raw("disk.img", 2 * MIB);
    for call in [
        ceph.cp(6, &file),
        ceph.mkfs(6, "raw", 4),
        ceph.clone_of(6, &ceph.spec("one-5")),
        ceph.on_image("rm", 5),
        ceph.snap("snap_revert", 5, 0),
        ceph.snap("snap_flatten", 5, 0),
        ceph.snap("snap_delete", 5, 0),
    ] {
        let call = call
            .set("DATASTORE/TEMPLATE/CEPH_USER", "reading")
            .set("DATASTORE/TEMPLATE/CEPH_KEY", key.to_str().unwrap());
        soon(call, 60).saying("CEPH_USER").saying_any(&["may not do this", "may not see"]);
    }
    assert_eq!((ceph.layout(), ceph.head("one-5")), (before, "head".to_owned()));
}
