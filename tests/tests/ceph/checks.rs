//! `ferrostore fsck --pool`.

use ferrostore_tests::{Ceph, executable};
use std::process::Command;

/// The exit code and the lines of a check.
fn check(ceph: &Ceph, list: Option<&str>) -> (Option<i32>, Vec<String>) {
    let mut command = Command::new(executable("ferrostore"));
    command.args(["fsck", "--pool", ceph.pool(), "--conf"]).arg(ceph.conf());
    if let Some(list) = list {
        command.arg("--images").arg(ceph.cloud.file("list.xml", list));
    }
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.lines().map(str::to_owned).collect())
}

#[test]
fn a_pool_is_listed_and_held_against_what_oned_knows() {
    let ceph = Ceph::new();
    for (name, snapshots) in [("one-5", &["3"][..]), ("one-5-0:1", &["0", "1"]), ("one-5-7-0", &[])]
    {
        ceph.image(name, "text");
        for snapshot in snapshots {
            ceph.take_snapshot(name, snapshot);
        }
    }
    let (code, lines) = check(&ceph, None);
    let expected = [
        "one-5  image, 8 MiB, snapshots 3",
        "one-5-0:1  carrier, 8 MiB, snapshots 0 1",
        "one-5-7-0  other, 8 MiB, no snapshots",
        "1 image, 0 problems",
    ];
    assert_eq!((code, lines), (Some(0), expected.map(str::to_owned).to_vec()));

    ceph.image("one-6.ferrostore", "text");
    ceph.image("one-8", "text");
    let image = |id: u32, snapshot: &str| {
        format!(
            "<IMAGE><ID>{id}</ID><SOURCE>{}</SOURCE><STATE>1</STATE><SNAPSHOTS><SNAPSHOT><ID>{snapshot}</ID></SNAPSHOT></SNAPSHOTS></IMAGE>",
            ceph.spec(&format!("one-{id}"))
        )
    };
    let list = format!("<IMAGE_POOL>{}{}</IMAGE_POOL>", image(5, "9"), image(7, "0"));
    let (code, lines) = check(&ceph, Some(&list));
    let text = lines.join("\n");
    assert_eq!(code, Some(3), "{text}");
    for words in [
        "  damage: oned knows the snapshots 9 of it",
        "one-6.ferrostore  left-over\n  warning: a driver that was killed has left this",
        "one-7  missing\n  damage: image 7 of oned is not in the pool",
        "  warning: oned doesn't know this image: it is an orphan",
        "2 images, 4 problems",
    ] {
        assert!(text.contains(words), "{words:?} should be in:\n{text}");
    }
    // Nothing was changed.
    assert!(ceph.names().contains(&"one-6.ferrostore".to_owned()));
}

#[test]
fn the_pool_may_be_named_by_a_message() {
    let ceph = Ceph::new();
    ceph.image("one-5", "text");
    let message = ceph.cloud.file("message.xml", ceph.call("monitor", 0).message().xml());
    let mut command = Command::new(executable("ferrostore"));
    command.args(["fsck", "--message"]).arg(message).env("ONE_LOCATION", ceph.cloud.one_location());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text, "one-5  image, 8 MiB, no snapshots\n1 image, 0 problems\n");
}
