//! Datastores on NFS 3 and 4, with a server. All of this runs in a virtual machine: there, the tests that are
//! ignored here are the tests. What keeps an export from being mounted is in `nfs_mount.rs`.

mod trash;

use ferrostore_tests::layouts::{Chain, Copies, Layout};
use ferrostore_tests::{
    Bridges, KIB, Listing, MIB, NfsCloud, Page, Rule, Web, pattern, run, same_bytes, same_content,
};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

#[test]
fn datastores_can_lie_on_nfs() {
    ferrostore_tests::ignored_tests_in_a_virtual_machine(|_| true);
}

/// Files with absolute names, and the image as a link to one of them: other layouts ask nothing else of NFS.
const LAYOUTS: [Layout; 2] = [Layout::ABSOLUTE, Layout::SSH_SYSTEM];

/// What is in the export, as the server sees it, besides the mark of the mount.
fn on_the_server(nfs: &NfsCloud) -> Vec<String> {
    let listing = Listing::of(nfs.export());
    listing.names().into_iter().filter(|name| *name != ".automounted").map(str::to_owned).collect()
}

/// Whether an image that is being written is on the server.
fn is_being_written(nfs: &NfsCloud) -> bool {
    on_the_server(nfs).iter().any(|name| name.contains("/staging."))
}

#[test]
#[ignore = "in the virtual machine"]
fn the_first_call_mounts_the_export_and_the_next_one_finds_it() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::new(version);
        assert_eq!(nfs.mounts(), [""; 0]);
        nfs.on(nfs.cloud.monitor()).run().succeeds();
        let mounts = nfs.mounts();
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        assert!(mounts[0].contains(&format!("vers={version}")), "{mounts:?}");
        assert!(nfs.export().join(".automounted").exists());
        nfs.on(nfs.cloud.mkfs("raw", "1")).run().succeeds().empty_image();
        assert_eq!(nfs.mounts(), mounts);
        assert_eq!(on_the_server(&nfs).len(), 1, "the image is on the server");
        nfs.unmount();
        assert_eq!(Listing::of(&nfs.cloud.datastore()).names(), [""; 0], "and nowhere else");
        nfs.on(nfs.cloud.monitor()).run().succeeds();
        assert_eq!(nfs.mounts().len(), 1);
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn an_export_that_was_mounted_by_hand_is_used_as_it_is() {
    let nfs = NfsCloud::new("4.2");
    let source = format!("127.0.0.1:{}/", nfs.path(nfs.export()));
    run("mount", ["-t", "nfs", "-o", "vers=4.1", &source, nfs.cloud.datastore().to_str().unwrap()]);
    nfs.on(nfs.cloud.mkfs("raw", "1")).run().succeeds().empty_image();
    assert_eq!(nfs.mounts().len(), 1);
    assert!(!nfs.export().join(".automounted").exists(), "it was not mounted for OpenNebula");
}

#[test]
#[ignore = "in the virtual machine"]
fn another_export_that_is_mounted_there_is_left_alone() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let before = nfs.mounts();
        let other = nfs.on(nfs.cloud.mkfs("raw", "1"));
        let other = other.set("DATASTORE/TEMPLATE/NFS_AUTO_PATH", nfs.path(Path::new("/srv/nfs")));
        other.run().refused(Rule::OtherMount).naming("DATASTORE/BASE_PATH").saying("127.0.0.1:/");
        assert_eq!(nfs.mounts(), before);
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn an_export_that_the_server_does_not_have_is_named() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::new(version);
        let call = nfs.on(nfs.cloud.mkfs("raw", "1"));
        let call = call.set("DATASTORE/TEMPLATE/NFS_AUTO_PATH", "/srv/nfs/nothing");
        call.run()
            .refused(Rule::CantBeMounted)
            .naming("NFS_AUTO_PATH")
            .saying("127.0.0.1:/srv/nfs/nothing");
        assert_eq!(nfs.mounts(), [""; 0]);
        assert_eq!(Listing::of(&nfs.cloud.datastore()).names(), [""; 0]);
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn calls_at_once_mount_it_once() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::new(version);
        thread::scope(|scope| {
            for _ in 0..5 {
                // What each of them changes is not to be told from what the others do.
                scope.spawn(|| {
                    let output = nfs.on(nfs.cloud.mkfs("raw", "1")).output();
                    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                });
            }
        });
        assert_eq!(nfs.mounts().len(), 1);
        assert_eq!(on_the_server(&nfs).len(), 5);
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn every_action_does_on_nfs_what_it_does_elsewhere() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let cloud = &nfs.cloud;
        let disk = cloud.raw("disk.img", 6 * MIB);
        let qcow2 = cloud.compressed_qcow2(&disk, "disk.qcow2", "");
        let packed = cloud.compressed(&disk, "gzip");
        let mut sources = Vec::new();
        for (path, driver, format) in [
            (&disk, "", "raw"),
            (&disk, "qcow2", "qcow2"),
            (&qcow2, "", "qcow2"),
            (&qcow2, "raw", "raw"),
            (&packed, "", "raw"),
            (&packed, "qcow2", "qcow2"),
        ] {
            let reply = nfs.on(cloud.cp(path).driver(driver)).run().succeeds();
            same_content(&disk, "raw", reply.image(format), format);
            sources.push(reply.line().split(' ').next().unwrap().to_owned());
        }
        let reply = nfs.on(cloud.clone_of(&sources[0], "raw").driver("qcow2")).run().succeeds();
        same_content(&disk, "raw", reply.image("qcow2"), "qcow2");
        sources.push(reply.line().split(' ').next().unwrap().to_owned());
        for (format, fs) in [("raw", "ext4"), ("qcow2", ""), ("swap", "")] {
            let call = nfs.on(cloud.mkfs(format, "8").set("IMAGE/FS", fs));
            let reply = call.run().succeeds();
            reply.empty_image();
            sources.push(reply.line().to_owned());
        }
        nfs.on(cloud.stat(&qcow2)).run().succeeds().replies("6");
        nfs.on(cloud.export(&sources[0], "raw")).run().succeeds();
        nfs.on(cloud.monitor()).run().succeeds();
        assert_eq!(on_the_server(&nfs).len(), sources.len());
        for source in sources {
            nfs.on(cloud.rm(&source)).run().succeeds().silently();
        }
        assert_eq!(on_the_server(&nfs), [""; 0]);
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn snapshots_are_reverted_deleted_and_flattened_on_nfs() {
    for version in NfsCloud::VERSIONS {
        for layout in LAYOUTS {
            let nfs = NfsCloud::mounted(version);
            let chain = Chain::of_four(&nfs.cloud, layout);
            nfs.on(chain.call("snap_revert", 1)).run().succeeds().silently();
            chain.check_content(chain.file(3), 1);
            nfs.on(chain.call("snap_delete", 2)).run().succeeds().silently();
            assert!(!chain.file(2).exists());
            nfs.on(chain.call("snap_flatten", 1)).run().succeeds().silently();
            chain.check_content(chain.source(), 1);
            assert!(!chain.directory().exists());
            nfs.on(nfs.cloud.rm(chain.source())).run().succeeds().silently();
        }
        for format in ["raw", "qcow2"] {
            let nfs = NfsCloud::mounted(version);
            let copies = Copies::of_three(&nfs.cloud, format);
            nfs.on(copies.call("snap_revert", 1)).run().succeeds().silently();
            copies.check_content(copies.source(), 1);
            nfs.on(copies.call("snap_delete", 0)).run().succeeds().silently();
            nfs.on(copies.call("snap_flatten", 1)).run().succeeds().silently();
            copies.check_content(copies.source(), 1);
            assert!(!copies.directory().exists());
        }
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn files_that_are_still_open_go_when_they_are_closed() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let chain = Chain::of_four(&nfs.cloud, LAYOUTS[0]);
        let others = on_the_server(&nfs).len() - chain.entries().len() - 2;
        // As a virtual machine on this host would: the client keeps such files under another name.
        let open = [0, 1, 3].map(|number| File::open(chain.file(number)).unwrap());
        assert!(nfs.on(nfs.cloud.rm(chain.source())).run().status.success());
        assert!(!fs::exists(chain.source()).unwrap() && !chain.directory().exists());
        drop(open);
        nfs.on(nfs.cloud.monitor()).run().succeeds();
        assert_eq!(on_the_server(&nfs).len(), others, "{:?}", on_the_server(&nfs));
    }
}

/// strace, which has a driver die, or take four seconds, at its first fsync.
fn at_fsync(what: &str) -> Vec<String> {
    let inject = format!("inject=fsync:{what}:when=1");
    ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject].map(str::to_owned).into()
}

const DIES: &str = "signal=SIGKILL";
const TAKES_TIME: &str = "delay_enter=4000000";

#[test]
#[ignore = "in the virtual machine"]
fn what_a_killed_driver_left_is_removed_by_any_front_end_and_what_a_live_one_writes_is_not() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let elsewhere = nfs.elsewhere();
        let disk = nfs.cloud.raw("disk.img", 2 * MIB);
        for sweeper in [&nfs, &elsewhere] {
            let killed = nfs.on(nfs.cloud.cp(&disk)).under(at_fsync(DIES)).run();
            assert!(!killed.status.success());
            assert!(is_being_written(&nfs), "a staged file is left");
            sweeper.on(sweeper.cloud.monitor()).run().succeeds();
            assert_eq!(on_the_server(&nfs), [""; 0]);
        }
        thread::scope(|scope| {
            let live =
                scope.spawn(|| nfs.on(nfs.cloud.cp(&disk)).under(at_fsync(TAKES_TIME)).run());
            while !is_being_written(&nfs) {
                thread::sleep(Duration::from_millis(20));
            }
            for sweeper in [&nfs, &elsewhere] {
                assert!(sweeper.on(sweeper.cloud.monitor()).run().status.success());
                assert!(is_being_written(&nfs), "the live driver's file is still there");
            }
            same_bytes(&disk, live.join().unwrap().succeeds().image("raw"));
        });
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn two_front_ends_exclude_each_other_from_an_image() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let elsewhere = nfs.elsewhere();
        elsewhere.cloud.datastore_conf("LOCK_WAIT=\"0\"\n");
        let copies = Copies::of_three(&nfs.cloud, "raw");
        let source = format!("{}/{}", elsewhere.cloud.base_path(), copies.name());
        let revert = nfs.on(copies.call("snap_revert", 1)).under(at_fsync(TAKES_TIME));
        thread::scope(|scope| {
            let live = scope.spawn(|| revert.run());
            while !on_the_server(&nfs).iter().any(|name| name.contains("/lock.")) {
                thread::sleep(Duration::from_millis(20));
            }
            let refused = elsewhere.on(elsewhere.cloud.rm(&source)).output();
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(said.contains("is in use: snap_revert (process "), "{said}");
            live.join().unwrap().succeeds().silently();
        });
        copies.check_content(copies.source(), 1);
        let removed = elsewhere.on(elsewhere.cloud.rm(&source)).output();
        assert!(removed.status.success(), "{removed:?}");
        assert!(!nfs.export().join(copies.name()).exists());
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn a_call_that_fails_or_is_told_to_stop_leaves_nothing() {
    let web = Web::new();
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let cloud = &nfs.cloud;
        let disk = cloud.raw("disk.img", 2 * MIB);
        let stored = cloud.stored(1, &disk);
        let mut cut = fs::read(cloud.compressed(&disk, "gzip")).unwrap();
        cut.truncate(cut.len() / 2);
        let cut = cloud.file("cut.gz", cut);
        let wrong = "0".repeat(32);
        // Each of them fails when its image is being written, or its lock is held.
        for (call, rule) in [
            (
                cloud.cp(&disk).driver("qcow2").set("IMAGE/TEMPLATE/MD5", &wrong),
                Rule::DigestMismatch,
            ),
            (cloud.cp(&cut), Rule::DamagedData),
            (cloud.mkfs("raw", "1").set("IMAGE/FS", "xfs"), Rule::FileSystemDoesNotFit),
            (cloud.clone_of(&stored, "raw").under(at_fsync("error=EIO")), Rule::DiskFailed),
            (cloud.snap("snap_revert", &stored, "raw", 9), Rule::NoSuchSnapshot),
            (cloud.snap("snap_delete", &stored, "raw", 9), Rule::NoSuchSnapshot),
        ] {
            nfs.on(call).run().refused(rule);
            assert_eq!(on_the_server(&nfs).len(), 1, "{:?}", on_the_server(&nfs));
        }
        let slow = web.page("slow.img", Page::of(&disk).at_rate(128 * KIB));
        let (mut child, input) = nfs.on(cloud.cp(slow).driver("qcow2")).start();
        child.stdin.take().unwrap().write_all(&input.unwrap()).unwrap();
        while !is_being_written(&nfs) {
            thread::sleep(Duration::from_millis(5));
        }
        run("kill", [child.id().to_string()]);
        let stopped = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
        assert!(said.contains("stopped by SIGTERM"), "{said}");
        assert_eq!(on_the_server(&nfs).len(), 1, "{:?}", on_the_server(&nfs));
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn a_server_that_is_gone_is_an_error_and_its_return_the_end_of_it() {
    // Calls on a hard mount wait for the server for ever, but for the driver's timeout; on a soft one they fail.
    for (version, options, word) in
        [("4.2", "", "does not answer"), ("3", ",soft,timeo=5,retrans=1", "can't be used")]
    {
        let nfs = NfsCloud::new(version).with_options(options);
        nfs.on(nfs.cloud.monitor()).run().succeeds();
        let other = NfsCloud::new(version);
        NfsCloud::stop_server();
        // Without the harness's own look at the datastore, which would wait as well.
        let failure = nfs.on(nfs.cloud.mkfs("raw", "1")).without_listing().run().fails();
        failure.naming("NFS_AUTO_HOST").saying(word);
        // Nor is anything mounted from it.
        let failure = other.on(other.cloud.mkfs("raw", "1")).run().fails();
        failure.naming("NFS_AUTO_HOST").saying("can't be mounted");
        assert_eq!(Listing::of(&other.cloud.datastore()).names(), [""; 0]);
        NfsCloud::start_server();
        nfs.on(nfs.cloud.mkfs("raw", "1")).run().succeeds().empty_image();
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn a_restart_of_the_server_only_takes_time() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let disk = nfs.cloud.raw("disk.img", 4 * MIB);
        let slow = nfs.on(nfs.cloud.cp(&disk).driver("qcow2")).under(at_fsync(TAKES_TIME));
        thread::scope(|scope| {
            let copy = scope.spawn(|| slow.run());
            while !is_being_written(&nfs) {
                thread::sleep(Duration::from_millis(5));
            }
            // The driver has its lock, writes, and has yet to have it all on disk.
            NfsCloud::stop_server();
            NfsCloud::start_server();
            let image = copy.join().unwrap().succeeds().image("qcow2");
            same_content(&disk, "raw", image, "qcow2");
        });
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn an_export_that_was_made_anew_is_told_from_the_old_one() {
    let nfs = NfsCloud::mounted("3");
    fs::remove_dir_all(nfs.export()).unwrap();
    fs::create_dir(nfs.export()).unwrap();
    let failure = nfs.on(nfs.cloud.mkfs("raw", "1")).without_listing().run().fails();
    failure.naming("NFS_AUTO_PATH").saying("unmount it");
    nfs.unmount();
    nfs.on(nfs.cloud.monitor()).run().succeeds();
}

#[test]
#[ignore = "in the virtual machine"]
fn a_bridge_host_mounts_the_export_for_itself() {
    let nfs = NfsCloud::new("4.2");
    let disk = nfs.cloud.raw("disk.img", MIB);
    let bridges = Bridges::of(&nfs.cloud, 1);
    let host = bridges.host(1);
    let place = nfs.cloud.datastore().display().to_string();
    let mounts = || {
        let table = String::from_utf8(host.run("cat /proc/mounts").stdout).unwrap();
        table.lines().filter(|line| line.split(' ').nth(1) == Some(&place)).count()
    };
    assert_eq!(mounts(), 0);
    for call in [nfs.cloud.monitor(), nfs.cloud.cp(&disk), nfs.cloud.mkfs("raw", "1")] {
        bridges.bridged(nfs.on(call)).run().succeeds();
        assert_eq!(mounts(), 1, "on the bridge host");
    }
    assert_eq!(on_the_server(&nfs).len(), 2);
    assert_eq!(nfs.mounts(), [""; 0], "nothing is mounted on the front-end");
    assert_eq!(host.listing().names(), [""; 0], "nothing lies below the mount");
}

#[test]
#[ignore = "in the virtual machine"]
fn oneadmin_mounts_through_sudo() {
    const USER: u32 = 12345;
    fs::write("/etc/sudoers.d/nfs", format!("#{USER} ALL=(root) NOPASSWD: /usr/bin/mount\n"))
        .unwrap();
    fs::set_permissions("/etc/sudoers.d/nfs", fs::Permissions::from_mode(0o440)).unwrap();
    let users = fs::read_to_string("/etc/passwd").unwrap();
    fs::write("/etc/passwd", format!("{users}nfsuser:x:{USER}:{USER}::/:/bin/sh\n")).unwrap();
    let shadow = fs::read_to_string("/etc/shadow").unwrap();
    fs::write("/etc/shadow", format!("{shadow}nfsuser:*:20000:0:99999:7:::\n")).unwrap();
    let nfs = NfsCloud::new("4.2");
    fs::set_permissions(nfs.export(), fs::Permissions::from_mode(0o777)).unwrap();
    nfs.cloud.hand_over_to(USER);
    nfs.on(nfs.cloud.monitor()).as_user(USER).run().succeeds();
    let image = nfs.on(nfs.cloud.mkfs("raw", "1")).as_user(USER).run().succeeds().empty_image();
    assert_eq!(fs::metadata(image).unwrap().uid(), USER);

    // Without that line the user is told what is missing.
    fs::remove_file("/etc/sudoers.d/nfs").unwrap();
    nfs.unmount();
    let refused = nfs.on(nfs.cloud.mkfs("raw", "1")).as_user(USER).run().fails();
    refused.naming("NFS_AUTO_HOST").saying("sudo");
    assert_eq!(Listing::of(&nfs.cloud.datastore()).names(), [""; 0]);
}

#[test]
#[ignore = "in the virtual machine"]
fn holes_stay_holes() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let disk = nfs.cloud.file("sparse.img", pattern(1, 4096));
        File::options().write(true).open(&disk).unwrap().set_len(64 * MIB).unwrap();
        let image = nfs.on(nfs.cloud.cp(&disk)).run().succeeds().image("raw");
        same_bytes(&disk, &image);
        let blocks = fs::metadata(nfs.export().join(image.file_name().unwrap())).unwrap().blocks();
        assert!(blocks * 512 < MIB, "version {version}: {blocks} blocks on the server");
    }
}
