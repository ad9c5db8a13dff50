//! `fsck`: what it says of a datastore, and that saying it changes nothing.

mod harmless;
mod images;
mod list;
mod lying_about;
mod snapshots;

use ferrostore_tests::{Cloud, Convention, MIB};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(crate) fn name(number: u32) -> String {
    format!("{number:032x}")
}

/// A sound datastore with one raw image and one qcow2.
pub(crate) fn two_images(cloud: &Cloud) -> [String; 2] {
    let raw = cloud.raw("disk.img", 2 * MIB);
    let qcow2 = cloud.qcow2(&raw, "disk.qcow2", "");
    [cloud.stored(1, &raw), cloud.stored(2, &qcow2)]
}

pub(crate) fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

#[test]
fn a_message_names_the_datastore_in_every_form() {
    let cloud = Cloud::new();
    two_images(&cloud);
    let message = cloud.monitor().message().clone();
    let (xml, line) = (message.xml(), message.base64());
    let none: [&str; 0] = [];
    for bytes in [xml.as_slice(), line.as_bytes()] {
        let file = cloud.file("message", bytes);
        cloud.fsck_with(["--message".as_ref(), file.as_os_str()]).run().clean().images(2);
        cloud.fsck_with(["--message", "-"]).input(bytes).run().clean().images(2);
        cloud.fsck_with(none).input(bytes).run().clean().images(2);
    }
    let list = cloud.file("list", format!("{}\n", name(1)));
    let examination =
        cloud.fsck_with(none).input(xml).with(["--images".as_ref(), list.as_os_str()]);
    examination.run().finds("warning", &name(2), "orphan");
}

#[test]
fn a_datastore_that_is_not_of_files_here_is_refused() {
    let cloud = Cloud::new();
    let call = || cloud.monitor().by(Convention::StdinXml);
    for (attribute, value) in [
        ("DATASTORE/DS_MAD", "lvm"),
        ("DATASTORE/TEMPLATE/BRIDGE_LIST", "host1 host2"),
        ("DATASTORE/TYPE", "1"),
        ("DATASTORE/BASE_PATH", ""),
        ("DATASTORE/BASE_PATH", "relative"),
    ] {
        let xml = call().set(attribute, value).message().xml();
        let why = cloud.fsck_with(["--message", "-"]).input(xml).refuses();
        assert!(why.contains(attribute) && why.contains(value), "{why}");
    }
}

#[test]
fn what_can_not_be_examined_is_named_with_a_remedy() {
    let cloud = Cloud::new();
    let file = cloud.file("file", "x");
    for path in [cloud.root().join("nowhere"), file] {
        let why = cloud.fsck_with([&path]).refuses();
        assert!(
            why.contains(path.to_str().unwrap()) && why.contains("give the directory"),
            "{why}"
        );
    }
    for arguments in [&["--frobnicate"][..], &["a", "b"], &["--datastore", "x", "/"]] {
        let why = cloud.fsck_with(arguments).refuses();
        assert!(why.contains("--help"), "{why}");
    }
    let why = cloud.fsck_with(["--message", "-", "--images", "-"]).refuses();
    assert!(why.contains("standard input"), "{why}");
    let why = cloud.fsck_with(["--message", "-"]).input("no message").refuses();
    assert!(why.contains("base64"), "{why}");
}

#[test]
fn a_report_that_is_not_read_is_an_error() {
    let cloud = Cloud::new();
    let full = ["sh", "-c", "exec \"$@\" > /dev/full", "sh"];
    let why = cloud.fsck().under(full).refuses();
    assert!(why.contains("standard output"), "{why}");
}

#[test]
fn help_tells_options_exit_codes_and_examples() {
    let cloud = Cloud::new();
    let (code, help, _) = cloud.fsck_with(["--help"]).start();
    assert_eq!(code, 0);
    for word in [
        "DIRECTORY",
        "--message",
        "--images",
        "--datastore",
        "--json",
        "Exit code",
        "Examples",
        "oneimage list -x",
        "Changes nothing",
    ] {
        assert!(help.contains(word), "{word} is missing in:\n{help}");
    }
    let (code, version, _) = cloud.fsck_with(["--version"]).start();
    assert_eq!((code, version.starts_with("fsck (ferrostore) ")), (0, true), "{version}");
}
