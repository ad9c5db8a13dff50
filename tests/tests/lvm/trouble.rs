//! Missing groups, locks that others hold, users without rights, drivers that are killed.

use ferrostore_tests::{Lvm, MIB, persistent, run};
use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;
use std::thread;
use std::time::Duration;

const LOCK: &str = "/var/lock/one/tm-onelvm-vg-one-104.lock";

#[test]
#[ignore = "runs in the virtual machine"]
fn a_missing_group_is_named() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.raw("disk.img", MIB);
    let elsewhere = |call: ferrostore_tests::Call| {
        call.set_escaped("DATASTORE/ID", "105")
            .run()
            .fails()
            .naming("DATASTORE/ID")
            .saying("vg-one-105")
            .saying("vgcreate");
    };
    elsewhere(lvm.cp(1, &disk));
    elsewhere(lvm.mkfs(1, "raw", 4));
    elsewhere(lvm.call("monitor", 0));
    elsewhere(lvm.on_image("rm", 1).set("IMAGE/SOURCE", "vg-one-105/img-one-1"));
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_driver_waits_for_opennebulas_lock_and_says_for_whom() {
    let lvm = Lvm::new();
    fs::create_dir_all("/var/lock/one").unwrap();
    let mut holder = Command::new("flock").args([LOCK, "sleep", "6"]).spawn().unwrap();
    while !fs::exists(LOCK).unwrap() {
        thread::sleep(Duration::from_millis(20));
    }
    let reply = lvm.mkfs(1, "raw", 4).run().succeeds();
    let lines = reply.outcome.log_lines();
    assert!(
        lines.iter().any(|line| line.starts_with("INFO: ")
            && line.contains(LOCK)
            && (line.contains("flock") || line.contains("sleep"))),
        "{lines:?}"
    );
    holder.wait().unwrap();
    lvm.is_at_rest();
}

#[test]
#[ignore = "runs in the virtual machine"]
fn oneadmin_needs_no_more_than_opennebulas_sudoers_file() {
    let lvm = Lvm::new();
    run("useradd", ["-u", "9869", "-G", "disk", "oneadmin"]);
    let me = 9869;
    lvm.cloud.hand_over_to(me);
    // As OpenNebula's package makes it.
    fs::create_dir_all("/var/lock/one").unwrap();
    chown("/var/lock/one", Some(me), Some(me)).unwrap();
    let disk = lvm.cloud.raw("disk.img", 3 * MIB);
    lvm.cp(1, &disk).as_member("oneadmin").run().fails().naming("DATASTORE/ID").saying("sudo");
    let programs = ["lvcreate", "lvremove", "lvs", "vgdisplay", "lvchange", "lvscan", "lvextend"];
    let list = programs.map(|program| format!("/usr/sbin/{program}")).join(", ");
    fs::write("/etc/sudoers.d/opennebula", format!("oneadmin ALL=(ALL) NOPASSWD: {list}\n"))
        .unwrap();
    run("chmod", ["440", "/etc/sudoers.d/opennebula"]);
    persistent(lvm.cp(1, &disk)).as_member("oneadmin").run().succeeds();
    lvm.mkfs(2, "raw", 16).set("IMAGE/FS", "ext4").as_member("oneadmin").run().succeeds();
    lvm.clone_of(3, "vg-one-104/img-one-1").as_member("oneadmin").run().succeeds();
    lvm.take_snapshot(1, 0);
    lvm.snap("snap_revert", 1, 0).as_member("oneadmin").run().succeeds();
    lvm.snap("snap_flatten", 1, 0).as_member("oneadmin").run().succeeds();
    lvm.on_image("rm", 2).as_member("oneadmin").run().succeeds();
    lvm.call("monitor", 0).as_member("oneadmin").run().succeeds();
    assert_eq!(lvm.names(), ["img-one-1", "img-one-1-pool", "img-one-3"]);
    lvm.is_at_rest();
    assert!(lvm.content("img-one-3")[..3 * MIB as usize] == fs::read(disk).unwrap()[..]);
    fs::remove_file("/etc/sudoers.d/opennebula").unwrap();
    run("userdel", ["oneadmin"]);
}

/// An action's name and its call.
type Action<'a> = (&'a str, Box<dyn Fn() -> ferrostore_tests::Call<'a> + 'a>);

#[test]
#[ignore = "runs in the virtual machine"]
fn what_a_killed_driver_leaves_is_removed_by_the_next_one() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.raw("disk.img", 4 * MIB);
    persistent(lvm.cp(1, &disk)).run().succeeds();
    let original = ["img-one-1", "img-one-1-pool"];
    let actions: [Action; 3] = [
        ("cp", Box::new(|| lvm.cp(2, &disk))),
        ("mkfs", Box::new(|| persistent(lvm.mkfs(2, "raw", 16).set("IMAGE/FS", "ext4")))),
        ("clone", Box::new(|| persistent(lvm.clone_of(2, "vg-one-104/img-one-1")))),
    ];
    for (name, call) in &actions {
        for step in 1.. {
            let (_, lived) = lvm.killed_at(step, call());
            if lived {
                assert!(step > 3, "{name} runs {step} programs");
                break;
            }
            lvm.call("monitor", 0).run().succeeds();
            assert_eq!(lvm.names(), original, "{name} {step}");
            lvm.is_at_rest();
        }
        lvm.on_image("rm", 2).run().succeeds();
    }
    for step in 1..=2 {
        persistent(lvm.mkfs(2, "raw", 4)).run().succeeds();
        lvm.take_snapshot(2, 0);
        let (_, lived) = lvm.killed_at(step, lvm.on_image("rm", 2));
        assert!(!lived, "rm {step}");
        lvm.call("monitor", 0).run().succeeds();
        let names = lvm.names();
        assert!(names == original || (step == 1 && names.len() == 5), "rm {step}: {names:?}");
        lvm.is_at_rest();
        lvm.on_image("rm", 2).run().succeeds();
        assert_eq!(lvm.names(), original);
    }
}

#[test]
#[ignore = "runs in the virtual machine"]
fn an_image_that_was_never_reported_is_replaced_and_a_later_one_of_its_name_stays() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.raw("disk.img", 4 * MIB);
    let killed_at_the_end = || {
        let (_, lived) = lvm.killed_at(3, lvm.cp(2, &disk));
        assert!(!lived && lvm.names() == ["img-one-2"], "{:?}", lvm.names());
    };
    killed_at_the_end();
    let again = lvm.cp(2, &disk).run();
    assert!(again.status.success(), "{}", again.stderr_text());
    assert!(
        again.stderr_text().contains("removed vg-one-104/img-one-2"),
        "{}",
        again.stderr_text()
    );
    lvm.on_image("rm", 2).run().succeeds();

    // The clone, which does without looking where there is nothing to clean up.
    lvm.cp(1, &disk).run().succeeds();
    lvm.killed_at(3, lvm.cp(2, &disk));
    assert_eq!(lvm.names(), ["img-one-1", "img-one-2"]);
    let clone = lvm.clone_of(3, "vg-one-104/img-one-1").run();
    assert!(clone.status.success(), "{}", clone.stderr_text());
    assert_eq!(lvm.names(), ["img-one-1", "img-one-3"]);
    lvm.is_at_rest();
    for id in [1, 3] {
        lvm.on_image("rm", id).run().succeeds();
    }

    killed_at_the_end();
    run("lvremove", ["-q", "-y", "vg-one-104/img-one-2"]);
    run("lvcreate", ["-q", "-an", "-ky", "-Wn", "-Zn", "-L8M", "-nimg-one-2", "vg-one-104"]);
    lvm.call("monitor", 0).run().succeeds();
    assert_eq!(lvm.names(), ["img-one-2"]);
    lvm.is_at_rest();

    // A reply that arrived, and was all that the driver still had to do.
    lvm.on_image("rm", 2).run().succeeds();
    lvm.cp(2, &disk).run().succeeds();
    lvm.call("monitor", 0).run().succeeds();
    assert_eq!(lvm.names(), ["img-one-2"]);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_volume_that_can_not_be_deactivated_is_no_image_and_goes_once_it_can() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.raw("disk.img", 4 * MIB);
    let interest = lvm.cloud.file("interest", "");
    let hold = format!(
        "while [ -e {} ]; do sleep 0.1; done </dev/vg-one-104/img-one-2 >/dev/null 2>&1",
        interest.display()
    );
    for call in [lvm.cp(2, &disk), persistent(lvm.cp(2, &disk))] {
        fs::write(&interest, "").unwrap();
        // Another program has it open when it is complete.
        lvm.watch(&format!("[ $count != 3 ] || {{ {hold} & sleep 1; }}"));
        let failed = call.run();
        lvm.unwatch();
        let said = failed.stderr_text();
        assert!(failed.status.code() == Some(1) && said.contains("in use"), "{said}");
        fs::remove_file(&interest).unwrap();
        thread::sleep(Duration::from_secs(1));
        lvm.call("monitor", 0).run().succeeds();
        assert_eq!(lvm.names(), [""; 0]);
        lvm.is_at_rest();
    }
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_driver_that_is_told_to_stop_leaves_nothing() {
    let lvm = Lvm::new();
    let disk = lvm.cloud.raw("disk.img", 4 * MIB);
    lvm.cp(1, &disk).run().succeeds();
    for (name, call) in [
        ("cp", lvm.cp(2, &disk)),
        ("thin cp", persistent(lvm.cp(2, &disk))),
        ("clone", lvm.clone_of(2, "vg-one-104/img-one-1")),
    ] {
        lvm.watch("[ $program != lvcreate ] || kill -TERM $driver");
        let stopped = call.run();
        lvm.unwatch();
        assert_eq!(stopped.status.code(), Some(1), "{name}");
        assert_eq!(stopped.user_lines().len(), 1, "{name}: {:?}", stopped.user_lines());
        assert_eq!(lvm.names(), ["img-one-1"], "{name}");
        lvm.is_at_rest();
    }
}

#[test]
#[ignore = "runs in the virtual machine"]
fn fifteen_drivers_at_once_mix_nothing_up() {
    let lvm = Lvm::new();
    let disks: Vec<_> = (0..15)
        .map(|id| {
            let name = format!("disk{id}.img");
            lvm.cloud.file(&name, ferrostore_tests::pattern(id, MIB as usize))
        })
        .collect();
    thread::scope(|scope| {
        for (id, disk) in disks.iter().enumerate() {
            let call = lvm.cp(id as u32, disk);
            let call = if id % 3 == 0 { persistent(call) } else { call };
            // Not `succeeds` alone: what others stage meanwhile is not this call's.
            scope.spawn(move || assert_eq!(call.run().status.code(), Some(0)));
        }
    });
    lvm.is_at_rest();
    for (id, disk) in disks.iter().enumerate() {
        let content = lvm.content(&format!("img-one-{id}"));
        assert!(content[..MIB as usize] == fs::read(disk).unwrap()[..], "image {id}");
    }
}
