//! `clone`: a copy of an image that is in a datastore already.

use ferrostore_tests::{
    Cloud, Disk, MIB, Rule, allocated, pattern, qemu_img_check, run, same_bytes, same_content,
};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};

#[test]
fn an_image_is_copied_in_its_own_format() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    let raw = cloud.stored(1, &disk);
    let copy = cloud.clone_of(&raw, "raw").run().succeeds().image("raw");
    same_bytes(&disk, copy);
    for options in ["compat=0.10", "cluster_size=512", "cluster_size=2M", "extended_l2=on"] {
        let image = cloud.qcow2(&disk, "disk.qcow2", options);
        let stored = cloud.stored(2, &image);
        let copy = cloud.clone_of(&stored, "qcow2").run().succeeds().image("qcow2");
        qemu_img_check(&copy);
        same_content(&disk, "raw", copy, "qcow2");
    }
    same_bytes(&disk, raw);
}

#[test]
fn the_format_is_replied_without_a_driver_too() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let stored = cloud.stored(1, &disk);
    // `image` checks the format; stock leaves it out here.
    cloud.clone_of(&stored, "raw").driver("").run().succeeds().image("raw");
    cloud
        .clone_of(&stored, "raw")
        .without("DATASTORE/TEMPLATE/DRIVER")
        .run()
        .succeeds()
        .image("raw");
}

#[test]
fn an_image_is_converted_to_what_the_datastore_wants() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    let raw = cloud.stored(1, &disk);
    let copy = cloud.clone_of(&raw, "raw").driver("qcow2").run().succeeds().image("qcow2");
    qemu_img_check(&copy);
    same_content(&disk, "raw", copy, "qcow2");
    for compressed in [false, true] {
        let image = if compressed {
            cloud.compressed_qcow2(&disk, "disk.qcow2", "compression_type=zstd")
        } else {
            cloud.qcow2(&disk, "disk.qcow2", "")
        };
        let stored = cloud.stored(2, &image);
        let copy = cloud.clone_of(&stored, "qcow2").driver("raw").run().succeeds().image("raw");
        same_bytes(&disk, copy);
    }
}

#[test]
fn convert_no_holds_for_clones() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let raw = cloud.stored(1, &disk);
    let copy = cloud
        .clone_of(&raw, "raw")
        .driver("qcow2")
        .set("DATASTORE/TEMPLATE/CONVERT", "no")
        .run()
        .succeeds()
        .image("raw");
    same_bytes(disk, copy);
}

#[test]
fn a_cdrom_is_never_converted() {
    let cloud = Cloud::new();
    let iso = cloud.iso("disc.iso");
    let stored = cloud.stored(1, &iso);
    for driver in ["", "raw", "qcow2"] {
        let copy =
            cloud.clone_of(&stored, "raw").cdrom().driver(driver).run().succeeds().image("raw");
        same_bytes(&iso, copy);
    }
}

#[test]
fn an_encrypted_disk_is_never_converted() {
    let cloud = Cloud::new();
    let disk = cloud.luks("disk.luks", MIB);
    let stored = cloud.stored(1, &disk);
    for driver in ["", "raw", "qcow2"] {
        let copy = cloud.clone_of(&stored, "raw").driver(driver).run().succeeds().image("raw");
        same_bytes(&disk, copy);
    }
}

#[test]
fn an_image_of_another_datastore_is_copied() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let other = cloud.datastore().with_file_name("105");
    fs::create_dir(&other).unwrap();
    let name = "0123456789abcdef0123456789abcdef";
    fs::copy(&disk, other.join(name)).unwrap();
    let source = format!("{}/{name}", cloud.base_path().replace("/104", "/105"));
    assert!(source.contains("//"));
    let copy = cloud.clone_of(source, "raw").driver("qcow2").run().succeeds().image("qcow2");
    same_content(&disk, "raw", copy, "qcow2");
}

#[test]
fn a_raw_disk_that_looks_like_another_format_stays_raw() {
    let cloud = Cloud::new();
    // A guest can write whatever it wants to its raw disk: a header that names the host's files.
    let disk = cloud.raw("disk.img", 2 * MIB);
    let header = cloud.overlay_on_shadow("header.qcow2");
    File::options()
        .write(true)
        .open(&disk)
        .unwrap()
        .write_all_at(&fs::read(header).unwrap(), 0)
        .unwrap();
    let stored = cloud.stored(1, &disk);
    let copy = cloud.clone_of(&stored, "raw").run().succeeds().image("raw");
    same_bytes(&disk, copy);
    let copy = cloud.clone_of(&stored, "raw").driver("qcow2").run().succeeds().image("qcow2");
    same_content(&disk, "raw", copy, "qcow2");
}

#[test]
fn a_raw_disk_that_looks_compressed_stays_as_it_is() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    for program in ["gzip", "xz"] {
        let packed = cloud.compressed(&disk, program);
        let stored = cloud.stored(1, &packed);
        let copy = cloud.clone_of(&stored, "raw").run().succeeds().image("raw");
        same_bytes(packed, copy);
    }
}

#[test]
fn holes_and_zeros_take_no_space_in_the_copy() {
    let cloud = Cloud::new();
    let mut bytes = pattern(1, 100_000);
    bytes.resize(20 * MIB as usize, 0);
    let disk = cloud.file("disk.img", bytes);
    let stored = cloud.stored(1, &disk);
    assert!(allocated(&stored) < MIB);
    let copy = cloud.clone_of(&stored, "raw").run().succeeds().image("raw");
    same_bytes(&disk, &copy);
    assert!(allocated(copy) < MIB);
}

#[test]
fn clones_share_blocks_where_the_file_system_can() {
    let cloud = Cloud::on(Disk::Xfs(512 * MIB));
    let disk = cloud.file("disk.img", pattern(1, 96 * MIB as usize));
    let stored = cloud.source(1);
    run("cp", ["--reflink=always", disk.to_str().unwrap(), &stored]);
    // Six times 96 MiB would not fit.
    for _ in 0..3 {
        let raw = cloud.clone_of(&stored, "raw").run().succeeds().image("raw");
        same_bytes(&disk, raw);
        let qcow2 = cloud.clone_of(&stored, "raw").driver("qcow2").run().succeeds().image("qcow2");
        same_content(&disk, "raw", qcow2, "qcow2");
    }
}

#[test]
fn a_missing_image_is_named() {
    let cloud = Cloud::new();
    let missing = cloud.source(1);
    cloud
        .clone_of(&missing, "raw")
        .run()
        .refused(Rule::CantBeOpened)
        .naming("IMAGE/PATH")
        .saying(&missing);
}

#[test]
fn what_is_in_no_datastore_is_no_image() {
    let cloud = Cloud::new();
    let secret = cloud.outside().join("secret.img");
    fs::write(&secret, pattern(1, 5000)).unwrap();
    for path in [secret.to_str().unwrap(), "/etc/passwd", "disk.img", "-rf"] {
        cloud
            .clone_of(path, "raw")
            .run()
            .refused(if path.starts_with('/') { Rule::Restricted } else { Rule::NotAbsolute })
            .naming("IMAGE/PATH")
            .saying(path);
    }
    let dotted = format!("{}/../../../../outside/secret.img", cloud.base_path());
    cloud.clone_of(dotted, "raw").run().refused(Rule::Restricted).naming("IMAGE/PATH");
}

#[test]
fn a_link_in_the_datastore_that_leads_out_of_it_is_refused() {
    let cloud = Cloud::new();
    let secret = cloud.outside().join("secret.img");
    fs::write(&secret, pattern(1, 5000)).unwrap();
    let source = cloud.source(1);
    symlink(&secret, &source).unwrap();
    cloud.clone_of(&source, "raw").run().refused(Rule::CantBeOpened).naming("IMAGE/PATH");
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let cloud = Cloud::new();
    let fifo = cloud.source(1);
    run("mkfifo", [&fifo]);
    cloud.clone_of(&fifo, "raw").run().refused(Rule::CantBeOpened).naming("IMAGE/PATH");
    let folder = cloud.source(2);
    fs::create_dir(&folder).unwrap();
    cloud.clone_of(&folder, "raw").run().refused(Rule::CantBeOpened).naming("IMAGE/PATH");
}

#[test]
fn a_broken_image_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let image = cloud.qcow2(&disk, "disk.qcow2", "");
    let whole = fs::read(&image).unwrap();
    let stored = cloud.stored(1, &cloud.file("half.qcow2", &whole[..whole.len() / 2]));
    cloud
        .clone_of(&stored, "qcow2")
        .driver("raw")
        .run()
        .refused(Rule::Corrupt)
        .naming("IMAGE/PATH");
    let stored = cloud.stored(1, &disk);
    cloud
        .clone_of(&stored, "qcow2")
        .driver("raw")
        .run()
        .fails()
        .saying_any(&["IMAGE/PATH", "IMAGE/FORMAT"])
        .saying("qcow2");
}

#[test]
fn a_clone_that_does_not_fit_leaves_nothing() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(6 * MIB));
    let disk = cloud.file("disk.img", pattern(1, 4 * MIB as usize));
    let stored = cloud.stored(1, &disk);
    for driver in ["raw", "qcow2"] {
        cloud
            .clone_of(&stored, "raw")
            .driver(driver)
            .run()
            .fails()
            .naming("DATASTORE/BASE_PATH")
            .saying("space");
    }
}

#[test]
fn an_image_behind_a_bridge_is_refused_in_words() {
    let cloud = Cloud::new();
    let stored = cloud.stored(1, &cloud.raw("disk.img", MIB));
    cloud
        .clone_of(&stored, "raw")
        .set_escaped("SOURCE_BRIDGE_LIST", "host1")
        .run()
        .fails()
        .naming("SOURCE_BRIDGE_LIST")
        .saying("host1");
    cloud
        .clone_of(&stored, "raw")
        .set("DATASTORE/TEMPLATE/BRIDGE_LIST", "host2")
        .run()
        .fails()
        .naming("DATASTORE/TEMPLATE/BRIDGE_LIST")
        .saying("host2");
    cloud
        .clone_of(&stored, "raw")
        .set_escaped("SOURCE_BRIDGE_LIST", "")
        .run()
        .succeeds()
        .image("raw");
}

#[test]
fn a_datastore_of_another_type_is_refused() {
    let cloud = Cloud::new();
    let stored = cloud.stored(1, &cloud.raw("disk.img", MIB));
    for kind in ["1", "3"] {
        cloud
            .clone_of(&stored, "raw")
            .set_escaped("DATASTORE/TYPE", kind)
            .run()
            .refused(Rule::WrongDatastoreType)
            .naming("DATASTORE/TYPE");
    }
}

#[test]
fn the_digest_of_the_original_is_not_asked_of_the_copy() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let stored = cloud.stored(1, &disk);
    // The free attributes are copied with the image, but its disk has been written to since.
    let copy = cloud
        .clone_of(&stored, "raw")
        .set("IMAGE/TEMPLATE/MD5", "0".repeat(32))
        .run()
        .succeeds()
        .image("raw");
    same_bytes(disk, copy);
}

#[test]
fn a_missing_base_path_is_created() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let other = cloud.datastore().with_file_name("105");
    fs::rename(cloud.datastore(), &other).unwrap();
    fs::copy(&disk, other.join("0123456789abcdef0123456789abcdef")).unwrap();
    let source = other.join("0123456789abcdef0123456789abcdef");
    let copy = cloud.clone_of(source, "raw").run().succeeds().image("raw");
    same_bytes(disk, copy);
}
