//! Images that are sound, and images that are not.

use crate::list::{image, pool};
use crate::{name, overwrite, two_images};
use ferrostore_tests::{Cloud, MIB, allocated, pattern, run, virtual_size};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

#[test]
fn an_empty_datastore_is_clean() {
    let cloud = Cloud::new();
    let examination = cloud.fsck().run().clean().images(0);
    assert_eq!(examination.text, "0 images, 0 problems\n");
}

#[test]
fn what_the_drivers_make_is_clean() {
    let cloud = Cloud::new();
    let raw = cloud.raw("disk.img", 3 * MIB);
    for driver in ["raw", "qcow2"] {
        cloud.cp(&raw).driver(driver).run().succeeds();
    }
    for options in ["compat=0.10", "compat=1.1,cluster_size=512", "compression_type=zstd"] {
        let packed = cloud.compressed_qcow2(&raw, "packed.qcow2", options);
        cloud.cp(&packed).run().succeeds();
    }
    cloud.cp(cloud.luks("luks.img", 20 * MIB)).run().succeeds();
    cloud.cp(cloud.iso("disc.iso")).cdrom().run().succeeds();
    for format in ["raw", "qcow2", "swap"] {
        cloud.mkfs(format, "10").run().succeeds();
    }
    cloud.fsck().run().clean().images(10);
}

#[test]
fn formats_and_sizes_are_told() {
    let cloud = Cloud::new();
    let [raw, qcow2] = two_images(&cloud);
    let examination = cloud.fsck().run().clean().images(2);
    for (number, path, format) in [(1, raw, "raw"), (2, qcow2, "qcow2")] {
        let entry = examination.entry(&name(number));
        assert_eq!(entry["role"], "image");
        assert_eq!(entry["format"], format);
        assert_eq!(entry["virtual_size"], virtual_size(&path, format));
        assert_eq!(entry["allocated"], allocated(&path));
        assert_eq!(entry["layout"], "none");
        let line = format!("{}  {format}, 2 MiB, ", name(number));
        assert!(examination.text.contains(&line), "{}", examination.text);
    }
}

#[test]
fn plain_files_of_a_files_datastore_are_no_disks() {
    let cloud = Cloud::new();
    let kernel = cloud.file("vmlinuz", b"QFI\xfb is how this kernel happens to begin");
    let source = cloud.stored(1, &kernel);
    cloud.fsck().run().finds("warning", &name(1), "qcow (unknown version)");
    let list = pool(&[image(9, &source, "").replace("<TYPE>0<", "<TYPE>3<")]);
    let examination = cloud.fsck().knowing(list).run().clean();
    assert_eq!(examination.entry(&name(1))["format"], "file");
}

/// Examines a datastore with one sound image and one that `change` was done to.
#[track_caller]
fn damaged(change: impl FnOnce(&Path), words: &str) {
    let cloud = Cloud::new();
    let [_, qcow2] = two_images(&cloud);
    change(Path::new(&qcow2));
    cloud.fsck().run().images(2).finds("damage", &name(2), words);
}

#[test]
fn an_image_that_is_cut_off_is_damage() {
    for length in [1_000_000, 300_000, 150_000, 100] {
        damaged(
            |path| File::options().write(true).open(path).unwrap().set_len(length).unwrap(),
            "corrupt",
        );
    }
}

#[test]
fn an_image_of_no_bytes_is_damage() {
    damaged(|path| fs::write(path, "").unwrap(), "is empty");
}

#[test]
fn an_image_that_is_marked_as_corrupt_is_damage() {
    damaged(|path| overwrite(path, 79, &[2]), "marked as corrupt");
}

#[test]
fn an_image_with_a_table_outside_the_file_is_damage() {
    damaged(|path| overwrite(path, 40, &(1_u64 << 40).to_be_bytes()), "L1 table");
    let first_entry = |path: &Path| {
        let mut table = [0; 8];
        File::open(path).unwrap().read_exact_at(&mut table, 40).unwrap();
        u64::from_be_bytes(table)
    };
    damaged(|path| overwrite(path, first_entry(path), &(1_u64 << 40).to_be_bytes()), "L2 table");
}

#[test]
fn an_image_that_reads_a_file_outside_the_datastore_is_damage() {
    let change = |path: &Path| {
        let path = path.to_str().unwrap();
        run("qemu-img", ["rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", path]);
    };
    damaged(change, "/etc/passwd");
}

#[test]
fn an_image_with_an_external_data_file_is_damage() {
    let change = |path: &Path| {
        fs::remove_file(path).unwrap();
        let options = format!("data_file={}.data", path.display());
        let path = path.to_str().unwrap();
        run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", &options, path, "1M"]);
        fs::remove_file(format!("{path}.data")).unwrap();
    };
    damaged(change, "keeps its data in another file");
}

#[test]
fn an_image_that_is_a_link_to_nowhere_or_out_of_the_datastore_is_damage() {
    for (target, words) in [("/nowhere", "is a link to /nowhere"), ("/etc/passwd", "leads out")] {
        let change = |path: &Path| {
            fs::remove_file(path).unwrap();
            symlink(target, path).unwrap();
        };
        damaged(change, words);
    }
}

#[test]
fn an_image_that_is_a_fifo_is_damage_and_is_not_waited_for() {
    let change = |path: &Path| {
        fs::remove_file(path).unwrap();
        run("mkfifo", [path]);
    };
    damaged(change, "no regular file");
}

#[test]
fn images_of_random_bytes_are_told_of_and_no_more() {
    let cloud = Cloud::new();
    let good = fs::read(cloud.qcow2(&cloud.raw("disk.img", MIB), "disk.qcow2", "")).unwrap();
    for number in 1..=150 {
        let mut bytes = good.clone();
        let noise = pattern(number, 24);
        let wide = if number % 2 == 0 { 112 } else { bytes.len() - 8 };
        for at in noise.chunks(8).take(number as usize % 3 + 1) {
            let place = 8 + u64::from_le_bytes(at.try_into().unwrap()) as usize % (wide - 8);
            bytes[place] ^= at[7] | 1;
        }
        fs::write(cloud.datastore().join(name(number as u32)), bytes).unwrap();
    }
    let limit = ["prlimit", "--data=67108864", "--cpu=20", "--"];
    let examination = cloud.fsck().under(limit).run().images(150);
    assert_eq!(examination.code, 3, "{}", examination.text);
}
