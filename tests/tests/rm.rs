//! `rm`: deleting an image, and nothing but it.

use ferrostore_tests::{Cloud, Disk, Listing, MIB, Rule, run};
use std::fs;
use std::os::unix::fs::symlink;

/// The last part of a SOURCE.
fn name(source: &str) -> &str {
    source.rsplit('/').next().unwrap()
}

#[test]
fn an_image_goes_and_others_stay() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let (first, second) = (cloud.stored(1, &disk), cloud.stored(2, &disk));
    cloud.rm(&first).run().succeeds().silently().removing(&[name(&first)]);
    cloud.rm(&second).run().succeeds().silently().removing(&[name(&second)]);
    assert!(disk.exists(), "the original is the user's");
}

#[test]
fn its_snapshots_and_its_checksum_go_with_it() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let source = cloud.stored(1, &disk);
    let other = cloud.stored(2, &disk);
    let folder = format!("{source}.snap");
    fs::create_dir(&folder).unwrap();
    symlink(".", format!("{folder}/{}.snap", name(&source))).unwrap();
    symlink(&source, format!("{folder}/0")).unwrap();
    fs::write(format!("{folder}/1"), "one").unwrap();
    fs::write(format!("{folder}/1.current"), &other).unwrap();
    fs::write(format!("{source}.md5sum"), "sum").unwrap();
    fs::write(format!("{other}.md5sum"), "sum").unwrap();
    cloud.rm(&source).run().succeeds().silently();
    assert_eq!(cloud.listing().names(), [name(&other), &format!("{}.md5sum", name(&other))]);
}

#[test]
fn an_image_that_is_gone_already_is_no_error() {
    let cloud = Cloud::new();
    cloud.rm(cloud.source(1)).run().succeeds().silently().changing_nothing();
    // Not even if only its company is left.
    let source = cloud.source(2);
    fs::create_dir(format!("{source}.snap")).unwrap();
    fs::write(format!("{source}.snap/1"), "one").unwrap();
    fs::write(format!("{source}.md5sum"), "sum").unwrap();
    cloud.rm(&source).run().succeeds().silently();
    assert_eq!(cloud.listing().names(), [""; 0]);
}

#[test]
fn a_datastore_that_is_gone_already_is_no_error() {
    let cloud = Cloud::new();
    fs::remove_dir(cloud.datastore()).unwrap();
    cloud.rm(cloud.source(1)).run().succeeds().silently();
}

#[test]
fn one_slash_or_two_or_a_link_name_the_same_directory() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let link = cloud.root().join("link");
    symlink(cloud.datastore(), &link).unwrap();
    let source = cloud.stored(1, &disk);
    let name = name(&source);
    for same in [
        source.replace("//", "/"),
        source.replace("//", "////"),
        format!("{}/./{name}", cloud.base_path()),
        format!("{}/{name}", link.display()),
    ] {
        println!("{same}");
        cloud.stored(1, &disk);
        cloud.rm(same).run().succeeds().silently().removing(&[name]);
    }
    cloud.stored(1, &disk);
    cloud
        .rm(&source)
        .set("DATASTORE/BASE_PATH", link.to_str().unwrap())
        .run()
        .succeeds()
        .silently()
        .removing(&[name]);
}

#[test]
fn what_is_not_directly_in_the_datastore_is_refused() {
    let cloud = Cloud::new();
    cloud.datastore_conf("CALL_LOG=no\n");
    let victim = cloud.raw("victim.img", MIB);
    let below = cloud.datastore().join("folder");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("file"), "x").unwrap();
    let other = cloud.datastore().with_file_name("105");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("image"), "x").unwrap();
    let alike = cloud.datastore().with_file_name("1040");
    fs::create_dir(&alike).unwrap();
    fs::write(alike.join("image"), "x").unwrap();
    let base_path = cloud.base_path();
    let before = Listing::of(cloud.root());
    for source in [
        victim.to_str().unwrap().to_owned(),
        other.join("image").to_str().unwrap().to_owned(),
        alike.join("image").to_str().unwrap().to_owned(),
        format!("{base_path}0/image"),
        format!("{base_path}/folder/file"),
        format!("{base_path}/../105/image"),
        format!("{base_path}/folder/../../105/image"),
        format!("{base_path}/.."),
        format!("{base_path}/."),
        format!("{base_path}/"),
        base_path.clone(),
        format!("{base_path}/folder/.."),
        "/".to_owned(),
        "image".to_owned(),
        "-rf".to_owned(),
        "*".to_owned(),
    ] {
        println!("{source}");
        cloud
            .rm(&source)
            .run()
            .refused(Rule::NotInTheDatastore)
            .naming("IMAGE/SOURCE")
            .saying(&source);
        assert_eq!(before, Listing::of(cloud.root()));
    }
}

#[test]
fn a_folder_reached_by_a_link_out_of_the_datastore_is_refused() {
    let cloud = Cloud::new();
    let victim = cloud.raw("victim.img", MIB);
    symlink(cloud.images(), cloud.datastore().join("way-out")).unwrap();
    cloud
        .rm(format!("{}/way-out/victim.img", cloud.base_path()))
        .run()
        .refused(Rule::NotInTheDatastore)
        .naming("IMAGE/SOURCE");
    assert!(victim.exists());
}

#[test]
fn of_a_link_only_the_link_goes() {
    let cloud = Cloud::new();
    let victim = cloud.raw("victim.img", MIB);
    let folder = cloud.images().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "x").unwrap();
    let source = cloud.source(1);
    symlink(&victim, &source).unwrap();
    symlink(&folder, format!("{source}.snap")).unwrap();
    symlink(&victim, format!("{source}.md5sum")).unwrap();
    cloud.rm(&source).run().succeeds().silently();
    assert_eq!(cloud.listing().names(), [""; 0]);
    assert!(victim.exists());
    assert!(folder.join("file").exists());
}

#[test]
fn links_among_the_snapshots_are_not_followed() {
    let cloud = Cloud::new();
    let folder = cloud.images().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "x").unwrap();
    let source = cloud.stored(1, &cloud.raw("disk.img", MIB));
    fs::create_dir(format!("{source}.snap")).unwrap();
    symlink(&folder, format!("{source}.snap/0")).unwrap();
    symlink(&folder, format!("{source}.snap/way-out")).unwrap();
    cloud.rm(&source).run().succeeds().silently();
    assert_eq!(cloud.listing().names(), [""; 0]);
    assert!(folder.join("file").exists());
}

#[test]
fn an_image_whose_disk_is_among_its_snapshots_goes_whole() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let source = cloud.source(1);
    // As a system datastore on ssh leaves it: the image is a link to its live disk.
    fs::create_dir(format!("{source}.snap")).unwrap();
    fs::copy(&disk, format!("{source}.snap/0")).unwrap();
    fs::copy(&disk, format!("{source}.snap/1")).unwrap();
    symlink(format!("{source}.snap/1"), &source).unwrap();
    cloud.rm(&source).run().succeeds().silently();
    assert_eq!(cloud.listing().names(), [""; 0]);
}

#[test]
fn odd_names_are_names() {
    let cloud = Cloud::new();
    fs::write(cloud.datastore().join("bystander"), "x").unwrap();
    for name in ["a b", "$(touch trap)", "'quote\"", "-rf", "*", "b;touch trap", "new\nline"] {
        println!("{name:?}");
        fs::write(cloud.datastore().join(name), "x").unwrap();
        cloud
            .rm(format!("{}/{name}", cloud.base_path()))
            .run()
            .succeeds()
            .silently()
            .removing(&[name]);
    }
    assert!(!cloud.one_location().join("var/trap").exists());
}

#[test]
fn a_datastore_that_is_read_only_is_an_error() {
    let cloud = Cloud::with_datastore_on(Disk::Ext4(16 * MIB));
    let source = cloud.stored(1, &cloud.raw("disk.img", MIB));
    run("mount", ["-o", "remount,ro", cloud.datastore().to_str().unwrap()]);
    cloud.rm(&source).run().fails().naming("DATASTORE/BASE_PATH").saying("read-only");
}

#[test]
fn an_image_that_can_not_be_changed_is_an_error() {
    let cloud = Cloud::new();
    let source = cloud.stored(1, &cloud.raw("disk.img", MIB));
    run("chattr", ["+i", &source]);
    let outcome = cloud.rm(&source).run();
    run("chattr", ["-i", &source]);
    outcome.fails().naming("IMAGE/SOURCE").saying(&source).saying("not permitted");
}

#[test]
fn what_a_killed_call_left_is_removed() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    cloud.cp(&disk).killed_leaving("staging");
    let source = cloud.stored(1, &disk);
    let reply = cloud.rm(&source).run().succeeds();
    reply.silently();
    assert_eq!(cloud.listing().names(), [""; 0]);
}
