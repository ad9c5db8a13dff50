//! `cp`: the datastore that the image goes to.

use ferrostore_tests::{Cloud, Disk, MIB, Rule, pattern, run, same_bytes};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::thread;

#[test]
fn the_reply_uses_base_path_as_it_came() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let base_path = cloud.base_path();
    assert!(base_path.contains("//"));
    let reply = cloud.cp(&disk).run().succeeds();
    assert!(reply.line().starts_with(&format!("{base_path}/")), "{}", reply.line());
}

#[test]
fn a_trailing_slash_of_base_path_does_no_harm() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let base_path = format!("{}/", cloud.base_path());
    let reply = cloud.cp(&disk).set("DATASTORE/BASE_PATH", &base_path).run().succeeds();
    let (path, _) = reply.line().split_once(' ').unwrap();
    assert!(path.starts_with(base_path.as_str()), "{path}");
    same_bytes(disk, path);
}

#[test]
fn a_missing_base_path_is_created() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    fs::remove_dir_all(cloud.root().join("one/var/datastores")).unwrap();
    let copy = cloud.cp(&disk).run().succeeds().image("raw");
    same_bytes(disk, copy);
}

#[test]
fn base_path_may_be_a_link_to_another_disk() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let elsewhere = cloud.root().join("another disk");
    fs::create_dir(&elsewhere).unwrap();
    fs::remove_dir(cloud.datastore()).unwrap();
    symlink(&elsewhere, cloud.datastore()).unwrap();
    let copy = cloud.cp(&disk).run().succeeds().image("raw");
    same_bytes(disk, &copy);
    assert!(elsewhere.join(copy.file_name().unwrap()).is_file());
}

#[test]
fn a_base_path_that_can_t_be_is_named() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let file = cloud.file("a file", "x");
    for path in [file.to_str().unwrap(), &format!("{}/below", file.display()), "/proc/nothing/here"]
    {
        println!("{path}");
        cloud
            .cp(&disk)
            .set("DATASTORE/BASE_PATH", path)
            .run()
            .refused(Rule::CantBeCreated)
            .naming("DATASTORE/BASE_PATH")
            .saying(path);
    }
}

#[test]
fn a_relative_base_path_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for path in ["datastores/104", ".", "-p"] {
        cloud
            .cp(&disk)
            .set("DATASTORE/BASE_PATH", path)
            .run()
            .refused(Rule::NotValid)
            .naming("DATASTORE/BASE_PATH");
        assert!(!cloud.one_location().join("var").join(path).join("-p").exists());
    }
}

#[test]
fn a_base_path_with_odd_characters_is_a_directory_like_any() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for name in ["with blanks", "$(touch trap)", "'quotes\"", "-dash", "a&b;c|d", "größe"] {
        let base_path = format!("{}//{name}", cloud.root().display());
        let reply = cloud.cp(&disk).set("DATASTORE/BASE_PATH", &base_path).run().succeeds();
        let (path, format) = reply.line().rsplit_once(' ').unwrap();
        assert!(path.starts_with(&base_path) && format == "raw", "{path} {format}");
        same_bytes(&disk, path);
    }
    assert!(!cloud.root().join("trap").exists() && !cloud.one_location().join("var/trap").exists());
}

#[test]
fn a_base_path_that_is_read_only_is_named() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(8 * MIB));
    let disk = cloud.raw("disk.img", MIB);
    run("mount", ["-o", "remount,ro", cloud.datastore().to_str().unwrap()]);
    cloud
        .cp(&disk)
        .run()
        .fails()
        .naming("DATASTORE/BASE_PATH")
        .saying(&cloud.base_path())
        .saying("read-only");
}

#[test]
fn a_base_path_of_another_user_is_named() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    cloud.hand_over_to(12345);
    cloud.cp(&disk).as_user(12345).run().succeeds().image("raw");
    cloud.cp(&disk).as_user(12346).run().fails().naming("DATASTORE/BASE_PATH").saying("permission");
}

#[test]
fn an_image_that_does_not_fit_leaves_nothing() {
    for disk in [Disk::Tmpfs(2 * MIB), Disk::Ext4(4 * MIB)] {
        let cloud = Cloud::with_datastore_on(disk);
        let noise = cloud.file("noise.img", pattern(1, 8 * MIB as usize));
        for path in [
            noise.clone(),
            cloud.qcow2(&noise, "noise.qcow2", ""),
            cloud.compressed_qcow2(&noise, "packed.qcow2", ""),
            cloud.compressed(&noise, "gzip"),
            cloud.compressed(&noise, "zstd"),
            cloud.converted(&noise, "noise.vdi", "vdi", ""),
        ] {
            for driver in ["", "raw", "qcow2"] {
                println!("{disk:?}: {} as {driver}", path.display());
                cloud
                    .cp(&path)
                    .driver(driver)
                    .run()
                    .fails()
                    .naming("DATASTORE/BASE_PATH")
                    .saying("space");
            }
        }
        // Nothing was leaked that the directory doesn't show, either.
        let small = cloud.file("small.img", pattern(1, MIB as usize));
        let copy = cloud.cp(&small).run().succeeds().image("raw");
        same_bytes(small, copy);
    }
}

#[test]
fn an_action_on_a_datastore_of_another_type_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for kind in ["1", "3", "9"] {
        cloud
            .cp(&disk)
            .set_escaped("DATASTORE/TYPE", kind)
            .run()
            .refused_by_any(&[Rule::WrongDatastoreType, Rule::NotValid])
            .naming("DATASTORE/TYPE");
    }
}

#[test]
fn an_image_goes_into_a_datastore_of_its_kind() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let cp = |kind: &str| cloud.cp(&disk).set_escaped("IMAGE/TYPE", kind);
    // Disks into image datastores, files into files datastores, backups into neither.
    let (disks, files, backup) = (["0", "1", "2"], ["3", "4", "5"], "6");
    for kind in disks {
        same_bytes(&disk, cp(kind).run().succeeds().image("raw"));
        let refusal = cp(kind).files_datastore().run().refused(Rule::WrongDatastoreType);
        refusal.naming("DATASTORE/TYPE").saying("holds files");
    }
    for kind in files {
        same_bytes(&disk, cp(kind).files_datastore().run().succeeds().image("raw"));
        let refusal = cp(kind).run().refused(Rule::WrongDatastoreType);
        refusal.naming("DATASTORE/TYPE").saying("holds disk images");
    }
    cp(backup).run().refused(Rule::WrongImageType).naming("IMAGE/TYPE").saying("BACKUP");
    let refusal = cp(backup).files_datastore().run().refused(Rule::WrongImageType);
    refusal.naming("IMAGE/TYPE").saying("BACKUP");
}

#[test]
fn other_storage_is_never_served_from_here() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let source = cloud.stored(1, &disk);
    let attribute = "DATASTORE/TEMPLATE/BRIDGE_LIST";
    for (action, call) in cloud.every_action(&disk, &source) {
        let call = call.set(attribute, "host1 host2");
        // What a file of the front-end will measure takes no storage to say.
        if action == "stat" {
            call.run().succeeds().replies("1");
        } else {
            call.run().refused(Rule::NoUsableHost).naming(attribute);
        }
    }
    cloud
        .cp(&disk)
        .set("DATASTORE/TEMPLATE/NFS_AUTO_ENABLE", "no")
        .set("DATASTORE/TEMPLATE/BRIDGE_LIST", "  ")
        .run()
        .succeeds()
        .image("raw");
}

#[test]
fn a_driver_under_another_name_does_what_its_configuration_says() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let call = cloud.cp(&disk).set("DATASTORE/DS_MAD", "fast");
    call.clone().run().fails().naming("DATASTORE/DS_MAD").saying("fast");
    let folder = cloud.one_location().join("var/remotes/etc/datastore/fast");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("fast.conf"), "KIND=fs\n").unwrap();
    call.clone().run().succeeds().image("raw");
    fs::write(folder.join("fast.conf"), "KIND=punched-cards\n").unwrap();
    call.run().fails().saying("punched-cards");
}

#[test]
fn the_name_of_a_driver_leads_to_no_other_file() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    fs::write(cloud.images().join("images.conf"), "KIND=fs\n").unwrap();
    for name in ["../../../../../../images", "/etc", "..", "", "a b", "$(id)"] {
        cloud
            .cp(&disk)
            .set("DATASTORE/DS_MAD", name)
            .run()
            .refused_by_any(&[Rule::NotValid, Rule::MissingAttribute])
            .naming("DATASTORE/DS_MAD");
    }
}

#[test]
fn fifteen_calls_at_once_make_fifteen_images() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let paths: HashSet<String> = thread::scope(|scope| {
        let calls: Vec<_> = (0..15)
            .map(|_| {
                scope.spawn(|| {
                    // The same id, in the same second: stock would give them the same name.
                    let outcome = cloud.cp(&disk).run();
                    assert!(outcome.status.success(), "{}", outcome.stderr_text());
                    String::from_utf8(outcome.stdout).unwrap()
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(paths.len(), 15);
    for reply in paths {
        same_bytes(&disk, reply.split(' ').next().unwrap());
    }
    assert_eq!(cloud.listing().names().len(), 15);
}

#[test]
fn what_a_killed_call_left_is_removed_by_the_next() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let left = cloud.cp(&disk).killed_leaving("staging");
    let reply = cloud.cp(&disk).run().succeeds();
    assert!(!cloud.work_directory().exists());
    // The administrator can read of it in oned's log.
    let log = reply.outcome.log_lines();
    assert!(log.iter().any(|line| line.contains(&left)), "{log:?}");
}

#[test]
fn what_another_call_is_still_writing_is_left_alone() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for system_call in ["fsync", "linkat"] {
        let live = cloud.cp(&disk).paused_at(system_call, || {
            let before = cloud.left_overs();
            assert!(!before.is_empty(), "the other call is writing");
            let outcome = cloud.monitor().run();
            assert!(outcome.status.success(), "{}", outcome.stderr_text());
            assert_eq!(outcome.log_lines(), [""; 0], "nothing is removed");
            assert_eq!(cloud.left_overs(), before);
        });
        same_bytes(&disk, live.succeeds().image("raw"));
    }
}

#[test]
fn hidden_files_of_others_are_left_alone() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for name in [".automounted", ".snapshot", ".ferrostore", ".nfs000000000001"] {
        fs::write(cloud.datastore().join(name), "x").unwrap();
    }
    let outcome = cloud.cp(&disk).run();
    assert!(outcome.status.success(), "{}", outcome.stderr_text());
    assert_eq!(outcome.after.gone_since(&outcome.before), [""; 0]);
}

#[test]
fn a_new_image_can_be_read_and_written_by_its_owner_and_is_no_program() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    run("chmod", ["4555", disk.to_str().unwrap()]);
    let copy = cloud.cp(&disk).run().succeeds().image("raw");
    let mode = fs::metadata(copy).unwrap().mode() & 0o7777;
    assert_eq!(mode & 0o600, 0o600, "{mode:o}");
    assert_eq!(mode & 0o7111, 0, "{mode:o}");
}

#[test]
fn a_terminated_call_leaves_nothing() {
    let cloud = Cloud::new();
    let disk = cloud.file("disk.img", pattern(1, 3 * MIB as usize));
    let packed = cloud.compressed(&disk, "gzip");
    // When the image is written and about to be made durable, the disk takes its time, and
    // SIGTERM arrives.
    let slow = "inject=fsync,fdatasync,syncfs,sync_file_range:delay_enter=4000000";
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync,syncfs"];
    let timeout = ["timeout", "--preserve-status", "--signal=TERM", "1"];
    let wrapper = strace.into_iter().chain(["-e", slow]).chain(timeout);
    let outcome = cloud.cp(&packed).under(wrapper).run();
    assert!(!outcome.status.success(), "the signal was ignored");
    assert_eq!(outcome.stdout, b"");
    assert_eq!(outcome.before, outcome.after);
}
