//! `cp`: every format as it comes and converted.

use ferrostore_tests::{
    Cloud, FOREIGN_FORMATS, MIB, info, pattern, qemu_img_check, run, same_bytes, same_content,
    virtual_size,
};
use std::fs;
use std::path::Path;

/// Ways to write a qcow2 file: options of `qemu-img convert` and whether clusters are compressed.
const QCOW2: [(&str, bool); 14] = [
    ("compat=0.10", false),
    ("compat=0.10", true),
    ("compat=1.1", false),
    ("cluster_size=512", false),
    ("cluster_size=512", true),
    ("cluster_size=4096", false),
    ("cluster_size=2M", false),
    ("cluster_size=2M", true),
    ("compression_type=zlib", true),
    ("compression_type=zstd", true),
    ("compression_type=zstd,cluster_size=4096", true),
    ("extended_l2=on", false),
    ("refcount_bits=64,lazy_refcounts=on", false),
    ("preallocation=metadata", false),
];

fn every_qcow2(cloud: &Cloud, disk: &Path, mut check: impl FnMut(&Path)) {
    for (options, compressed) in QCOW2 {
        println!("{options}, compressed: {compressed}");
        let image = if compressed {
            cloud.compressed_qcow2(disk, "disk.qcow2", options)
        } else {
            cloud.qcow2(disk, "disk.qcow2", options)
        };
        check(&image);
    }
}

#[test]
fn a_raw_disk_is_kept() {
    let cloud = Cloud::new();
    for size in [MIB, 5 * MIB, 5 * MIB + 512] {
        let disk = cloud.raw("disk.img", size);
        let copy = cloud.cp(&disk).run().succeeds().image("raw");
        same_bytes(&disk, &copy);
    }
}

#[test]
fn a_size_that_is_no_multiple_of_512_rounds_up() {
    let cloud = Cloud::new();
    for size in [1, 511, 513, MIB - 1, 3 * MIB + 7] {
        let disk = cloud.raw("disk.img", size);
        let bytes = fs::read(&disk).unwrap();
        let sectors = size.next_multiple_of(512);

        let image = cloud.cp(&disk).driver("qcow2").run().succeeds().image("qcow2");
        qemu_img_check(&image);
        assert_eq!(virtual_size(&image, "qcow2"), sectors);
        same_content(&disk, "raw", &image, "qcow2");

        let copy = fs::read(cloud.cp(&disk).run().succeeds().image("raw")).unwrap();
        assert_eq!(&copy[..bytes.len()], &bytes);
        assert!(copy.len() as u64 <= sectors && copy[bytes.len()..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_qcow2_disk_is_kept_as_it_is() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    every_qcow2(&cloud, &disk, |image| {
        let copy = cloud.cp(image).run().succeeds().image("qcow2");
        same_bytes(image, &copy);
    });
}

#[test]
fn a_qcow2_disk_becomes_raw() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    every_qcow2(&cloud, &disk, |image| {
        let copy = cloud.cp(image).driver("raw").run().succeeds().image("raw");
        same_bytes(&disk, &copy);
    });
}

#[test]
fn a_raw_disk_becomes_qcow2() {
    let cloud = Cloud::new();
    for size in [512, MIB, 5 * MIB + 512, 33 * MIB] {
        let disk = cloud.raw("disk.img", size);
        let image = cloud.cp(&disk).driver("qcow2").run().succeeds().image("qcow2");
        qemu_img_check(&image);
        assert_eq!(virtual_size(&image, "qcow2"), size);
        same_content(&disk, "raw", &image, "qcow2");
    }
}

#[test]
fn a_disk_that_is_qcow2_already_stays_what_it_is() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB);
    every_qcow2(&cloud, &disk, |image| {
        let copy = cloud.cp(image).driver("qcow2").run().succeeds().image("qcow2");
        qemu_img_check(&copy);
        same_content(&disk, "raw", &copy, "qcow2");
    });
}

#[test]
fn convert_no_keeps_every_format() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let image = cloud.qcow2(&disk, "disk.qcow2", "");
    let kept = |path: &Path, driver: &str, format: &str| {
        let copy = cloud
            .cp(path)
            .driver(driver)
            .set("DATASTORE/TEMPLATE/CONVERT", "no")
            .run()
            .succeeds()
            .image(format);
        same_bytes(path, copy);
    };
    kept(&disk, "qcow2", "raw");
    kept(&image, "raw", "qcow2");
    kept(&image, "qcow2", "qcow2");
}

#[test]
fn formats_of_other_hypervisors_convert_to_raw_and_to_qcow2() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB);
    for (format, options) in FOREIGN_FORMATS {
        println!("{format} {options}");
        let image = cloud.converted(&disk, &format!("disk.{format}"), format, options);
        let size = virtual_size(&image, format);
        let raw = cloud.cp(&image).driver("raw").run().succeeds().image("raw");
        same_content(&disk, "raw", &raw, "raw");
        assert_eq!(fs::metadata(&raw).unwrap().len(), size);
        let qcow2 = cloud.cp(&image).driver("qcow2").run().succeeds().image("qcow2");
        qemu_img_check(&qcow2);
        same_content(&disk, "raw", &qcow2, "qcow2");
    }
}

#[test]
fn formats_of_other_hypervisors_are_kept_without_a_driver() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB);
    for format in ["vmdk", "vdi", "vhdx", "vpc"] {
        println!("{format}");
        let options = if format == "vpc" { "force_size=on" } else { "" };
        let image = cloud.converted(&disk, &format!("disk.{format}"), format, options);
        let copy = cloud.cp(&image).run().succeeds().image(format);
        same_bytes(&image, copy);
    }
}

#[test]
fn a_format_that_needs_qemu_img_says_so_where_there_is_none() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let image = cloud.converted(&disk, "disk.vdi", "vdi", "");
    // In a mount namespace of its own, /usr/bin is empty.
    let without = "mount -t tmpfs none /usr/bin; exec \"$0\" \"$@\"";
    let hidden = ["unshare", "--mount", "sh", "-c", without];
    cloud.cp(&image).driver("raw").under(hidden).run().fails().saying("qemu-utils");
    // What the drivers do themselves they still do.
    let copy = cloud.cp(&disk).driver("qcow2").under(hidden).run().succeeds().image("qcow2");
    same_content(&disk, "raw", copy, "qcow2");
}

#[test]
fn an_encrypted_disk_counts_as_raw_and_is_kept() {
    let cloud = Cloud::new();
    let disk = cloud.luks("disk.luks", 4 * MIB);
    for driver in ["", "raw"] {
        let copy = cloud.cp(&disk).driver(driver).run().succeeds().image("raw");
        same_bytes(&disk, &copy);
    }
}

#[test]
fn an_encrypted_disk_goes_into_a_qcow2_datastore_as_it_is() {
    let cloud = Cloud::new();
    let disk = cloud.luks("disk.luks", 4 * MIB);
    let copy = cloud.cp(&disk).driver("qcow2").run().succeeds().image("raw");
    same_bytes(&disk, copy);
}

#[test]
fn a_cdrom_is_never_converted() {
    let cloud = Cloud::new();
    let iso = cloud.iso("disc.iso");
    for driver in ["", "raw", "qcow2"] {
        let copy = cloud.cp(&iso).cdrom().driver(driver).run().succeeds().image("raw");
        same_bytes(&iso, copy);
    }
}

#[test]
fn a_cdrom_in_a_format_of_its_own_is_not_converted_either() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let image = cloud.qcow2(&disk, "disc.qcow2", "");
    let copy = cloud.cp(&image).cdrom().driver("raw").run().succeeds().image("qcow2");
    same_bytes(image, copy);
}

#[test]
fn a_disc_image_registered_as_a_disk_is_raw() {
    let cloud = Cloud::new();
    let iso = cloud.iso("disc.iso");
    let copy = cloud.cp(&iso).run().succeeds().image("raw");
    same_bytes(&iso, copy);
    let image = cloud.cp(&iso).driver("qcow2").run().succeeds().image("qcow2");
    same_content(&iso, "raw", image, "qcow2");
}

#[test]
fn files_are_kept_byte_for_byte_in_a_files_datastore() {
    let cloud = Cloud::new();
    let noise = cloud.file("vmlinuz", pattern(1, 123_457));
    let text = cloud.file("init.sh", "#!/bin/sh\necho hello\n");
    let packed = cloud.compressed(&text, "gzip");
    let initrd = cloud.compressed(&noise, "zstd");
    let byte = cloud.file("byte", "x");
    let tar = cloud.images().join("files.tar");
    run("tar", ["-C", "/usr/share/common-licenses", "-cf", tar.to_str().unwrap(), "."]);
    for kind in ["3", "4", "5"] {
        for file in [&noise, &text, &packed, &initrd, &byte, &tar] {
            println!("{} as type {kind}", file.display());
            for driver in ["", "raw", "qcow2"] {
                let copy = cloud
                    .cp(file)
                    .files_datastore()
                    .driver(driver)
                    .set_escaped("IMAGE/TYPE", kind)
                    .run()
                    .succeeds()
                    .image("raw");
                same_bytes(file, copy);
            }
        }
    }
}

#[test]
fn a_files_datastore_decompresses_if_it_is_told_to() {
    let cloud = Cloud::new();
    let text = cloud.file("init.sh", "#!/bin/sh\necho hello\n");
    let packed = cloud.compressed(&text, "gzip");
    let copy = cloud
        .cp(&packed)
        .files_datastore()
        .set_escaped("IMAGE/TYPE", "5")
        .set("DATASTORE/TEMPLATE/NO_DECOMPRESS", "no")
        .run()
        .succeeds()
        .image("raw");
    same_bytes(text, copy);
}

#[test]
fn a_snapshot_inside_a_qcow2_file_does_not_change_its_live_content() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let image = cloud.qcow2(&disk, "disk.qcow2", "");
    let name = image.to_str().unwrap();
    run("qemu-img", ["snapshot", "-c", "before", name]);
    run("qemu-io", ["-f", "qcow2", "-c", "write -P 7 0 1M", name]);
    let expected = cloud.images().join("expected.img");
    run("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", name, expected.to_str().unwrap()]);
    let copy = cloud.cp(&image).driver("raw").run().succeeds().image("raw");
    same_bytes(expected, copy);
}

#[test]
fn a_new_qcow2_file_is_a_plain_version_3() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let image = cloud.cp(&disk).driver("qcow2").run().succeeds().image("qcow2");
    let info = info(image, "qcow2");
    let data = &info["format-specific"]["data"];
    assert_eq!(data["compat"], "1.1");
    assert_eq!(data["corrupt"], false);
    assert!(info.get("backing-filename").is_none());
}
