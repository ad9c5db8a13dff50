//! `cp`, `mkfs`, `clone`, `rm`, `stat`, `monitor`, `export`.

use ferrostore_tests::{Lvm, MIB, Rule, pattern, persistent, run};
use std::fs;

/// A thick volume at rest: skipped by a general activation.
const THICK: &str = "-wi------k";
/// A thin volume and its pool at rest.
const THIN: &str = "Vwi---tz-k";
const POOL: &str = "twi---tz-k";

/// `bytes`, and zeroes up to `length`.
#[track_caller]
fn is_padded(content: &[u8], bytes: &[u8], length: u64) {
    assert_eq!(content.len() as u64, length);
    assert!(content[..bytes.len()] == *bytes, "the image is what was registered");
    assert!(content[bytes.len()..].iter().all(|&byte| byte == 0), "the rest is zero");
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_raw_image_becomes_a_plain_volume() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.raw("disk.img", 5 * MIB + 512);
    lvm.cp(5, &disk).run().succeeds().replies("vg-one-104/img-one-5 raw");
    assert_eq!(lvm.names(), ["img-one-5"]);
    let volume = lvm.volume("img-one-5");
    assert_eq!((volume.attributes.as_str(), volume.size), (THICK, 8 * MIB));
    lvm.is_at_rest();
    is_padded(&lvm.content("img-one-5"), &fs::read(disk).unwrap(), 8 * MIB);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_persistent_image_becomes_a_thin_volume_in_a_pool_of_its_own() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.raw("disk.img", 6 * MIB);
    let image = lvm.cloud.compressed_qcow2(&disk, "disk.qcow2", "");
    persistent(lvm.cp(6, &image)).run().succeeds().replies("vg-one-104/img-one-6 raw");
    assert_eq!(lvm.names(), ["img-one-6", "img-one-6-pool"]);
    let (volume, pool) = (lvm.volume("img-one-6"), lvm.volume("img-one-6-pool"));
    assert_eq!((volume.attributes.as_str(), volume.size), (THIN, 8 * MIB));
    assert_eq!((pool.attributes.as_str(), pool.size), (POOL, 8 * MIB));
    assert_eq!(volume.pool, "img-one-6-pool");
    lvm.is_at_rest();
    is_padded(&lvm.content("img-one-6"), &fs::read(disk).unwrap(), 8 * MIB);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn compressed_files_and_other_formats_become_raw() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.raw("disk.img", 5 * MIB);
    let bytes = fs::read(&disk).unwrap();
    let vmdk = lvm.cloud.images().join("disk.vmdk");
    run("qemu-img", ["convert", "-O", "vmdk", disk.to_str().unwrap(), vmdk.to_str().unwrap()]);
    let qcow2 = lvm.cloud.qcow2(&disk, "disk.qcow2", "");
    let packed = lvm.cloud.compressed(&disk, "gzip");
    let twice = lvm.cloud.compressed(&qcow2, "xz");
    for (id, path, size) in [(1, &vmdk, "5"), (2, &packed, "5"), (3, &packed, ""), (4, &twice, "5")]
    {
        lvm.cp(id, path)
            .set_escaped("IMAGE/SIZE", size)
            .run()
            .succeeds()
            .replies(&format!("vg-one-104/img-one-{id} raw"));
        is_padded(&lvm.content(&format!("img-one-{id}")), &bytes, 8 * MIB);
    }
    lvm.is_at_rest();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_wrong_digest_or_a_forbidden_path_leaves_no_volume() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.raw("disk.img", MIB);
    lvm.cp(5, &disk)
        .set("IMAGE/TEMPLATE/MD5", "0".repeat(32))
        .run()
        .refused(Rule::DigestMismatch)
        .naming("IMAGE/TEMPLATE/MD5");
    assert_eq!(lvm.names(), [""; 0]);
    lvm.cp(5, "/etc/passwd")
        .run()
        .refused(Rule::Restricted)
        .naming("IMAGE/PATH")
        .saying("/etc/passwd");
    assert_eq!(lvm.names(), [""; 0]);
    lvm.is_at_rest();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn an_empty_image_is_made_with_and_without_a_file_system() {
    let lvm = Lvm::new();
    lvm.mkfs(1, "raw", 6).run().succeeds().replies("vg-one-104/img-one-1");
    lvm.mkfs(2, "swap", 8).run().succeeds().replies("vg-one-104/img-one-2");
    lvm.mkfs(3, "save_as", 8).run().succeeds().replies("vg-one-104/img-one-3");
    persistent(lvm.mkfs(4, "", 32).set("IMAGE/FS", "ext4"))
        .run()
        .succeeds()
        .replies("vg-one-104/img-one-4");
    let names = ["img-one-1", "img-one-2", "img-one-3", "img-one-4", "img-one-4-pool"];
    assert_eq!(lvm.names(), names);
    lvm.is_at_rest();
    assert!(lvm.content("img-one-1") == vec![0; 8 * MIB as usize]);
    assert!(lvm.content("img-one-3") == vec![0; 8 * MIB as usize]);
    let kind = |name: &str| {
        lvm.with_device(name, |device| {
            let output =
                run("blkid", ["-p", "-o", "value", "-s", "TYPE", device.to_str().unwrap()]);
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        })
    };
    assert_eq!(kind("img-one-2"), "swap");
    assert_eq!(kind("img-one-4"), "ext4");
    assert_eq!(lvm.volume("img-one-4-pool").size, 32 * MIB);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn what_can_not_be_made_is_refused_and_leaves_nothing() {
    let lvm = Lvm::new();
    lvm.mkfs(1, "qcow2", 8).run().fails().naming("IMAGE/FORMAT").saying("qcow2");
    lvm.mkfs(1, "raw", 0).run().refused(Rule::NotValid).naming("IMAGE/SIZE");
    lvm.mkfs(1, "raw", 8)
        .set("IMAGE/FS", "xfs")
        .run()
        .refused(Rule::FileSystemDoesNotFit)
        .naming("IMAGE/FS");
    persistent(lvm.mkfs(1, "raw", 8))
        .set("IMAGE/FS", "xfs")
        .run()
        .refused(Rule::FileSystemDoesNotFit)
        .naming("IMAGE/FS");
    lvm.mkfs(1, "raw", 1 << 20).run().fails().naming("DATASTORE/ID").saying("no space");
    persistent(lvm.mkfs(1, "raw", 1 << 20)).run().fails().saying("no space");
    assert_eq!(lvm.names(), [""; 0]);
    lvm.is_at_rest();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_clone_holds_what_the_original_holds() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.raw("disk.img", 8 * MIB);
    lvm.cp(1, &disk).run().succeeds();
    persistent(lvm.cp(2, &disk)).run().succeeds();
    lvm.clone_of(3, "vg-one-104/img-one-1").run().succeeds().replies("vg-one-104/img-one-3 raw");
    persistent(lvm.clone_of(4, "vg-one-104/img-one-2")).run().succeeds();
    persistent(lvm.clone_of(5, "vg-one-104/img-one-1")).run().succeeds();
    lvm.clone_of(6, "vg-one-104/img-one-2").run().succeeds();
    lvm.is_at_rest();
    let bytes = fs::read(&disk).unwrap();
    for id in 3..=6 {
        is_padded(&lvm.content(&format!("img-one-{id}")), &bytes, 8 * MIB);
    }
    assert_eq!(lvm.volume("img-one-3").attributes, THICK);
    assert_eq!(lvm.volume("img-one-4").pool, "img-one-4-pool");
    // The original may go.
    lvm.on_image("rm", 1).run().succeeds().silently();
    persistent(lvm.on_image("rm", 2)).run().succeeds().silently();
    is_padded(&lvm.content("img-one-5"), &bytes, 8 * MIB);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn of_a_large_thin_volume_only_what_its_pool_has_allocated_is_read() {
    let lvm = Lvm::new();
    let size = 1024 * MIB;
    persistent(lvm.mkfs(1, "raw", 1024)).run().succeeds();
    let places = [0, 300 * MIB + 4096, size - 512];
    for (number, place) in (1..).zip(places) {
        lvm.write("img-one-1", &[number; 512], place);
    }
    // A picture of the pool that a killed driver has left shows what was there then.
    lvm.with_device("img-one-1", |_| {
        let pool = "vg--one--104-img--one--1--pool-tpool";
        run("dmsetup", ["message", pool, "0", "reserve_metadata_snap"]);
    });
    lvm.write("img-one-1", &[9; 512], 700 * MIB);
    let reads = |persistent: u8| {
        let trace = lvm.cloud.root().join("trace");
        let arguments = ["strace", "-f", "-qq", "-e", "trace=pread64", "-o"];
        lvm.clone_of(2, "vg-one-104/img-one-1")
            .set_escaped("IMAGE/PERSISTENT", persistent.to_string())
            .under(arguments.into_iter().chain([trace.to_str().unwrap()]))
            .run()
            .succeeds();
        let text = fs::read_to_string(trace).unwrap();
        let count = |line: &str| -> Option<u64> { line.rsplit_once("= ")?.1.parse().ok() };
        text.lines().filter_map(count).sum::<u64>()
    };
    for persistent in [0, 1] {
        let bytes = reads(persistent);
        assert!(bytes < 2 * MIB, "{bytes} bytes were read");
        lvm.with_device("img-one-2", |device| {
            use std::os::unix::fs::FileExt;
            let file = fs::File::open(device).unwrap();
            let mut sector = [0; 512];
            for (number, place) in (1..).zip(places).chain([(9, 700 * MIB), (0, 699 * MIB)]) {
                file.read_exact_at(&mut sector, place).unwrap();
                assert_eq!(sector, [number; 512], "at {place}");
            }
        });
        lvm.on_image("rm", 2).run().succeeds();
        lvm.is_at_rest();
    }
}

#[test]
#[ignore = "runs in the virtual machine"]
fn what_is_no_image_is_not_cloned() {
    let lvm = Lvm::new();
    run("lvcreate", ["-q", "-L", "4M", "-an", "-Zn", "-n", "root", "vg-one-104"]);
    for path in ["vg-one-104/root", "/etc/passwd", "vg-one-104/img-one-1-pool", "rootvg/img-one-1"]
    {
        lvm.clone_of(3, path)
            .run()
            .refused(Rule::NoImageOfTheKind)
            .naming("IMAGE/PATH")
            .saying(path);
    }
    for missing in ["vg-one-104/img-one-1", "vg-one-105/img-one-1"] {
        lvm.clone_of(3, missing)
            .run()
            .refused(Rule::CantBeRead)
            .naming("IMAGE/PATH")
            .saying(missing);
    }
    assert_eq!(lvm.names(), ["root"]);
    lvm.is_at_rest();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn an_image_is_removed_with_all_that_belongs_to_it_and_nothing_else() {
    let lvm = Lvm::new();
    persistent(lvm.mkfs(1, "raw", 8)).run().succeeds();
    lvm.mkfs(11, "raw", 8).run().succeeds();
    lvm.take_snapshot(1, 0);
    lvm.take_snapshot(1, 1);
    // What the volume is counts, and not what the image is said to be now.
    lvm.on_image("rm", 1).run().succeeds().silently();
    assert_eq!(lvm.names(), ["img-one-11"]);
    let again = lvm.on_image("rm", 1).run().succeeds();
    assert!(again.outcome.log_lines().iter().any(|line| line.contains("gone already")));
    lvm.on_image("rm", 11).run().succeeds().silently();
    assert_eq!(lvm.names(), [""; 0]);
    lvm.is_at_rest();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn an_image_that_a_virtual_machine_reads_from_is_not_removed() {
    let lvm = Lvm::new();
    lvm.mkfs(1, "raw", 8).run().succeeds();
    // As the transfer driver clones it.
    run("lvchange", ["-q", "-pr", "vg-one-104/img-one-1"]);
    run(
        "lvcreate",
        ["-q", "-Wn", "--thin", "-L8M", "-ky", "-Zy", "-an", "vg-one-104/vm-one-1-pool"],
    );
    let clone =
        ["-q", "--snapshot", "--thinpool", "vm-one-1-pool", "-n", "vm-one-1-0", "-ky", "-an"];
    run("lvcreate", clone.into_iter().chain(["vg-one-104/img-one-1"]));
    let before = lvm.volumes();
    lvm.on_image("rm", 1)
        .run()
        .refused(Rule::ReadByOthers)
        .naming("IMAGE/SOURCE")
        .saying("vm-one-1-0");
    assert_eq!(lvm.volumes(), before);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn only_the_images_own_volume_is_touched() {
    let lvm = Lvm::new();
    lvm.mkfs(1, "raw", 8).run().succeeds();
    for source in [
        "vg-one-104/img-one-2",
        "vg-one-105/img-one-1",
        "vg-one-104/img-one-1-pool",
        "vg-one-104/../vg-one-104/img-one-1",
        "/dev/vg-one-104/img-one-1",
        "img-one-1",
        "vg-one-104/img-one-1 vg-one-104",
    ] {
        for action in ["rm", "snap_revert", "snap_flatten", "snap_delete", "export"] {
            let outcome = lvm.snap(action, 1, 0).set("IMAGE/SOURCE", source).run();
            let failure = match action {
                // It reads what stands in a datastore, and changes nothing.
                "export" => outcome.refused_by_any(&[Rule::NotTheImagesOwn, Rule::CantBeFetched]),
                _ => outcome.refused(Rule::NotTheImagesOwn),
            };
            failure.naming("IMAGE/SOURCE");
        }
    }
    assert_eq!(lvm.names(), ["img-one-1"]);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn monitor_tells_the_space_of_the_group_and_warns_of_full_pools() {
    let lvm = Lvm::new();
    lvm.mkfs(1, "raw", 100).run().succeeds();
    let reply = lvm.call("monitor", 0).run().succeeds();
    let value = |name: &str| -> u64 {
        let line = reply.text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.parse().unwrap()
    };
    assert_eq!(value("USED_MB="), 100);
    assert_eq!(value("TOTAL_MB="), value("FREE_MB=") + 100);
    persistent(lvm.mkfs(2, "raw", 8)).run().succeeds();
    lvm.with_device("img-one-2", |device| {
        fs::write(device, pattern(1, 7 * MIB as usize)).unwrap();
        run("sync", [device]);
        let warned = lvm.call("monitor", 0).run().succeeds().outcome.log_lines();
        let pool = |line: &String| line.starts_with("WARN: ") && line.contains("img-one-2-pool");
        assert!(warned.iter().any(pool), "{warned:?}");
    });
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_name_that_is_taken_by_another_volume_stays_that_volumes() {
    let lvm = Lvm::new();
    run("lvcreate", ["-q", "-L", "4M", "-an", "-Zn", "-n", "img-one-5", "vg-one-104"]);
    let before = lvm.volumes();
    let disk = lvm.cloud.raw("disk.img", MIB);
    for call in [lvm.cp(5, &disk), persistent(lvm.cp(5, &disk)), lvm.mkfs(5, "raw", 4)] {
        call.run().fails().naming("DATASTORE/ID").saying("img-one-5");
        assert_eq!(lvm.volumes(), before);
    }
    lvm.is_at_rest();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn an_action_calls_lvm_no_more_often_than_it_must() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.raw("disk.img", MIB);
    let count = |call: ferrostore_tests::Call, most: usize| {
        lvm.watch("");
        call.run().succeeds();
        let calls = lvm.calls();
        lvm.unwatch();
        assert!(calls.len() <= most, "{most} at most: {calls:#?}");
        println!("{}: {calls:?}", calls.len());
    };
    count(lvm.cp(1, &disk), 6);
    count(persistent(lvm.cp(2, &disk)), 6);
    count(lvm.mkfs(3, "raw", 4), 4);
    count(persistent(lvm.mkfs(4, "raw", 4).set("IMAGE/FS", "ext4")), 4);
    count(lvm.clone_of(5, "vg-one-104/img-one-1"), 3);
    count(persistent(lvm.clone_of(6, "vg-one-104/img-one-2")), 3);
    for snapshot in 0..3 {
        lvm.take_snapshot(2, snapshot);
    }
    count(lvm.snap("snap_revert", 2, 1), 3);
    count(lvm.snap("snap_delete", 2, 0), 3);
    count(lvm.snap("snap_flatten", 2, 1), 3);
    count(lvm.on_image("rm", 1), 3);
    count(lvm.on_image("rm", 2), 3);
    count(lvm.call("monitor", 0), 3);
    count(lvm.call("stat", 1).set("IMAGE/PATH", disk.to_str().unwrap()), 0);
}
