//! Who can read the file of a new image.

use ferrostore_tests::{Call, Cloud, MIB};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn mode(image: &Path) -> u32 {
    fs::metadata(image).unwrap().permissions().mode() & 0o7777
}

/// The modes of the images that `cp`, `mkfs` and `clone` make under a umask.
fn modes(cloud: &Cloud, umask: &str) -> [u32; 4] {
    let disk = cloud.raw("disk.img", MIB);
    let script = format!("umask {umask}; exec \"$0\" \"$@\"");
    let run = |call: Call| call.under(["sh", "-c", &script]).run().succeeds();
    let raw = run(cloud.cp(&disk)).image("raw");
    let clone = run(cloud.clone_of(&raw, "raw")).image("raw");
    let qcow2 = run(cloud.cp(&disk).driver("qcow2")).image("qcow2");
    let empty = run(cloud.mkfs("raw", "1")).empty_image();
    [raw, clone, qcow2, empty].map(|image| mode(&image))
}

#[test]
fn a_new_image_is_for_its_owner_and_its_group_within_the_umask() {
    let cloud = Cloud::new();
    for (umask, expected) in [("022", 0o640), ("002", 0o660), ("077", 0o600)] {
        assert_eq!(modes(&cloud, umask), [expected; 4], "{umask}");
    }
}

#[test]
fn the_administrator_can_give_new_images_a_mode_whatever_the_umask() {
    let cloud = Cloud::new();
    for (value, expected) in [("0644", 0o644), ("\"660\"", 0o660), ("0600 # private", 0o600)] {
        cloud.datastore_conf(&format!("IMAGE_MODE={value}\n"));
        for umask in ["022", "077"] {
            assert_eq!(modes(&cloud, umask), [expected; 4], "{value} {umask}");
        }
    }
    cloud.datastore_conf("IMAGE_MODE=\n");
    assert_eq!(modes(&cloud, "022"), [0o640; 4]);
}

#[test]
fn a_mode_that_makes_no_sense_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for value in ["rw-r--r--", "0755", "0444", "4660", "0o644", "648", "-1"] {
        cloud.datastore_conf(&format!("IMAGE_MODE={value}\n"));
        for call in [cloud.cp(&disk), cloud.mkfs("raw", "1")] {
            call.run().fails().saying("IMAGE_MODE").saying(value).saying("datastore.conf");
        }
    }
}
