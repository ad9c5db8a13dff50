//! `snap_revert`: the live disk goes back to a snapshot.

use ferrostore_tests::{
    Cloud, Disk, KIB, MIB, info, on_every_chain, pattern, qemu_img_check, run, same_bytes,
    virtual_size,
};
use ferrostore_tests::{
    Rule,
    layouts::{Chain, Copies, Layout, Level},
};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

/// Reverts to `target` and checks all that must hold of any chain afterwards.
#[track_caller]
fn revert(chain: &Chain, active: u32, target: u32, others: &[u32]) {
    let reply = chain.call("snap_revert", target).run().succeeds();
    reply.silently();
    let name = chain.entry(active);
    chain.check_changes(&reply, &[&name], &[]);

    let file = chain.file(active);
    assert!(file.symlink_metadata().unwrap().is_file(), "no link");
    qemu_img_check(&file);
    chain.check_content(&file, target);
    chain.check_content(chain.file(target), target);
    for other in others {
        chain.check_content(chain.file(*other), *other);
    }
    assert_eq!(
        chain.backing_of(active),
        chain.backing_name(target),
        "named as the transfer drivers name it"
    );
    assert_eq!(info(&file, "qcow2")["backing-filename-format"], "qcow2");
    let size = |number| virtual_size(chain.file(number), "qcow2");
    assert_eq!(size(active), size(target), "the disk is as large as it was");
}

fn the_live_disk_becomes_an_overlay_of_the_last_snapshot(layout: Layout) {
    let cloud = Cloud::new();
    revert(&Chain::of_four(&cloud, layout), 3, 2, &[0, 1]);
}

fn the_live_disk_becomes_an_overlay_of_a_snapshot_in_the_middle(layout: Layout) {
    let cloud = Cloud::new();
    revert(&Chain::of_four(&cloud, layout), 3, 1, &[0, 2]);
}

fn the_live_disk_becomes_an_overlay_of_the_base(layout: Layout) {
    let cloud = Cloud::new();
    revert(&Chain::of_four(&cloud, layout), 3, 0, &[1, 2]);
}

fn a_tree_can_be_reverted_to_either_branch(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::tree(&cloud, layout);
    revert(&chain, 4, 2, &[0, 1, 3]);
    revert_again(&chain, 4, 3, &[0, 1, 2]);
    revert_again(&chain, 4, 0, &[1, 2, 3]);
}

/// As [`revert`], but `S.md5sum` went with the first one.
#[track_caller]
fn revert_again(chain: &Chain, active: u32, target: u32, others: &[u32]) {
    fs::write(format!("{}.md5sum", chain.source()), "again\n").unwrap();
    revert(chain, active, target, others);
}

fn the_new_live_disk_takes_writes_and_no_snapshot_feels_them(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    revert(&chain, 3, 1, &[0, 2]);
    let file = chain.file(3);
    run(
        "qemu-io",
        [
            "-f",
            "qcow2",
            "-c",
            "write -q -P 222 1M 100k",
            "-c",
            "read -q -P 222 1M 100k",
            file.to_str().unwrap(),
        ],
    );
    qemu_img_check(&file);
    for number in 0..3 {
        chain.check_content(chain.file(number), number);
    }
}

fn levels_of_unlike_size_and_shape_are_no_obstacle(layout: Layout) {
    let cloud = Cloud::new();
    let base = Level::of(MIB + 512).with("compat=0.10,cluster_size=512");
    let mut chain = Chain::on(&cloud, layout, base);
    let large = Level::of(5 * MIB).with("compat=1.1,cluster_size=2M");
    chain.overlay(1, 0, large);
    chain.overlay(2, 1, Level::of(7 * MIB - 512).with("cluster_size=4k"));
    chain.overlay(3, 2, Level::of(9 * MIB));
    revert(&chain, 3, 2, &[0, 1]);
    revert_again(&chain, 3, 1, &[0, 2]);
    revert_again(&chain, 3, 0, &[1, 2]);
}

fn a_compressed_base_is_no_obstacle(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, layout, Level::PLAIN.compressed());
    chain.overlay(1, 0, Level::PLAIN);
    chain.overlay(2, 1, Level::PLAIN);
    revert(&chain, 2, 0, &[1]);
}

fn the_highest_number_counts_not_the_last_name(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, layout, Level::PLAIN);
    for (number, on) in [(8, 0), (9, 8), (10, 9)] {
        chain.overlay(number, on, Level::PLAIN);
    }
    // None of these is a snapshot's file.
    for junk in ["11x", ".12", "x13", "1 4", "-15"] {
        fs::write(chain.directory().join(junk), "junk").unwrap();
    }
    let reply = chain.call("snap_revert", 9).run().succeeds();
    chain.check_changes(&reply, &[&chain.entry(10)], &[]);
    chain.check_content(chain.file(10), 9);
    assert_eq!(chain.backing_of(10), chain.backing_name(9));
}

/// While the VM ran, snapshot 1 was deleted: 2 was merged down into file 1, which 3 backs on now.
fn merged(cloud: &Cloud, layout: Layout) -> Chain<'_> {
    let mut chain = Chain::on(cloud, layout, Level::PLAIN);
    chain.overlay(1, 0, Level::PLAIN);
    chain.overlay(3, 1, Level::PLAIN);
    chain.current(2, format!("{}.snap/1", chain.source()));
    chain
}

fn a_snapshot_is_found_in_the_file_that_carries_it_now(layout: Layout) {
    let cloud = Cloud::new();
    let chain = merged(&cloud, layout);
    let reply = chain.call("snap_revert", 2).run().succeeds();
    reply.silently();
    chain.check_changes(&reply, &[&chain.entry(3)], &[]);
    qemu_img_check(chain.file(3));
    chain.check_content(chain.file(3), 1);
    assert_eq!(chain.backing_of(3), chain.backing_name(1));
}

/// While the VM ran, snapshot 0 was deleted: 1 was merged down into the base.
fn the_base_can_carry_a_snapshot_too(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, layout, Level::PLAIN);
    chain.overlay(2, 0, Level::PLAIN);
    chain.current(1, format!("{}.snap/0", chain.source()));
    let reply = chain.call("snap_revert", 1).run().succeeds();
    chain.check_changes(&reply, &[&chain.entry(2)], &[]);
    chain.check_content(chain.file(2), 0);
    assert_eq!(chain.backing_of(2), chain.backing_name(0));
}

fn a_current_file_of_another_snapshot_does_not_matter(layout: Layout) {
    let cloud = Cloud::new();
    let chain = merged(&cloud, layout);
    let reply = chain.call("snap_revert", 0).run().succeeds();
    chain.check_changes(&reply, &[&chain.entry(3)], &[]);
    chain.check_content(chain.file(3), 0);
}

on_every_chain! {
    the_live_disk_becomes_an_overlay_of_the_last_snapshot
    the_live_disk_becomes_an_overlay_of_a_snapshot_in_the_middle
    the_live_disk_becomes_an_overlay_of_the_base
    a_tree_can_be_reverted_to_either_branch
    the_new_live_disk_takes_writes_and_no_snapshot_feels_them
    levels_of_unlike_size_and_shape_are_no_obstacle
    a_compressed_base_is_no_obstacle
    the_highest_number_counts_not_the_last_name
    a_snapshot_is_found_in_the_file_that_carries_it_now
    the_base_can_carry_a_snapshot_too
    a_current_file_of_another_snapshot_does_not_matter
    base_path_may_be_a_link_itself
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
    revert(&chain, 3, 1, &[0, 2]);
}

#[test]
fn the_new_file_keeps_owner_and_mode_of_the_old_one() {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, Layout::ABSOLUTE);
    let file = chain.file(3);
    run("chmod", ["0660", file.to_str().unwrap()]);
    run("chown", ["1234:4321", file.to_str().unwrap()]);
    chain.call("snap_revert", 1).run().succeeds();
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o660);
    assert_eq!((metadata.uid(), metadata.gid()), (1234, 4321));
}

#[test]
fn s_becomes_a_copy_of_the_snapshot_where_snapshots_are_raw_copies() {
    copies_revert("raw");
}

#[test]
fn s_becomes_a_copy_of_the_snapshot_where_snapshots_are_qcow2_copies() {
    copies_revert("qcow2");
}

#[track_caller]
fn copies_revert(format: &str) {
    let cloud = Cloud::new();
    let copies = Copies::of_three(&cloud, format);
    for target in [2, 0, 1] {
        fs::write(format!("{}.md5sum", copies.source()), "stale\n").unwrap();
        let reply = copies.call("snap_revert", target).run().succeeds();
        reply.silently();
        copies.check_changes(&reply, &[copies.name()], &[]);
        same_bytes(copies.source(), copies.file(target));
        copies.check_content(copies.source(), target);
        assert!(
            Path::new(&copies.source()).symlink_metadata().unwrap().ino()
                != copies.file(target).metadata().unwrap().ino(),
            "a copy, not another name of the snapshot"
        );
    }
}

#[test]
fn the_only_copy_left_is_still_one() {
    for format in ["raw", "qcow2"] {
        let cloud = Cloud::new();
        let copies = Copies::of_three(&cloud, format);
        fs::remove_file(copies.file(0)).unwrap();
        fs::remove_file(copies.file(2)).unwrap();
        let reply = copies.call("snap_revert", 1).run().succeeds();
        copies.check_changes(&reply, &[copies.name()], &[]);
        copies.check_content(copies.source(), 1);
    }
}

#[test]
fn a_copy_stays_sparse() {
    let cloud = Cloud::new();
    let copies = Copies::of_three(&cloud, "raw");
    let holes = fs::File::create(copies.file(2)).unwrap();
    holes.set_len(256 * MIB).unwrap();
    copies.call("snap_revert", 2).run().succeeds();
    let source = fs::metadata(copies.source()).unwrap();
    assert_eq!(source.len(), 256 * MIB);
    assert!(source.blocks() * 512 <= 64 * KIB, "holes stay holes");
}

/// A guest owns every byte of its disk: what looks like a header there is data.
#[test]
fn a_raw_copy_that_begins_like_a_qcow2_is_copied_byte_for_byte() {
    let cloud = Cloud::new();
    let copies = Copies::of_three(&cloud, "raw");
    let secret = cloud.outside().join("secret");
    fs::write(&secret, pattern(3, 100_000)).unwrap();
    run(
        "qemu-img",
        [
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            secret.to_str().unwrap(),
            copies.file(1).to_str().unwrap(),
        ],
    );
    let reply = copies.call("snap_revert", 1).run().succeeds();
    copies.check_changes(&reply, &[copies.name()], &[]);
    same_bytes(copies.source(), copies.file(1));
}

#[test]
fn without_space_for_the_copy_everything_stays_as_it_was() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(20 * MIB));
    let copies = Copies::of_three(&cloud, "raw");
    // All that is left is less than snapshot 2 needs.
    let free = 2 * MIB;
    let filler = cloud.datastore().join("filler");
    let mut size = 20 * MIB;
    while fs::write(&filler, vec![1; size as usize]).is_err() {
        size -= 256 * KIB;
    }
    fs::write(&filler, vec![1; (size - free) as usize]).unwrap();
    copies.call("snap_revert", 2).run().refused(Rule::NoSpace).saying_any(&["space", "ENOSPC"]);
}
