//! `snap_delete`: a snapshot that nothing depends on goes, and nothing else.

use ferrostore_tests::layouts::{Base, Chain, Copies, Layout, Level, Naming};
use ferrostore_tests::{Cloud, Rule, on_every_chain, qemu_img_check};
use std::fs;

#[track_caller]
fn delete(chain: &Chain, target: u32, others: &[u32]) {
    let reply = chain.call("snap_delete", target).run().succeeds();
    reply.silently();
    chain.check_changes_but_digest(&reply, &[], &[&chain.entry(target)]);
    for other in others {
        qemu_img_check(chain.file(*other));
        chain.check_content(chain.file(*other), *other);
    }
}

fn a_leaf_of_a_tree_goes(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::tree(&cloud, layout);
    delete(&chain, 2, &[0, 1, 3, 4]);
    delete(&chain, 1, &[0, 3, 4]);
}

fn the_snapshot_that_a_revert_left_behind_goes(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    chain.call("snap_revert", 1).run().succeeds();
    delete(&chain, 2, &[0, 1]);
    chain.check_content(chain.file(3), 1);
}

fn a_file_that_others_back_on_stays(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::tree(&cloud, layout);
    for target in [0, 1, 3] {
        chain
            .call("snap_delete", target)
            .run()
            .refused(Rule::HasDependents)
            .naming("IMAGE/TARGET_SNAPSHOT")
            .saying(&target.to_string());
    }
    for number in 0..5 {
        chain.check_content(chain.file(number), number);
    }
}

fn what_the_live_disk_backs_on_stays(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    chain.call("snap_delete", 2).run().refused(Rule::HasDependents).naming("IMAGE/TARGET_SNAPSHOT");
    chain.check_content(chain.file(3), 3);
}

/// The driver looks for itself; it does not believe the message's list of children.
fn the_message_can_not_talk_it_into_breaking_a_chain(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::tree(&cloud, layout);
    let list = "<ALLOW_ORPHANS>YES</ALLOW_ORPHANS><CURRENT_BASE>0</CURRENT_BASE>\
        <NEXT_SNAPSHOT>4</NEXT_SNAPSHOT><SNAPSHOT><ID>1</ID><PARENT>-1</PARENT></SNAPSHOT>";
    chain
        .call("snap_delete", 1)
        .set_xml("IMAGE/SNAPSHOTS", list)
        .run()
        .refused(Rule::HasDependents)
        .naming("IMAGE/TARGET_SNAPSHOT");
}

/// While the VM ran, snapshot 1 was deleted: 2 was merged down into file 1. Then the VM was
/// reverted to 0 and got snapshot 3; 4 is its live disk.
fn merged(cloud: &Cloud, layout: Layout) -> Chain<'_> {
    let mut chain = Chain::on(cloud, layout, Level::PLAIN);
    chain.overlay(1, 0, Level::PLAIN);
    chain.overlay(3, 0, Level::PLAIN);
    chain.overlay(4, 3, Level::PLAIN);
    chain.current(2, format!("{}.snap/1", chain.source()));
    chain
}

fn a_snapshot_goes_with_the_file_that_carries_it_now(layout: Layout) {
    let cloud = Cloud::new();
    let chain = merged(&cloud, layout);
    let reply = chain.call("snap_delete", 2).run().succeeds();
    reply.silently();
    let (file, current) = (chain.entry(1), chain.entry("2.current"));
    chain.check_changes_but_digest(&reply, &[], &[&file, &current]);
    for number in [0, 3, 4] {
        chain.check_content(chain.file(number), number);
    }
}

fn a_file_that_carries_another_snapshot_now_stays(layout: Layout) {
    let cloud = Cloud::new();
    let chain = merged(&cloud, layout);
    chain
        .call("snap_delete", 1)
        .run()
        .refused(Rule::NoSuchSnapshot)
        .naming("IMAGE/TARGET_SNAPSHOT");
}

fn a_carried_snapshot_that_others_back_on_stays(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, layout, Level::PLAIN);
    chain.overlay(1, 0, Level::PLAIN);
    chain.overlay(3, 1, Level::PLAIN);
    chain.current(2, format!("{}.snap/1", chain.source()));
    chain.call("snap_delete", 2).run().refused(Rule::HasDependents).naming("IMAGE/TARGET_SNAPSHOT");
}

fn base_path_may_be_a_link_itself(layout: Layout) {
    let cloud = Cloud::new();
    let link = cloud.root().join("link");
    std::os::unix::fs::symlink(cloud.datastore(), &link).unwrap();
    let base_path = format!("{}//link", cloud.root().display());
    let mut chain = Chain::below(&cloud, layout, Level::PLAIN, base_path);
    for (number, on) in [(1, 0), (2, 1), (3, 0), (4, 3)] {
        chain.overlay(number, on, Level::PLAIN);
    }
    chain.call("snap_delete", 1).run().refused(Rule::HasDependents);
    delete(&chain, 2, &[0, 1, 3, 4]);
}

on_every_chain! {
    a_leaf_of_a_tree_goes
    the_snapshot_that_a_revert_left_behind_goes
    a_file_that_others_back_on_stays
    what_the_live_disk_backs_on_stays
    the_message_can_not_talk_it_into_breaking_a_chain
    a_snapshot_goes_with_the_file_that_carries_it_now
    a_file_that_carries_another_snapshot_now_stays
    a_carried_snapshot_that_others_back_on_stays
    base_path_may_be_a_link_itself
}

#[test]
fn a_digest_of_older_content_goes_with_any_snapshot() {
    let cloud = Cloud::new();
    let chain = Chain::tree(&cloud, Layout::ABSOLUTE);
    chain.call("snap_delete", 2).run().succeeds();
    chain.check_digest_is_gone();
    let cloud = Cloud::new();
    let copies = Copies::of_three(&cloud, "raw");
    copies.call("snap_delete", 1).run().succeeds();
    copies.check_digest_is_gone();
}

/// Names of both kinds in one chain, as a change of the system datastore leaves them, must not
/// hide who backs on whom.
#[test]
fn a_dependant_is_seen_whatever_name_it_uses() {
    for base in [Layout::ABSOLUTE.base, Layout::SSH_SYSTEM.base] {
        for naming in [Naming::Absolute, Naming::Relative, Naming::Bare] {
            let cloud = Cloud::new();
            let layout = Layout { tm_mad: "qcow2", naming: Naming::Relative, base };
            let mut chain = Chain::on(&cloud, layout, Level::PLAIN);
            chain.overlay(1, 0, Level::PLAIN);
            let name = chain.backing_name_as(naming, 1);
            chain.overlay_upon(2, &name, Level::PLAIN);
            let name = chain.backing_name_as(Naming::Relative, 0);
            chain.overlay_upon(3, &name, Level::PLAIN);
            chain
                .call("snap_delete", 1)
                .run()
                .refused(Rule::HasDependents)
                .naming("IMAGE/TARGET_SNAPSHOT");
        }
    }
}

/// A clean path and the double slash are the same file; so is a detour.
#[test]
fn a_dependant_is_seen_through_any_spelling_of_the_path() {
    let cloud = Cloud::new();
    for spelling in ["{clean}", "{clean}/../{name}.snap", "{clean}/./{name}.snap"] {
        let mut chain = Chain::on(&cloud, Layout::ABSOLUTE, Level::PLAIN);
        chain.overlay(1, 0, Level::PLAIN);
        let clean = cloud.datastore().join(format!("{}.snap", chain.name()));
        let directory =
            spelling.replace("{clean}", clean.to_str().unwrap()).replace("{name}", chain.name());
        chain.overlay_upon(2, &format!("{directory}/1"), Level::PLAIN);
        let base = chain.backing_name(0);
        chain.overlay_upon(3, &base, Level::PLAIN);
        chain
            .call("snap_delete", 1)
            .run()
            .refused(Rule::HasDependents)
            .naming("IMAGE/TARGET_SNAPSHOT");
        fs::remove_dir_all(cloud.datastore()).unwrap();
        fs::create_dir(cloud.datastore()).unwrap();
    }
}

/// A leaf base (nothing backs on it any more) is no reason to touch S, where S is the image.
#[test]
fn the_link_to_s_is_no_snapshot_to_delete_while_s_is_in_use() {
    let cloud = Cloud::new();
    for layout in [Layout::ABSOLUTE, Layout::MOVABLE, Layout::LOCAL_IN_PLACE] {
        assert!(matches!(layout.base, Base::IsSource(_)));
        let chain = Chain::of_four(&cloud, layout);
        chain
            .call("snap_delete", 0)
            .run()
            .refused(Rule::HasDependents)
            .naming("IMAGE/TARGET_SNAPSHOT");
        fs::remove_dir_all(cloud.datastore()).unwrap();
        fs::create_dir(cloud.datastore()).unwrap();
    }
}

#[test]
fn a_raw_copy_goes() {
    copies_delete("raw");
}

#[test]
fn a_qcow2_copy_goes() {
    copies_delete("qcow2");
}

/// Copies depend on nothing: any of them may go, the one with the highest number too.
#[track_caller]
fn copies_delete(format: &str) {
    for order in [[0, 1, 2], [2, 0, 1]] {
        let cloud = Cloud::new();
        let copies = Copies::of_three(&cloud, format);
        for (round, target) in order.into_iter().enumerate() {
            let before = fs::metadata(copies.source()).unwrap().modified().unwrap();
            let reply = copies.call("snap_delete", target).run().succeeds();
            reply.silently();
            let mut gone = reply.outcome.after.gone_since(&reply.outcome.before);
            // The directory may stay once it is empty.
            let directory = format!("{}.snap", copies.name());
            let digest = format!("{}.md5sum", copies.name());
            gone.retain(|name| !(round == 2 && *name == directory) && *name != digest);
            assert_eq!(gone, [copies.entry(target)]);
            let changed = reply.outcome.after.changed_since(&reply.outcome.before);
            assert_eq!(changed, [""; 0]);
            for other in &order[round + 1..] {
                copies.check_content(copies.file(*other), *other);
            }
            copies.check_content(copies.source(), Copies::LIVE);
            let after = fs::metadata(copies.source()).unwrap().modified().unwrap();
            assert_eq!(before, after);
        }
    }
}

/// Names for file 1 that lead nowhere here, and to file 1 wherever they were written.
fn names_that_lead_nowhere(chain: &Chain) -> Vec<String> {
    let name = chain.name();
    let json = |file: &str| {
        format!(r#"json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{file}"}}}}"#)
    };
    vec![
        format!("/srv/old/datastores/1/{name}.snap/1"),
        format!("file:/srv/old/datastores/1/{name}.snap/1"),
        format!("lost.snap/{name}.snap/1"),
        "/var/lib/one/datastores/0/77/disk.0.snap/1".to_owned(),
        json(&format!("/srv/old/datastores/1/{name}.snap/1")),
        json("1"),
        r#"json:{"driver":"raw","offset":0,"file.filename":"/srv/old/x.snap/1"}"#.to_owned(),
    ]
}

#[test]
fn a_snapshot_stays_while_a_name_that_leads_nowhere_may_mean_it() {
    for number in 0..7 {
        let cloud = Cloud::new();
        let mut chain = Chain::on(&cloud, Layout::ABSOLUTE, Level::PLAIN);
        chain.overlay(1, 0, Level::PLAIN);
        let name = names_that_lead_nowhere(&chain).remove(number);
        println!("{name}");
        chain.overlay_upon(2, &name, Level::PLAIN);
        chain.overlay(3, 0, Level::PLAIN);
        chain
            .call("snap_delete", 1)
            .run()
            .fails()
            .naming("IMAGE/TARGET_SNAPSHOT")
            .saying("qemu-img rebase -u");
    }
}

#[test]
fn a_snapshot_goes_while_a_name_that_leads_nowhere_means_another() {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, Layout::ABSOLUTE, Level::PLAIN);
    chain.overlay(1, 0, Level::PLAIN);
    chain.overlay_upon(2, "/srv/old/datastores/1/x.snap/0", Level::PLAIN);
    chain.overlay(3, 0, Level::PLAIN);
    delete(&chain, 1, &[0, 3]);
}

#[test]
fn a_snapshot_stays_where_the_link_of_its_directory_to_itself_is_lost() {
    for layout in [Layout::RELATIVE, Layout::MOVABLE, Layout::SSH_SYSTEM] {
        let cloud = Cloud::new();
        let chain = Chain::of_four(&cloud, layout);
        fs::remove_file(chain.directory().join(format!("{}.snap", chain.name()))).unwrap();
        let refusal = chain.call("snap_delete", 2).run().refused(Rule::BackingFile);
        refusal.naming("IMAGE/TARGET_SNAPSHOT");
    }
}

#[test]
fn a_snapshot_that_is_named_as_json_stays() {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, Layout::ABSOLUTE, Level::PLAIN);
    chain.overlay(1, 0, Level::PLAIN);
    let file = chain.file(1);
    let name = format!(
        r#"json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{}"}}}}"#,
        file.display()
    );
    chain.overlay_upon(2, &name, Level::PLAIN);
    chain.overlay(3, 0, Level::PLAIN);
    qemu_img_check(chain.file(2));
    let call = chain.call("snap_delete", 1);
    call.run().fails().naming("IMAGE/TARGET_SNAPSHOT").saying("still backs on");
}
