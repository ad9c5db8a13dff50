//! `cp`: which paths may be registered.

use ferrostore_tests::{Call, Cloud, MIB, Rule, pattern, same_bytes};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A file in a new folder of the cloud, outside of the safe ones.
fn file_in(cloud: &Cloud, folder: &str) -> PathBuf {
    let folder = cloud.root().join(folder);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("disk.img");
    fs::write(&file, pattern(1, 5000)).unwrap();
    file
}

/// A call that registers `path` under other rules.
fn under<'a>(cloud: &'a Cloud, path: &Path, restricted: &str, safe: &str) -> Call<'a> {
    cloud
        .cp(path)
        .set("DATASTORE/TEMPLATE/RESTRICTED_DIRS", restricted)
        .set("DATASTORE/TEMPLATE/SAFE_DIRS", safe)
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

#[test]
fn a_file_outside_of_the_safe_directories_is_refused() {
    let cloud = Cloud::new();
    let secret = file_in(&cloud, "outside");
    cloud
        .cp(&secret)
        .run()
        .refused(Rule::Restricted)
        .naming("IMAGE/PATH")
        .saying_path(&secret)
        .saying("SAFE_DIRS");
    cloud
        .cp("/etc/passwd")
        .run()
        .refused(Rule::Restricted)
        .naming("IMAGE/PATH")
        .saying("/etc/passwd");
}

#[test]
fn a_directory_name_is_matched_whole() {
    let cloud = Cloud::new();
    let safe = file_in(&cloud, "tmp");
    let alike = file_in(&cloud, "tmpfoo");
    for directory in [text(cloud.root().join("tmp")), text(cloud.root().join("tmp/"))] {
        under(&cloud, &safe, "/", &directory).run().succeeds().image("raw");
        under(&cloud, &alike, "/", &directory).run().refused(Rule::Restricted).naming("IMAGE/PATH");
    }
}

#[test]
fn a_restricted_name_is_matched_whole_too() {
    let cloud = Cloud::new();
    let inside = file_in(&cloud, "tmp");
    let alike = file_in(&cloud, "tmpfoo");
    let directory = text(cloud.root().join("tmp"));
    under(&cloud, &inside, &directory, "").run().refused(Rule::Restricted).naming("IMAGE/PATH");
    under(&cloud, &alike, &directory, "").run().succeeds().image("raw");
}

#[test]
fn a_dot_in_a_directory_name_is_a_dot() {
    let cloud = Cloud::new();
    let safe = file_in(&cloud, "a.b");
    let alike = file_in(&cloud, "aXb");
    let directory = text(cloud.root().join("a.b"));
    under(&cloud, &safe, "/", &directory).run().succeeds().image("raw");
    under(&cloud, &alike, "/", &directory).run().refused(Rule::Restricted).naming("IMAGE/PATH");
}

#[test]
fn signs_of_patterns_are_plain_characters() {
    let cloud = Cloud::new();
    let secret = file_in(&cloud, "outside");
    for directory in ["/.*", "/*", "*", ".", "", "//.*/", "^/", "/|/var"] {
        println!("{directory}");
        under(&cloud, &secret, "/", directory).run().refused(Rule::Restricted).naming("IMAGE/PATH");
    }
    let odd = file_in(&cloud, "o[d]d+$(x)");
    under(&cloud, &odd, "/", &text(odd.parent().unwrap())).run().succeeds().image("raw");
}

#[test]
fn safe_wins_over_restricted() {
    let cloud = Cloud::new();
    let inner = file_in(&cloud, "images/iso.d");
    let outer = file_in(&cloud, "images");
    let restricted = text(cloud.images());
    let safe = text(cloud.images().join("iso.d"));
    under(&cloud, &inner, &restricted, &safe).run().succeeds().image("raw");
    under(&cloud, &outer, &restricted, &safe).run().refused(Rule::Restricted).naming("IMAGE/PATH");
    under(&cloud, &inner, &safe, &restricted).run().succeeds().image("raw");
}

#[test]
fn several_directories_are_separated_by_blanks() {
    let cloud = Cloud::new();
    let (a, b, c) = (file_in(&cloud, "a"), file_in(&cloud, "b"), file_in(&cloud, "c"));
    let root = cloud.root().display();
    let safe = format!("  {root}/a   {root}/b/ ");
    under(&cloud, &a, "/", &safe).run().succeeds().image("raw");
    under(&cloud, &b, "/", &safe).run().succeeds().image("raw");
    under(&cloud, &c, "/", &safe).run().refused(Rule::Restricted).naming("IMAGE/PATH");
    let restricted = format!("/etc {root}/a\t{root}/b");
    under(&cloud, &a, &restricted, "").run().refused(Rule::Restricted).naming("IMAGE/PATH");
    under(&cloud, &b, &restricted, "").run().refused(Rule::Restricted).naming("IMAGE/PATH");
    under(&cloud, &c, &restricted, "").run().succeeds().image("raw");
}

#[test]
fn slashes_and_dots_in_the_lists_don_t_matter() {
    let cloud = Cloud::new();
    let disk = file_in(&cloud, "images");
    let root = cloud.root().display();
    for safe in [
        format!("{root}//images"),
        format!("/{root}/images///"),
        format!("{root}/./images/."),
        format!("{root}/outside/../images"),
    ] {
        println!("{safe}");
        under(&cloud, &disk, "/", &safe).run().succeeds().image("raw");
    }
}

#[test]
fn the_front_end_s_own_directories_are_always_restricted() {
    let cloud = Cloud::new();
    for folder in ["one/var", "one/var/datastores/0", "one/etc", "home", "home/.one"] {
        let secret = file_in(&cloud, folder);
        println!("{folder}");
        for restricted in ["", "/nowhere"] {
            under(&cloud, &secret, restricted, "")
                .run()
                .refused(Rule::Restricted)
                .naming("IMAGE/PATH")
                .saying_path(&secret);
        }
        cloud
            .cp(&secret)
            .without("DATASTORE/TEMPLATE/RESTRICTED_DIRS")
            .without("DATASTORE/TEMPLATE/SAFE_DIRS")
            .run()
            .refused(Rule::Restricted)
            .naming("IMAGE/PATH");
    }
}

#[test]
fn a_link_to_a_file_outside_is_refused() {
    let cloud = Cloud::new();
    let secret = file_in(&cloud, "outside");
    let link = cloud.images().join("link.img");
    symlink(&secret, &link).unwrap();
    cloud.cp(&link).run().refused(Rule::Restricted).naming("IMAGE/PATH");
    let relative = cloud.images().join("relative.img");
    symlink("../outside/disk.img", &relative).unwrap();
    cloud.cp(&relative).run().refused(Rule::Restricted).naming("IMAGE/PATH");
    let second = cloud.images().join("second.img");
    symlink(&link, &second).unwrap();
    cloud.cp(&second).run().refused(Rule::Restricted).naming("IMAGE/PATH");
}

#[test]
fn a_linked_folder_does_not_lead_outside() {
    let cloud = Cloud::new();
    file_in(&cloud, "outside");
    symlink(cloud.outside(), cloud.images().join("folder")).unwrap();
    cloud
        .cp(cloud.images().join("folder/disk.img"))
        .run()
        .refused(Rule::Restricted)
        .naming("IMAGE/PATH");
}

#[test]
fn a_link_within_the_safe_directory_is_fine() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let link = cloud.images().join("latest.img");
    symlink("disk.img", &link).unwrap();
    let copy = cloud.cp(&link).run().succeeds().image("raw");
    same_bytes(disk, copy);
}

#[test]
fn a_link_from_outside_into_the_safe_directory_is_judged_by_where_it_leads() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let link = cloud.outside().join("link.img");
    symlink(&disk, &link).unwrap();
    let copy = cloud.cp(&link).run().succeeds().image("raw");
    same_bytes(disk, copy);
}

#[test]
fn a_safe_directory_may_itself_be_a_link() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let link = cloud.root().join("uploads");
    symlink(cloud.images(), &link).unwrap();
    under(&cloud, &link.join("disk.img"), "/", &text(&link)).run().succeeds().image("raw");
    under(&cloud, &disk, "/", &text(&link)).run().succeeds().image("raw");
}

#[test]
fn dots_don_t_lead_outside() {
    let cloud = Cloud::new();
    file_in(&cloud, "outside");
    let disk = cloud.raw("disk.img", MIB);
    for path in ["../outside/disk.img", "./.././outside//disk.img", "x/../../outside/disk.img"] {
        cloud
            .cp(cloud.images().join(path))
            .run()
            .refused_by_any(&[Rule::Restricted, Rule::CantBeOpened])
            .naming("IMAGE/PATH");
    }
    let copy = cloud.cp(cloud.images().join("../images/./disk.img")).run().succeeds().image("raw");
    same_bytes(disk, copy);
}
