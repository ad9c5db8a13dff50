//! qcow2 images as QEMU reads them: odd headers, reference counts, and formats that oned has under other words.

use ferrostore_tests::{Cloud, MIB, Rule, qemu_img_check, run, same_bytes, same_content};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn number(bytes: &[u8], offset: usize) -> usize {
    u64::from_be_bytes(bytes[offset..offset + 8].try_into().unwrap()) as usize
}

/// The image with `change` made to its bytes.
fn changed(cloud: &Cloud, image: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(image).unwrap();
    change(&mut bytes);
    cloud.file("changed.qcow2", bytes)
}

fn qemu_img_check_exit(image: &Path) -> i32 {
    let output = Command::new("qemu-img").args(["check", "-f", "qcow2"]).arg(image).output();
    output.unwrap().status.code().unwrap()
}

#[test]
fn a_backing_name_of_no_length_is_no_backing_file() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for compat in ["0.10", "1.1"] {
        let image = cloud.qcow2(&disk, "disk.qcow2", &format!("compat={compat}"));
        let odd = changed(&cloud, &image, |bytes| {
            bytes[8..16].copy_from_slice(&600_u64.to_be_bytes());
            bytes[16..20].fill(0);
        });
        qemu_img_check(&odd);
        same_bytes(&odd, cloud.cp(&odd).run().succeeds().image("qcow2"));
        same_bytes(&disk, cloud.cp(&odd).driver("raw").run().succeeds().image("raw"));
        cloud.stat(&odd).run().succeeds().replies("1");
    }
}

#[test]
fn wrong_reference_counts_are_told_and_the_image_is_taken() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for (options, width) in [("", 2), ("refcount_bits=64", 8), ("refcount_bits=8", 1)] {
        let image = cloud.qcow2(&disk, "disk.qcow2", options);
        let block = |bytes: &[u8]| number(bytes, number(bytes, 48));
        // A cluster in use that counts as free, and one that is counted and not there for anything.
        let free = changed(&cloud, &image, |bytes| {
            let at = block(bytes) + 5 * width;
            bytes[at..at + width].fill(0);
        });
        assert_eq!(qemu_img_check_exit(&free), 2);
        let kept = cloud.cp(&free).run();
        assert!(kept.stderr_text().contains("WARN: the reference counts"), "{options}");
        same_bytes(&free, kept.succeeds().image("qcow2"));
        let raw = cloud.cp(&free).driver("raw").run();
        assert!(raw.stderr_text().contains("WARN: the reference counts"), "{options}");
        same_bytes(&disk, raw.succeeds().image("raw"));
        let leaked = changed(&cloud, &image, |bytes| {
            let cluster = bytes.len().div_ceil(64 << 10);
            bytes.resize((cluster + 1) * (64 << 10), 0);
            let at = block(bytes) + (cluster + 1) * width - 1;
            bytes[at] = 1;
        });
        assert_eq!(qemu_img_check_exit(&leaked), 3);
        let kept = cloud.cp(&leaked).run();
        assert!(kept.stderr_text().contains("WARN: the reference counts"), "{options}");
        same_bytes(&leaked, kept.succeeds().image("qcow2"));
    }
}

#[test]
fn right_reference_counts_are_not_complained_of() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    let mut images = Vec::new();
    for options in [
        "compat=0.10",
        "compat=1.1",
        "cluster_size=512",
        "cluster_size=2M",
        "extended_l2=on",
        "refcount_bits=1",
        "refcount_bits=4",
        "refcount_bits=64",
        "preallocation=metadata",
        "preallocation=full",
    ] {
        images.push(cloud.qcow2(&disk, &format!("disk.{options}"), options));
    }
    for options in ["", "cluster_size=512", "compression_type=zstd"] {
        images.push(cloud.compressed_qcow2(&disk, &format!("packed.{options}"), options));
    }
    let with = |name: &str, commands: &[&[&str]]| {
        let image = cloud.qcow2(&disk, name, "");
        for command in commands {
            run(command[0], command[1..].iter().copied().chain([image.to_str().unwrap()]));
        }
        image
    };
    images.push(with("zeroes", &[&["qemu-io", "-f", "qcow2", "-c", "write -z 1M 1M"]]));
    images.push(with(
        "snapshot",
        &[
            &["qemu-img", "snapshot", "-c", "before"],
            &["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M"],
        ],
    ));
    let image = cloud.qcow2(&disk, "bitmap", "");
    run("qemu-img", ["bitmap", "--add", "--enable", image.to_str().unwrap(), "changes"]);
    images.push(image);
    for image in images {
        println!("{}", image.display());
        let outcome = cloud.cp(&image).run();
        assert_eq!(outcome.stderr_text(), "");
        same_bytes(&image, outcome.succeeds().image("qcow2"));
    }
}

#[test]
fn a_format_that_is_no_format_is_what_the_file_is() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let qcow2 = cloud.qcow2(&disk, "disk.qcow2", "");
    let raw = cloud.stored(1, &disk);
    let stored = cloud.stored(2, &qcow2);
    for word in ["save_as", "SAVE_AS", "unknown", "", "QCOW2", "Qcow2"] {
        println!("{word}");
        let same = |driver: &str, format: &str| {
            let copy = cloud.clone_of(&stored, word).driver(driver).run().succeeds().image(format);
            same_content(&disk, "raw", copy, format);
        };
        same("", "qcow2");
        same("qcow2", "qcow2");
        same("raw", "raw");
    }
    for word in ["save_as", "unknown", "", "RAW", "Raw"] {
        same_bytes(&disk, cloud.clone_of(&raw, word).run().succeeds().image("raw"));
        let copy = cloud.clone_of(&raw, word).driver("qcow2").run().succeeds().image("qcow2");
        same_content(&disk, "raw", copy, "qcow2");
    }
}

#[test]
fn a_format_is_compared_without_case_when_an_image_is_made() {
    let cloud = Cloud::new();
    let image = cloud.mkfs("QCOW2", "1").run().succeeds().empty_image();
    qemu_img_check(image);
    cloud.mkfs("Raw", "1").run().succeeds();
    cloud.mkfs("VMDK", "1").run().refused(Rule::CantBeMade).naming("IMAGE/FORMAT");
}

/// A guest that writes a qcow2 header into its raw disk must not get at another image by it.
#[test]
fn what_a_guest_wrote_names_no_backing_file() {
    let cloud = Cloud::new();
    let secret = cloud.stored(1, &cloud.raw("secret.img", MIB));
    let overlay = cloud.images().join("overlay.qcow2");
    let arguments = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &secret];
    run("qemu-img", arguments.into_iter().chain([overlay.to_str().unwrap()]));
    let stored = cloud.stored(2, &overlay);
    for word in ["save_as", "unknown", ""] {
        for driver in ["", "raw", "qcow2"] {
            let call = cloud.clone_of(&stored, word).driver(driver);
            call.run().fails().naming("IMAGE/PATH").saying("backing file");
        }
    }
    // As a raw disk it is just bytes.
    same_bytes(&overlay, cloud.clone_of(&stored, "raw").run().succeeds().image("raw"));
}
