//! The space that the trash takes: a new image gets as much of it as it needs, and none where it would not fit.

use super::*;
use ferrostore_tests::{Page, Web};
use std::fs::File;

/// What is brought in, and how.
struct Case<'c> {
    what: &'static str,
    call: Call<'c>,
    /// Whether it has to lie in the datastore twice for a while.
    twice: bool,
}

/// Images with so many bytes of data, in every way in which they come.
fn cases<'c>(cloud: &'c Cloud, web: &Web, data: u64) -> Vec<Case<'c>> {
    let noise = noise(cloud, data);
    let other = |format: &str| cloud.converted(&noise, &format!("noise.{format}"), format, "");
    let (qcow2, vmdk, vhdx) = (other("qcow2"), other("vmdk"), other("vhdx"));
    let packed = cloud.compressed(&noise, "gzip");
    let holes = cloud.file("holes.img", fs::read(&noise).unwrap());
    File::options().write(true).open(&holes).unwrap().set_len(8 * data).unwrap();
    let zeroes = [vec![0; 90 * MIB as usize], fs::read(&noise).unwrap()].concat();
    let zeroes = cloud.file("zeroes.img", zeroes);
    let mib = (data / MIB).to_string();
    let reads = [
        ("a raw file", cloud.cp(&noise)),
        ("a raw file, to qcow2", cloud.cp(&noise).driver("qcow2")),
        ("a file with holes", cloud.cp(&holes)),
        ("a file of zeroes", cloud.cp(&zeroes)),
        ("a file of zeroes, to qcow2", cloud.cp(&zeroes).driver("qcow2")),
        ("a qcow2 file", cloud.cp(&qcow2)),
        ("a qcow2 file, to raw", cloud.cp(&qcow2).driver("raw")),
        ("a vmdk file, to raw", cloud.cp(&vmdk).driver("raw")),
        ("a vhdx file, to raw", cloud.cp(&vhdx).driver("raw")),
        ("a vhdx file, to qcow2", cloud.cp(&vhdx).driver("qcow2")),
        ("a gz file", cloud.cp(&packed)),
        ("http", cloud.cp(web.serve(&noise))),
        ("http of a gz file", cloud.cp(web.serve(&packed))),
        ("http of a qcow2 file", cloud.cp(web.serve(&qcow2))),
        ("http of a qcow2 file, to raw", cloud.cp(web.serve(&qcow2)).driver("raw")),
        ("mkfs", cloud.mkfs("raw", &mib).set("DATASTORE/TEMPLATE/SPARSE", "NO")),
    ];
    let twice =
        |what: &str| what == "a vhdx file, to qcow2" || what == "http of a qcow2 file, to raw";
    reads.map(|(what, call)| Case { what, call, twice: twice(what) }).into()
}

#[test]
fn an_image_that_fits_nowhere_costs_the_trash_nothing() {
    let (cloud, web) = (Cloud::with_datastore_on(Disk::Ext4(128 * MIB)), Web::new());
    fill_trash(&cloud, 1..=3, 8 * MIB);
    leave_free(&cloud, 24 * MIB + 20 * MIB);
    // What else a raw download needs is not known.
    let cases = cases(&cloud, &web, 60 * MIB).into_iter().filter(|case| case.what != "http");
    for Case { what, call, .. } in cases {
        let failure = call.run().fails();
        let failure = failure.naming("DATASTORE/BASE_PATH").saying("no space left");
        assert!(failure.outcome.stderr_text().contains("the trash keeps its 24 MiB"), "{what}");
        assert_eq!(cloud.trashed_images(), [1, 2, 3], "{what}");
    }
}

#[test]
fn an_image_that_fits_in_the_place_of_some_costs_no_others() {
    let (cloud, web) = (Cloud::with_datastore_on(Disk::Ext4(128 * MIB)), Web::new());
    for Case { what, call, twice } in cases(&cloud, &web, 30 * MIB) {
        fill_trash(&cloud, 1..=4, 8 * MIB);
        let once_more = if twice { 30 } else { 0 };
        leave_free(&cloud, (32 + 20 + once_more) * MIB);
        let path = call.run().succeeds().text.split_whitespace().next().unwrap().to_owned();
        // Of 30 MiB, 20 were free.
        assert_eq!(cloud.trashed_images(), [3, 4], "{what}");
        cloud.rm(&path).run().succeeds();
        fs::remove_file(cloud.datastore().join("filler")).unwrap();
        cloud.trash("purge", ["--all", "--yes"]).well();
    }
}

#[test]
fn a_copy_that_fits_nowhere_costs_the_trash_nothing() {
    let cloud = Cloud::with_datastore_on(Disk::Ext4(128 * MIB));
    let original = image(&cloud, 90, 60 * MIB);
    fill_trash(&cloud, 1..=2, 5 * MIB);
    leave_free(&cloud, (10 + 10) * MIB);
    for format in ["raw", "qcow2"] {
        cloud.clone_of(&original, "raw").driver(format).run().fails().saying("no space left");
        assert_eq!(cloud.trashed_images(), [1, 2]);
    }
}

#[test]
fn a_raw_download_whose_rest_is_zeroes_takes_what_its_data_need() {
    let (cloud, web) = (Cloud::with_datastore_on(Disk::Ext4(128 * MIB)), Web::new());
    fill_trash(&cloud, 1..=4, 8 * MIB);
    let data = fs::read(noise(&cloud, 30 * MIB)).unwrap();
    let disk = cloud.file("disk.img", [data, vec![0; 90 * MIB as usize]].concat());
    leave_free(&cloud, (32 + 20) * MIB);
    cloud.cp(web.serve(&disk)).run().succeeds();
    assert_eq!(cloud.trashed_images(), [3, 4]);
}

/// How much is yet to come of it, is not known.
#[test]
fn a_page_without_a_length_takes_what_there_is() {
    let (cloud, web) = (Cloud::with_datastore_on(Disk::Ext4(128 * MIB)), Web::new());
    fill_trash(&cloud, 1..=4, 8 * MIB);
    leave_free(&cloud, (32 + 20) * MIB);
    let page = web.page("noise.img", Page::of(noise(&cloud, 30 * MIB)).chunked());
    cloud.cp(page).run().succeeds();
    assert_eq!(cloud.trashed_images(), [3, 4]);
}

#[test]
fn monitor_counts_as_free_what_can_be_freed() {
    let cloud = Cloud::with_datastore_on(Disk::Ext4(64 * MIB));
    let source = image(&cloud, 1, 10 * MIB);
    run("sync", ["-f", cloud.datastore().to_str().unwrap()]);
    let [used, total, free] = monitored(&cloud);
    cloud.rm(&source).keeping("7d").run().succeeds();
    let [used_now, total_now, free_now] = monitored(&cloud);
    assert_eq!(total_now, total);
    assert!((9..=10).contains(&(free_now - free)), "{free} MiB, then {free_now} MiB");
    assert!((9..=10).contains(&(used - used_now)), "{used} MiB, then {used_now} MiB");
}

#[test]
fn a_new_image_that_would_not_fit_drives_out_the_oldest_and_no_more() {
    for disk in [Disk::Ext4(128 * MIB), Disk::Xfs(320 * MIB)] {
        let cloud = Cloud::with_datastore_on(disk);
        let noise = noise(&cloud, 25 * MIB);
        let packed = cloud.compressed(&noise, "gzip");
        let original = image(&cloud, 90, 25 * MIB);
        let calls = [
            ("cp", cloud.cp(&noise)),
            ("cp to qcow2", cloud.cp(&noise).driver("qcow2")),
            ("cp of a gz file", cloud.cp(&packed)),
            ("clone", cloud.clone_of(&original, "raw").driver("qcow2")),
            ("mkfs", cloud.mkfs("raw", "25").set("DATASTORE/TEMPLATE/SPARSE", "NO")),
        ];
        for (what, call) in calls {
            if what == "clone" && matches!(disk, Disk::Xfs(_)) {
                continue; // it shares all blocks, and needs no space
            }
            fill_trash(&cloud, 1..=5, 10 * MIB);
            leave_free(&cloud, 50 * MIB + 13 * MIB);
            let reply = call.run().succeeds();
            // Of 25 MiB, 13 were free. The rest takes two of 10 MiB, and file systems keep some space for themselves.
            let said = reply.outcome.stderr_text();
            assert_eq!(cloud.trashed_images(), [3, 4, 5], "{what}, {disk:?}: {said}");
            assert!(reply.outcome.stderr_text().contains("because its space is needed"), "{what}");
            let path = reply.text.split_whitespace().next().unwrap().to_owned();
            if what == "cp" {
                same_bytes(&noise, &path);
            }
            cloud.rm(&path).run().succeeds();
            fs::remove_file(cloud.datastore().join("filler")).unwrap();
            cloud.trash("purge", ["--all", "--yes"]).well();
        }
    }
}

#[test]
fn a_file_system_is_made_in_the_space_of_the_trash() {
    let cloud = Cloud::with_datastore_on(Disk::Ext4(256 * MIB));
    fill_trash(&cloud, 1..=10, 10 * MIB);
    leave_free(&cloud, 100 * MIB + MIB);
    // Its log takes 64 MiB.
    let path = cloud.mkfs("raw", "300").set("IMAGE/FS", "xfs").run().succeeds().line().to_owned();
    run("xfs_repair", ["-n", "-f", &path]);
    let left = cloud.trashed_images();
    assert!(!left.is_empty() && left.len() < 10 && left.last() == Some(&10), "{left:?}");
}

#[test]
fn files_that_may_not_be_made_any_more_are_made_in_the_place_of_the_oldest() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(64 * MIB));
    fill_trash(&cloud, 1..=3, 100 * KIB);
    let used: u64 = String::from_utf8(
        run("df", ["--output=iused", cloud.datastore().to_str().unwrap()]).stdout,
    )
    .unwrap()
    .lines()
    .nth(1)
    .unwrap()
    .trim()
    .parse()
    .unwrap();
    let limit = format!("remount,nr_inodes={}", used + 1);
    run("mount", ["-o", &limit, cloud.datastore().to_str().unwrap()]);
    cloud.cp(noise(&cloud, 100 * KIB)).run().succeeds();
    assert_eq!(cloud.trashed_images(), [2, 3]);
}

#[test]
fn deleting_works_on_a_full_disk() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(16 * MIB));
    fill_trash(&cloud, [1], MIB);
    let [second, third] = [2, 3].map(|id| image(&cloud, id, MIB));
    let full = cloud.datastore().join("filler");
    let _ = fs::write(&full, vec![1; 16 * MIB as usize]);
    let inodes = |count: u32| {
        let limit = format!("remount,nr_inodes={count}");
        run("mount", ["-o", &limit, cloud.datastore().to_str().unwrap()]);
    };
    inodes(9);
    // What has been there for longer goes for it.
    cloud.rm(&second).image_id(2).keeping("7d").run().succeeds();
    assert_eq!(cloud.trashed_images(), [2]);
    cloud.trash("purge", ["--all", "--yes"]).well();
    fs::write(cloud.datastore().join("x"), "").unwrap();
    inodes(5);
    // There is nothing else to go.
    cloud.rm(&third).image_id(3).keeping("7d").run().succeeds();
    assert!(!Path::new(&third).exists());
    assert_eq!(cloud.trashed_images(), [0; 0]);
}
