//! `cp`: images whose headers and tables say one thing to one reader and another thing to the next, or
//! claim more than a file can hold; and replies that are refused.

use ferrostore_tests::{Cloud, MIB, Rule, run, same_content};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Where qemu-img puts the descriptor of a vmdk, and how many bytes it reserves for it.
const DESCRIPTOR: (u64, usize) = (512, 20 * 512);

/// What is done to the text of a descriptor.
type Change = fn(String) -> String;

fn vmdk(cloud: &Cloud, name: &str, change: impl FnOnce(String) -> String) -> PathBuf {
    let disk = cloud.raw("disk.img", MIB);
    let image = cloud.images().join(name);
    let (from, to) = (disk.to_str().unwrap(), image.to_str().unwrap());
    run("qemu-img", ["convert", "-f", "raw", "-O", "vmdk", from, to]);
    let file = File::options().read(true).write(true).open(&image).unwrap();
    let mut bytes = vec![0; DESCRIPTOR.1];
    file.read_exact_at(&mut bytes, DESCRIPTOR.0).unwrap();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap();
    let text = change(String::from_utf8(bytes[..end].to_vec()).unwrap());
    let mut bytes = text.into_bytes();
    bytes.resize(DESCRIPTOR.1, 0);
    file.write_all_at(&bytes, DESCRIPTOR.0).unwrap();
    image
}

#[test]
fn a_vmdk_in_the_plainest_form_is_taken() {
    let cloud = Cloud::new();
    let image = vmdk(&cloud, "plain.vmdk", |text| text);
    let copy = cloud.cp(&image).driver("raw").run().succeeds().image("raw");
    same_content(image, "vmdk", copy, "raw");
}

#[test]
fn a_vmdk_that_could_be_read_in_two_ways_is_refused() {
    let cloud = Cloud::new();
    let changes: [(&str, Change); 5] = [
        ("second-type", |text| text.replacen("version=1", "#createType=\"x\"\nversion=1", 1)),
        ("second-parent", |text| text.replacen("version=1", "PARENTCID=ffffffff\nversion=1", 1)),
        ("hint", |text| text + "#parentFileNameHint=\"other.vmdk\"\n"),
        ("second-extent", |text| text.replacen("RW ", "RDONLY 8 SPARSE \"x\"\nRW ", 1)),
        ("other-size", |text| text.replacen("RW ", "RW 1", 1)),
    ];
    for (name, change) in changes {
        println!("{name}");
        let image = vmdk(&cloud, &format!("{name}.vmdk"), change);
        for driver in ["", "raw", "qcow2"] {
            let call = cloud.cp(&image).driver(driver);
            call.run().fails().naming("IMAGE/PATH").saying_path(&image).saying("vmdk");
        }
    }
}

#[test]
fn a_vmdk_without_a_capacity_of_its_own_is_refused() {
    let cloud = Cloud::new();
    let image = vmdk(&cloud, "none.vmdk", |text| text);
    File::options().write(true).open(&image).unwrap().write_all_at(&[0; 8], 12).unwrap();
    cloud.cp(&image).driver("raw").run().fails().naming("IMAGE/PATH").saying("vmdk");
}

#[test]
fn tables_that_are_used_twice_are_refused_before_anything_is_copied() {
    let cloud = Cloud::new();
    let image = cloud.images().join("twice.qcow2");
    let path = image.to_str().unwrap();
    run("qemu-img", ["create", "-q", "-f", "qcow2", path, "64G"]);
    run("qemu-io", ["-f", "qcow2", "-c", "write -P 7 0 64k", path]);
    let file = File::options().read(true).write(true).open(&image).unwrap();
    let mut field = [0; 8];
    file.read_exact_at(&mut field, 40).unwrap();
    let table = u64::from_be_bytes(field);
    let mut entry = [0; 8];
    file.read_exact_at(&mut entry, table).unwrap();
    for index in 1..128 {
        file.write_all_at(&entry, table + index * 8).unwrap();
    }
    for driver in ["", "raw"] {
        let call = cloud.cp(&image).driver(driver);
        call.run().fails().naming("IMAGE/PATH").saying("corrupt");
    }
}

#[test]
fn a_disk_that_no_qcow2_can_hold_is_not_made() {
    let cloud = Cloud::new();
    for size in ["70000000", "8000000000000"] {
        cloud
            .mkfs("qcow2", size)
            .run()
            .refused(Rule::VirtualSizeLimit)
            .naming("IMAGE/SIZE")
            .saying(size);
    }
}

/// oned asks for the removal of an image only if it knows it.
#[test]
fn an_image_whose_reply_is_not_read_is_rolled_back() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let full = ["sh", "-c", "exec \"$@\" > /dev/full", "sh"];
    cloud.cp(&disk).under(full).run().fails().saying("reply");
    cloud.mkfs("raw", "1").under(full).run().fails().saying("reply");
    assert_eq!(fs::read_dir(cloud.datastore()).unwrap().count(), 0);
}
