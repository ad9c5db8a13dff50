//! `monitor`: how full the datastore is.

use ferrostore_tests::{Cloud, Disk, MIB, Rule, pattern, run};
use std::fs;

/// The three numbers of a reply, after checking its form.
fn numbers(reply: &str) -> [u64; 3] {
    let lines: Vec<_> = reply.lines().collect();
    assert_eq!(lines.len(), 3, "{reply}");
    assert!(reply.ends_with('\n'));
    ["USED_MB", "TOTAL_MB", "FREE_MB"].map(|name| {
        let line = lines.iter().find(|line| line.starts_with(name)).expect(name);
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).expect(line);
        value.parse().expect(value)
    })
}

#[test]
fn the_lines_come_in_the_order_of_the_contract() {
    let cloud = Cloud::new();
    let reply = cloud.monitor().run().succeeds();
    let names: Vec<_> = reply.text.lines().map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(names, ["USED_MB", "TOTAL_MB", "FREE_MB"]);
    reply.changing_nothing();
}

#[test]
fn the_numbers_are_those_of_the_file_system() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(16 * MIB));
    assert_eq!(numbers(&cloud.monitor().run().succeeds().text), [0, 16, 16]);
    fs::write(cloud.datastore().join("image"), pattern(1, 5 * MIB as usize)).unwrap();
    assert_eq!(numbers(&cloud.monitor().run().succeeds().text), [5, 16, 11]);
}

#[test]
fn the_numbers_are_those_of_df() {
    let cloud = Cloud::on(Disk::Ext4(300 * MIB));
    fs::write(cloud.datastore().join("image"), pattern(1, 50 * MIB as usize)).unwrap();
    run("sync", ["-f", cloud.datastore().to_str().unwrap()]);
    let output =
        run("df", ["-B1", "--output=used,size,avail", cloud.datastore().to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    let df: Vec<u64> = text
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .map(|bytes| bytes.parse::<u64>().unwrap() / MIB)
        .collect();
    for (ours, theirs) in numbers(&cloud.monitor().run().succeeds().text).into_iter().zip(df) {
        assert!(ours.abs_diff(theirs) <= 1, "{ours} MiB and {theirs} MiB");
    }
}

#[test]
fn a_missing_base_path_is_created() {
    let cloud = Cloud::new();
    fs::remove_dir_all(cloud.root().join("one/var/datastores")).unwrap();
    let reply = cloud.monitor().run().succeeds();
    assert!(numbers(&reply.text)[1] > 0);
    assert!(cloud.datastore().is_dir());
}

#[test]
fn a_base_path_that_can_t_be_is_named() {
    let cloud = Cloud::new();
    let file = cloud.file("a file", "x");
    for path in [file.to_str().unwrap(), "/proc/nothing/here", "relative/path"] {
        cloud
            .monitor()
            .set("DATASTORE/BASE_PATH", path)
            .run()
            .refused_by_any(&[Rule::CantBeCreated, Rule::NotValid])
            .naming("DATASTORE/BASE_PATH")
            .saying(path);
    }
}

#[test]
fn a_full_datastore_is_measured_too() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(MIB));
    let _ = fs::write(cloud.datastore().join("image"), vec![1; MIB as usize]);
    assert_eq!(numbers(&cloud.monitor().run().succeeds().text), [1, 1, 0]);
}

#[test]
fn a_read_only_datastore_is_measured_too() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(2 * MIB));
    run("mount", ["-o", "remount,ro", cloud.datastore().to_str().unwrap()]);
    assert_eq!(numbers(&cloud.monitor().run().succeeds().text), [0, 2, 2]);
}

#[test]
fn files_datastores_are_measured_like_others() {
    let cloud = Cloud::new();
    let reply = cloud.monitor().files_datastore().run().succeeds();
    assert!(numbers(&reply.text)[1] > 0);
}
