//! The trash of a file datastore: what is deleted can come back, and never stands in the way.

mod hostile;
mod space;

use ferrostore_tests::{
    Bridges, Call, Cloud, Contents, Disk, KIB, MIB, TRASH, executable, pattern, run, same_bytes,
};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn name(source: &str) -> &str {
    source.rsplit('/').next().unwrap()
}

/// An image of so many bytes of noise, which is number `id` of oned; its SOURCE.
fn image(cloud: &Cloud, id: u32, bytes: u64) -> String {
    let source = cloud.source(id);
    fs::write(&source, pattern(u64::from(id), bytes as usize)).unwrap();
    source
}

/// Deletes such images one after the other into the trash.
fn fill_trash(cloud: &Cloud, ids: impl IntoIterator<Item = u32>, bytes: u64) {
    for id in ids {
        let source = image(cloud, id, bytes);
        cloud.rm(&source).image_id(id.into()).keeping("7d").run().succeeds().silently();
    }
}

/// A file of so many bytes of noise among the users' images.
fn noise(cloud: &Cloud, bytes: u64) -> PathBuf {
    cloud.file("noise.img", pattern(77, bytes as usize))
}

/// Fills the file system of the datastore until only about this much is free.
fn leave_free(cloud: &Cloud, bytes: u64) {
    let free = monitored(cloud)[2] * MIB;
    fs::write(cloud.datastore().join("filler"), vec![1; (free - bytes) as usize]).unwrap();
}

/// USED_MB, TOTAL_MB, FREE_MB.
fn monitored(cloud: &Cloud) -> [u64; 3] {
    let reply = cloud.monitor().run().succeeds().text;
    let mut numbers = reply.lines().map(|line| line.split_once('=').unwrap().1.parse().unwrap());
    [(); 3].map(|()| numbers.next().unwrap())
}

#[test]
fn a_deleted_image_comes_back_with_all_that_belonged_to_it() {
    let cloud = Cloud::new();
    let source = image(&cloud, 1, MIB);
    let snapshots = format!("{source}.snap");
    fs::create_dir(&snapshots).unwrap();
    symlink(".", format!("{snapshots}/{}.snap", name(&source))).unwrap();
    symlink(&source, format!("{snapshots}/0")).unwrap();
    fs::write(format!("{snapshots}/1"), pattern(5, 70_000)).unwrap();
    fs::write(format!("{source}.md5sum"), "sum").unwrap();
    let before = Contents::of(&cloud.datastore());
    let inode = fs::metadata(&source).unwrap().ino();

    cloud.rm(&source).keeping("7d").run().succeeds().silently();
    let gone = [name(&source).to_owned(), format!("{}.snap", name(&source))];
    assert!(cloud.listing().names().iter().all(|path| path.starts_with(".ferrostore-trash")));
    assert!(!gone.iter().any(|name| cloud.datastore().join(name).exists()));
    // Once more: it is gone.
    cloud.rm(&source).keeping("7d").run().succeeds().silently().changing_nothing();

    let said = cloud.trash("restore", ["7"]).well().text;
    let line = format!(
        "oneimage create --datastore 104 --name 'a disk' --type OS --source {source} --format raw --size 4 --prefix sd"
    );
    assert_eq!(said.lines().next(), Some(line.as_str()), "{said}");
    assert!(said.contains("# The owner was: oneimage chown <new ID> oneadmin oneadmin"), "{said}");
    assert!(said.contains("2 snapshots"), "{said}");
    assert!(Contents::of(&cloud.datastore()) == before, "{:?}", cloud.listing());
    assert_eq!(fs::metadata(&source).unwrap().ino(), inode, "no byte was copied");
    cloud.rm(&source).run().succeeds().silently();
    assert_eq!(cloud.listing().names(), [""; 0]);
}

#[test]
fn the_list_says_what_an_image_was() {
    let cloud = Cloud::new();
    let source = image(&cloud, 1, 3 * MIB);
    let call = cloud.rm(&source).image_id(413).set("IMAGE/FORMAT", "raw").keeping("2w");
    call.set("IMAGE/NAME", "o'brien \"1\"")
        .set("IMAGE/UNAME", "alice")
        .set_escaped("IMAGE/TYPE", "2")
        .set_escaped("IMAGE/PERSISTENT", "1")
        .set_escaped("IMAGE/SIZE", "10")
        .set("IMAGE/GNAME", "users")
        .run()
        .succeeds()
        .silently();
    let [image] = &cloud.trashed()[..] else { panic!("one image") };
    for (member, value) in [
        ("name", "o'brien \"1\""),
        ("owner", "alice"),
        ("group", "users"),
        ("type", "DATABLOCK"),
        ("format", "raw"),
        ("source", source.as_str()),
        ("file", name(&source)),
    ] {
        assert_eq!(image[member], value, "{member}");
    }
    assert_eq!((image["image"].as_u64(), image["datastore"].as_u64()), (Some(413), Some(104)));
    assert_eq!((image["size_mib"].as_u64(), image["persistent"].as_bool()), (Some(10), Some(true)));
    assert!((3 * MIB..4 * MIB).contains(&image["bytes"].as_u64().unwrap()), "{image}");
    assert!(image["deleted"].as_str().unwrap() < image["expires"].as_str().unwrap());
    let text = cloud.trash("list", [""; 0]).well().text;
    assert_eq!(text.lines().count(), 1);
    for words in
        ["13 d left", "413", "alice", "DATABLOCK raw, 10 MiB, 3 MiB on disk", name(&source)]
    {
        assert!(text.contains(words), "{words} should be in {text}");
    }
    let said = cloud.trash("restore", [name(&source)]).well().text;
    assert!(said.contains("--type DATABLOCK") && said.contains("--persistent"), "{said}");
}

#[test]
fn without_the_setting_nothing_is_kept() {
    let cloud = Cloud::new();
    for (conf, template) in [
        ("", None),
        ("TRASH=\n", None),
        ("TRASH=no\n", None),
        ("TRASH=7d\n", Some("no")),
        ("TRASH=7d\n", Some("0d")),
        ("TRASH=0\n", None),
        ("TRASH=7d\n", Some("0")),
    ] {
        cloud.datastore_conf(conf);
        let source = image(&cloud, 1, MIB);
        let call = cloud.rm(&source);
        let call = if let Some(time) = template { call.keeping(time) } else { call };
        call.run().succeeds().silently();
        assert_eq!(cloud.listing().names(), [""; 0], "{conf} {template:?}");
    }
    cloud.datastore_conf("TRASH=7d\n");
    let source = image(&cloud, 1, MIB);
    cloud.rm(&source).run().succeeds().silently();
    assert_eq!(cloud.trashed_images(), [7]);
}

#[test]
fn a_time_that_makes_no_sense_is_named() {
    let cloud = Cloud::new();
    let source = image(&cloud, 1, MIB);
    for time in [
        "7",
        "a week",
        "7m",
        "-1d",
        "1.5d",
        "9999w",
        "yes",
        "7x",
        "7 days",
        "5G",
        "1048576",
        "٧d",
        "18446744073709551616d",
    ] {
        let failure = cloud.rm(&source).keeping(time).run().fails();
        failure.naming("DATASTORE/TEMPLATE/TRASH").saying(time).saying("hours, days or weeks");
        cloud.datastore_conf(&format!("TRASH='{time}'\n"));
        let failure = cloud.rm(&source).run().fails();
        failure.saying(&format!("TRASH={time}")).saying("hours, days or weeks");
        cloud.datastore_conf("");
    }
}

#[test]
fn what_is_past_its_time_goes_with_any_later_call() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let source = image(&cloud, 50, MIB);
    for (action, call) in cloud.every_action(&disk, &source) {
        if ["snap_revert", "snap_flatten", "snap_delete"].contains(&action) {
            continue; // they would need a snapshot
        }
        fill_trash(&cloud, [1], MIB);
        cloud.pass_time(23 * HOUR);
        fill_trash(&cloud, [2], MIB);
        cloud.pass_time(6 * 24 * HOUR);
        assert_eq!(cloud.trashed_images(), [1, 2]);
        cloud.pass_time(HOUR);
        call.run().succeeds();
        assert_eq!(cloud.trashed_images(), [2], "after {action}");
        cloud.trash("purge", ["--all", "--yes"]).well();
    }
}

#[test]
fn a_large_trash_is_left_to_the_actions_that_need_its_space() {
    let cloud = Cloud::new();
    let source = image(&cloud, 1, KIB);
    for number in 0..3000 {
        let entry = cloud.trash_directory().join(format!("{}.60.0.{number:032x}", 1000 + number));
        fs::create_dir_all(entry).unwrap();
    }
    let count = || fs::read_dir(cloud.trash_directory()).map_or(0, Iterator::count);
    cloud.rm(&source).run().succeeds();
    assert_eq!(count(), 3000);
    let mut left = 3000;
    // A quarter of a second is not enough on a busy machine.
    while left > 0 {
        cloud.monitor().run().succeeds();
        assert!(count() < left, "{left} are left");
        left = count();
    }
    assert!(!cloud.trash_directory().exists());
}

#[test]
fn a_setting_that_is_changed_later_changes_nothing_for_what_is_there() {
    let cloud = Cloud::new();
    fill_trash(&cloud, [1], MIB);
    cloud.monitor().keeping("no").run().succeeds();
    cloud.pass_time(2 * HOUR);
    cloud.monitor().keeping("1h").run().succeeds();
    assert_eq!(cloud.trashed_images(), [1]);
}

#[test]
fn purging_asks_or_is_told_yes() {
    let cloud = Cloud::new();
    fill_trash(&cloud, 1..=4, 100 * KIB);
    cloud.trash("purge", ["1"]).refusing("--yes");
    cloud.trash("purge", [""; 0]).refusing("--all");
    cloud.trash("purge", ["--yes"]).refusing("--all");
    cloud.trash("purge", ["1", "9", "--yes"]).refusing("\"9\" is not in the trash");
    assert_eq!(cloud.trashed_images(), [1, 2, 3, 4]);
    let said = cloud.trash("purge", ["2", &format!("{:032x}", 4), "2", "--yes"]).well().text;
    assert!(said.starts_with("deleted 2 images ("), "{said}");
    assert_eq!(cloud.trashed_images(), [1, 3]);
    cloud.trash("purge", ["--all", "--yes"]).well();
    cloud.trash("purge", ["--all", "--yes"]).well();
    assert_eq!(cloud.listing().names(), [""; 0]);
}

#[test]
fn at_a_terminal_purging_asks() {
    let cloud = Cloud::new();
    fill_trash(&cloud, 1..=2, 100 * KIB);
    let program = executable("ferrostore");
    let command = format!("{} trash purge {} 1", program.display(), cloud.datastore().display());
    for (answer, left) in
        [("", vec![1, 2]), ("n", vec![1, 2]), ("yesterday", vec![1, 2]), ("y", vec![2])]
    {
        let script = format!("printf '%s\\n' '{answer}' | script -qec '{command}' /dev/null");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("Delete 1 image (100 KiB) for good? [y/N]"), "{said}");
        assert_eq!(output.status.success(), answer == "y", "{said}");
        assert_eq!(said.contains("the answer was not yes"), answer != "y", "{said}");
        assert_eq!(cloud.trashed_images(), left, "{answer}");
    }
}

#[test]
fn an_image_whose_name_is_taken_is_not_restored() {
    let cloud = Cloud::new();
    fill_trash(&cloud, [1, 2], 100 * KIB);
    let source = cloud.source(1);
    for part in ["", ".snap"] {
        let path = format!("{source}{part}");
        fs::write(&path, "another").unwrap();
        let before = cloud.listing();
        let said = cloud.trash("restore", ["1"]);
        if part.is_empty() {
            said.refusing("is there already");
            assert_eq!(cloud.listing(), before);
        }
        fs::remove_file(&path).unwrap();
        if !part.is_empty() {
            fs::remove_file(&source).unwrap();
        }
    }
    cloud.trash("restore", ["3"]).refusing("is not in the trash");
    cloud.ferrostore(["trash", "list", "/no/such/place"]).refusing("can't be read");
    cloud.ferrostore(["trash", "list"]).refusing("required arguments");
    assert_eq!(cloud.trashed_images(), [2]);
}

#[test]
fn fsck_knows_the_trash() {
    let cloud = Cloud::new();
    fill_trash(&cloud, [1, 2], MIB);
    let examination = cloud.fsck().run().clean().images(0);
    let entry = examination.entry(".ferrostore-trash");
    assert_eq!((&entry["role"], &entry["images"]), (&"trash".into(), &2.into()));
    let list = format!("{:032x}\n", 1);
    let examination = cloud.fsck().knowing(list).run();
    examination.finds("damage", &format!("{:032x}", 1), "ferrostore trash restore");
    fs::write(cloud.trash_directory().join("notes"), "x").unwrap();
    cloud.fsck().run().finds("warning", ".ferrostore-trash", "notes");
}

#[test]
fn a_record_that_can_not_be_read_is_no_obstacle() {
    let cloud = Cloud::new();
    let noise = |id| pattern(id, 100 * KIB as usize);
    for (id, record) in [
        (1, None),
        (2, Some(b"{".to_vec())),
        (3, Some(vec![0xff; 100])),
        (4, Some(vec![b' '; 1 << 20])),
    ] {
        fill_trash(&cloud, [id], 100 * KIB);
        let entry = fs::read_dir(cloud.trash_directory()).unwrap().next().unwrap().unwrap().path();
        fs::remove_file(entry.join("record")).unwrap();
        if let Some(bytes) = record {
            fs::write(entry.join("record"), bytes).unwrap();
        }
        cloud.fsck().run().finds("warning", ".ferrostore-trash", "record");
        let file = format!("{id:032x}");
        let said = cloud.trash("restore", [&file]).well().text;
        let path = cloud.datastore().join(&file);
        assert!(said.contains(&format!("--source {}", path.display())), "{said}");
        assert_eq!(fs::read(path).unwrap(), noise(id.into()));
    }
}

#[test]
fn what_killed_drivers_left_in_the_trash_goes() {
    let cloud = Cloud::new();
    fill_trash(&cloud, [1], MIB);
    let entry = fs::read_dir(cloud.trash_directory()).unwrap().next().unwrap().unwrap().path();
    fs::rename(&entry, entry.with_file_name("removing.1.x")).unwrap();
    assert_eq!(cloud.trashed_images(), [0; 0]);
    cloud.monitor().run().succeeds();
    assert_eq!(cloud.listing().names(), [""; 0]);
}

#[test]
fn the_stock_scripts_beside_it_do_no_harm() {
    let cloud = Cloud::new();
    fill_trash(&cloud, [1], MIB);
    let other = image(&cloud, 2, MIB);
    // What the stock `rm` does.
    run("rm", ["-rf", &other, &format!("{other}.snap"), &format!("{other}.md5sum")]);
    run("rm", ["-rf", &cloud.source(1), &format!("{}.snap", cloud.source(1))]);
    assert_eq!(cloud.trashed_images(), [1]);
    cloud.trash("restore", ["1"]).well();
    assert_eq!(fs::read(cloud.source(1)).unwrap(), pattern(1, MIB as usize));
}

#[test]
fn nothing_in_the_trash_is_an_image_of_the_datastore() {
    let cloud = Cloud::new();
    fill_trash(&cloud, [1], MIB);
    let entry = fs::read_dir(cloud.trash_directory()).unwrap().next().unwrap().unwrap().path();
    for path in [cloud.trash_directory(), entry.clone(), entry.join("record")] {
        let failure = cloud.rm(&path).run().fails();
        failure.naming("IMAGE/SOURCE").saying("only files of the datastore itself");
    }
    assert_eq!(cloud.trashed_images(), [1]);
}

#[test]
fn what_root_does_by_hand_the_datastores_owner_can_go_on_with() {
    const USER: u32 = 65534;
    let cloud = Cloud::new();
    cloud.hand_over_to(USER);
    let source = image(&cloud, 1, MIB);
    cloud.rm(&source).keeping("7d").run().succeeds();
    for path in fs::read_dir(cloud.trash_directory()).unwrap() {
        let path = path.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().uid(), USER, "{}", path.display());
        assert_eq!(fs::metadata(path.join("record")).unwrap().uid(), USER);
    }
    cloud.pass_time(8 * 24 * HOUR);
    cloud.monitor().as_user(USER).run().succeeds();
    assert_eq!(cloud.listing().names(), [""; 0]);
    let source = image(&cloud, 2, MIB);
    cloud.rm(&source).keeping("7d").as_user(USER).run().succeeds();
    assert_eq!(cloud.trashed_images(), [7]);
}

#[test]
fn on_a_bridge_host_the_trash_is_there() {
    let cloud = Cloud::new();
    let sources = [1, 2].map(|id| image(&cloud, id, MIB));
    let bridges = Bridges::of(&cloud, 1);
    let trash = bridges.host(1).datastore().join(TRASH);
    let count = || fs::read_dir(&trash).map_or(0, Iterator::count);
    bridges.bridged(cloud.rm(&sources[0])).keeping("7d").run().succeeds().silently();
    assert_eq!(count(), 1);
    // The front-end's setting counts.
    cloud.datastore_conf("TRASH=7d\n");
    bridges.bridged(cloud.rm(&sources[1])).run().succeeds().silently();
    assert_eq!(count(), 2);
    let directory = bridges.host(1).datastore().as_os_str();
    cloud
        .ferrostore(["trash".as_ref(), "restore".as_ref(), directory, "7".as_ref()])
        .refusing("more than one");
    cloud
        .ferrostore(["trash".as_ref(), "restore".as_ref(), directory, name(&sources[0]).as_ref()])
        .well();
    assert_eq!(
        fs::read(bridges.host(1).datastore().join(name(&sources[0]))).unwrap(),
        pattern(1, MIB as usize)
    );
}

#[test]
fn an_image_with_a_name_too_long_for_an_entry_is_deleted_at_once() {
    let cloud = Cloud::new();
    let long = cloud.datastore().join("x".repeat(240));
    fs::write(&long, "x").unwrap();
    let reply = cloud.rm(&long).keeping("7d").run().succeeds();
    assert!(reply.outcome.stderr_text().contains("name is too long for the trash"));
    assert_eq!(cloud.listing().names(), [""; 0]);
}
