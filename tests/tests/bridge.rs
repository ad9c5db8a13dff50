//! Every action of a file datastore, done by a bridge host.

use ferrostore_tests::{Bridges, Cloud, MIB, virtual_size};
use std::fs;

#[test]
fn a_bridge_host_makes_measures_and_deletes_images() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let host = bridges.host(1);
    let usage = bridges.bridged(cloud.monitor()).run().succeeds().text;
    let lines: Vec<_> = usage.lines().collect();
    assert_eq!(lines.len(), 3, "{usage}");
    assert!(lines[1].starts_with("TOTAL_MB=2") || lines[1].starts_with("TOTAL_MB=3"), "{usage}");
    let call = cloud.mkfs("qcow2", "12").set("IMAGE/FS", "ext4");
    let reply = bridges.bridged(call).run().succeeds();
    let image = reply.empty_image();
    assert!(image.starts_with(host.datastore()), "{}", image.display());
    assert_eq!(virtual_size(&image, "qcow2"), 12 * MIB);
    assert!(!cloud.datastore().exists(), "the front-end has no storage, and gets none");
    let source = reply.line().to_owned();
    let info = bridges.bridged(cloud.export(&source, "qcow2")).run().succeeds().text;
    assert!(info.contains("<SIZE>12</SIZE>") && info.contains(&source), "{info}");
    let name = image.file_name().unwrap().to_str().unwrap();
    bridges.bridged(cloud.rm(&source)).run().succeeds().silently().removing(&[name]);
    bridges.bridged(cloud.rm(&source)).run().succeeds().silently().changing_nothing();
    assert_eq!(fs::read_dir(host.path("/var/tmp/one/datastore/fs")).unwrap().count(), 10);
    assert!(!host.path("/var/tmp/ferrostore-0").exists(), "nothing had to be sent");
}
