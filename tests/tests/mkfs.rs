//! `mkfs`: new images, empty or with an empty file system.

use ferrostore_tests::{
    Cloud, Disk, KIB, MIB, Rule, allocated, info, qemu_img_check, run, same_content, virtual_size,
};
use std::fs;
use std::path::{Path, PathBuf};

/// What `blkid` finds in a raw image.
fn blkid(image: &Path, tag: &str) -> String {
    let output = run("blkid", ["-p", "-o", "value", "-s", tag, image.to_str().unwrap()]);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A qcow2 image as a raw one, to look into it.
fn as_raw(cloud: &Cloud, image: &Path) -> PathBuf {
    let raw = cloud.images().join("inside.img");
    run(
        "qemu-img",
        ["convert", "-f", "qcow2", "-O", "raw", image.to_str().unwrap(), raw.to_str().unwrap()],
    );
    raw
}

/// The referee of a file system.
fn check_file_system(kind: &str, image: &Path) {
    assert_eq!(blkid(image, "TYPE"), kind);
    let image = image.to_str().unwrap();
    match kind {
        "xfs" => run("xfs_repair", ["-n", "-f", image]),
        "minix" => run("fsck.minix", [image]),
        _ => run("e2fsck", ["-f", "-n", image]),
    };
}

#[test]
fn a_raw_image_is_one_hole_of_the_size_asked_for() {
    let cloud = Cloud::new();
    for size in ["1", "4", "1024", "1048576"] {
        let image = cloud.mkfs("raw", size).run().succeeds().empty_image();
        let length = fs::metadata(&image).unwrap().len();
        assert_eq!(length, size.parse::<u64>().unwrap() * MIB);
        assert_eq!(allocated(&image), 0);
    }
}

#[test]
fn an_image_without_a_format_is_raw() {
    let cloud = Cloud::new();
    let image = cloud.mkfs("", "4").run().succeeds().empty_image();
    assert_eq!(fs::metadata(&image).unwrap().len(), 4 * MIB);
    let image = cloud.mkfs("", "4").without("IMAGE/FORMAT").run().succeeds().empty_image();
    assert_eq!(fs::metadata(&image).unwrap().len(), 4 * MIB);
}

#[test]
fn a_qcow2_image_is_empty_and_small() {
    let cloud = Cloud::new();
    let zeros = cloud.images().join("zeros");
    fs::File::create(&zeros).unwrap().set_len(4 * MIB).unwrap();
    for size in [1, 4, 1024, 1_048_576] {
        let image = cloud.mkfs("qcow2", &size.to_string()).run().succeeds().empty_image();
        qemu_img_check(&image);
        assert_eq!(virtual_size(&image, "qcow2"), size * MIB);
        assert!(allocated(&image) < 2 * MIB);
        assert!(info(&image, "qcow2").get("backing-filename").is_none());
        same_content(&zeros, "raw", &image, "qcow2");
    }
}

#[test]
fn a_swap_image_is_swap_space() {
    let cloud = Cloud::new();
    let image = cloud.mkfs("swap", "16").run().succeeds().empty_image();
    assert_eq!(fs::metadata(&image).unwrap().len(), 16 * MIB);
    assert_eq!(blkid(&image, "TYPE"), "swap");
}

#[test]
fn every_file_system_that_is_supported_by_default_is_made() {
    let cloud = Cloud::new();
    for (kind, size) in [("ext2", "8"), ("ext3", "16"), ("ext4", "16"), ("xfs", "320")] {
        println!("{kind}");
        let image = cloud.mkfs("raw", size).set("IMAGE/FS", kind).run().succeeds().empty_image();
        assert_eq!(fs::metadata(&image).unwrap().len(), size.parse::<u64>().unwrap() * MIB);
        check_file_system(kind, &image);

        let image = cloud.mkfs("qcow2", size).set("IMAGE/FS", kind).run().succeeds().empty_image();
        qemu_img_check(&image);
        assert_eq!(virtual_size(&image, "qcow2"), size.parse::<u64>().unwrap() * MIB);
        check_file_system(kind, &as_raw(&cloud, &image));
    }
}

#[test]
fn a_file_system_leaves_the_rest_a_hole() {
    let cloud = Cloud::new();
    let image = cloud.mkfs("raw", "2048").set("IMAGE/FS", "ext4").run().succeeds().empty_image();
    assert!(allocated(image) < 100 * MIB);
    let image = cloud.mkfs("qcow2", "2048").set("IMAGE/FS", "ext4").run().succeeds().empty_image();
    assert!(allocated(image) < 100 * MIB);
}

#[test]
fn the_administrator_s_options_are_used() {
    let cloud = Cloud::new();
    cloud.datastore_conf(
        "# Of the administrator\nSUPPORTED_FS=\"ext2,ext3,ext4,xfs\"\n\
         FS_OPTS_ext4=\"-L 'my disk' -O ^has_journal\"\nFS_OPTS_ext2=-Lplain\n",
    );
    let image = cloud.mkfs("raw", "16").set("IMAGE/FS", "ext4").run().succeeds().empty_image();
    assert_eq!(blkid(&image, "LABEL"), "my disk");
    let image = cloud.mkfs("qcow2", "16").set("IMAGE/FS", "ext4").run().succeeds().empty_image();
    assert_eq!(blkid(&as_raw(&cloud, &image), "LABEL"), "my disk");
    let image = cloud.mkfs("raw", "16").set("IMAGE/FS", "ext2").run().succeeds().empty_image();
    assert_eq!(blkid(&image, "LABEL"), "plain");
    let image = cloud.mkfs("raw", "16").set("IMAGE/FS", "ext3").run().succeeds().empty_image();
    assert_eq!(blkid(&image, "LABEL"), "");
}

#[test]
fn the_administrator_decides_what_is_supported() {
    let cloud = Cloud::new();
    cloud.datastore_conf("SUPPORTED_FS=\"ext4, minix\"\n");
    let image = cloud.mkfs("raw", "4").set("IMAGE/FS", "minix").run().succeeds().empty_image();
    check_file_system("minix", &image);
    cloud
        .mkfs("raw", "16")
        .set("IMAGE/FS", "ext2")
        .run()
        .fails()
        .naming("IMAGE/FS")
        .saying("ext2")
        .saying("SUPPORTED_FS")
        .saying("ext4");
}

#[test]
fn a_file_system_without_a_program_says_what_is_missing() {
    let cloud = Cloud::new();
    cloud.datastore_conf("SUPPORTED_FS=\"ext4,nosuchfs\"\n");
    cloud
        .mkfs("raw", "16")
        .set("IMAGE/FS", "nosuchfs")
        .run()
        .fails()
        .naming("IMAGE/FS")
        .saying("mkfs.nosuchfs");
}

#[test]
fn an_unsupported_file_system_is_refused() {
    let cloud = Cloud::new();
    for kind in [
        "ntfs",
        "btrfs",
        "EXT 4",
        "ext4;touch trap",
        "$(touch trap)",
        "-n",
        "../../bin/sh",
        "ext",
        "ext4,xfs",
    ] {
        println!("{kind}");
        cloud
            .mkfs("raw", "16")
            .set("IMAGE/FS", kind)
            .run()
            .fails()
            .naming("IMAGE/FS")
            .saying(kind)
            .saying("ext4");
    }
}

#[test]
fn xfs_that_is_too_small_says_so() {
    let cloud = Cloud::new();
    for size in ["1", "4", "15"] {
        for format in ["raw", "qcow2"] {
            let failure = cloud
                .mkfs(format, size)
                .set("IMAGE/FS", "xfs")
                .run()
                .fails()
                .naming("IMAGE/SIZE")
                .saying("xfs")
                .saying_any(&["minimum", "at least", "larger", "too small"]);
            for word in ["Usage", "ferrostore-work", "staging", ";", "`", "exit status"] {
                assert!(!failure.text.contains(word), "one plain sentence: {}", failure.text);
            }
        }
    }
}

#[test]
fn a_program_that_fails_gives_the_user_its_reason() {
    let cloud = Cloud::new();
    cloud.datastore_conf("FS_OPTS_ext4=\"-b 77\"\n");
    cloud
        .mkfs("raw", "16")
        .set("IMAGE/FS", "ext4")
        .run()
        .fails()
        .naming("IMAGE/FS")
        .saying("invalid block size");
}

#[test]
fn another_format_is_refused() {
    let cloud = Cloud::new();
    for format in ["vmdk", "vdi", "qcow3", "QCOW 2", "iso", "raw;touch trap", "-f"] {
        for size in ["4", "1024"] {
            cloud
                .mkfs(format, size)
                .run()
                .refused(Rule::CantBeMade)
                .naming("IMAGE/FORMAT")
                .saying(format);
        }
    }
}

#[test]
fn a_size_that_makes_no_sense_is_refused() {
    let cloud = Cloud::new();
    for size in [
        "0",
        "-1",
        "-4",
        "4.5",
        "four",
        "0x10",
        "4M",
        "1e3",
        "18446744073709551615",
        "18446744073709551616",
        "17592186044416",
        "9999999999999999999999999999",
    ] {
        for format in ["raw", "qcow2", "swap"] {
            println!("{format} {size}");
            cloud
                .mkfs(format, size)
                .run()
                .refused_by_any(&[Rule::NotValid, Rule::MoreThanAFileHolds])
                .naming("IMAGE/SIZE")
                .saying(size);
        }
    }
    cloud.mkfs("raw", "").run().refused(Rule::MissingAttribute).naming("IMAGE/SIZE");
    cloud
        .mkfs("raw", "4")
        .without("IMAGE/SIZE")
        .run()
        .refused(Rule::MissingAttribute)
        .naming("IMAGE/SIZE");
}

#[test]
fn save_as_only_replies_a_path() {
    let cloud = Cloud::new();
    for size in ["4", "0", ""] {
        let reply = cloud.mkfs("save_as", size).run().succeeds();
        reply.changing_nothing();
        reply.new_name(reply.line());
    }
    let reply = cloud.mkfs("save_as", "4").without("IMAGE/SIZE").run().succeeds();
    reply.changing_nothing();
}

#[test]
fn two_images_never_share_a_path() {
    let cloud = Cloud::new();
    let one = cloud.mkfs("save_as", "4").run().succeeds();
    let other = cloud.mkfs("save_as", "4").run().succeeds();
    assert_ne!(one.line(), other.line());
    let one = cloud.mkfs("raw", "4").run().succeeds().empty_image();
    let other = cloud.mkfs("raw", "4").run().succeeds().empty_image();
    assert_ne!(one, other);
}

#[test]
fn a_missing_base_path_is_created() {
    let cloud = Cloud::new();
    fs::remove_dir_all(cloud.root().join("one/var/datastores")).unwrap();
    cloud.mkfs("raw", "4").run().succeeds().empty_image();
}

#[test]
fn a_base_path_that_is_read_only_is_named() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(4 * MIB));
    run("mount", ["-o", "remount,ro", cloud.datastore().to_str().unwrap()]);
    for format in ["raw", "qcow2", "swap"] {
        cloud.mkfs(format, "1").run().fails().naming("DATASTORE/BASE_PATH").saying("read-only");
    }
}

#[test]
fn a_file_system_that_does_not_fit_leaves_nothing() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(64 * KIB));
    for format in ["raw", "qcow2"] {
        cloud
            .mkfs(format, "1024")
            .set("IMAGE/FS", "ext4")
            .run()
            .refused(Rule::CommandFailed)
            .saying_any(&["space", "IMAGE/FS"]);
    }
}

#[test]
fn a_datastore_of_another_type_is_refused() {
    let cloud = Cloud::new();
    for kind in ["1", "3"] {
        cloud
            .mkfs("raw", "4")
            .set_escaped("DATASTORE/TYPE", kind)
            .run()
            .refused(Rule::WrongDatastoreType)
            .naming("DATASTORE/TYPE");
    }
}

#[test]
fn the_path_of_the_image_plays_no_part() {
    let cloud = Cloud::new();
    cloud
        .mkfs("raw", "4")
        .set("IMAGE/PATH", "/etc/passwd")
        .set("IMAGE/SOURCE", "/etc/passwd")
        .run()
        .succeeds()
        .empty_image();
}

#[test]
fn configuration_is_read_and_never_run() {
    let cloud = Cloud::new();
    let trap = cloud.root().join("trap");
    cloud.datastore_conf(&format!(
        "touch {0}\nX=$(touch {0})\nSUPPORTED_FS='ext4' # comment\nexport Y=`touch {0}`\nnot a line\n",
        trap.display()
    ));
    cloud.mkfs("raw", "16").set("IMAGE/FS", "ext4").run().succeeds().empty_image();
    cloud
        .mkfs("raw", "16")
        .set("IMAGE/FS", "ext2")
        .run()
        .refused(Rule::FileSystemNotSupported)
        .naming("IMAGE/FS");
    assert!(!trap.exists());
}
