//! What lies in a datastore and is no image.

use crate::{name, two_images};
use ferrostore_tests::{Cloud, MIB};
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

#[test]
fn snapshots_without_an_image_are_damage() {
    let cloud = Cloud::new();
    fs::create_dir(cloud.datastore().join(name(7) + ".snap")).unwrap();
    let what = "these snapshots belong to no image";
    let examination = cloud.fsck().run().finds("damage", &(name(7) + ".snap"), what).images(0);
    assert_eq!(examination.entry(&(name(7) + ".snap"))["role"], "part");
}

#[test]
fn a_directory_of_snapshots_without_any_is_a_warning() {
    let cloud = Cloud::new();
    two_images(&cloud);
    fs::create_dir(cloud.datastore().join(name(1) + ".snap")).unwrap();
    cloud.fsck().run().finds("warning", &name(1), "holds no snapshot");
}

#[test]
fn a_digest_is_stale_where_its_image_is_newer_or_gone() {
    let cloud = Cloud::new();
    let [raw, _] = two_images(&cloud);
    let digest = cloud.datastore().join(name(1) + ".md5sum");
    fs::write(&digest, "0123456789abcdef0123456789abcdef\n").unwrap();
    cloud.fsck().run().clean();
    let later = SystemTime::now() + Duration::from_secs(60);
    let file = File::options().write(true).open(&raw).unwrap();
    file.set_times(FileTimes::new().set_modified(later)).unwrap();
    cloud.fsck().run().finds("warning", &name(1), ".md5sum is older than the image");
    fs::remove_file(&raw).unwrap();
    cloud.fsck().run().finds("warning", &(name(1) + ".md5sum"), "belongs to no image");
}

#[test]
fn what_is_named_as_no_image_is_a_warning() {
    let cloud = Cloud::new();
    two_images(&cloud);
    fs::write(cloud.datastore().join("backup.tar"), "x").unwrap();
    cloud.fsck().run().finds("warning", "backup.tar", "not the name of an image").images(2);
    fs::remove_file(cloud.datastore().join("backup.tar")).unwrap();
    fs::create_dir(cloud.datastore().join(name(5))).unwrap();
    cloud.fsck().run().finds("warning", &name(5), "directory").images(2);
}

#[test]
fn what_opennebula_and_file_systems_put_there_is_no_problem() {
    let cloud = Cloud::new();
    fs::write(cloud.datastore().join(".automounted"), "").unwrap();
    fs::create_dir(cloud.datastore().join("lost+found")).unwrap();
    cloud.fsck().run().clean().images(0);
}

#[test]
fn a_name_of_any_bytes_is_told_in_one_line() {
    let cloud = Cloud::new();
    for odd in [&b"a\nb 1 images, 0 problems"[..], b"\xff\xfe", b"\"\\\t"] {
        fs::write(cloud.datastore().join(std::ffi::OsStr::from_bytes(odd)), "x").unwrap();
    }
    let examination = cloud.fsck().run();
    assert_eq!(examination.json["problems"], 3);
    assert_eq!(examination.text.lines().count(), 7, "{}", examination.text);
}

#[test]
fn the_work_of_a_live_driver_is_no_left_over() {
    let cloud = Cloud::new();
    let raw = cloud.raw("disk.img", MIB);
    let outcome = cloud.cp(&raw).paused_at("fsync", || {
        assert!(cloud.work_directory().exists());
        cloud.fsck().run().clean();
    });
    outcome.succeeds().image("raw");
}

#[test]
fn what_a_killed_driver_leaves_is_a_left_over() {
    let cloud = Cloud::new();
    let raw = cloud.raw("disk.img", MIB);
    cloud.cp(&raw).killed_leaving("staging");
    let examination = cloud.fsck().run();
    assert_eq!(examination.code, 2, "{}", examination.text);
    assert!(examination.text.contains("a driver that was killed"), "{}", examination.text);
    cloud.monitor().run().succeeds();
    cloud.fsck().run().clean();
}
