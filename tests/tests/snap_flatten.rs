//! `snap_flatten`: one snapshot becomes the image, and no snapshot is left.

use ferrostore_tests::{
    Cloud, Disk, KIB, MIB, info, on_every_chain, pattern, qemu_img_check, run, same_bytes,
    virtual_size,
};
use ferrostore_tests::{
    Rule,
    layouts::{Chain, Copies, Layout, Level, Snapshots},
};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

/// Flattens to `target` and checks all that must hold afterwards. `content` is the file that
/// holds the snapshot.
#[track_caller]
fn flatten_found_in(snapshots: &Snapshots, target: u32, content: u32, format: &str) {
    let size = virtual_size(snapshots.file(content), format);
    let gone = snapshots.entries();
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();

    let reply = snapshots.call("snap_flatten", target).run().succeeds();
    reply.silently();
    let changed = reply.outcome.after.changed_since(&reply.outcome.before);
    assert!(
        changed.iter().all(|name| *name == snapshots.name()),
        "S is all that may change: {changed:?}"
    );
    snapshots.check_changes(&reply, &changed, &gone);

    let source = snapshots.source();
    let metadata = Path::new(&source).symlink_metadata().unwrap();
    assert!(metadata.is_file(), "S is a file, no link");
    snapshots.check_content(&source, content);
    assert_eq!(virtual_size(&source, format), size);
    if format == "qcow2" {
        qemu_img_check(&source);
        let backing = &info(&source, "qcow2")["backing-filename"];
        assert!(backing.is_null(), "S stands alone, not upon {backing}");
    }
}

#[track_caller]
fn flatten(chain: &Chain, target: u32) {
    flatten_found_in(chain, target, target, "qcow2");
}

fn s_gets_the_last_snapshot(layout: Layout) {
    let cloud = Cloud::new();
    flatten(&Chain::of_four(&cloud, layout), 2);
}

fn s_gets_a_snapshot_in_the_middle(layout: Layout) {
    let cloud = Cloud::new();
    flatten(&Chain::of_four(&cloud, layout), 1);
}

fn s_gets_the_base(layout: Layout) {
    let cloud = Cloud::new();
    flatten(&Chain::of_four(&cloud, layout), 0);
}

fn s_gets_a_leaf_of_a_tree(layout: Layout) {
    let cloud = Cloud::new();
    flatten(&Chain::tree(&cloud, layout), 2);
}

fn s_gets_the_snapshot_of_the_live_branch_of_a_tree(layout: Layout) {
    let cloud = Cloud::new();
    flatten(&Chain::tree(&cloud, layout), 3);
}

fn an_overlay_larger_than_its_base_reads_as_zeros_beyond(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, layout, Level::of(MIB + 512));
    let sparse = Level::of(6 * MIB);
    let backing = chain.backing_name(0);
    chain.overlay_upon(1, &backing, sparse);
    chain.overlay(2, 1, sparse);
    chain.overlay(3, 2, sparse);
    flatten(&chain, 2);
}

fn levels_of_unlike_cluster_size_and_version_are_joined(layout: Layout) {
    let cloud = Cloud::new();
    let base = Level::of(3 * MIB).with("compat=0.10,cluster_size=512");
    let mut chain = Chain::on(&cloud, layout, base);
    chain.overlay(1, 0, Level::of(5 * MIB).with("cluster_size=2M"));
    chain.overlay(2, 1, Level::of(7 * MIB - 512).with("cluster_size=4k"));
    chain.overlay(3, 2, Level::of(9 * MIB).with("compat=0.10"));
    chain.overlay(4, 3, Level::of(9 * MIB));
    flatten(&chain, 3);
}

fn subclusters_are_read(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, layout, Level::of(3 * MIB));
    let subclusters = Level::of(5 * MIB).with("extended_l2=on,cluster_size=128k");
    chain.overlay(1, 0, subclusters);
    chain.overlay(2, 1, Level::of(5 * MIB));
    flatten(&chain, 1);
}

fn a_zlib_compressed_base_is_read(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, layout, Level::PLAIN.compressed());
    chain.overlay(1, 0, Level::PLAIN);
    chain.overlay(2, 1, Level::PLAIN);
    flatten(&chain, 1);
}

fn a_zstd_compressed_base_is_read(layout: Layout) {
    let cloud = Cloud::new();
    let base = Level::PLAIN.with("compression_type=zstd").compressed();
    let mut chain = Chain::on(&cloud, layout, base);
    chain.overlay(1, 0, Level::PLAIN);
    chain.overlay(2, 1, Level::PLAIN);
    flatten(&chain, 1);
}

/// While the VM ran, snapshot 1 was deleted: 2 was merged down into file 1.
fn a_snapshot_is_found_in_the_file_that_carries_it_now(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, layout, Level::PLAIN);
    chain.overlay(1, 0, Level::PLAIN);
    chain.overlay(3, 1, Level::PLAIN);
    chain.current(2, format!("{}.snap/1", chain.source()));
    flatten_found_in(&chain, 2, 1, "qcow2");
}

/// While the VM ran, snapshot 0 was deleted: 1 was merged down into the base.
fn the_base_can_carry_a_snapshot_too(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, layout, Level::PLAIN);
    chain.overlay(2, 0, Level::PLAIN);
    chain.current(1, format!("{}.snap/0", chain.source()));
    flatten_found_in(&chain, 1, 0, "qcow2");
}

/// The administrator moved the datastore to another disk and left a link in its place.
fn base_path_may_be_a_link_itself(layout: Layout) {
    let cloud = Cloud::new();
    let link = cloud.root().join("link");
    symlink(cloud.datastore(), &link).unwrap();
    let base_path = format!("{}//link", cloud.root().display());
    let mut chain = Chain::below(&cloud, layout, Level::PLAIN, base_path);
    for number in 1..4 {
        chain.overlay(number, number - 1, Level::PLAIN);
    }
    flatten(&chain, 2);
}

on_every_chain! {
    s_gets_the_last_snapshot
    s_gets_a_snapshot_in_the_middle
    s_gets_the_base
    s_gets_a_leaf_of_a_tree
    s_gets_the_snapshot_of_the_live_branch_of_a_tree
    an_overlay_larger_than_its_base_reads_as_zeros_beyond
    levels_of_unlike_cluster_size_and_version_are_joined
    subclusters_are_read
    a_zlib_compressed_base_is_read
    a_zstd_compressed_base_is_read
    a_snapshot_is_found_in_the_file_that_carries_it_now
    the_base_can_carry_a_snapshot_too
    base_path_may_be_a_link_itself
}

#[test]
fn s_becomes_the_snapshot_where_snapshots_are_raw_copies() {
    copies_flatten("raw");
}

#[test]
fn s_becomes_the_snapshot_where_snapshots_are_qcow2_copies() {
    copies_flatten("qcow2");
}

#[track_caller]
fn copies_flatten(format: &str) {
    for target in 0..3 {
        let cloud = Cloud::new();
        let copies = Copies::of_three(&cloud, format);
        let snapshot = cloud.outside().join("snapshot");
        run("cp", [copies.file(target), snapshot.clone()]);
        flatten_found_in(&copies, target, target, format);
        same_bytes(copies.source(), snapshot);
    }
}

/// A guest owns every byte of its disk: what looks like a header there is data.
#[test]
fn a_raw_copy_that_begins_like_a_qcow2_is_kept_byte_for_byte() {
    let cloud = Cloud::new();
    let copies = Copies::of_three(&cloud, "raw");
    let secret = cloud.outside().join("secret");
    fs::write(&secret, pattern(3, 100_000)).unwrap();
    let disk = cloud.outside().join("disk");
    let (secret, disk) = (secret.to_str().unwrap(), disk.to_str().unwrap());
    run("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, disk]);
    run("cp", [disk, copies.file(1).to_str().unwrap()]);
    copies.call("snap_flatten", 1).run().succeeds().silently();
    same_bytes(copies.source(), disk);
}

#[test]
fn what_the_vm_wrote_after_the_snapshot_is_gone() {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, Layout::ABSOLUTE);
    chain.call("snap_flatten", 1).run().succeeds();
    let differ = std::process::Command::new("qemu-img")
        .args(["compare", "-q", "-f", "qcow2", "-F", "raw"])
        .arg(chain.source())
        .arg(chain.reference(3))
        .status()
        .unwrap();
    assert_eq!(differ.code(), Some(1), "the snapshot differs from the live disk");
}

#[test]
fn holes_stay_holes() {
    let cloud = Cloud::new();
    let huge = Level::of(256 * MIB);
    let mut chain = Chain::on(&cloud, Layout::RELATIVE, Level::PLAIN);
    let backing = chain.backing_name(0);
    chain.overlay_upon(1, &backing, huge);
    chain.overlay(2, 1, huge);
    chain.call("snap_flatten", 1).run().succeeds();
    let source = fs::metadata(chain.source()).unwrap();
    // The base's data is some 520 KiB and two clusters; the rest is tables.
    assert!(source.blocks() * 512 <= 2 * MIB, "{} blocks", source.blocks());
}

#[test]
fn the_new_file_keeps_owner_and_mode_of_the_image() {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, Layout::ABSOLUTE);
    let source = chain.source();
    run("chmod", ["0660", &source]);
    run("chown", ["1234:4321", &source]);
    chain.call("snap_flatten", 1).run().succeeds();
    let metadata = fs::metadata(&source).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o660);
    assert_eq!((metadata.uid(), metadata.gid()), (1234, 4321));
}

#[test]
fn without_space_for_the_result_everything_stays_as_it_was() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(16 * MIB));
    let chain = Chain::of_four(&cloud, Layout::ABSOLUTE);
    let filler = cloud.datastore().join("filler");
    let mut size = 16 * MIB;
    while fs::write(&filler, vec![1; size as usize]).is_err() {
        size -= 64 * KIB;
    }
    chain.call("snap_flatten", 2).run().refused(Rule::NoSpace).saying_any(&["space", "ENOSPC"]);
    for number in 0..4 {
        chain.check_content(chain.file(number), number);
    }
}
