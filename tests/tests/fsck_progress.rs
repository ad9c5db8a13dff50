//! `fsck` on a terminal: how far it is.

use ferrostore_tests::{Cloud, executable};
use std::process::Command;

/// `fsck` of 200 images on a slow disk, in a terminal for its standard error, or for nothing.
fn fsck(on_terminal: bool) -> String {
    let cloud = Cloud::new();
    for number in 0..200 {
        std::fs::write(cloud.source(number), "image").unwrap();
    }
    let log = cloud.root().join("trace");
    let slow = format!(
        "strace -f -qq -o {} -e inject=lstat,newfstatat,statx:delay_enter=5ms {} {}",
        log.display(),
        executable("fsck").display(),
        cloud.datastore().display()
    );
    let output = if on_terminal {
        Command::new("script").args(["-qec", &slow, "/dev/null"]).output()
    } else {
        Command::new("sh").args(["-c", &format!("{slow} 2>&1")]).output()
    };
    let output = output.expect("script is installed");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_bar_counts_the_images_on_a_terminal() {
    let text = fsck(true);
    assert!(text.contains(" of 200 ") && text.contains(" left"), "{text}");
    // Each line of the report begins a line of the screen.
    let report = fsck(false);
    let screen = text.replace('\r', "\n").replace("\u{1b}[2K", "");
    for line in report.lines().filter(|line| !line.contains("/var/tmp")) {
        assert!(screen.lines().any(|shown| shown == line), "{line:?} is not in {screen}");
    }
}

#[test]
fn there_is_no_bar_where_there_is_no_terminal() {
    let text = fsck(false);
    assert!(!text.contains(" left") && !text.contains('\u{1b}'), "{text}");
}
