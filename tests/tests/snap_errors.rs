//! What no `snap_*` action does, whatever the layout. That a failure changes nothing is checked
//! by the harness for each of them.

use ferrostore_tests::layouts::{Chain, Copies, Layout, Snapshots};
use ferrostore_tests::{Cloud, Failure, Rule, on_every_chain};
use std::fs;

const ACTIONS: [&str; 3] = ["snap_revert", "snap_flatten", "snap_delete"];

/// Calls each action and checks that it refuses; what it said.
#[track_caller]
fn refused(snapshots: &Snapshots, target: u32) -> [Failure; 3] {
    ACTIONS.map(|action| {
        snapshots.call(action, target).run().refused_by_any(&[
            Rule::NoSuchSnapshot,
            Rule::LiveDisk,
            Rule::StrayPointer,
            Rule::CantBeRead,
            Rule::ImageFileUnusable,
        ])
    })
}

/// Checks that the user learns which snapshot it is about.
#[track_caller]
fn about_the_snapshot(failures: [Failure; 3], rule: Rule, target: u32) {
    for failure in failures {
        let failure = failure.because(rule);
        failure.naming("IMAGE/TARGET_SNAPSHOT").saying(&target.to_string());
    }
}

fn a_snapshot_that_is_not_there_is_an_error(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    about_the_snapshot(refused(&chain, 9), Rule::NoSuchSnapshot, 9);
}

fn a_snapshot_whose_file_is_gone_is_an_error(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::tree(&cloud, layout);
    chain.forget(2);
    about_the_snapshot(refused(&chain, 2), Rule::NoSuchSnapshot, 2);
}

fn the_live_disk_is_no_snapshot(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    about_the_snapshot(refused(&chain, 3), Rule::LiveDisk, 3);
    for number in 0..4 {
        chain.check_content(chain.file(number), number);
    }
}

fn the_target_must_be_a_number(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    for target in ["", "x", "1x", "1.0", "0x1", "1/../2", "+", "99999999999999999999"] {
        for action in ACTIONS {
            chain
                .call(action, 1)
                .set("IMAGE/TARGET_SNAPSHOT", target)
                .run()
                .refused_by_any(&[Rule::MissingAttribute, Rule::NotValid])
                .naming("IMAGE/TARGET_SNAPSHOT")
                .saying(target);
        }
    }
}

fn the_target_must_be_given(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    for action in ACTIONS {
        chain
            .call(action, 1)
            .without("IMAGE/TARGET_SNAPSHOT")
            .run()
            .refused(Rule::MissingAttribute)
            .naming("IMAGE/TARGET_SNAPSHOT");
    }
}

fn the_image_must_be_there(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    fs::remove_file(chain.source()).unwrap();
    for failure in refused(&chain, 1) {
        failure.naming("IMAGE/SOURCE").saying(chain.name());
    }
}

fn the_directory_of_snapshots_must_be_there(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    fs::remove_dir_all(chain.directory()).unwrap();
    for failure in refused(&chain, 1) {
        failure.saying_any(&["IMAGE/TARGET_SNAPSHOT", "IMAGE/SOURCE"]).saying(chain.name());
    }
}

fn source_must_lie_in_the_datastore(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    // A whole image with snapshots that belongs to no datastore, or to another one.
    let outside = cloud.outside();
    let source = outside.join(chain.name());
    fs::copy(chain.reference(0), &source).unwrap();
    fs::create_dir(outside.join(format!("{}.snap", chain.name()))).unwrap();
    for number in 0..4 {
        let file = outside.join(format!("{}.snap/{number}", chain.name()));
        fs::copy(chain.reference(number), file).unwrap();
    }
    let sources = [
        source.display().to_string(),
        format!("{}/../../../../outside/{}", cloud.base_path(), chain.name()),
        format!("{}.snap/0", chain.source()),
        cloud.base_path(),
        format!("{}/..", cloud.base_path()),
        chain.name().to_owned(),
        String::new(),
    ];
    for text in &sources {
        for action in ACTIONS {
            chain
                .call(action, 1)
                .source(text)
                .run()
                .refused_by_any(&[Rule::NotInTheDatastore, Rule::MissingAttribute])
                .naming("IMAGE/SOURCE")
                .saying(text);
        }
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 2 + 4);
    for number in 0..4 {
        let file = outside.join(format!("{}.snap/{number}", chain.name()));
        ferrostore_tests::same_bytes(file, chain.reference(number));
    }
}

fn a_current_file_may_not_point_outside_the_directory(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::tree(&cloud, layout);
    chain.forget(2);
    let elsewhere = cloud.outside().join("1");
    fs::copy(chain.file(1), &elsewhere).unwrap();
    let neighbour = cloud.datastore().join("b".repeat(32) + ".snap/0");
    for path in [
        elsewhere.display().to_string(),
        neighbour.display().to_string(),
        "/etc/passwd".to_owned(),
        format!("{}.snap/../{}.snap/0", chain.source(), "b".repeat(32)),
        format!("{}.snap", chain.source()),
        "..".to_owned(),
    ] {
        chain.current(2, &path);
        for failure in refused(&chain, 2) {
            failure.because(Rule::StrayPointer).saying("2.current");
        }
    }
    assert!(elsewhere.exists() && neighbour.exists());
}

fn a_current_file_must_name_a_file_that_is_there(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::tree(&cloud, layout);
    chain.forget(2);
    for text in [
        format!("{}.snap/7", chain.source()),
        format!("{}.snap/x", chain.source()),
        String::new(),
        "\n\n".to_owned(),
        "x".repeat(1 << 20),
    ] {
        fs::write(chain.directory().join("2.current"), text).unwrap();
        for failure in refused(&chain, 2) {
            failure.because_any(&[Rule::StrayPointer, Rule::CantBeRead]).saying("2.current");
        }
    }
}

/// A snapshot that the live disk itself carries can't be taken from it.
fn a_current_file_may_not_name_the_live_disk(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::tree(&cloud, layout);
    chain.forget(2);
    chain.current(2, format!("{}.snap/4", chain.source()));
    for failure in refused(&chain, 2) {
        failure.because(Rule::LiveDisk).naming("IMAGE/TARGET_SNAPSHOT");
    }
}

on_every_chain! {
    a_snapshot_that_is_not_there_is_an_error
    a_snapshot_whose_file_is_gone_is_an_error
    the_live_disk_is_no_snapshot
    the_target_must_be_a_number
    the_target_must_be_given
    the_image_must_be_there
    the_directory_of_snapshots_must_be_there
    source_must_lie_in_the_datastore
    a_current_file_may_not_point_outside_the_directory
    a_current_file_must_name_a_file_that_is_there
    a_current_file_may_not_name_the_live_disk
}

#[test]
fn a_copy_that_is_not_there_is_an_error() {
    for format in ["raw", "qcow2"] {
        let cloud = Cloud::new();
        let copies = Copies::of_three(&cloud, format);
        about_the_snapshot(refused(&copies, 3), Rule::NoSuchSnapshot, 3);
        fs::remove_file(copies.file(1)).unwrap();
        about_the_snapshot(refused(&copies, 1), Rule::NoSuchSnapshot, 1);
    }
}

#[test]
fn an_image_without_any_copy_left_has_no_snapshot() {
    for format in ["raw", "qcow2"] {
        let cloud = Cloud::new();
        let copies = Copies::of_three(&cloud, format);
        for number in 0..3 {
            fs::remove_file(copies.file(number)).unwrap();
        }
        about_the_snapshot(refused(&copies, 0), Rule::NoSuchSnapshot, 0);
        fs::remove_dir(copies.directory()).unwrap();
        for failure in refused(&copies, 0) {
            failure.because(Rule::NoSuchSnapshot).naming("IMAGE/TARGET_SNAPSHOT");
        }
    }
}

#[test]
fn an_image_of_copies_must_be_there() {
    let cloud = Cloud::new();
    let copies = Copies::of_three(&cloud, "raw");
    fs::remove_file(copies.source()).unwrap();
    for failure in refused(&copies, 1) {
        failure.because(Rule::ImageFileUnusable).naming("IMAGE/SOURCE");
    }
}

/// `-1` is oned's word for no snapshot; the user gets to see it all the same.
#[test]
fn minus_one_is_no_snapshot() {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, Layout::ABSOLUTE);
    for action in ACTIONS {
        chain
            .call(action, 1)
            .set_escaped("IMAGE/TARGET_SNAPSHOT", "-1")
            .run()
            .refused(Rule::NotValid)
            .naming("IMAGE/TARGET_SNAPSHOT")
            .saying("-1");
    }
}
