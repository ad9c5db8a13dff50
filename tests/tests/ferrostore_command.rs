//! The `ferrostore` command itself: its help, what it refuses, and `fsck` under its proper name.

use ferrostore_tests::{Cloud, MIB, executable};
use std::process::{Command, Stdio};

#[test]
fn help_lists_the_subcommands_and_each_explains_itself() {
    let cloud = Cloud::new();
    let help = cloud.ferrostore(["--help"]).well().text;
    for name in ["log", "metrics", "fsck", "trash"] {
        let listed = help.lines().any(|line| line.trim_start().starts_with(name));
        assert!(listed, "{name} should be in {help}");
        let own = cloud.ferrostore([name, "--help"]).well().text;
        assert!(own.contains(&format!("ferrostore {name}")), "{own}");
    }
    let nothing = cloud.ferrostore([""; 0]);
    assert_eq!((nothing.code, nothing.text.as_str()), (1, ""));
    assert!(nothing.error.contains("Usage:"), "{}", nothing.error);
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_in_one_line() {
    let cloud = Cloud::new();
    cloud.ferrostore(["format"]).refusing("no subcommand \"format\"");
    cloud.ferrostore(["fsck", "--fix"]).refusing("ferrostore: unexpected argument");
    cloud
        .ferrostore(["fsck", "/no/such/place"])
        .refusing("ferrostore fsck: the datastore /no/such");
}

#[test]
fn fsck_says_the_same_under_both_names() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let image = cloud.cp(&disk).driver("qcow2").run().succeeds().image("qcow2");
    let directory = cloud.datastore();
    let (code, text, _) = cloud.fsck().start();
    let said = cloud.ferrostore(["fsck".as_ref(), directory.as_os_str()]).well();
    assert_eq!((said.code, said.text), (code, text));

    std::fs::write(image, "damaged").unwrap();
    let (code, text, _) = cloud.fsck().start();
    let said = cloud.ferrostore(["fsck".as_ref(), directory.as_os_str()]);
    assert_eq!((said.code, said.text), (code, text));
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let mut child = Command::new(executable("ferrostore"))
        .arg("--help")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
