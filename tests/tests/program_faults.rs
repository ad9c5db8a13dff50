//! Programs that write an image or read one into a file, with every fault at each of their writes: an error of
//! theirs is never lost, whether or not they tell of it.

use ferrostore_tests::{Cloud, Disk, MIB, ProgramFaults, run};
use std::fs;
use std::path::Path;
use std::process::Command;

const DISK: Disk = Disk::Ext4(200 * MIB);

/// qemu-img shall convert, one write after the other: then one of them fails alone. It has inherited the image.
const ONE_BY_ONE: &str = r#"[ "$1" = convert ] || exec "$real" "$@"
shift
set -- convert -m 1 "$@"
image=$(readlink "${image##*filename=}")"#;

fn same(image: &Path, format: &str, reference: &Path) -> bool {
    let compare = ["compare", "-q", "-f", format, "-F", "raw"];
    let output = Command::new("qemu-img").args(compare).args([image, reference]).output();
    output.expect("qemu-img is installed").status.success()
}

/// Which of its blocks hold anything, and how long it is.
fn used_blocks(raw: &Path) -> (usize, Vec<usize>) {
    let bytes = fs::read(raw).unwrap();
    let used = bytes.chunks(1024).enumerate().filter(|(_, block)| block.iter().any(|&b| b != 0));
    (bytes.len(), used.map(|(number, _)| number).collect())
}

#[test]
fn qemu_img_that_reads_a_format_into_qcow2_or_raw() {
    let cloud = Cloud::on_quick(DISK);
    let disk = cloud.raw("disk.img", MIB + 512);
    for (from, to) in [("vdi", "qcow2"), ("vdi", "raw")] {
        let image = cloud.converted(&disk, &format!("disk.{from}"), from, "");
        ProgramFaults {
            cloud: &cloud,
            program: "qemu-img",
            arguments: ONE_BY_ONE,
            call: cloud.cp(&image).driver(to),
            good: &|image| same(image, to, &disk),
        }
        .inject();
    }
}

/// A new file system, held against one that was made without a fault.
fn file_system(fs: &str, size: u64, to: &str) {
    let cloud = Cloud::on_quick(DISK);
    let reference = cloud.outside().join("reference");
    let copy = cloud.outside().join("copy");
    fs::File::create(&reference).unwrap().set_len(size * MIB).unwrap();
    let program = format!("mkfs.{fs}");
    run(&program, ["-q", reference.to_str().unwrap()]);
    let expected = used_blocks(&reference);
    ProgramFaults {
        cloud: &cloud,
        program: &program,
        arguments: "",
        call: cloud.mkfs(to, &size.to_string()).set("IMAGE/FS", fs),
        good: &|image| {
            if to == "raw" {
                return used_blocks(image) == expected;
            }
            let convert = ["convert", "-f", to, "-O", "raw"];
            run("qemu-img", convert.map(Path::new).into_iter().chain([image, &copy]));
            used_blocks(&copy) == expected
        },
    }
    .inject();
}

#[test]
fn mkfs_of_ext2() {
    file_system("ext2", 8, "raw");
}

#[test]
fn mkfs_of_ext4() {
    file_system("ext4", 8, "raw");
}

#[test]
fn mkfs_of_ext4_in_qcow2() {
    file_system("ext4", 8, "qcow2");
}

#[test]
fn mkfs_of_xfs() {
    file_system("xfs", 300, "raw");
}

#[test]
fn mkswap() {
    let cloud = Cloud::on_quick(DISK);
    ProgramFaults {
        cloud: &cloud,
        program: "mkswap",
        arguments: "",
        call: cloud.mkfs("swap", "8"),
        good: &|image| {
            let bytes = fs::read(image).unwrap();
            bytes.len() as u64 == 8 * MIB && bytes[4086..4096] == *b"SWAPSPACE2"
        },
    }
    .inject();
}
