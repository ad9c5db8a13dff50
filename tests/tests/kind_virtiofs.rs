//! The kind `virtiofs`: directories that virtual machines share with their host.

use ferrostore_tests::{Call, Cloud, Listing, MIB, Rule, pattern, run};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

trait InDirectoryDatastore {
    fn virtiofs(self) -> Self;
}

impl InDirectoryDatastore for Call<'_> {
    fn virtiofs(self) -> Self {
        self.set("DATASTORE/DS_MAD", "virtiofs")
            .set("DATASTORE/TM_MAD", "virtiofs")
            .set("DATASTORE/TEMPLATE/DRIVER", "virtiofs")
            .set("DATASTORE/TEMPLATE/DISK_TYPE", "FILESYSTEM")
            .set("DATASTORE/TEMPLATE/DATASTORE_CAPACITY_CHECK", "NO")
    }
}

/// The usual call of `cp`: for an image of TYPE FILESYSTEM.
fn cp<'cloud>(cloud: &'cloud Cloud, path: &str) -> Call<'cloud> {
    cloud.cp(path).virtiofs().set_escaped("IMAGE/TYPE", "7")
}

fn share(cloud: &Cloud) -> PathBuf {
    let folder = cloud.images().join("share");
    fs::create_dir_all(folder.join("inner")).unwrap();
    fs::write(folder.join("file"), pattern(1, 3 * MIB as usize)).unwrap();
    fs::write(folder.join("inner/file"), pattern(2, 2 * MIB as usize)).unwrap();
    fs::hard_link(folder.join("file"), folder.join("inner/second name")).unwrap();
    symlink("/usr", folder.join("link to much")).unwrap();
    folder
}

#[test]
fn a_directory_is_registered_under_its_own_path_and_left_alone() {
    let cloud = Cloud::new();
    let share = share(&cloud);
    let before = Listing::of(&share);
    let path = share.to_str().unwrap();
    let reply = cp(&cloud, path).run().succeeds();
    reply.replies(&format!("{path} dir")).changing_nothing();
    assert_eq!(Listing::of(&share), before);
}

#[test]
fn the_size_is_that_of_what_lies_in_it_rounded_up() {
    let cloud = Cloud::new();
    let share = share(&cloud);
    let output = run("du", ["-sm", share.to_str().unwrap()]);
    let du = String::from_utf8(output.stdout).unwrap();
    let stat = cloud.stat(&share).virtiofs().run().succeeds();
    stat.replies(du.split_whitespace().next().unwrap());
    assert_eq!(stat.line(), "6", "5 MiB of data and the directories");
}

#[test]
fn what_is_no_directory_is_refused() {
    let cloud = Cloud::new();
    let file = cloud.raw("disk.img", MIB);
    let link = cloud.images().join("link");
    symlink(&file, &link).unwrap();
    let missing = cloud.images().join("missing");
    for path in [&file, &link] {
        for call in [cp(&cloud, path.to_str().unwrap()), cloud.stat(path).virtiofs()] {
            call.run().fails().naming("IMAGE/PATH").saying("regular file").saying("a directory");
        }
    }
    for call in [cp(&cloud, missing.to_str().unwrap()), cloud.stat(&missing).virtiofs()] {
        call.run().fails().naming("IMAGE/PATH").saying("no such file");
    }
    for path in ["relative", "http://example.com/share"] {
        cp(&cloud, path).run().fails().naming("IMAGE/PATH").saying("absolute");
    }
    let with_a_blank = cloud.images().join("a share");
    fs::create_dir(&with_a_blank).unwrap();
    let call = cp(&cloud, with_a_blank.to_str().unwrap());
    call.run().fails().naming("IMAGE/PATH").saying("blanks");
}

#[test]
fn directories_obey_the_path_rules() {
    let cloud = Cloud::new();
    let link = cloud.images().join("link");
    symlink(cloud.outside(), &link).unwrap();
    let outside = cloud.outside();
    for path in [outside.to_str().unwrap(), link.to_str().unwrap(), "/etc", "/"] {
        for call in [cp(&cloud, path), cloud.stat(path).virtiofs()] {
            call.run().refused(Rule::Restricted).naming("IMAGE/PATH");
        }
    }
}

#[test]
fn a_directory_with_a_restricted_one_in_it_is_refused() {
    let cloud = Cloud::new();
    let secret = cloud.outside().join("secret");
    fs::create_dir(&secret).unwrap();
    let call = |path: &str, safe: &str| {
        cp(&cloud, path)
            .set("DATASTORE/TEMPLATE/RESTRICTED_DIRS", secret.to_str().unwrap())
            .set("DATASTORE/TEMPLATE/SAFE_DIRS", safe)
            .run()
    };
    let outside = cloud.outside();
    let outside = outside.to_str().unwrap();
    call(outside, "").refused(Rule::HoldsRestricted).naming("IMAGE/PATH").saying_path(&secret);
    call(outside, outside).succeeds();
    // OpenNebula's own directories are never given away with what they lie in.
    let above = cloud.root().to_str().unwrap();
    call(above, "").refused(Rule::HoldsRestricted).naming("IMAGE/PATH");
    call("/", "").refused(Rule::HoldsRestricted).naming("IMAGE/PATH");
    let images = cloud.images();
    call(images.to_str().unwrap(), "").succeeds();
}

#[test]
fn only_images_of_the_type_filesystem_have_a_place() {
    let cloud = Cloud::new();
    let share = share(&cloud);
    for code in ["0", "1", "2", "3", "5"] {
        let call = cp(&cloud, share.to_str().unwrap()).set_escaped("IMAGE/TYPE", code);
        call.run().fails().naming("IMAGE/TYPE").saying("it must be FILESYSTEM");
    }
}

#[test]
fn deleting_the_image_leaves_the_directory() {
    let cloud = Cloud::new();
    let share = share(&cloud);
    let before = Listing::of(&share);
    cloud.rm(&share).virtiofs().run().succeeds().silently();
    assert_eq!(Listing::of(&share), before);
    cloud.rm(cloud.images().join("gone")).virtiofs().run().succeeds().silently();
}

#[test]
fn the_datastore_has_no_space_of_its_own() {
    let cloud = Cloud::new();
    let reply = cloud.monitor().virtiofs().run().succeeds();
    assert_eq!(reply.text, "USED_MB=0\nTOTAL_MB=0\nFREE_MB=0\n");
}

#[test]
fn verbs_that_make_or_change_data_are_not_supported() {
    let cloud = Cloud::new();
    let share = share(&cloud);
    let calls = [
        ("mkfs", cloud.mkfs("raw", "4")),
        ("clone", cloud.clone_of(&share, "raw")),
        ("snap_revert", cloud.snap("snap_revert", &share, "raw", 0)),
        ("snap_delete", cloud.snap("snap_delete", &share, "raw", 0)),
        ("snap_flatten", cloud.snap("snap_flatten", &share, "raw", 0)),
        ("export", cloud.export(&share, "raw")),
    ];
    for (verb, call) in calls {
        let line = format!("{verb} is not supported by DS_MAD virtiofs");
        call.virtiofs().run().refused(Rule::NotSupported).saying(&line);
    }
}
