//! On a file system that can share blocks, a conversion copies hardly any.

use ferrostore_tests::layouts::{Chain, Layout};
use ferrostore_tests::{Cloud, Disk, MIB, pattern, qemu_img_check, run, same_content};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of data in an image.
const DATA: u64 = 48 * MIB;

/// Bytes that are taken on the file system of `path`.
fn used(path: &Path) -> u64 {
    run("sync", ["-f", path.to_str().unwrap()]);
    let output = run("df", ["--output=used", "-B1", path.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().nth(1).unwrap().trim().parse().unwrap()
}

/// A disk of 64 MiB: a hole, then data up to its end but for a hole in the middle.
fn disk(cloud: &Cloud) -> PathBuf {
    let path = cloud.file("disk.img", "");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(64 * MIB).unwrap();
    for (seed, start) in [(1, 4), (2, 40)] {
        let bytes = pattern(seed, (DATA / 2) as usize);
        file.write_all_at(&bytes, start * MIB).unwrap();
    }
    path
}

/// Runs `action` and returns how many bytes the file system took more afterwards.
fn growth<T>(cloud: &Cloud, action: impl FnOnce() -> T) -> (u64, T) {
    let before = used(cloud.root());
    let result = action();
    (used(cloud.root()).saturating_sub(before), result)
}

/// What is new by `growth`, if blocks are shared: tables, journals, and a margin.
#[track_caller]
fn shared(what: &str, growth: u64) {
    assert!(
        growth < DATA / 25,
        "{what} shares its blocks, yet the file system grew by {growth} of {DATA} bytes"
    );
}

/// Conversions in both directions, and a clone; how much each made the file system grow.
fn conversions(cloud: &Cloud) -> Vec<(&'static str, u64)> {
    let raw = disk(cloud);
    let reference = cloud.outside().join("reference");
    run("cp", ["--reflink=never", raw.to_str().unwrap(), reference.to_str().unwrap()]);

    let (raw_to_qcow2, image) = growth(cloud, || {
        let reply = cloud.cp(&raw).driver("qcow2").run().succeeds();
        reply.image("qcow2")
    });
    qemu_img_check(&image);
    same_content(&image, "qcow2", &reference, "raw");

    let (raw_to_raw, copy) = growth(cloud, || cloud.cp(&raw).run().succeeds().image("raw"));
    same_content(&copy, "raw", &reference, "raw");

    let qcow2 = cloud.qcow2(&raw, "disk.qcow2", "");
    let (qcow2_to_raw, image) = growth(cloud, || {
        let reply = cloud.cp(&qcow2).driver("raw").run().succeeds();
        reply.image("raw")
    });
    same_content(&image, "raw", &reference, "raw");

    let (clone, image) = growth(cloud, || {
        let call = cloud.clone_of(&image, "raw").driver("qcow2");
        call.run().succeeds().image("qcow2")
    });
    qemu_img_check(&image);
    same_content(&image, "qcow2", &reference, "raw");

    // Sharing is safe: what is written to the one is not seen in the other.
    run("qemu-io", ["-f", "qcow2", "-c", "write -q -P 9 4M 8M", image.to_str().unwrap()]);
    same_content(&raw, "raw", &reference, "raw");
    vec![
        ("cp of raw into qcow2", raw_to_qcow2),
        ("cp of raw into raw", raw_to_raw),
        ("cp of qcow2 into raw", qcow2_to_raw),
        ("clone of raw into qcow2", clone),
    ]
}

/// Three levels with a third of the data each.
fn chain(cloud: &Cloud) -> Chain<'_> {
    let fill = |file: &Path, part: u64, backing: Option<&str>| {
        let noise = cloud.outside().join("noise");
        fs::write(&noise, pattern(part + 7, (DATA / 3) as usize)).unwrap();
        let mut create = vec!["create", "-q", "-u", "-f", "qcow2"];
        if let Some(backing) = backing {
            create.extend(["-F", "qcow2", "-b", backing]);
        }
        let file = file.to_str().unwrap();
        create.extend([file, "64M"]);
        run("qemu-img", create);
        let write = format!("write -q -s {} {} {}", noise.display(), part * 20 * MIB, DATA / 3);
        run("qemu-io", ["-f", "qcow2", "-c", &write, file]);
    };
    let mut chain = Chain::filled(cloud, Layout::ABSOLUTE, |file| fill(file, 0, None));
    for number in 1..3 {
        let backing = chain.backing_name(number - 1);
        chain.overlay_filled(number, |file| fill(file, u64::from(number), Some(&backing)));
    }
    let backing = chain.backing_name(2);
    chain.overlay_filled(3, |file| fill(file, 1, Some(&backing)));
    chain
}

/// Flattens while a copy keeps the old files' blocks, so that none are freed; how much the file
/// system grew.
fn flatten(cloud: &Cloud, reflink: &str) -> u64 {
    let chain = chain(cloud);
    let kept = cloud.outside().join("kept");
    run("cp", ["-a", reflink, cloud.datastore().to_str().unwrap(), kept.to_str().unwrap()]);
    let (growth, ()) = growth(cloud, || {
        chain.call("snap_flatten", 2).run().succeeds();
    });
    qemu_img_check(chain.source());
    chain.check_content(chain.source(), 2);
    growth
}

#[test]
fn xfs_shares_blocks_in_every_conversion() {
    let cloud = Cloud::on(Disk::Xfs(600 * MIB));
    for (what, growth) in conversions(&cloud) {
        shared(what, growth);
    }
}

#[test]
fn xfs_shares_blocks_in_a_flattened_image() {
    let cloud = Cloud::on(Disk::Xfs(600 * MIB));
    shared("snap_flatten", flatten(&cloud, "--reflink=always"));
}

#[test]
fn xfs_shares_blocks_in_a_copy_that_is_reverted_to() {
    let cloud = Cloud::on(Disk::Xfs(600 * MIB));
    let raw = disk(&cloud);
    let source = cloud.source(9);
    let snapshots = PathBuf::from(format!("{source}.snap"));
    fs::create_dir(&snapshots).unwrap();
    run("cp", ["--reflink=never", raw.to_str().unwrap(), snapshots.join("0").to_str().unwrap()]);
    fs::write(&source, "the live disk").unwrap();
    let (growth, ()) = growth(&cloud, || {
        cloud.snap("snap_revert", &source, "raw", 0).run().succeeds();
    });
    same_content(&source, "raw", &raw, "raw");
    shared("snap_revert", growth);
}

#[test]
fn ext4_copies() {
    conversions(&Cloud::on(Disk::Ext4(800 * MIB)));
    flatten(&Cloud::on(Disk::Ext4(800 * MIB)), "--reflink=auto");
}

#[test]
fn btrfs_works_as_well() {
    conversions(&Cloud::on(Disk::Btrfs(800 * MIB)));
    flatten(&Cloud::on(Disk::Btrfs(800 * MIB)), "--reflink=auto");
}
