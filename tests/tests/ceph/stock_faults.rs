//! What OpenNebula's own drivers for Ceph get wrong: each of these loses an image, or space, with them.

use ferrostore_tests::{Ceph, MIB, Rule, pattern, run};

#[test]
fn a_revert_to_a_snapshot_that_does_not_exist_changes_nothing() {
    let ceph = Ceph::with_snapshot();
    ceph.snap("snap_revert", 5, 7)
        .run()
        .refused(Rule::NoSuchRbdSnapshot)
        .naming("IMAGE/TARGET_SNAPSHOT")
        .saying("0");
    assert_eq!(
        (ceph.layout(), ceph.head("one-5")),
        (vec!["one-5 [0*]".to_owned()], "head".to_owned())
    );
    let plain = Ceph::new();
    plain.image("one-5", "head");
    plain
        .snap("snap_revert", 5, 0)
        .run()
        .refused(Rule::NoSuchRbdSnapshot)
        .naming("IMAGE/TARGET_SNAPSHOT");
    assert_eq!(plain.head("one-5"), "head");
}

#[test]
fn a_flatten_that_fails_changes_nothing() {
    let ceph = Ceph::with_snapshot();
    let before = ceph.layout();
    ceph.snap("snap_flatten", 5, 7)
        .run()
        .refused(Rule::NoSuchRbdSnapshot)
        .naming("IMAGE/TARGET_SNAPSHOT");
    // Its name is taken by an image that no driver has left.
    let log = ceph.cloud.root().join("log");
    let inject = "inject=clone,vfork,clone3:error=EAGAIN:when=";
    for step in 1..=7 {
        let call = ceph.snap("snap_flatten", 5, 0);
        let arguments =
            ["strace", "-qq", "-o", log.to_str().unwrap(), "-e", &format!("{inject}{step}")];
        let outcome = call.under(arguments).run();
        if outcome.status.code() == Some(0) {
            break;
        }
        let layout = ceph.layout();
        let done = layout == ["one-5 []"];
        assert!(done || layout.iter().any(|line| line.starts_with("one-5 ")), "{step}: {layout:?}");
        if layout != before {
            break;
        }
        assert_eq!(ceph.head("one-5"), "head", "{step}");
    }
}

#[test]
fn what_an_interrupted_flatten_left_is_not_taken_for_another_snapshot() {
    let ceph = Ceph::with_snapshot();
    ceph.write("one-5", "next");
    ceph.take_snapshot("one-5", "1");
    ceph.clone_snapshot("one-5", "0", "one-5.ferrostore");
    ceph.snap("snap_flatten", 5, 1).run().succeeds();
    assert_eq!(
        (ceph.layout(), ceph.head("one-5")),
        (vec!["one-5 []".to_owned()], "next".to_owned())
    );
}

#[test]
fn rm_deletes_no_clone_of_others() {
    let ceph = Ceph::with_snapshot();
    ceph.clone_snapshot("one-5", "0", "stranger");
    ceph.on_image("rm", 5).run().fails().naming("IMAGE/SOURCE").saying("stranger");
    assert_eq!(ceph.layout(), ["one-5 [0*]", "stranger [] < one-5@0"]);
}

#[test]
fn nothing_of_a_reverted_image_stays_outside_the_trash() {
    let ceph = Ceph::with_snapshot();
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.on_image("rm", 5).set("DATASTORE/TEMPLATE/CEPH_TRASH", "YES").run().succeeds();
    assert_eq!(ceph.names(), [""; 0]);
    ceph.rbd(["trash", "purge", "--no-progress", ceph.pool()]);
    assert_eq!(ceph.rbd(["trash", "ls", ceph.pool()]), "");
}

#[test]
fn a_snapshot_is_not_called_deleted_while_it_is_there() {
    let ceph = Ceph::with_snapshot();
    ceph.clone_snapshot("one-5", "0", "stranger");
    ceph.snap("snap_delete", 5, 0).run().fails().naming("IMAGE/TARGET_SNAPSHOT").saying("stranger");
    assert_eq!(ceph.layout()[0], "one-5 [0*]");
}

#[test]
fn a_flattened_image_keeps_its_data_pool() {
    let ceph = Ceph::new();
    ceph.rbd(["create", "--size", "8M", "--data-pool", "data", &ceph.spec("one-5")]);
    ceph.take_snapshot("one-5", "0");
    ceph.snap("snap_flatten", 5, 0).run().succeeds();
    let info = ceph.rbd(["info", &ceph.spec("one-5")]);
    assert!(info.contains("data_pool: data"), "{info}");
}

#[test]
fn a_flatten_of_an_open_image_changes_nothing() {
    let ceph = Ceph::with_snapshot();
    let open = ceph.open("one-5");
    ceph.snap("snap_flatten", 5, 0).run().fails().naming("IMAGE/SOURCE").saying("open");
    drop(open);
    assert_eq!(
        (ceph.layout(), ceph.head("one-5")),
        (vec!["one-5 [0*]".to_owned()], "head".to_owned())
    );
    ceph.snap("snap_flatten", 5, 0).run().succeeds();
}

#[test]
fn an_image_can_be_reverted_after_an_incremental_backup() {
    let ceph = Ceph::with_snapshot();
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.take_snapshot("one-5", "one_backup_0");
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    assert_eq!(ceph.head("one-5"), "s0");
}

#[test]
fn no_compressed_bytes_become_a_disk() {
    let ceph = Ceph::new();
    let bytes = pattern(1, 2 * MIB as usize);
    let raw = ceph.cloud.file("disk.img", &bytes);
    for (id, (program, end)) in
        (5..).zip([("xz", "xz"), ("bzip2", "bz2"), ("zstd", "zst"), ("gzip", "gz")])
    {
        let name = raw.to_str().unwrap();
        run("sh", ["-c", &format!("{program} -qc {name} > {name}.{end}")]);
        ceph.cp(id, format!("{name}.{end}")).run().succeeds();
        assert!(ceph.content(&format!("one-{id}")) == bytes, "{end}");
    }
}

#[test]
fn a_stream_that_breaks_off_is_no_image() {
    let ceph = Ceph::new();
    let file = ceph.cloud.file("disk.img", pattern(1, 3 * MIB as usize));
    let gz = ceph.cloud.images().join("disk.img.gz");
    run("gzip", ["-k".as_ref(), file.as_os_str()]);
    let whole = std::fs::read(&gz).unwrap();
    std::fs::write(&gz, &whole[..whole.len() / 2]).unwrap();
    ceph.cp(5, &gz).run().refused(Rule::DamagedData).naming("IMAGE/PATH");
    assert_eq!(ceph.names(), [""; 0]);
    ceph.is_at_rest();
}
