//! The trash: volumes that stay for a while after their image was deleted.

use ferrostore_tests::{Call, Lvm, MIB, Said, pattern, persistent, run};
use serde_json::Value;

fn rm(lvm: &Lvm, id: u32) -> Call<'_> {
    lvm.on_image("rm", id).keeping("7d")
}

fn trash(lvm: &Lvm, arguments: &[&str]) -> Said {
    let (verb, rest) = arguments.split_first().unwrap();
    lvm.cloud.ferrostore(["trash", verb, "vg-one-104"].iter().chain(rest))
}

fn trashed(lvm: &Lvm) -> Vec<Value> {
    trash(lvm, &["list", "--json"]).well().json_lines()
}

/// USED_MB, TOTAL_MB, FREE_MB.
fn monitored(lvm: &Lvm) -> [u64; 3] {
    let reply = lvm.call("monitor", 0).run().succeeds().text;
    let mut numbers = reply.lines().map(|line| line.split_once('=').unwrap().1.parse().unwrap());
    [(); 3].map(|()| numbers.next().unwrap())
}

/// Has the time of a volume in the trash be over.
fn expire(volume: &str) {
    let path = format!("vg-one-104/{volume}");
    let output = run("lvs", ["--noheadings", "-o", "lv_tags", &path]);
    let tags = String::from_utf8(output.stdout).unwrap();
    let tag = tags.trim().split(',').find(|tag| tag.starts_with("ferrostore.trash.")).unwrap();
    run("lvchange", ["-q", "--deltag", tag, "--addtag", "ferrostore.trash.1000.60", &path]);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_deleted_image_comes_back_with_its_snapshots() {
    let lvm = Lvm::new();
    let bytes = pattern(1, 8 * MIB as usize);
    let disk = lvm.cloud.file("disk.img", &bytes);
    persistent(lvm.cp(1, &disk)).run().succeeds();
    lvm.take_snapshot(1, 0);
    lvm.write("img-one-1", &pattern(2, MIB as usize), 0);
    let (names, content) = (lvm.names(), lvm.content("img-one-1"));
    let [_, _, free] = monitored(&lvm);

    rm(&lvm, 1).set("IMAGE/NAME", "web, \"one\"").run().succeeds().silently();
    assert_eq!(lvm.names(), names);
    assert!(monitored(&lvm)[2] > free, "what is in the trash counts as free");
    // Once more: it is gone.
    rm(&lvm, 1).run().succeeds().silently();
    lvm.on_image("rm", 1).run().succeeds().silently();
    assert_eq!(lvm.names(), names);
    let [image] = &trashed(&lvm)[..] else { panic!("one image") };
    assert_eq!((&image["name"], &image["image"]), (&"web, \"one\"".into(), &1.into()));
    assert_eq!((&image["file"], &image["snapshots"]), (&"img-one-1".into(), &1.into()));

    let said = trash(&lvm, &["restore", "1"]).well().text;
    assert!(said.contains("--source vg-one-104/img-one-1 --format raw"), "{said}");
    assert!(lvm.content("img-one-1") == content);
    // Under the number that oned gives it now, it is an image as any other.
    let as_nine = |action| lvm.on_image(action, 1).set_escaped("IMAGE/ID", "9");
    as_nine("snap_revert").set_escaped("IMAGE/TARGET_SNAPSHOT", "0").run().succeeds();
    assert!(lvm.content("img-one-1") == bytes);
    as_nine("rm").run().succeeds().silently();
    assert_eq!(lvm.names(), [""; 0]);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn what_is_past_its_time_goes_and_what_needs_its_space_takes_it() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.file("disk.img", pattern(1, 8 * MIB as usize));
    for id in 1..=4 {
        lvm.cp(id, &disk).run().succeeds();
        rm(&lvm, id).run().succeeds().silently();
    }
    expire("img-one-2");
    lvm.call("monitor", 0).run().succeeds();
    assert_eq!(lvm.names(), ["img-one-1", "img-one-3", "img-one-4"]);
    run("lvcreate", ["-q", "-Wn", "-Zn", "-an", "-l", "100%FREE", "-n", "rest", "vg-one-104"]);
    lvm.cp(5, &disk).run().succeeds();
    assert_eq!(lvm.names(), ["img-one-3", "img-one-4", "img-one-5", "rest"]);
    lvm.mkfs(6, "raw", 16).run().succeeds();
    assert_eq!(lvm.names(), ["img-one-5", "img-one-6", "rest"]);
    lvm.cp(7, &disk).run().fails().naming("DATASTORE/ID").saying("no space");
    lvm.is_at_rest();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn purging_removes_for_good() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.file("disk.img", pattern(1, MIB as usize));
    for id in 1..=3 {
        persistent(lvm.cp(id, &disk)).run().succeeds();
        rm(&lvm, id).run().succeeds().silently();
    }
    trash(&lvm, &["purge", "2"]).refusing("--yes");
    trash(&lvm, &["purge", "2", "--yes"]).well();
    assert_eq!(lvm.names(), ["img-one-1", "img-one-1-pool", "img-one-3", "img-one-3-pool"]);
    trash(&lvm, &["restore", "2"]).refusing("is not in the trash");
    trash(&lvm, &["purge", "--all", "--yes"]).well();
    assert_eq!(lvm.names(), [""; 0]);
    // Another image's volume is not touched under any number.
    lvm.cp(1, &disk).run().succeeds();
    let failure = rm(&lvm, 1).set_escaped("IMAGE/ID", "9").run().fails();
    failure.naming("IMAGE/SOURCE").saying("is not the image's volume");
}

/// Killed at any program of LVM, the image is there or in the trash.
#[test]
#[ignore = "runs in the virtual machine"]
fn a_driver_that_is_killed_leaves_the_image_or_the_trash() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.file("disk.img", pattern(1, MIB as usize));
    for step in 1.. {
        persistent(lvm.cp(1, &disk)).run().succeeds();
        let names = lvm.names();
        let (_, lived) = lvm.killed_at(step, rm(&lvm, 1));
        assert_eq!(lvm.names(), names);
        rm(&lvm, 1).run().succeeds().silently();
        assert_eq!(trashed(&lvm).len(), 1);
        trash(&lvm, &["purge", "--all", "--yes"]).well();
        if lived {
            assert!(step > 2, "it looks, and then tags");
            return;
        }
    }
}

/// What would not fit even without all of it, costs none of it; pools need space for their metadata as well.
#[test]
#[ignore = "runs in the virtual machine"]
fn an_image_that_fits_nowhere_costs_the_trash_nothing() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.file("disk.img", pattern(1, 8 * MIB as usize));
    let large = lvm.cloud.file("large.img", pattern(2, 40 * MIB as usize));
    for id in 1..=3 {
        lvm.cp(id, &disk).run().succeeds();
        rm(&lvm, id).run().succeeds().silently();
    }
    run("lvcreate", ["-q", "-Wn", "-Zn", "-an", "-l", "100%FREE", "-n", "rest", "vg-one-104"]);
    let names = lvm.names();
    for call in [
        lvm.cp(4, &large),
        persistent(lvm.cp(4, &large)),
        lvm.mkfs(4, "raw", 28),
        persistent(lvm.mkfs(4, "raw", 24)),
    ] {
        let failure = call.run().fails().naming("DATASTORE/ID").saying("no space");
        assert!(failure.outcome.stderr_text().contains("the trash of vg-one-104 keeps its 24 MiB"));
        assert_eq!(lvm.names(), names);
    }
    // What fits in the place of some, costs these alone.
    persistent(lvm.mkfs(5, "raw", 8)).run().succeeds();
    assert_eq!(lvm.names(), ["img-one-3", "img-one-5", "img-one-5-pool", "rest"]);
    lvm.on_image("rm", 5).keeping("7d").run().succeeds();
    lvm.mkfs(6, "raw", 20).run().succeeds();
    assert_eq!(lvm.names(), ["img-one-6", "rest"]);
    lvm.is_at_rest();
}
