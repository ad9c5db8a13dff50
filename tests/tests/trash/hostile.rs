//! What an administrator, a clock or another program may have done to a trash.

use super::*;
use ferrostore_tests::layouts::{Chain, Layout};
use std::thread;

/// The one entry of the trash.
fn entry(cloud: &Cloud) -> PathBuf {
    let mut entries = fs::read_dir(cloud.trash_directory()).unwrap();
    let path = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    path
}

/// What a shell takes a printed command to say.
fn words_of(line: &str) -> Vec<String> {
    let script = format!("oneimage() {{ printf '%s\\0' \"$@\"; }}\n{line}");
    let output = Command::new("sh").arg("-ec").arg(script).current_dir("/").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
}

fn option<'w>(words: &'w [String], name: &str) -> &'w str {
    let at = words.iter().position(|word| word == name).expect("the option is there");
    &words[at + 1]
}

#[test]
fn no_name_is_more_than_a_word_of_the_command() {
    let cloud = Cloud::new();
    for (name, printed) in [
        ("$(touch /tmp/x)", "$(touch /tmp/x)"),
        ("`id`; rm -rf \"$HOME\"", "`id`; rm -rf \\\"$HOME\\\""),
        ("a'b", "a'b"),
        ("--help", "--help"),
        ("back\\slash", "back\\slash"),
        ("two\nlines", "two; lines"),
        ("Größe № 7", "Größe № 7"),
        ("*", "*"),
    ] {
        let source = image(&cloud, 1, KIB);
        let call = cloud.rm(&source).keeping("7d").set("IMAGE/NAME", name);
        call.set("IMAGE/UNAME", "a\nb; id").run().succeeds().silently();
        assert_eq!(cloud.trash("list", [""; 0]).well().text.lines().count(), 1, "{name}");
        let said = cloud.trash("restore", ["7"]).well().text;
        let (first, rest) = said.split_once('\n').unwrap();
        let words = words_of(first);
        assert_eq!(words[0], "create");
        assert_eq!(option(&words, "--name"), printed);
        assert_eq!(option(&words, "--source"), source);
        assert!(rest.lines().all(|line| line.starts_with("# ")), "{rest}");
    }
}

#[test]
fn a_datastore_may_have_any_name() {
    let cloud = Cloud::new();
    for directory in ["with space", "it's \"$HOME\"", "; id", "Größe", "-n"] {
        let base = cloud.root().join(directory);
        fs::create_dir(&base).unwrap();
        let file = base.join("0123456789abcdef0123456789abcdef");
        fs::write(&file, "x").unwrap();
        let call = cloud.rm(&file).keeping("7d");
        let base_path = base.to_str().unwrap();
        call.set("DATASTORE/BASE_PATH", base_path).without_listing().run().succeeds().silently();
        assert!(!file.exists());
        let said = cloud.ferrostore(["trash", "restore", base_path, "7"]).well().text;
        let words = words_of(said.lines().next().unwrap());
        assert_eq!(option(&words, "--source"), file.to_str().unwrap());
        assert!(file.exists());
    }
}

#[test]
fn a_source_is_recorded_and_printed_as_a_whole_path_of_this_datastore() {
    let cloud = Cloud::new();
    let source = image(&cloud, 1, KIB);
    let expected = cloud.datastore().join(name(&source));
    for recorded in ["/etc/passwd", &format!("/etc/{}", name(&source)), "relative", "", "/"] {
        cloud.rm(&source).keeping("7d").run().succeeds();
        let record = entry(&cloud).join("record");
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, text.replace(&source, recorded)).unwrap();
        let said = cloud.trash("restore", ["7"]).well().text;
        let words = words_of(said.lines().next().unwrap());
        assert_eq!(option(&words, "--source"), expected.to_str().unwrap(), "{recorded}");
    }
}

#[test]
fn members_of_a_record_that_make_no_sense_are_as_good_as_none() {
    let cloud = Cloud::new();
    for record in [
        r#"{"image":"seven"}"#,
        r#"{"image":-1,"size_mib":1e300}"#,
        r#"{"image":18446744073709551615,"size_mib":18446744073709551615,"snapshots":18446744073709551615}"#,
        "[]",
        r#"{"name":"\u0000\u001b[2J","type":"\u0007","format":"--x"}"#,
        r#"{"name":"a","name":"b"}"#,
        "",
    ] {
        fill_trash(&cloud, [1], KIB);
        fs::write(entry(&cloud).join("record"), record).unwrap();
        let listed = cloud.trash("list", [""; 0]).well().text;
        assert!(!listed.trim_end().contains(char::is_control), "{listed:?}");
        assert_eq!(cloud.trashed().len(), 1);
        cloud.fsck().run();
        let said = cloud.trash("restore", [&format!("{:032x}", 1)]).well().text;
        assert!(said.starts_with("oneimage create "), "{said}");
        let printed = said.trim_end().replace('\n', "");
        assert!(!printed.contains(char::is_control), "{said:?}");
        assert_eq!(fs::read(cloud.source(1)).unwrap(), pattern(1, KIB as usize));
    }
}

#[test]
fn a_record_that_is_no_file_stops_nothing() {
    let cloud = Cloud::new();
    for make in ["mkfifo", "mkdir"] {
        fill_trash(&cloud, [1], KIB);
        let record = entry(&cloud).join("record");
        fs::remove_file(&record).unwrap();
        run(make, [&record]);
        cloud.fsck().run().finds("warning", ".ferrostore-trash", "record");
        cloud.trash("list", [""; 0]).well();
        cloud.trash("restore", [&format!("{:032x}", 1)]).well();
        cloud.rm(cloud.source(1)).run().succeeds();
    }
    assert_eq!(cloud.listing().names(), [""; 0]);
}

#[test]
fn an_entry_without_files_is_not_restored() {
    let cloud = Cloud::new();
    fill_trash(&cloud, [1], KIB);
    for file in fs::read_dir(entry(&cloud)).unwrap() {
        let path = file.unwrap().path();
        if !path.ends_with("record") {
            fs::remove_file(path).unwrap();
        }
    }
    cloud.fsck().run().finds("warning", TRASH, "has no file any more");
    cloud.trash("restore", ["1"]).refusing("has no file in the trash any more");
    cloud.trash("purge", ["1", "--yes"]).well();
}

#[test]
fn a_trash_that_is_a_link_or_a_file_takes_nothing() {
    let cloud = Cloud::new();
    let elsewhere = cloud.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let source = image(&cloud, 1, KIB);
    for kind in ["link", "broken link", "file"] {
        match kind {
            "link" => symlink(&elsewhere, cloud.trash_directory()).unwrap(),
            "file" => fs::write(cloud.trash_directory(), "x").unwrap(),
            _ => symlink("/no/such/place", cloud.trash_directory()).unwrap(),
        }
        let failure = cloud.rm(&source).keeping("7d").without_listing().run().fails();
        failure.naming("IMAGE/SOURCE").saying(TRASH);
        assert!(Path::new(&source).exists(), "{kind}");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        cloud.trash("list", [""; 0]).refusing("can't be read");
        cloud.fsck().run().finds("warning", TRASH, "can't be read");
        // Nothing else stops.
        let reply = cloud.monitor().without_listing().run();
        assert!(reply.status.success());
        fs::remove_file(cloud.trash_directory()).unwrap();
    }
    cloud.rm(&source).keeping("7d").run().succeeds();
    cloud.trash("purge", ["--all", "--yes"]).well();
}

#[test]
fn a_trash_of_another_user_keeps_the_image_in_its_place() {
    const USER: u32 = 65534;
    let cloud = Cloud::new();
    cloud.hand_over_to(USER);
    let source = image(&cloud, 1, KIB);
    fs::create_dir(cloud.trash_directory()).unwrap();
    fs::write(cloud.trash_directory().join("x"), "").unwrap();
    let call = cloud.rm(&source).keeping("7d").as_user(USER);
    call.run().fails().naming("IMAGE/SOURCE").saying(TRASH);
    assert!(Path::new(&source).exists());
}

#[test]
fn what_lies_in_a_trash_besides_images_is_left_alone_and_told() {
    let cloud = Cloud::new();
    fill_trash(&cloud, [1], KIB);
    let outside = cloud.root().join("beside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("0d.precious"), "x").unwrap();
    let stray = |name: &str| cloud.trash_directory().join(name);
    symlink(&outside, stray("1.1.1.link")).unwrap();
    fs::write(stray("1.1.1.file"), "x").unwrap();
    // No time that a call has written.
    fs::create_dir(stray(&format!("{}.1.1.late", u64::MAX))).unwrap();
    fs::create_dir(stray(&format!("1.{}.1.long", u64::MAX))).unwrap();
    fs::create_dir(stray(&format!("1.1.{}.large", u64::MAX))).unwrap();
    cloud.monitor().without_listing().run().succeeds();
    assert_eq!(cloud.trashed_images(), [1]);
    let mut examination = cloud.fsck().run();
    for name in ["link", "file", "late", "long", "large"] {
        examination = examination.finds_too("warning", TRASH, name);
    }
    cloud.trash("restore", ["link"]).refusing("is not in the trash");
    cloud.trash("purge", ["--all", "--yes"]).well();
    assert!(outside.join("0d.precious").exists());
    assert_eq!(fs::read_dir(cloud.trash_directory()).unwrap().count(), 5);
}

#[test]
fn a_clock_that_goes_back_deletes_nothing_early() {
    let cloud = Cloud::new();
    fill_trash(&cloud, [1], KIB);
    let path = entry(&cloud);
    let key = path.file_name().unwrap().to_str().unwrap().to_owned();
    let (deleted, rest) = key.split_once('.').unwrap();
    // Ten years.
    let later = deleted.parse::<u64>().unwrap() + 10 * 365 * 24 * 3600 * 1000;
    fs::rename(&path, path.with_file_name(format!("{later}.{rest}"))).unwrap();
    fill_trash(&cloud, [2], KIB);
    cloud.monitor().run().succeeds();
    assert_eq!(cloud.trashed_images(), [2, 1]);
    cloud.fsck().run().clean();
    // A clock that leaps ahead deletes all of which the time is over, as it must.
    cloud.pass_time(8 * 24 * HOUR);
    cloud.monitor().run().succeeds();
    assert_eq!(cloud.trashed_images(), [1]);
    cloud.trash("restore", ["1"]).well();
}

#[test]
fn one_name_can_be_in_the_trash_more_than_once() {
    let cloud = Cloud::new();
    let source = cloud.source(1);
    for (id, bytes) in [(7, "first"), (8, "second")] {
        fs::write(&source, bytes).unwrap();
        cloud.rm(&source).image_id(id).keeping("7d").run().succeeds();
    }
    cloud.trash("restore", [name(&source)]).refusing("more than one");
    let said = cloud.trash("restore", [name(&source)]).text;
    assert_eq!(said, "");
    let key = cloud.trashed()[1]["entry"].as_str().unwrap().to_owned();
    cloud.trash("restore", [&key]).well();
    assert_eq!(fs::read_to_string(&source).unwrap(), "second");
    // The other one has no place now, and stays where it is.
    cloud.trash("restore", ["7"]).refusing("is there already");
    cloud.trash("purge", ["7", "--yes"]).well();
    assert_eq!(fs::read_to_string(&source).unwrap(), "second");
}

#[test]
fn of_several_images_those_in_front_of_a_failure_are_restored_and_told() {
    let cloud = Cloud::new();
    fill_trash(&cloud, 1..=3, KIB);
    fs::write(cloud.source(2), "another").unwrap();
    let said = cloud.trash("restore", ["1", "2", "3"]);
    assert_eq!(said.text.lines().filter(|line| line.starts_with("oneimage")).count(), 1);
    assert!(said.code == 1 && said.error.contains("is there already"), "{}", said.error);
    assert_eq!(cloud.trashed_images(), [2, 3]);
    // Before anything is restored, all are known.
    cloud.trash("restore", ["3", "9"]).refusing("\"9\" is not in the trash");
    assert_eq!(cloud.trashed_images(), [2, 3]);
}

#[test]
fn images_of_other_datastores_go_into_no_trash() {
    let cloud = Cloud::new();
    let other = cloud.datastore().with_file_name("105");
    fs::create_dir_all(&other).unwrap();
    let file = other.join("0123456789abcdef0123456789abcdef");
    fs::write(&file, "x").unwrap();
    let failure = cloud.rm(&file).keeping("7d").run().fails();
    failure.naming("IMAGE/SOURCE").saying("only files of the datastore itself");
    assert!(file.exists() && !other.join(TRASH).exists() && !cloud.trash_directory().exists());
}

#[test]
fn every_layout_of_snapshots_comes_back_and_works() {
    for layout in [
        Layout::ABSOLUTE,
        Layout::RELATIVE,
        Layout::RESOLVED,
        Layout::MOVABLE,
        Layout::SSH_SYSTEM,
        Layout::LOCAL,
        Layout::LOCAL_IN_PLACE,
    ] {
        let cloud = Cloud::new();
        let chain = Chain::of_four(&cloud, layout);
        cloud.rm(chain.source()).keeping("7d").run().succeeds().silently();
        assert!(!chain.directory().exists() && fs::symlink_metadata(chain.source()).is_err());
        cloud.trash("restore", ["7"]).well();
        for number in 0..4 {
            chain.check_content(chain.file(number), number);
        }
        chain.call("snap_revert", 1).run().succeeds().silently();
    }
}

/// A copy-on-write image whose backing file is in the trash can't be read, as after any deletion, and can be read again.
#[test]
fn what_another_image_backs_on_is_back_with_it() {
    let cloud = Cloud::new();
    let base = image(&cloud, 1, MIB);
    let top = cloud.source(2);
    run("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &base, &top]);
    cloud.rm(&base).image_id(1).keeping("7d").run().succeeds();
    cloud.rm(&top).image_id(2).keeping("7d").run().succeeds();
    cloud.trash("restore", ["2", "1"]).well();
    run("qemu-img", ["compare", "-q", "-F", "raw", &top, &base]);
    assert_eq!(fs::read(&base).unwrap(), pattern(1, MIB as usize));
}

/// As often as the same image is deleted, restored and purged at once, all of it is in one place, or gone where it was purged.
#[test]
fn calls_at_the_same_time_never_tear_an_image() {
    let cloud = Cloud::new();
    cloud.datastore_conf("LOCK_WAIT=\"30\"\n");
    let source = image(&cloud, 1, 64 * KIB);
    let snapshots = format!("{source}.snap");
    fs::create_dir(&snapshots).unwrap();
    fs::write(format!("{snapshots}/0"), pattern(5, 70_000)).unwrap();
    let restore = || {
        let said = cloud.trash("restore", [name(&source)]).error;
        let known = ["is not in the trash", "is there already"];
        assert!(said.is_empty() || known.iter().any(|words| said.contains(words)), "{said}");
    };
    let delete = || {
        let output = cloud.rm(&source).keeping("7d").output();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    for _ in 0..20 {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(delete);
                scope.spawn(restore);
                scope.spawn(|| cloud.monitor().output());
            }
        });
        cloud.check_trash();
        assert!(!cloud.work_directory().exists(), "none has left anything");
        if !Path::new(&source).exists() {
            cloud.trash("restore", [name(&source)]).well();
        }
        assert_eq!(fs::read(&source).unwrap(), pattern(1, 64 * KIB as usize));
        assert_eq!(fs::read(format!("{snapshots}/0")).unwrap(), pattern(5, 70_000));
        assert!(!cloud.trash_directory().exists());
    }
}
