//! `clone` between datastores of which one or both are on bridge hosts.

use ferrostore_tests::layouts::{Chain, Layout};
use ferrostore_tests::{
    Bridges, Call, Cloud, MIB, Reply, Rule, allocated, digest, pattern, qemu_img_check, run,
    same_bytes, same_content,
};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A datastore beside that of the calls, of which the hosts have copies of their own.
fn neighbour(cloud: &Cloud) -> PathBuf {
    let directory = cloud.datastore().with_file_name("105");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Gives `host` alone the file, at the same path in the neighbour datastore.
fn given_to(bridges: &Bridges, host: usize, cloud: &Cloud, file: &Path, number: u32) -> PathBuf {
    let path = neighbour(cloud).join(format!("{number:032x}"));
    let there = bridges.host(host).path(&path);
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    run("cp", [Path::new("--sparse=always"), file, &there]);
    path
}

/// The new image, on the host of this number.
#[track_caller]
fn image_on(bridges: &Bridges, host: usize, reply: &Reply, format: &str) -> PathBuf {
    let (path, replied) = reply.line().rsplit_once(' ').unwrap();
    assert_eq!(replied, format);
    bridges.host(host).datastore().join(reply.new_name(path))
}

#[test]
fn an_image_is_copied_on_the_host_that_has_it() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    let stored = cloud.stored(1, &disk);
    let bridges = Bridges::of(&cloud, 1);
    for driver in ["raw", "qcow2"] {
        for sources in ["", "host1"] {
            let call = bridges.bridged(cloud.clone_of(&stored, "raw")).driver(driver);
            let call = call.set("SOURCE_BRIDGE_LIST", sources);
            let before = bridges.host(1).connections();
            let image = call.run().succeeds().image(driver);
            same_content(&disk, "raw", image, driver);
            assert_eq!(bridges.host(1).connections() - before, 1);
        }
    }
}

#[test]
fn a_host_that_reads_and_writes_both_is_preferred() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 3);
    let disk = cloud.raw("disk.img", MIB);
    let path = given_to(&bridges, 2, &cloud, &disk, 1);
    for id in ["0", "1", "2"] {
        let call = bridges.bridged(cloud.clone_of(&path, "raw")).set_escaped("IMAGE/ID", id);
        let counts = || [1, 2, 3].map(|number| bridges.host(number).connections());
        let before = counts();
        let reply = call.set("SOURCE_BRIDGE_LIST", "host2").run().succeeds();
        same_bytes(&disk, image_on(&bridges, 2, &reply, "raw"));
        let after = counts();
        assert_eq!([0, 1, 2].map(|n| after[n] - before[n]), [0, 1, 0]);
    }
}

#[test]
fn an_image_goes_from_one_host_to_another_through_the_front_end() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 2);
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    let luks = cloud.luks("disk.luks", 4 * MIB);
    let images = [
        (disk.clone(), "raw", &disk),
        (cloud.qcow2(&disk, "disk.qcow2", ""), "qcow2", &disk),
        (cloud.compressed_qcow2(&disk, "packed.qcow2", "compression_type=zstd"), "qcow2", &disk),
        (cloud.converted(&disk, "disk.vmdk", "vmdk", ""), "vmdk", &disk),
        (luks.clone(), "raw", &luks),
    ];
    for (number, (file, format, content)) in images.into_iter().enumerate() {
        let path = given_to(&bridges, 2, &cloud, &file, number as u32);
        for driver in ["", "raw", "qcow2"] {
            println!("{} to {driver:?}", file.display());
            let expected = match driver {
                _ if file == luks => "raw",
                "" => format,
                driver => driver,
            };
            let call = bridges.bridged(cloud.clone_of(&path, format)).driver(driver);
            let call = call.set("DATASTORE/TEMPLATE/BRIDGE_LIST", "host1");
            let counts = || [1, 2].map(|number| bridges.host(number).connections());
            let before = counts();
            let reply = call.set("SOURCE_BRIDGE_LIST", "host2").run().succeeds();
            let image = image_on(&bridges, 1, &reply, expected);
            same_content(content, "raw", &image, expected);
            if expected == "qcow2" {
                qemu_img_check(image);
            }
            let after = counts();
            assert_eq!([after[0] - before[0], after[1] - before[1]], [1, 1]);
        }
    }
}

#[test]
fn what_a_guest_wrote_is_never_taken_for_a_format() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 2);
    let inner = cloud.raw("inner.img", 2 * MIB);
    let tricky = cloud.qcow2(&inner, "tricky.qcow2", "");
    let path = given_to(&bridges, 2, &cloud, &tricky, 1);
    for driver in ["raw", "qcow2"] {
        let call = bridges.bridged(cloud.clone_of(&path, "raw")).driver(driver);
        let call = call.set("DATASTORE/TEMPLATE/BRIDGE_LIST", "host1");
        let reply = call.set("SOURCE_BRIDGE_LIST", "host2").run().succeeds();
        same_content(&tricky, "raw", image_on(&bridges, 1, &reply, driver), driver);
    }
}

#[test]
fn an_image_comes_from_a_host_to_the_front_end() {
    let cloud = Cloud::new();
    // The front-end has storage of its own here, so the hosts are those of another cloud.
    let other = Cloud::new();
    let bridges = Bridges::of(&other, 1);
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    let qcow2 = cloud.qcow2(&disk, "disk.qcow2", "");
    for (file, format, number) in [(&disk, "raw", 1), (&qcow2, "qcow2", 2)] {
        let path = given_to(&bridges, 1, &cloud, file, number);
        for driver in ["raw", "qcow2"] {
            let call = cloud
                .clone_of(&path, format)
                .driver(driver)
                .as_released()
                .under(bridges.neighbour());
            let image = call.set("SOURCE_BRIDGE_LIST", "host1").run().succeeds().image(driver);
            same_content(&disk, "raw", image, driver);
        }
    }
    let missing = neighbour(&cloud).join("f".repeat(32));
    let call = cloud.clone_of(&missing, "raw").as_released().under(bridges.neighbour());
    let failure = call.set("SOURCE_BRIDGE_LIST", "host1").run().refused(Rule::CantBeOpened);
    failure.naming("IMAGE/PATH").saying("host1: ").saying_path(&missing);
}

#[test]
fn an_image_goes_from_the_front_end_to_a_host() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    let path = neighbour(&cloud).join("1".repeat(32));
    fs::copy(&disk, &path).unwrap();
    for driver in ["raw", "qcow2"] {
        let call = bridges.bridged(cloud.clone_of(&path, "raw")).driver(driver);
        let image = call.run().succeeds().image(driver);
        same_content(&disk, "raw", image, driver);
    }
}

#[test]
fn the_live_disk_of_a_chain_is_what_is_copied() {
    let cloud = Cloud::new();
    let chain = Chain::of_four(&cloud, Layout::RELATIVE);
    let source = chain.source();
    let bridges = Bridges::of(&cloud, 2);
    // The other host has none of it.
    let name = chain.name().to_owned();
    run("rm", ["-r".into(), bridges.host(1).datastore().join(&name)]);
    run("rm", ["-r".into(), bridges.host(1).datastore().join(format!("{name}.snap"))]);
    for driver in ["", "raw", "qcow2"] {
        let expected = if driver == "raw" { "raw" } else { "qcow2" };
        let call = bridges.bridged(cloud.clone_of(&source, "qcow2")).driver(driver);
        let call = call.set("DATASTORE/TEMPLATE/BRIDGE_LIST", "host1");
        let reply = call.set("SOURCE_BRIDGE_LIST", "host2").run().succeeds();
        let image = image_on(&bridges, 1, &reply, expected);
        same_content(chain.reference(3), "raw", &image, expected);
        if expected == "qcow2" {
            qemu_img_check(image);
        }
    }
}

#[test]
fn sparse_areas_are_not_written() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 2);
    let disk = cloud.images().join("sparse.img");
    let file = fs::File::create(&disk).unwrap();
    file.set_len(300 * MIB + 1000).unwrap();
    file.write_all_at(&pattern(1, 100_000), 77 * MIB).unwrap();
    let path = given_to(&bridges, 2, &cloud, &disk, 1);
    let call = bridges.bridged(cloud.clone_of(&path, "raw"));
    let call = call.set("DATASTORE/TEMPLATE/BRIDGE_LIST", "host1");
    let reply = call.set("SOURCE_BRIDGE_LIST", "host2").run().succeeds();
    let image = image_on(&bridges, 1, &reply, "raw");
    assert_eq!(digest("md5sum", &image), digest("md5sum", &disk));
    assert!(allocated(&image) < MIB);
}

#[test]
fn what_the_source_host_says_reaches_the_user_and_nothing_is_left() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 2);
    let between = |path: &Path, format: &str| -> Call {
        let call = bridges.bridged(cloud.clone_of(path, format));
        let call = call.set("DATASTORE/TEMPLATE/BRIDGE_LIST", "host1");
        call.set("SOURCE_BRIDGE_LIST", "host2")
    };
    let missing = neighbour(&cloud).join("f".repeat(32));
    let failure = between(&missing, "raw").run().refused(Rule::CantBeOpened);
    failure.naming("IMAGE/PATH").saying("host2: ").saying_path(&missing);
    let disk = cloud.raw("disk.img", MIB);
    let broken = given_to(&bridges, 2, &cloud, &disk, 1);
    let failure = between(&broken, "qcow2").run().refused(Rule::Corrupt);
    failure.naming("IMAGE/PATH").saying("host2: ").saying_path(&broken);
    let before = bridges.host(1).listing();
    let secret = Path::new("/etc/hostname");
    let failure = between(secret, "raw").run().refused(Rule::Restricted);
    failure.naming("IMAGE/PATH").saying("host2: ").saying_path(secret);
    assert_eq!(bridges.host(1).listing(), before);
}
