//! Nothing of what the disks held before shows in an image.

use ferrostore_tests::{Lvm, MIB, persistent, run};
use std::fs;

/// What the whole disk is full of before.
const MARKER: u8 = 0xa5;

#[track_caller]
fn no_marker(lvm: &Lvm, name: &str) {
    let content = lvm.content(name);
    let run = content.chunks(512).position(|sector| sector.iter().all(|&byte| byte == MARKER));
    assert_eq!(run.map(|sector| sector * 512), None, "old data shows in {name}");
}

#[test]
#[ignore = "runs in the virtual machine"]
fn no_image_shows_what_the_disk_held_before() {
    no_marker_in_any_image(&Lvm::on_used_disk(MARKER, 600 * MIB));
}

#[test]
#[ignore = "runs in the virtual machine"]
fn no_image_shows_what_a_disk_held_before_that_can_only_be_written() {
    let lvm = Lvm::on_used_plain_disk(MARKER, 600 * MIB);
    assert_eq!(fs::read_to_string("/sys/block/vdb/queue/write_zeroes_max_bytes").unwrap(), "0\n");
    no_marker_in_any_image(&lvm);
}

fn no_marker_in_any_image(lvm: &Lvm) {
    // An image with holes, zeroes, data among both and an end within a block.
    let mut bytes = vec![0; 13 * MIB as usize + 1000];
    bytes[3 * MIB as usize] = 1;
    for (at, length) in [(4, 70_000), (5, 300_000), (8, 2_500_000)] {
        bytes[at * MIB as usize + 512..][..length].fill(at as u8);
    }
    *bytes.last_mut().unwrap() = 2;
    let raw = lvm.cloud.file("sparse.img", &bytes);
    let qcow2 =
        lvm.cloud.qcow2(&lvm.cloud.file("whole.img", &bytes[..12 * MIB as usize]), "a.qcow2", "");
    let packed = lvm.cloud.compressed(&raw, "gzip");
    let whole = lvm.cloud.images().join("whole.img");
    let tiny = lvm.cloud.qcow2(&whole, "b.qcow2", "cluster_size=512");
    let deflated = lvm.cloud.compressed_qcow2(&whole, "c.qcow2", "");
    let vmdk = lvm.cloud.converted(&whole, "d.vmdk", "vmdk", "");
    for (id, path) in
        [(1, &raw), (2, &qcow2), (3, &packed), (21, &tiny), (22, &deflated), (23, &vmdk)]
    {
        lvm.cp(id, path).set_escaped("IMAGE/SIZE", "14").run().succeeds();
        persistent(lvm.cp(id + 10, path)).set_escaped("IMAGE/SIZE", "14").run().succeeds();
    }
    for (id, format, fs) in
        [(4, "raw", ""), (5, "save_as", ""), (6, "swap", ""), (7, "raw", "ext4")]
    {
        lvm.mkfs(id, format, 20).set("IMAGE/FS", fs).run().succeeds();
        persistent(lvm.mkfs(id + 10, format, 20)).set("IMAGE/FS", fs).run().succeeds();
    }
    lvm.clone_of(8, "vg-one-104/img-one-1").run().succeeds();
    persistent(lvm.clone_of(18, "vg-one-104/img-one-11")).run().succeeds();
    lvm.take_snapshot(18, 0);
    lvm.snap("snap_revert", 18, 0).run().succeeds();
    for id in (1..=8).chain(11..=18).chain(21..=23).chain(31..=33) {
        no_marker(lvm, &format!("img-one-{id}"));
    }
    for name in ["img-one-1", "img-one-11", "img-one-3", "img-one-13", "img-one-8", "img-one-18"] {
        let content = lvm.content(name);
        assert!(content[..bytes.len()] == bytes[..], "{name}");
        assert!(content[bytes.len()..].iter().all(|&byte| byte == 0), "{name}");
    }
    for id in [2, 12, 21, 31, 22, 32, 23, 33] {
        let content = lvm.content(&format!("img-one-{id}"));
        assert!(content == bytes[..12 * MIB as usize], "{id}");
    }
    // The test would see it: a volume that was never zeroed.
    run("lvcreate", ["-q", "-Wn", "-Zn", "-L", "8M", "-an", "-n", "witness", "vg-one-104"]);
    assert!(lvm.content("witness").contains(&MARKER), "the disk is no longer full of the marker");
}
