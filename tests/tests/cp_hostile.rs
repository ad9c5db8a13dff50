//! `cp`: images that are refused, because they lead elsewhere or because they are broken.

use ferrostore_tests::{Cloud, MIB, Rule, run, same_bytes, same_content};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Whatever is asked, the image is refused for the reason given.
fn refused(cloud: &Cloud, image: &Path, reasons: &[&str]) {
    for driver in ["", "raw", "qcow2"] {
        println!("{} for DRIVER={driver}", image.display());
        cloud
            .cp(image)
            .driver(driver)
            .run()
            .fails()
            .naming("IMAGE/PATH")
            .saying_path(image)
            .saying_any(reasons);
    }
    cloud.cp(image).cdrom().run().fails().naming("IMAGE/PATH").saying_any(reasons);
}

fn qemu_img(arguments: &[&str]) {
    run("qemu-img", arguments);
}

#[test]
fn a_backing_file_is_refused() {
    let cloud = Cloud::new();
    let secret = cloud.outside().join("secret.img");
    fs::write(&secret, vec![b'x'; MIB as usize]).unwrap();
    let harmless = cloud.raw("base.img", MIB);
    for (name, backing) in [
        ("absolute.qcow2", secret.to_str().unwrap()),
        ("harmless.qcow2", harmless.to_str().unwrap()),
        ("relative.qcow2", "base.img"),
        ("missing.qcow2", "/nowhere/at/all"),
        (
            "json.qcow2",
            "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"/etc/shadow\"}}",
        ),
        ("remote.qcow2", "http://127.0.0.1:1/x"),
    ] {
        for compat in ["compat=1.1", "compat=0.10"] {
            let image = cloud.images().join(name);
            let path = image.to_str().unwrap();
            qemu_img(&[
                "create", "-q", "-u", "-f", "qcow2", "-o", compat, "-F", "raw", "-b", backing,
                path, "1M",
            ]);
            refused(&cloud, &image, &["backing file"]);
        }
    }
}

#[test]
fn a_backing_file_is_refused_in_compressed_files_too() {
    let cloud = Cloud::new();
    let image = cloud.overlay_on_shadow("overlay.qcow2");
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = cloud.compressed(&image, program);
        refused(&cloud, &packed, &["backing file"]);
    }
}

#[test]
fn an_external_data_file_is_refused() {
    let cloud = Cloud::new();
    for raw in ["off", "on"] {
        let image = cloud.images().join("data.qcow2");
        let data = cloud.images().join("data.raw");
        let _ = fs::remove_file(&data);
        let options = format!("data_file={},data_file_raw={raw}", data.display());
        qemu_img(&["create", "-q", "-f", "qcow2", "-o", &options, image.to_str().unwrap(), "1M"]);
        refused(&cloud, &image, &["data file"]);
    }
}

#[test]
fn old_encryption_is_refused() {
    let cloud = Cloud::new();
    let image = cloud.patched_qcow2("aes.qcow2", "", &[(32, &1_u32.to_be_bytes())]);
    refused(&cloud, &image, &["encrypted with AES"]);
}

#[test]
fn encryption_inside_a_qcow2_file_can_t_be_converted() {
    let cloud = Cloud::new();
    let image = cloud.images().join("luks.qcow2");
    let secret = "secret,id=key,data=correct-horse";
    let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    qemu_img(&[
        "create",
        "-q",
        "--object",
        secret,
        "-f",
        "qcow2",
        "-o",
        options,
        image.to_str().unwrap(),
        "1M",
    ]);
    cloud
        .cp(&image)
        .driver("raw")
        .run()
        .refused(Rule::Encrypted)
        .naming("IMAGE/PATH")
        .saying_any(&["LUKS", "encrypt"]);
    // Registered as it is, it does no harm: only who has the passphrase reads it.
    for driver in ["", "qcow2"] {
        let copy = cloud.cp(&image).driver(driver).run().succeeds().image("qcow2");
        same_bytes(&image, copy);
    }
}

#[test]
fn unknown_features_are_refused() {
    let cloud = Cloud::new();
    for bit in [5_u32, 6, 17, 31, 40, 63] {
        let flags = (1_u64 << bit).to_be_bytes();
        let image = cloud.patched_qcow2("future.qcow2", "", &[(72, &flags)]);
        refused(&cloud, &image, &["feature"]);
    }
}

#[test]
fn an_image_marked_corrupt_is_refused() {
    let cloud = Cloud::new();
    let image = cloud.patched_qcow2("corrupt.qcow2", "", &[(72, &2_u64.to_be_bytes())]);
    refused(&cloud, &image, &["corrupt"]);
}

#[test]
fn a_vmdk_that_names_its_extents_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for subformat in ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        println!("{subformat}");
        let image = cloud.converted(&disk, "disk.vmdk", "vmdk", &format!("subformat={subformat}"));
        for driver in ["", "raw", "qcow2"] {
            cloud.cp(&image).driver(driver).run().fails().naming("IMAGE/PATH").saying("vmdk");
        }
    }
}

#[test]
fn a_vmdk_whose_descriptor_was_tampered_with_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let image = cloud.converted(&disk, "disk.vmdk", "vmdk", "subformat=monolithicSparse");
    let mut bytes = fs::read(&image).unwrap();
    let at = find(&bytes, b"RW 2048 SPARSE \"disk.vmdk\"");
    let extent = b"RW 2048 FLAT \"/etc/shadow\"";
    bytes[at..at + extent.len()].copy_from_slice(extent);
    fs::write(&image, bytes).unwrap();
    for driver in ["", "raw", "qcow2"] {
        cloud.cp(&image).driver(driver).run().refused(Rule::DescriptorLine).naming("IMAGE/PATH");
    }
}

fn find(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).position(|part| part == text).expect("the text is in the file")
}

#[test]
fn overlays_of_other_formats_are_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    cloud.converted(&disk, "base.vmdk", "vmdk", "");
    let image = cloud.images().join("overlay.vmdk");
    run(
        "qemu-img",
        [
            "create",
            "-q",
            "-f",
            "vmdk",
            "-F",
            "vmdk",
            "-b",
            cloud.images().join("base.vmdk").to_str().unwrap(),
            image.to_str().unwrap(),
        ],
    );
    for driver in ["", "raw", "qcow2"] {
        cloud.cp(&image).driver(driver).run().refused(Rule::HasParent).naming("IMAGE/PATH");
    }
}

#[test]
fn formats_without_a_converter_are_refused_where_a_conversion_is_asked() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for format in ["qed", "parallels", "qcow"] {
        println!("{format}");
        let image = cloud.converted(&disk, &format!("disk.{format}"), format, "");
        for driver in ["raw", "qcow2"] {
            cloud
                .cp(&image)
                .driver(driver)
                .run()
                .refused(Rule::FormatNotAccepted)
                .naming("IMAGE/PATH")
                .saying_path(&image);
        }
    }
}

#[test]
fn a_datastore_that_wants_another_format_is_told() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for driver in ["vmdk", "vdi", "qcow3", "raw;ls", "-O", "QCOW 2"] {
        cloud
            .cp(&disk)
            .driver(driver)
            .run()
            .refused(Rule::UnknownFormat)
            .naming("DATASTORE/TEMPLATE/DRIVER")
            .saying(driver);
    }
}

#[test]
fn a_file_that_is_two_formats_at_once_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let image = cloud.qcow2(&disk, "both.qcow2", "");
    // A CD-ROM's volume descriptor in the unused part of the first cluster.
    let file = File::options().write(true).open(&image).unwrap();
    file.write_all_at(b"\x01CD001\x01", 0x8000).unwrap();
    for driver in ["", "raw", "qcow2"] {
        cloud.cp(&image).driver(driver).run().refused(Rule::Ambiguous).naming("IMAGE/PATH");
    }
}

#[test]
fn a_partition_table_does_not_make_a_disk_suspicious() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 4 * MIB);
    let file = File::options().write(true).open(&disk).unwrap();
    file.write_all_at(b"\x55\xaa", 510).unwrap();
    file.write_all_at(b"EFI PART", 512).unwrap();
    let image = cloud.cp(&disk).driver("qcow2").run().succeeds().image("qcow2");
    same_content(&disk, "raw", image, "qcow2");
}
