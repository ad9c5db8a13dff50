//! `cp`: qcow2 files that are broken, and some that only look so.

use ferrostore_tests::{Cloud, MIB, Rule, run, same_bytes};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

#[test]
fn features_that_don_t_matter_to_readers_are_accepted() {
    let cloud = Cloud::new();
    // Compatible bit 63 and autoclear bit 63: a reader may ignore both.
    let flags = (1_u64 << 63).to_be_bytes();
    let image = cloud.patched_qcow2("future.qcow2", "", &[(80, &flags), (88, &flags)]);
    let disk = cloud.images().join("healthy.img");
    let copy = cloud.cp(&image).driver("raw").run().succeeds().image("raw");
    same_bytes(disk, copy);
}

#[test]
fn an_image_that_was_not_closed_cleanly_still_reads() {
    let cloud = Cloud::new();
    let image =
        cloud.patched_qcow2("dirty.qcow2", "lazy_refcounts=on", &[(72, &1_u64.to_be_bytes())]);
    let disk = cloud.images().join("healthy.img");
    let copy = cloud.cp(&image).driver("raw").run().succeeds().image("raw");
    same_bytes(disk, copy);
}

#[test]
fn a_truncated_image_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let image = cloud.qcow2(&disk, "disk.qcow2", "");
    let whole = fs::read(&image).unwrap();
    for length in [5, 40, 71, 100, 65536, 65536 * 3 + 100, whole.len() / 2, whole.len() - 70_000] {
        let image = cloud.file("truncated.qcow2", &whole[..length]);
        println!("{length} of {} bytes", whole.len());
        for driver in ["", "raw", "qcow2"] {
            cloud
                .cp(&image)
                .driver(driver)
                .run()
                .refused_by_any(&[Rule::FormatNotAccepted, Rule::Corrupt])
                .naming("IMAGE/PATH");
        }
    }
}

#[test]
fn a_truncated_image_with_compressed_clusters_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    for options in ["compression_type=zlib", "compression_type=zstd"] {
        let image = cloud.compressed_qcow2(&disk, "disk.qcow2", options);
        let whole = fs::read(&image).unwrap();
        let image = cloud.file("truncated.qcow2", &whole[..whole.len() / 2]);
        for driver in ["", "raw"] {
            cloud.cp(&image).driver(driver).run().refused(Rule::Corrupt).naming("IMAGE/PATH");
        }
    }
}

#[test]
fn garbage_in_compressed_clusters_is_noticed_when_they_are_read() {
    let cloud = Cloud::new();
    // All of it compresses, so that no cluster is stored as it is.
    let text = run("seq", ["400000"]).stdout;
    let disk = cloud.file("disk.img", text);
    for options in ["compression_type=zlib", "compression_type=zstd"] {
        let image = cloud.compressed_qcow2(&disk, "disk.qcow2", options);
        let length = fs::metadata(&image).unwrap().len();
        let file = File::options().write(true).open(&image).unwrap();
        file.write_all_at(&vec![0xff; length as usize / 4], length / 2).unwrap();
        cloud.cp(&image).driver("raw").run().refused(Rule::Corrupt).naming("IMAGE/PATH");
    }
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let cloud = Cloud::new();
    for (what, offset, bytes) in [
        ("version 4", 4, 4_u32.to_be_bytes().to_vec()),
        ("version 1", 4, 1_u32.to_be_bytes().to_vec()),
        ("clusters of 256 bytes", 20, 8_u32.to_be_bytes().to_vec()),
        ("clusters of 1 GiB", 20, 30_u32.to_be_bytes().to_vec()),
        ("cluster bits beyond any shift", 20, 200_u32.to_be_bytes().to_vec()),
        ("a disk of 16 EiB", 24, u64::MAX.to_be_bytes().to_vec()),
        ("an L1 table of 4 billion entries", 36, u32::MAX.to_be_bytes().to_vec()),
        ("an L1 table too short", 36, 0_u32.to_be_bytes().to_vec()),
        ("an L1 table beyond the end", 40, (1_u64 << 40).to_be_bytes().to_vec()),
        ("an L1 table between clusters", 40, 0x1_0001_u64.to_be_bytes().to_vec()),
        ("a header of 4 GiB", 100, u32::MAX.to_be_bytes().to_vec()),
        ("a header of 8 bytes", 100, 8_u32.to_be_bytes().to_vec()),
    ] {
        println!("{what}");
        let image = cloud.patched_qcow2("odd.qcow2", "", &[(offset, &bytes)]);
        for driver in ["", "raw"] {
            cloud
                .cp(&image)
                .driver(driver)
                .run()
                .refused_by_any(&[Rule::FormatNotAccepted, Rule::Corrupt])
                .naming("IMAGE/PATH");
        }
    }
}

#[test]
fn tables_that_point_nowhere_are_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let header = fs::read(cloud.qcow2(&disk, "disk.qcow2", "")).unwrap();
    let number = |offset: usize| u64::from_be_bytes(header[offset..offset + 8].try_into().unwrap());
    let l1 = number(40);
    let l2 = number(l1 as usize) & 0x00ff_ffff_ffff_fe00;
    for (what, offset, entry) in [
        ("an L2 table beyond the end", l1, (1_u64 << 63) | (1 << 40)),
        ("an L2 table between clusters", l1, (1_u64 << 63) | 0x1_0200),
        ("a data cluster beyond the end", l2, (1_u64 << 63) | (1 << 50)),
        ("a data cluster between clusters", l2, (1_u64 << 63) | 0x5_0200),
        ("a compressed cluster beyond the end", l2, (1_u64 << 62) | (1 << 50)),
    ] {
        println!("{what}");
        let image = cloud.patched_qcow2("odd.qcow2", "", &[(offset, &entry.to_be_bytes())]);
        for driver in ["", "raw"] {
            cloud.cp(&image).driver(driver).run().refused(Rule::Corrupt).naming("IMAGE/PATH");
        }
    }
}

#[test]
fn a_disk_that_no_file_can_hold_is_refused() {
    let cloud = Cloud::new();
    let image = cloud.images().join("huge.qcow2");
    run(
        "qemu-img",
        ["create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", image.to_str().unwrap(), "500P"],
    );
    // On the file system of the test a raw file this long can't exist, however sparse.
    cloud.cp(&image).driver("raw").run().refused(Rule::VirtualSizeLimit).naming("IMAGE/PATH");
}
