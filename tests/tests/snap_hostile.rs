//! Files of a chain that name what they must not: refused, never followed. That the datastore
//! stays as it was is checked by the harness.

use ferrostore_tests::{Cloud, MIB, on_every_chain, pattern, run};
use ferrostore_tests::{
    Rule,
    layouts::{Chain, Copies, Layout, Level},
};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A qcow2 and a raw file that belong to another user.
fn secrets(cloud: &Cloud) -> (PathBuf, PathBuf) {
    let raw = cloud.outside().join("secret.raw");
    fs::write(&raw, pattern(77, MIB as usize)).unwrap();
    let qcow2 = cloud.outside().join("secret.qcow2");
    run(
        "qemu-img",
        ["convert", "-f", "raw", "-O", "qcow2", raw.to_str().unwrap(), qcow2.to_str().unwrap()],
    );
    (raw, qcow2)
}

/// Checks that neither 1, which backs on what it must not, nor 2, upon it, can be used, and that
/// the driver under `strace` opens nothing outside the datastore.
#[track_caller]
fn refused_unopened(cloud: &Cloud, chain: &Chain, secrets: &[&Path]) {
    for action in ["snap_flatten", "snap_revert"] {
        for target in [1, 2] {
            let log = cloud.root().join("trace");
            chain
                .call(action, target)
                .under([
                    "strace".into(),
                    "-f".into(),
                    "-qq".into(),
                    "-e".into(),
                    "trace=open,openat,openat2".into(),
                    "-o".into(),
                    log.clone().into_os_string(),
                ])
                .run()
                .fails()
                .saying_any(&["backing", "outside", "link", "points to"]);
            let trace = fs::read_to_string(&log).unwrap();
            for secret in secrets {
                let opened = trace.lines().any(|line| {
                    line.contains(secret.file_name().unwrap().to_str().unwrap())
                        && !line.contains("O_PATH")
                        && !line.contains("= -1")
                });
                assert!(!opened, "{} was opened:\n{trace}", secret.display());
            }
        }
    }
}

/// File 1 backs on `backing`; 2 and the live disk 3 lie upon it.
fn chain_upon<'a>(cloud: &'a Cloud, layout: Layout, backing: &str) -> Chain<'a> {
    let mut chain = Chain::on(cloud, layout, Level::PLAIN);
    chain.overlay_upon(1, backing, Level::PLAIN);
    for number in [2, 3] {
        let below = chain.backing_name(number - 1);
        chain.overlay_upon(number, &below, Level::PLAIN);
    }
    chain
}

fn a_backing_name_with_a_path_elsewhere(layout: Layout) {
    let cloud = Cloud::new();
    let (raw, qcow2) = secrets(&cloud);
    let chain = chain_upon(&cloud, layout, qcow2.to_str().unwrap());
    refused_unopened(&cloud, &chain, &[&raw, &qcow2]);
}

fn a_backing_name_that_climbs_out(layout: Layout) {
    let cloud = Cloud::new();
    let (raw, qcow2) = secrets(&cloud);
    let chain = chain_upon(&cloud, layout, "../../../../../outside/secret.qcow2");
    assert!(chain.directory().join("../../../../../outside/secret.qcow2").exists());
    refused_unopened(&cloud, &chain, &[&raw, &qcow2]);
}

fn a_backing_name_that_is_a_link_elsewhere(layout: Layout) {
    let cloud = Cloud::new();
    let (raw, qcow2) = secrets(&cloud);
    let chain = chain_upon(&cloud, layout, "innocent");
    symlink(&qcow2, chain.directory().join("innocent")).unwrap();
    refused_unopened(&cloud, &chain, &[&raw, &qcow2]);
}

fn a_backing_name_that_leads_through_a_linked_directory(layout: Layout) {
    let cloud = Cloud::new();
    let (raw, qcow2) = secrets(&cloud);
    let chain = chain_upon(&cloud, layout, "innocent/secret.qcow2");
    symlink(cloud.outside(), chain.directory().join("innocent")).unwrap();
    refused_unopened(&cloud, &chain, &[&raw, &qcow2]);
}

fn a_backing_name_that_is_a_program_of_qemu(layout: Layout) {
    let cloud = Cloud::new();
    let (raw, qcow2) = secrets(&cloud);
    let json = format!(
        "json:{{\"driver\":\"qcow2\",\"file\":{{\"driver\":\"file\",\"filename\":\"{}\"}}}}",
        qcow2.display()
    );
    for backing in [
        json,
        format!("file:{}", qcow2.display()),
        "nbd://127.0.0.1:1/x".to_owned(),
        "fd:0".to_owned(),
    ] {
        let chain = chain_upon(&cloud, layout, &backing);
        refused_unopened(&cloud, &chain, &[&raw, &qcow2]);
        fs::remove_dir_all(cloud.datastore()).unwrap();
        fs::create_dir(cloud.datastore()).unwrap();
    }
}

/// The guest of a raw base could write a header there that names any file.
fn a_snapshot_that_is_itself_a_link_elsewhere(layout: Layout) {
    let cloud = Cloud::new();
    let (raw, qcow2) = secrets(&cloud);
    let chain = Chain::of_four(&cloud, layout);
    fs::remove_file(chain.file(1)).unwrap();
    symlink(&qcow2, chain.file(1)).unwrap();
    refused_unopened(&cloud, &chain, &[&raw, &qcow2]);
}

fn an_external_data_file(layout: Layout) {
    let cloud = Cloud::new();
    let (raw, qcow2) = secrets(&cloud);
    let mut chain = Chain::on(&cloud, layout, Level::PLAIN);
    let file = chain.file(1);
    // qemu-img makes the data file and writes its name into the header; then make it the secret.
    run(
        "qemu-img",
        [
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            &format!("data_file={},data_file_raw=on", cloud.outside().join("data").display()),
            file.to_str().unwrap(),
            "1M",
        ],
    );
    fs::copy(&raw, cloud.outside().join("data")).unwrap();
    for number in [2, 3] {
        let below = chain.backing_name(number - 1);
        chain.overlay_upon(number, &below, Level::PLAIN);
    }
    for target in [1, 2] {
        chain.call("snap_flatten", target).run().fails().saying_any(&[
            "data file",
            "data_file",
            "external data",
        ]);
    }
    drop(qcow2);
}

fn a_chain_that_bites_its_tail(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, layout, Level::PLAIN);
    let upon = |number: u32| (number, chain.backing_name(number));
    let (one, two) = (upon(1), upon(2));
    chain.overlay_upon(1, &two.1, Level::PLAIN);
    chain.overlay_upon(2, &one.1, Level::PLAIN);
    chain.overlay_upon(3, &two.1, Level::PLAIN);
    for target in [1, 2] {
        chain.call("snap_flatten", target).run().fails().saying("backing");
        chain
            .call("snap_delete", target)
            .run()
            .refused(Rule::HasDependents)
            .naming("IMAGE/TARGET_SNAPSHOT");
    }
}

fn a_file_that_backs_on_itself(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::on(&cloud, layout, Level::PLAIN);
    let itself = chain.backing_name(1);
    chain.overlay_upon(1, "none", Level::PLAIN);
    let file = chain.file(1);
    run(
        "qemu-img",
        ["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", &itself, file.to_str().unwrap()],
    );
    let base = chain.backing_name(0);
    chain.overlay_upon(2, &base, Level::PLAIN);
    chain.call("snap_flatten", 1).run().fails().saying("backing");
}

fn a_backing_file_that_is_gone(layout: Layout) {
    let cloud = Cloud::new();
    let mut chain = Chain::of_four(&cloud, layout);
    chain.forget(1);
    chain.call("snap_flatten", 2).run().fails().saying("backing");
}

fn a_snapshot_that_is_no_qcow2_any_more(layout: Layout) {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, layout);
    for bytes in [
        Vec::new(),
        pattern(9, 100_000),
        b"QFI\xfb".to_vec(),
        fs::read(chain.file(1)).unwrap()[..70_000].to_vec(),
    ] {
        fs::write(chain.file(1), bytes).unwrap();
        chain.call("snap_flatten", 2).run().refused(Rule::Corrupt).saying(".snap/1");
    }
}

on_every_chain! {
    a_backing_name_with_a_path_elsewhere
    a_backing_name_that_climbs_out
    a_backing_name_that_is_a_link_elsewhere
    a_backing_name_that_leads_through_a_linked_directory
    a_backing_name_that_is_a_program_of_qemu
    a_snapshot_that_is_itself_a_link_elsewhere
    an_external_data_file
    a_chain_that_bites_its_tail
    a_file_that_backs_on_itself
    a_backing_file_that_is_gone
    a_snapshot_that_is_no_qcow2_any_more
}

#[test]
fn a_copy_that_is_a_link_elsewhere() {
    for format in ["raw", "qcow2"] {
        let cloud = Cloud::new();
        let (raw, qcow2) = secrets(&cloud);
        let copies = Copies::of_three(&cloud, format);
        fs::remove_file(copies.file(1)).unwrap();
        symlink(if format == "raw" { &raw } else { &qcow2 }, copies.file(1)).unwrap();
        for action in ["snap_flatten", "snap_revert"] {
            copies.call(action, 1).run().fails().saying_any(&[
                "link",
                "outside",
                "points to",
                "not a directory",
            ]);
        }
    }
}

#[test]
fn an_image_that_is_a_link_elsewhere() {
    let cloud = Cloud::new();
    let (raw, _) = secrets(&cloud);
    let copies = Copies::of_three(&cloud, "raw");
    fs::remove_file(copies.source()).unwrap();
    symlink(&raw, copies.source()).unwrap();
    for action in ["snap_flatten", "snap_revert"] {
        copies.call(action, 1).run().refused(Rule::LinkOutOfDatastore).naming("IMAGE/SOURCE");
    }
    assert_eq!(fs::read(&raw).unwrap(), pattern(77, MIB as usize));
}

#[test]
fn a_directory_of_snapshots_that_is_a_link_elsewhere() {
    let cloud = Cloud::new();
    let copies = Copies::of_three(&cloud, "raw");
    let elsewhere = cloud.outside().join("snap");
    fs::rename(copies.directory(), &elsewhere).unwrap();
    symlink(&elsewhere, copies.directory()).unwrap();
    for action in ["snap_flatten", "snap_revert", "snap_delete"] {
        copies.call(action, 1).run().fails().saying_any(&[
            "link",
            "outside",
            "points to",
            "not a directory",
        ]);
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 3);
}
