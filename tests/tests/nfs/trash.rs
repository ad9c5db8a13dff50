//! The trash of a datastore that two front-ends share.

use super::*;
use ferrostore_tests::{Call, Said, TRASH};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// An image with snapshots, which is number `id` of oned; its SOURCE on this front-end.
fn image(nfs: &NfsCloud, id: u32) -> String {
    let source = nfs.cloud.source(id);
    fs::write(&source, pattern(u64::from(id), MIB as usize)).unwrap();
    let snapshots = format!("{source}.snap");
    fs::create_dir(&snapshots).unwrap();
    fs::write(format!("{snapshots}/0"), pattern(5, 70_000)).unwrap();
    source
}

fn rm(nfs: &NfsCloud, id: u32) -> Call<'_> {
    nfs.on(nfs.cloud.rm(nfs.cloud.source(id))).image_id(id.into()).keeping("7d")
}

/// Checks that an image is whole, as a front-end sees it.
fn check(nfs: &NfsCloud, id: u32) {
    let source = nfs.cloud.source(id);
    assert!(fs::read(&source).unwrap() == pattern(id.into(), MIB as usize));
    assert!(fs::read(format!("{source}.snap/0")).unwrap() == pattern(5, 70_000));
}

/// The same, as the server sees it.
fn check_on_server(nfs: &NfsCloud, id: u32) {
    let source = nfs.cloud.source(id);
    let path = nfs.export().join(source.rsplit('/').next().unwrap());
    assert!(fs::read(&path).unwrap() == pattern(id.into(), MIB as usize));
    assert!(fs::read(format!("{}.snap/0", path.display())).unwrap() == pattern(5, 70_000));
}

fn restore(nfs: &NfsCloud, id: u32) -> Said {
    nfs.cloud.trash("restore", [id.to_string()])
}

/// Whether an image is on its way into the trash, or out of it.
fn is_under_way(nfs: &NfsCloud) -> bool {
    on_the_server(nfs).iter().any(|name| name.contains("/undo."))
}

/// Deletes all that is in the trash.
fn empty(nfs: &NfsCloud) {
    nfs.cloud.trash("purge", ["--all", "--yes"]).well();
}

/// Entries of the trash, as the server sees them.
fn entries(nfs: &NfsCloud) -> Vec<PathBuf> {
    let entries = fs::read_dir(nfs.export().join(TRASH)).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Checks that what the server has is this many images, each with its directory of one snapshot.
fn check_server(nfs: &NfsCloud, images: usize) {
    let names = on_the_server(nfs);
    assert_eq!(names.len(), 3 * images, "{names:?}");
    assert!(!names.iter().any(|name| name.contains(".nfs")), "{names:?}");
}

#[test]
#[ignore = "in the virtual machine"]
fn each_front_end_restores_what_the_other_one_deleted() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let elsewhere = nfs.elsewhere();
        for id in [1, 2] {
            image(&nfs, id);
        }
        for round in 0..2 {
            let (one, other) = if round % 2 == 0 { (&nfs, &elsewhere) } else { (&elsewhere, &nfs) };
            check(one, 1);
            rm(one, 1).run().succeeds().silently();
            rm(one, 2).run().succeeds().silently();
            assert_eq!((one.cloud.trashed_images(), entries(&nfs).len()), (vec![1, 2], 2));
            assert_eq!(other.cloud.trashed_images(), [1, 2]);
            // Once more, by the other one: it is gone.
            rm(other, 1).run().succeeds().silently();
            restore(other, 2).well();
            restore(other, 1).well();
            check(other, 1);
            check(other, 2);
            check_server(&nfs, 2);
        }
        // The one that did not restore it knows at once that it is back.
        rm(&elsewhere, 1).run().succeeds().silently();
        restore(&nfs, 1).well();
        rm(&elsewhere, 1).run().succeeds().silently();
        assert_eq!(elsewhere.cloud.trashed_images(), [1], "it was there to be deleted");
        empty(&nfs);
        check_server(&nfs, 1);
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn an_image_that_is_open_goes_into_the_trash_and_out_of_it() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let elsewhere = nfs.elsewhere();
        let source = image(&nfs, 1);
        // As a virtual machine on this host would.
        let open =
            [source.clone(), format!("{source}.snap/0")].map(|path| File::open(path).unwrap());
        rm(&nfs, 1).run().succeeds().silently();
        assert!(!on_the_server(&nfs).iter().any(|name| name.contains(".nfs")));
        let mut bytes = vec![0; MIB as usize];
        open[0].read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == pattern(1, MIB as usize), "it can still be read");
        restore(&elsewhere, 1).well();
        check(&nfs, 1);
        // Purged by the host that has it open: what the client keeps goes with a later call.
        rm(&elsewhere, 1).run().succeeds().silently();
        let said = nfs.cloud.trash("purge", ["--all", "--yes"]);
        assert!(said.code == 0 && said.error.contains("left for a later call"), "{}", said.error);
        assert_eq!(nfs.cloud.trashed_images(), [0; 0]);
        drop(open);
        nfs.on(nfs.cloud.monitor()).run().succeeds();
        check_server(&nfs, 0);
        // And by the other one.
        let source = image(&nfs, 1);
        let open = File::open(source).unwrap();
        rm(&nfs, 1).run().succeeds().silently();
        empty(&elsewhere);
        check_server(&nfs, 0);
        drop(open);
        nfs.on(nfs.cloud.monitor()).run().succeeds();
        check_server(&nfs, 0);
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn what_is_past_its_time_goes_with_a_call_of_any_front_end() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let elsewhere = nfs.elsewhere();
        for (id, keep) in [(1, "1h"), (2, "7d")] {
            image(&nfs, id);
            rm(&nfs, id).keeping(keep).run().succeeds().silently();
        }
        nfs.cloud.pass_time(Duration::from_secs(2 * 3600));
        elsewhere.on(elsewhere.cloud.monitor()).run().succeeds();
        assert_eq!(elsewhere.cloud.trashed_images(), [2]);
        assert_eq!((nfs.cloud.trashed_images(), entries(&nfs).len()), (vec![2], 1));
        elsewhere.cloud.pass_time(Duration::from_secs(8 * 24 * 3600));
        nfs.on(nfs.cloud.monitor()).run().succeeds();
        check_server(&nfs, 0);
        elsewhere.cloud.trash("restore", ["2"]).refusing("is not in the trash");
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn two_front_ends_that_delete_and_restore_the_same_image_at_once_never_tear_it() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let elsewhere = nfs.elsewhere();
        image(&nfs, 1);
        for round in 0..4 {
            thread::scope(|scope| {
                for one in [&nfs, &elsewhere] {
                    scope.spawn(|| rm(one, 1).output());
                    scope.spawn(|| restore(one, 1));
                }
            });
            let names = on_the_server(&nfs);
            assert!(!names.iter().any(|name| name.contains("/undo.")), "{round}: {names:?}");
            if !nfs.export().join(nfs.cloud.source(1).rsplit('/').next().unwrap()).exists() {
                let one = if round % 2 == 0 { &nfs } else { &elsewhere };
                restore(one, 1).well();
            }
            check_on_server(&nfs, 1);
            check_server(&nfs, 1);
        }
        // At once, of two: one deletes it, one restores it, the others are told.
        rm(&nfs, 1).run().succeeds().silently();
        let mut said = thread::scope(|scope| {
            let runs = [&nfs, &elsewhere].map(|one| scope.spawn(|| restore(one, 1)));
            runs.map(|run| run.join().unwrap())
        });
        said.sort_by_key(|said| said.code);
        let [first, second] = said;
        first.well();
        assert!(second.error.contains("not in the trash"), "{}", second.error);
        check_on_server(&nfs, 1);
        check_server(&nfs, 1);
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn a_restart_of_the_server_loses_nothing_of_the_trash() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let elsewhere = nfs.elsewhere();
        image(&nfs, 1);
        let slow = rm(&nfs, 1).under(at_fsync(TAKES_TIME));
        thread::scope(|scope| {
            let rm = scope.spawn(|| slow.run());
            while !is_under_way(&nfs) && !rm.is_finished() {
                thread::sleep(Duration::from_millis(5));
            }
            NfsCloud::stop_server();
            NfsCloud::start_server();
            rm.join().unwrap().succeeds().silently();
        });
        NfsCloud::stop_server();
        NfsCloud::start_server();
        assert_eq!(elsewhere.cloud.trashed_images(), [1]);
        let slow = elsewhere.cloud.trash_call("restore", ["1"]).under(at_fsync(TAKES_TIME));
        thread::scope(|scope| {
            let restore = scope.spawn(|| slow.output());
            while !is_under_way(&nfs) && !restore.is_finished() {
                thread::sleep(Duration::from_millis(5));
            }
            NfsCloud::stop_server();
            NfsCloud::start_server();
            let output = restore.join().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        });
        check_on_server(&nfs, 1);
        check_server(&nfs, 1);
        nfs.on(nfs.cloud.monitor()).run().succeeds();
        check(&nfs, 1);
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn a_killed_driver_s_work_is_completed_by_the_other_front_end() {
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::mounted(version);
        let elsewhere = nfs.elsewhere();
        image(&nfs, 1);
        assert!(!rm(&nfs, 1).under(at_fsync(DIES)).run().status.success());
        elsewhere.on(elsewhere.cloud.monitor()).run().succeeds();
        check_on_server(&nfs, 1);
        check_server(&nfs, 1);
        rm(&nfs, 1).run().succeeds().silently();
        let call = nfs.cloud.trash_call("restore", ["1"]).under(at_fsync(DIES));
        assert!(!call.output().status.success());
        elsewhere.on(elsewhere.cloud.monitor()).run().succeeds();
        check_on_server(&nfs, 1);
        check_server(&nfs, 1);
    }
}

#[test]
#[ignore = "in the virtual machine"]
fn a_full_export_gets_the_space_of_the_trash_for_what_fits_there() {
    let web = Web::new();
    for version in NfsCloud::VERSIONS {
        let nfs = NfsCloud::small(version, 40 * MIB);
        let cloud = &nfs.cloud;
        let noise = |mib: u64| cloud.file("noise.img", pattern(77, (mib * MIB) as usize));
        let fill = || {
            for id in 1..=2 {
                fs::write(cloud.source(id), pattern(id.into(), 4 * MIB as usize)).unwrap();
                rm(&nfs, id).run().succeeds().silently();
            }
            let reply = nfs.on(cloud.monitor()).run().succeeds().text;
            let free: u64 = reply.lines().nth(2).unwrap()[8..].parse().unwrap();
            let filler = vec![1; ((free - 8 - 3) * MIB) as usize];
            fs::write(nfs.export().join("filler"), filler).unwrap();
        };
        fill();
        // 3 MiB are free, and 8 in the trash.
        let large = noise(15);
        let packed = cloud.compressed(&large, "gzip");
        for (what, call) in
            [("raw", cloud.cp(&large)), ("gz by http", cloud.cp(web.serve(&packed)))]
        {
            let outcome = nfs.on(call).without_listing().run();
            assert!(!outcome.status.success(), "{what}");
            assert_eq!(cloud.trashed_images(), [1, 2], "{what}");
        }
        let small = noise(6);
        let sparse = cloud.file("sparse.img", fs::read(&small).unwrap());
        File::options().write(true).open(&sparse).unwrap().set_len(100 * MIB).unwrap();
        let packed = cloud.compressed(&small, "gzip");
        for (what, call) in [
            ("sparse", cloud.cp(&sparse)),
            ("to qcow2", cloud.cp(&small).driver("qcow2")),
            ("gz by http", cloud.cp(web.serve(&packed))),
        ] {
            let reply = nfs.on(call).without_listing().run().succeeds();
            let path = reply.text.split_whitespace().next().unwrap().to_owned();
            // Of 6 MiB, 3 were free.
            assert_eq!(cloud.trashed_images(), [2], "{what}");
            nfs.on(cloud.rm(&path)).keeping("no").without_listing().run().succeeds();
            empty(&nfs);
            fs::remove_file(nfs.export().join("filler")).unwrap();
            fill();
        }
    }
}
