//! The canned messages of `tests/canned` do what their table says, however they are handed over.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferrostore_tests::{Cloud, Outcome, run};
use std::fs;
use std::path::Path;

const PLAIN: &str = "0123456789abcdef0123456789abcdef";
const CHAIN: &str = "c0ffeec0ffeec0ffeec0ffeec0ffee00";

/// The four ways of the table: XML in a file, XML on standard input, base64 in both conventions.
#[derive(Clone, Copy, Debug)]
enum Way {
    MessageFile,
    Stdin,
    NewBase64,
    OldBase64,
}

const WAYS: [Way; 4] = [Way::MessageFile, Way::Stdin, Way::NewBase64, Way::OldBase64];

/// Sends a canned message to its driver in a world that was made for it.
fn send(cloud: &Cloud, action: &str, message: &str, way: Way) -> Outcome {
    let canned = Path::new(env!("CARGO_MANIFEST_DIR")).join("canned");
    run(canned.join("prepare.sh").to_str().unwrap(), [cloud.images(), cloud.datastore()]);
    let xml = fs::read_to_string(canned.join(format!("{message}.xml")))
        .unwrap()
        .replace("/var/tmp/ferrostore-demo//datastores/104", &cloud.base_path())
        .replace("/var/tmp/ferrostore-demo", cloud.root().to_str().unwrap());
    let base64 = encode(&xml);
    let call = cloud.call(action);
    match way {
        Way::MessageFile => {
            let file = cloud.root().join("message.xml");
            fs::write(&file, xml).unwrap();
            call.arguments(["--message", file.to_str().unwrap()]).input("")
        }
        Way::Stdin => call.arguments([""; 0]).input(xml),
        Way::NewBase64 => call.arguments(["30"]).input(base64),
        Way::OldBase64 => call.arguments([base64.as_str(), "30"]).input(""),
    }
    .run()
}

fn encode(xml: &str) -> String {
    STANDARD.encode(xml)
}

#[test]
fn stat_measures_the_gzip_file() {
    for way in WAYS {
        send(&Cloud::new(), "stat", "stat", way).succeeds().replies("8");
    }
}

#[test]
fn cp_keeps_the_qcow2_file() {
    for way in WAYS {
        send(&Cloud::new(), "cp", "cp", way).succeeds().image("qcow2");
    }
}

#[test]
fn cp_turns_the_gzip_file_into_qcow2() {
    for way in WAYS {
        send(&Cloud::new(), "cp", "cp-gz-to-qcow2", way).succeeds().image("qcow2");
    }
}

#[test]
fn mkfs_makes_an_empty_image() {
    for way in WAYS {
        send(&Cloud::new(), "mkfs", "mkfs", way).succeeds().empty_image();
        send(&Cloud::new(), "mkfs", "mkfs-qcow2", way).succeeds().empty_image();
    }
}

#[test]
fn clone_copies_the_stored_image() {
    for way in WAYS {
        send(&Cloud::new(), "clone", "clone", way).succeeds().image("qcow2");
    }
}

#[test]
fn rm_deletes_the_stored_image() {
    for way in WAYS {
        send(&Cloud::new(), "rm", "rm", way).succeeds().silently().removing(&[PLAIN]);
    }
}

#[test]
fn snap_revert_replaces_the_live_disk() {
    for way in WAYS {
        let reply = send(&Cloud::new(), "snap_revert", "snap_revert", way).succeeds();
        reply.silently();
        let live = format!("{CHAIN}.snap/3");
        assert_eq!(reply.outcome.after.changed_since(&reply.outcome.before), [live.as_str()]);
    }
}

#[test]
fn snap_flatten_leaves_an_image_without_snapshots() {
    for way in WAYS {
        let reply = send(&Cloud::new(), "snap_flatten", "snap_flatten", way).succeeds();
        reply.silently();
        assert_eq!(reply.outcome.after.names(), [PLAIN, CHAIN]);
    }
}

#[test]
fn snap_delete_removes_the_snapshot() {
    for way in WAYS {
        let gone = format!("{CHAIN}.snap/2");
        send(&Cloud::new(), "snap_delete", "snap_delete", way)
            .succeeds()
            .silently()
            .removing(&[&gone]);
    }
}

#[test]
fn monitor_replies_three_lines() {
    for way in WAYS {
        let reply = send(&Cloud::new(), "monitor", "monitor", way).succeeds();
        assert_eq!(reply.text.lines().count(), 3, "{}", reply.text);
    }
}

#[test]
fn export_names_the_stored_image() {
    for way in WAYS {
        let reply = send(&Cloud::new(), "export", "export", way).succeeds();
        assert!(reply.text.contains(PLAIN), "{}", reply.text);
    }
}
