//! Snapshots in every layout, sound and broken.

use ferrostore_tests::layouts::{Chain, Copies, Layout, Level};
use ferrostore_tests::{Cloud, MIB, allocated, on_every_chain, run, same_content};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::symlink;

fn a_sound_chain_is_clean(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::tree(&cloud, layout);
    fs::remove_file(format!("{}.md5sum", chain.source())).unwrap();
    let examination = cloud.fsck().run().clean().images(2);
    let entry = examination.entry(chain.name());
    assert_eq!(entry["layout"], "chain");
    assert_eq!(entry["files"], json!([0, 1, 2, 3, 4]));
    assert_eq!(entry["format"], "qcow2");
    let files = (0..5).map(|number| allocated(chain.file(number))).sum::<u64>();
    assert_eq!(entry["allocated"], files, "every file counts once");
}

fn the_size_of_a_chain_is_that_of_its_live_disk(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, layout, Level::PLAIN);
    chain.overlay(1, 0, Level::of(6 * MIB));
    let examination = cloud.fsck().run();
    assert_eq!(examination.entry(chain.name())["virtual_size"], 6 * MIB);
}

fn a_snapshot_that_lies_elsewhere_is_followed(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::of_four(&cloud, layout);
    fs::remove_file(format!("{}.md5sum", chain.source())).unwrap();
    chain.overlay(4, 1, Level::PLAIN);
    chain.overlay(5, 4, Level::PLAIN);
    chain.current(2, chain.file(4));
    cloud.fsck().run().clean();
}

fn a_backing_file_that_is_gone_is_damage(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::of_four(&cloud, layout);
    chain.forget(1);
    let examination = cloud.fsck().run();
    let examination = examination.finds_too("damage", chain.name(), ".snap/2 has the backing file");
    examination.finds_too("damage", chain.name(), ".snap/3 has the backing file");
}

fn a_backing_file_outside_the_datastore_is_damage(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::of_four(&cloud, layout);
    let elsewhere = cloud.qcow2(&cloud.raw("disk.img", MIB), "elsewhere.qcow2", "");
    chain.overlay_upon(4, elsewhere.to_str().unwrap(), Level::PLAIN);
    let examination = cloud.fsck().run();
    examination.finds_too("damage", chain.name(), "which is not in the same directory");
}

fn a_chain_that_bites_its_tail_is_damage(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    let (file, tail) = (chain.file(1), chain.backing_name(3));
    run(
        "qemu-img",
        ["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", &tail, file.to_str().unwrap()],
    );
    cloud.fsck().run().finds_too("damage", chain.name(), "never ends");
}

fn a_snapshot_that_is_cut_off_is_damage(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    let file = File::options().write(true).open(chain.file(1)).unwrap();
    file.set_len(70_000).unwrap();
    cloud.fsck().run().finds_too("damage", chain.name(), ".snap/1 ");
}

fn a_current_file_that_leads_nowhere_is_damage(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    fs::remove_file(format!("{}.md5sum", chain.source())).unwrap();
    chain.current(1, "/nowhere/9");
    cloud.fsck().run().finds("damage", chain.name(), "1.current points to /nowhere/9");
}

on_every_chain! {
    a_sound_chain_is_clean
    the_size_of_a_chain_is_that_of_its_live_disk
    a_snapshot_that_lies_elsewhere_is_followed
    a_backing_file_that_is_gone_is_damage
    a_backing_file_outside_the_datastore_is_damage
    a_chain_that_bites_its_tail_is_damage
    a_snapshot_that_is_cut_off_is_damage
    a_current_file_that_leads_nowhere_is_damage
}

#[test]
fn copies_are_told_from_chains() {
    for format in ["raw", "qcow2"] {
        let cloud = Cloud::new();
        let copies = Copies::of_three(&cloud, format);
        fs::remove_file(format!("{}.md5sum", copies.source())).unwrap();
        let examination = cloud.fsck().run().clean();
        let entry = examination.entry(copies.name());
        assert_eq!((&entry["layout"], &entry["format"]), (&json!("copies"), &json!(format)));
        assert_eq!(entry["files"], json!([0, 1, 2]));
    }
}

#[test]
fn a_copy_that_is_cut_off_is_damage() {
    let cloud = Cloud::new();
    let copies = Copies::of_three(&cloud, "qcow2");
    let file = File::options().write(true).open(copies.file(1)).unwrap();
    file.set_len(200_000).unwrap();
    cloud.fsck().run().finds_too("damage", copies.name(), ".snap/1 ");
}

#[test]
fn a_link_in_the_place_of_a_snapshot_that_leads_nowhere_is_damage() {
    let cloud = Cloud::new();
    let copies = Copies::of_three(&cloud, "raw");
    fs::remove_file(copies.file(1)).unwrap();
    symlink("/nowhere", copies.file(1)).unwrap();
    cloud.fsck().run().finds_too("damage", copies.name(), "is a link to /nowhere");
}

#[test]
fn what_is_no_snapshot_between_snapshots_is_a_warning() {
    let cloud = Cloud::new();
    let copies = Copies::of_three(&cloud, "raw");
    fs::remove_file(format!("{}.md5sum", copies.source())).unwrap();
    fs::write(copies.directory().join("notes"), "mine").unwrap();
    cloud.fsck().run().finds("warning", copies.name(), "notes in its .snap directory");
}

#[test]
fn a_chain_whose_names_are_json_is_sound_if_qemu_opens_it() {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, Layout::ABSOLUTE, Level::PLAIN);
    fs::remove_file(format!("{}.md5sum", chain.source())).unwrap();
    for (number, name) in [
        (1, r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"FILE"}}"#),
        (2, r#"json:{"driver":"qcow2","file.driver":"file","file.filename":"FILE"}"#),
        (3, r#"json:{"file":{"filename":"FILE"}}"#),
    ] {
        let below = chain.file(number - 1);
        chain.overlay_upon(number, &name.replace("FILE", below.to_str().unwrap()), Level::PLAIN);
    }
    let live = chain.file(3);
    run("qemu-img", ["info", "--backing-chain", live.to_str().unwrap()]);
    cloud.fsck().run().clean();
    let copy = cloud.clone_of(chain.source(), "qcow2").driver("raw").run().succeeds();
    same_content(live, "qcow2", copy.image("raw"), "raw");
}

#[test]
fn a_chain_whose_names_are_json_that_nothing_follows_is_damage() {
    for name in ["json:{", r#"json:{"driver":"qcow2","file":{"driver":"nbd","host":"h"}}"#] {
        let cloud = Cloud::new();
        let mut chain = Chain::on(&cloud, Layout::ABSOLUTE, Level::PLAIN);
        chain.overlay_upon(1, name, Level::PLAIN);
        let examination = cloud.fsck().run();
        examination.finds_too("damage", chain.name(), ".snap/1 has the backing file");
    }
}
