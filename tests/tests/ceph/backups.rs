//! Backups, which OpenNebula's downloader brings as an archive of exports.

use ferrostore_tests::{Ceph, run, write_script};
use std::fs;
use std::path::PathBuf;

/// A backup of an image with two increments; the folder with its parts.
fn backup(ceph: &Ceph) -> PathBuf {
    let folder = ceph.cloud.root().join("backup");
    fs::create_dir(&folder).unwrap();
    ceph.image("original", "full");
    let spec = ceph.spec("original");
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    ceph.take_snapshot("original", "one_backup_0");
    ceph.rbd(["export", "--no-progress", "--export-format", "2", &spec, &file("disk.0.0.rbd2")]);
    for (number, text) in [(1, "one1"), (2, "two2")] {
        ceph.write("original", text);
        let snapshot = format!("one_backup_{number}");
        ceph.take_snapshot("original", &snapshot);
        let last = format!("one_backup_{}", number - 1);
        let spec = format!("{spec}@{snapshot}");
        let to = file(&format!("disk.0.{number}.rbdiff"));
        ceph.rbd(["export-diff", "--no-progress", "--from-snap", &last, &spec, &to]);
    }
    folder
}

/// Has the downloader send the archive of these files, made by `tar` with `options`.
fn downloader(ceph: &Ceph, folder: &std::path::Path, options: &str, names: &[&str]) {
    let archive = ceph.cloud.root().join("archive");
    let mut arguments: Vec<String> = vec![
        options.into(),
        archive.to_str().unwrap().into(),
        "-C".into(),
        folder.to_str().unwrap().into(),
    ];
    arguments.extend(names.iter().map(|name| (*name).to_owned()));
    run("tar", arguments);
    write_script(ceph.cloud.downloader(), &format!("exec cat '{}'", archive.display()));
}

const PATH: &str = "restic+rbd://100/5/0/bj-5/0,1,2/var/lib/one/datastores/100/5/disk.0";

#[test]
fn a_backup_with_increments_is_restored_in_whatever_order_they_come() {
    let ceph = Ceph::new();
    let folder = backup(&ceph);
    let parts = ["disk.0.0.rbd2", "disk.0.1.rbdiff", "disk.0.2.rbdiff"];
    let orders = [[0, 1, 2], [2, 1, 0], [1, 0, 2]];
    for (id, (order, options)) in (5..).zip(orders.into_iter().zip(["-czf", "-cf", "-cJf"])) {
        downloader(&ceph, &folder, options, &order.map(|part| parts[part]));
        ceph.cp(id, PATH)
            .run()
            .succeeds()
            .replies(&format!("{} raw", ceph.spec(&format!("one-{id}"))));
        assert_eq!(ceph.head(&format!("one-{id}")), "two2");
    }
    downloader(&ceph, &folder, "-czf", &parts[..1]);
    ceph.cp(8, PATH.replace("restic", "rsync")).run().succeeds();
    assert_eq!(ceph.head("one-8"), "full");
    let layout = ceph.layout();
    assert_eq!(layout[..4], ["one-5 []", "one-6 []", "one-7 []", "one-8 []"]);
    ceph.is_at_rest();
}

#[test]
fn a_backup_that_is_not_whole_is_no_image() {
    let ceph = Ceph::new();
    let folder = backup(&ceph);
    let before = ceph.names();
    for names in [&["disk.0.1.rbdiff"][..], &["disk.0.0.rbd2", "disk.0.2.rbdiff"]] {
        downloader(&ceph, &folder, "-czf", names);
        ceph.cp(5, PATH).run().fails().naming("IMAGE/PATH").saying("part");
    }
    downloader(&ceph, &folder, "-cf", &["disk.0.0.rbd2", "disk.0.1.rbdiff"]);
    let archive = ceph.cloud.root().join("archive");
    let whole = fs::read(&archive).unwrap();
    let first = std::str::from_utf8(&whole[124..135]).unwrap();
    let first = usize::from_str_radix(first, 8).unwrap();
    let second = 512 + first.next_multiple_of(512);
    // In a header, in a part, at the end of one.
    for length in [100, 600, second, second + 100, second + 520] {
        fs::write(&archive, &whole[..length]).unwrap();
        ceph.cp(5, PATH)
            .run()
            .fails()
            .naming("IMAGE/PATH")
            .saying_any(&["is no tar archive, or damaged", "the backup ends too early"]);
    }
    assert_eq!(ceph.names(), before, "of {} bytes", whole.len());
    ceph.is_at_rest();
}

#[test]
fn a_restore_that_is_told_to_stop_between_two_parts_leaves_nothing() {
    let ceph = Ceph::new();
    let folder = backup(&ceph);
    let before = ceph.names();
    downloader(&ceph, &folder, "-cf", &["disk.0.0.rbd2", "disk.0.1.rbdiff", "disk.0.2.rbdiff"]);
    // The pool is listed, the export and the first increment are imported.
    let call = ceph.with_rbd(ceph.cp(5, PATH), "[ $number != 3 ] || sleep 2");
    ceph.stop_when(&call, || ceph.programs() >= 3);
    assert_eq!(ceph.names(), before);
}
