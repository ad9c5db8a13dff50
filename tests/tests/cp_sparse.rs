//! `cp`: holes, zeros and shared blocks.

use ferrostore_tests::{
    Cloud, Disk, KIB, MIB, allocated, pattern, qemu_img_check, same_bytes, same_content,
    virtual_size,
};
use std::fs::{self, File};

#[test]
fn a_disk_of_nothing_but_a_hole_converts_both_ways() {
    let cloud = Cloud::new();
    let disk = cloud.images().join("disk.img");
    File::create(&disk).unwrap().set_len(50 * 1024 * MIB).unwrap();
    let image = cloud.cp(&disk).driver("qcow2").run().succeeds().image("qcow2");
    qemu_img_check(&image);
    assert_eq!(virtual_size(&image, "qcow2"), 50 * 1024 * MIB);
    assert!(allocated(&image) < 2 * MIB);
    // Moved among the users' images, it is registered once more.
    let upload = cloud.images().join("upload.qcow2");
    fs::rename(&image, &upload).unwrap();
    let copy = cloud.cp(&upload).driver("raw").run().succeeds().image("raw");
    assert_eq!(fs::metadata(&copy).unwrap().len(), 50 * 1024 * MIB);
    assert!(allocated(&copy) < MIB);
}

#[test]
fn holes_stay_holes() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 64 * KIB);
    File::options().write(true).open(&disk).unwrap().set_len(1024 * MIB).unwrap();
    let copy = cloud.cp(&disk).run().succeeds().image("raw");
    same_bytes(&disk, &copy);
    assert!(allocated(copy) < MIB);
}

#[test]
fn written_zeros_become_holes() {
    let cloud = Cloud::new();
    let mut bytes = pattern(1, 64 * KIB as usize);
    bytes.resize(32 * MIB as usize, 0);
    let disk = cloud.file("disk.img", bytes);
    assert!(allocated(&disk) >= 32 * MIB);
    let copy = cloud.cp(&disk).run().succeeds().image("raw");
    same_bytes(&disk, &copy);
    assert!(allocated(copy) < MIB, "raw to raw");
    let image = cloud.cp(&disk).driver("qcow2").run().succeeds().image("qcow2");
    same_content(&disk, "raw", &image, "qcow2");
    assert!(allocated(image) < 2 * MIB, "raw to qcow2");
    let upload = cloud.qcow2(&disk, "disk.qcow2", "preallocation=full");
    let copy = cloud.cp(&upload).driver("raw").run().succeeds().image("raw");
    same_bytes(&disk, &copy);
    assert!(allocated(copy) < MIB, "qcow2 to raw");
}

#[test]
fn sparse_no_writes_every_block() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 64 * KIB);
    File::options().write(true).open(&disk).unwrap().set_len(16 * MIB).unwrap();
    let image = cloud.qcow2(&disk, "disk.qcow2", "");
    for path in [&disk, &image] {
        let copy = cloud
            .cp(path)
            .driver("raw")
            .set("DATASTORE/TEMPLATE/SPARSE", "no")
            .run()
            .succeeds()
            .image("raw");
        same_bytes(&disk, &copy);
        assert!(allocated(&copy) >= 16 * MIB, "of {}", path.display());
    }
}

#[test]
fn reflink_shares_what_it_can() {
    let cloud = Cloud::on(Disk::Xfs(512 * MIB));
    let bytes = pattern(1, 96 * MIB as usize);
    let disk = cloud.file("disk.img", bytes);
    let image = cloud.qcow2(&disk, "disk.qcow2", "");
    // Six times 96 MiB would not fit: the copies must share their blocks.
    for _ in 0..2 {
        let raw = cloud.cp(&disk).run().succeeds().image("raw");
        same_bytes(&disk, raw);
        let qcow2 = cloud.cp(&disk).driver("qcow2").run().succeeds().image("qcow2");
        qemu_img_check(&qcow2);
        same_content(&disk, "raw", qcow2, "qcow2");
        let raw = cloud.cp(&image).driver("raw").run().succeeds().image("raw");
        same_bytes(&disk, raw);
    }
}

#[test]
fn a_real_ext4_converts_both_ways() {
    let cloud = Cloud::on(Disk::Ext4(256 * MIB));
    let disk = cloud.raw("disk.img", 20 * MIB);
    let image = cloud.cp(&disk).driver("qcow2").run().succeeds().image("qcow2");
    same_content(&disk, "raw", &image, "qcow2");
    let upload = cloud.compressed_qcow2(&disk, "disk.qcow2", "");
    let copy = cloud.cp(&upload).driver("raw").run().succeeds().image("raw");
    same_bytes(&disk, copy);
}
