//! Actions that make an image, with every fault at every system call that changes something: there is a whole
//! image that was replied, or none.

use ferrostore_tests::{Call, Cloud, Contents, Disk, FaultMatrix, Holds, MIB, run};
use std::path::{Path, PathBuf};
use std::process::Command;

const EXT4: Disk = Disk::Ext4(200 * MIB);
const XFS: Disk = Disk::Xfs(320 * MIB);

fn disks() -> [(&'static str, Disk); 2] {
    [("ext4", EXT4), ("XFS", XFS)]
}

/// Whether the disk in `image` is that in `reference`, which is raw.
fn same(image: &Path, format: &str, reference: &Path) -> bool {
    let whole = format != "qcow2"
        || Command::new("qemu-img")
            .args(["check", "-q", "-f", "qcow2"])
            .arg(image)
            .status()
            .expect("qemu-img is installed")
            .success();
    let output = Command::new("qemu-img")
        .args(["compare", "-q", "-f", format, "-F", "raw"])
        .args([image, reference])
        .output()
        .expect("qemu-img is installed");
    whole && output.status.success()
}

/// Injects every fault into a call that makes one image, of which `good` tells whether it is what was asked for.
fn inject_all(name: String, cloud: &Cloud, call: Call, good: &dyn Fn(&Path) -> bool) {
    let start: Vec<String> = Contents::of(&cloud.datastore()).names().map(str::to_owned).collect();
    let look = || {
        let now = Contents::of(&cloud.datastore());
        let new: Vec<PathBuf> = now
            .names()
            .filter(|name| !start.iter().any(|old| old == name))
            .map(|name| cloud.datastore().join(name))
            .collect();
        let all_old = start.iter().all(|old| now.names().any(|name| name == old));
        match new.len() {
            _ if !all_old || !new.iter().all(|image| good(image)) => Holds::Neither,
            0 => Holds::Before,
            _ => Holds::After,
        }
    };
    FaultMatrix { name, cloud, call, look: &look, creates: true, once: false }.inject_all();
}

#[test]
fn cp_of_a_raw_image() {
    for (on, disk) in disks() {
        let cloud = Cloud::on_quick(disk);
        let raw = cloud.raw("disk.img", 2 * MIB + 512);
        let call = cloud.cp(&raw);
        inject_all(format!("cp raw, {on}"), &cloud, call, &|image| same(image, "raw", &raw));
    }
}

#[test]
fn cp_of_a_qcow2_image() {
    for (on, disk) in disks() {
        let cloud = Cloud::on_quick(disk);
        let raw = cloud.raw("disk.img", 2 * MIB);
        let qcow2 = cloud.qcow2(&raw, "disk.qcow2", "");
        let call = cloud.cp(&qcow2);
        inject_all(format!("cp qcow2, {on}"), &cloud, call, &|image| same(image, "qcow2", &raw));
    }
}

#[test]
fn cp_of_a_compressed_file() {
    for (on, disk) in disks() {
        let cloud = Cloud::on_quick(disk);
        let raw = cloud.raw("disk.img", 2 * MIB);
        let packed = cloud.compressed(&raw, "gzip");
        let call = cloud.cp(&packed);
        inject_all(format!("cp gz, {on}"), &cloud, call, &|image| same(image, "raw", &raw));
    }
}

#[test]
fn cp_of_a_compressed_file_into_qcow2() {
    let cloud = Cloud::on_quick(EXT4);
    let raw = cloud.raw("disk.img", 2 * MIB);
    let packed = cloud.compressed(&raw, "xz");
    let call = cloud.cp(&packed).driver("qcow2");
    inject_all("cp xz to qcow2, ext4".into(), &cloud, call, &|image| same(image, "qcow2", &raw));
}

#[test]
fn cp_that_converts() {
    for (on, disk) in disks() {
        let cloud = Cloud::on_quick(disk);
        let raw = cloud.raw("disk.img", 2 * MIB);
        let qcow2 = cloud.qcow2(&raw, "disk.qcow2", "cluster_size=4k");
        for (from, to) in [(&raw, "qcow2"), (&qcow2, "raw")] {
            let call = cloud.cp(from).driver(to);
            let name = format!("cp to {to}, {on}");
            inject_all(name, &cloud, call, &|image| same(image, to, &raw));
            run("find", [cloud.datastore().to_str().unwrap(), "-type", "f", "-delete"]);
        }
    }
}

#[test]
fn cp_that_converts_with_qemu_img() {
    let cloud = Cloud::on_quick(EXT4);
    let raw = cloud.raw("disk.img", 2 * MIB);
    let vmdk = cloud.converted(&raw, "disk.vmdk", "vmdk", "");
    let call = cloud.cp(&vmdk).driver("qcow2");
    inject_all("cp vmdk to qcow2, ext4".into(), &cloud, call, &|image| same(image, "qcow2", &raw));
}

#[test]
fn mkfs_of_an_empty_image() {
    for (on, disk) in disks() {
        let cloud = Cloud::on_quick(disk);
        let zeros = cloud.images().join("zeros");
        std::fs::File::create(&zeros).unwrap().set_len(8 * MIB).unwrap();
        for format in ["raw", "qcow2"] {
            let call = cloud.mkfs(format, "8");
            let name = format!("mkfs {format}, {on}");
            inject_all(name, &cloud, call, &|image| same(image, format, &zeros));
            run("find", [cloud.datastore().to_str().unwrap(), "-type", "f", "-delete"]);
        }
    }
}

fn is_ext4(raw: &Path) -> bool {
    let check = Command::new("e2fsck").args(["-f", "-n"]).arg(raw).output();
    check.expect("e2fsck is installed").status.success()
}

#[test]
fn mkfs_with_a_file_system() {
    let cloud = Cloud::on_quick(EXT4);
    let call = cloud.mkfs("raw", "8").set("IMAGE/FS", "ext4");
    inject_all("mkfs raw with ext4, ext4".into(), &cloud, call, &is_ext4);
}

#[test]
fn mkfs_with_a_file_system_in_qcow2() {
    let cloud = Cloud::on_quick(EXT4);
    let call = cloud.mkfs("qcow2", "8").set("IMAGE/FS", "ext4");
    inject_all("mkfs qcow2 with ext4, ext4".into(), &cloud, call, &|image| {
        let raw = cloud.outside().join("raw");
        let convert = Command::new("qemu-img")
            .args(["convert", "-f", "qcow2", "-O", "raw"])
            .args([image, &raw])
            .output()
            .expect("qemu-img is installed");
        convert.status.success() && is_ext4(&raw)
    });
}

#[test]
fn mkfs_of_swap_space() {
    let cloud = Cloud::on_quick(EXT4);
    let call = cloud.mkfs("swap", "8");
    inject_all("mkfs swap, ext4".into(), &cloud, call, &|image| {
        let bytes = std::fs::read(image).unwrap();
        bytes.len() as u64 == 8 * MIB && bytes[4086..4096] == *b"SWAPSPACE2"
    });
}

#[test]
fn clone_of_an_image() {
    for (on, disk) in disks() {
        let cloud = Cloud::on_quick(disk);
        let raw = cloud.raw("disk.img", 2 * MIB);
        let source = cloud.stored(1, &raw);
        for to in ["raw", "qcow2"] {
            let call = cloud.clone_of(&source, "raw").driver(to);
            let name = format!("clone to {to}, {on}");
            inject_all(name, &cloud, call, &|image| same(image, to, &raw));
            let datastore = cloud.datastore();
            let keep = Path::new(&source).file_name().unwrap().to_str().unwrap();
            let all = [datastore.to_str().unwrap(), "-type", "f", "!", "-name", keep, "-delete"];
            run("find", all);
        }
    }
}
