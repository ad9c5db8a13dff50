//! Disks of Hyper-V and Azure: the fixed vhd, whose disk is all but its footer, and vhdx images that QEMU can't read.

use ferrostore_tests::{Cloud, MIB, Page, Web, same_bytes, same_content, virtual_size};
use std::fs;
use std::path::PathBuf;

fn fixed(cloud: &Cloud, size: u64) -> (PathBuf, PathBuf) {
    let disk = cloud.raw("disk.img", size);
    let vhd = cloud.converted(&disk, "disk.vhd", "vpc", "subformat=fixed,force_size");
    assert_eq!(virtual_size(&vhd, "vpc"), size);
    assert_eq!(fs::metadata(&vhd).unwrap().len(), size + 512);
    (disk, vhd)
}

#[test]
fn a_fixed_vhd_is_its_disk_without_the_footer() {
    let (cloud, web) = (Cloud::new(), Web::new());
    for size in [MIB, 3 * MIB, 3 * MIB + 512, 2 * MIB - 512, 17 * 4096] {
        println!("{size}");
        let (disk, vhd) = fixed(&cloud, size);
        let mib = size.div_ceil(MIB).to_string();
        let url = web.serve(&vhd);
        for path in [vhd.to_str().unwrap(), &url] {
            cloud.stat(path).run().succeeds().replies(&mib);
            for driver in ["", "raw"] {
                same_bytes(&disk, cloud.cp(path).driver(driver).run().succeeds().image("raw"));
            }
            let image = cloud.cp(path).driver("qcow2").run().succeeds().image("qcow2");
            assert_eq!(virtual_size(&image, "qcow2"), size);
            same_content(&disk, "raw", image, "qcow2");
        }
        for program in ["gzip", "xz"] {
            let packed = cloud.compressed(&vhd, program);
            for path in [packed.to_str().unwrap(), &web.serve(&packed)] {
                cloud.stat(path).run().succeeds().replies(&mib);
                same_bytes(&disk, cloud.cp(path).run().succeeds().image("raw"));
            }
        }
    }
}

#[test]
fn a_fixed_vhd_is_measured_without_its_footer_wherever_it_is() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let (disk, vhd) = fixed(&cloud, 9 * MIB);
    let members = [("disk.vhd", &vhd)];
    let tar = cloud.tar("vm.tar", &[], &members);
    let files = [
        vhd.clone(),
        cloud.compressed(&vhd, "zstd"),
        cloud.compressed(&vhd, "bzip2"),
        tar.clone(),
        cloud.compressed(&tar, "gzip"),
        cloud.tar("packed.tar", &[], &[("disk.vhd.gz", cloud.compressed(&vhd, "gzip"))]),
        cloud.zip("vm.zip", "DEFLATED", false, &members),
        cloud.zip("stored.zip", "STORED", false, &members),
    ];
    for file in files {
        println!("{}", file.display());
        let urls = [
            web.page("ranges", Page::of(&file)),
            web.page("whole", Page::of(&file).without_ranges()),
            web.page("chunked", Page::of(&file).without_ranges().chunked()),
        ];
        for path in std::iter::once(file.to_str().unwrap()).chain(urls.iter().map(String::as_str)) {
            cloud.stat(path).run().succeeds().replies("9");
            same_bytes(&disk, cloud.cp(path).run().succeeds().image("raw"));
        }
    }
}

#[test]
fn a_fixed_vhd_as_other_tools_round_it_is_taken() {
    let cloud = Cloud::new();
    // Without force_size, qemu-img rounds up to whole cylinders.
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    let vhd = cloud.converted(&disk, "disk.vhd", "vpc", "subformat=fixed");
    let size = virtual_size(&vhd, "vpc");
    assert!(size > 5 * MIB + 512);
    cloud.stat(&vhd).run().succeeds().replies(&size.div_ceil(MIB).to_string());
    let image = cloud.cp(&vhd).run().succeeds().image("raw");
    assert_eq!(fs::metadata(&image).unwrap().len(), size);
    same_content(&vhd, "vpc", image, "raw");
}

#[test]
fn a_fixed_vhd_of_another_length_than_it_says_is_refused() {
    let cloud = Cloud::new();
    let (_, vhd) = fixed(&cloud, MIB);
    let bytes = fs::read(&vhd).unwrap();
    let (disk, footer) = bytes.split_at(MIB as usize);
    for length in [MIB - 512, MIB + 512] {
        let mut other = disk.to_vec();
        other.resize(length as usize, 0);
        let path = cloud.file("other.vhd", [&other, footer].concat());
        for driver in ["", "raw", "qcow2"] {
            cloud.cp(&path).driver(driver).run().fails().naming("IMAGE/PATH").saying("fixed vhd");
        }
    }
}

#[test]
fn a_footer_that_is_none_is_part_of_a_raw_disk() {
    let cloud = Cloud::new();
    let (_, vhd) = fixed(&cloud, MIB);
    let mut bytes = fs::read(&vhd).unwrap();
    // Another checksum.
    bytes[MIB as usize + 64] ^= 1;
    let path = cloud.file("disk.img", bytes);
    cloud.stat(&path).run().succeeds().replies("2");
    same_bytes(&path, cloud.cp(&path).run().succeeds().image("raw"));
}

/// A vhdx of 16 MiB, with logical sectors of `length` bytes.
fn with_sectors(cloud: &Cloud, length: u32) -> PathBuf {
    let disk = cloud.raw("disk.img", 16 * MIB);
    let vhdx = cloud.converted(&disk, "disk.vhdx", "vhdx", "");
    let mut bytes = fs::read(&vhdx).unwrap();
    let item = b"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f";
    let find = |what: &[u8]| bytes.windows(what.len()).position(|window| window == what).unwrap();
    let (entry, table) = (find(item), find(b"metadata"));
    let offset = u32::from_le_bytes(bytes[entry + 16..entry + 20].try_into().unwrap()) as usize;
    bytes[table + offset..table + offset + 4].copy_from_slice(&length.to_le_bytes());
    cloud.file("changed.vhdx", bytes)
}

#[test]
fn a_vhdx_of_4096_byte_sectors_is_refused_for_that_reason() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let vhdx = with_sectors(&cloud, 4096);
    for path in [vhdx.to_str().unwrap(), &web.serve(&vhdx)] {
        let refused = |call: ferrostore_tests::Call| {
            let failure = call.run().fails().naming("IMAGE/PATH").saying("sectors of 4096 bytes");
            assert!(!failure.text.contains("/proc") && !failure.text.contains("staging"));
        };
        refused(cloud.stat(path));
        for driver in ["", "raw", "qcow2"] {
            refused(cloud.cp(path).driver(driver));
        }
    }
    let usual = with_sectors(&cloud, 512);
    cloud.stat(&usual).run().succeeds().replies("16");
    cloud.cp(&usual).driver("raw").run().succeeds().image("raw");
}
