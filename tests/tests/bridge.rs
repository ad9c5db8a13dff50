//! Every action of a file datastore, done by a bridge host.

use ferrostore_tests::{Bridges, Cloud, MIB, pattern, same_bytes, virtual_size};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

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

/// Makes a call of each action, on an image with snapshot 0, after which `check` gets its name. The front-end's ssh has
/// `configuration`.
fn call_each(configuration: &str, mut check: impl FnMut(&Bridges, &str)) -> Bridges {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let source = cloud.stored(1, &disk);
    let bridges = Bridges::of(&cloud, 1);
    bridges.configure(configuration);
    let host = bridges.host(1);
    let image = host.path(Path::new(&source.replace("//", "/")));
    let snapshots = image.with_extension("snap");
    for (action, call) in cloud.every_action(&disk, &source) {
        let _ = fs::create_dir(&snapshots);
        fs::copy(&disk, snapshots.join("0")).unwrap();
        let reply = bridges.bridged(call).run().succeeds();
        match action {
            "stat" => assert_eq!(reply.line(), "1"),
            "cp" | "clone" => same_bytes(&disk, reply.image("raw")),
            "mkfs" => drop(reply.empty_image()),
            "monitor" => assert!(reply.text.starts_with("USED_MB="), "{}", reply.text),
            "export" => assert!(reply.line().contains(&source), "{}", reply.line()),
            "snap_revert" => assert!(reply.text.is_empty() && snapshots.join("0").exists()),
            "snap_delete" => assert!(reply.text.is_empty() && !snapshots.join("0").exists()),
            "snap_flatten" => assert!(reply.text.is_empty() && !snapshots.exists()),
            _ => assert!(reply.text.is_empty() && !image.exists() && !snapshots.exists()),
        }
        check(&bridges, action);
    }
    bridges
}

#[test]
fn one_connection_serves_each_action() {
    let mut before = None;
    call_each("", |bridges, action| {
        let now = bridges.host(1).connections();
        // The first connection of all is the harness's own.
        let made = now - before.replace(now).unwrap_or(1);
        // Measuring a file of the front-end takes no storage.
        assert_eq!(made, usize::from(action != "stat"), "connections for {action}");
    });
}

/// Ends the connection that all calls have shared.
fn end_shared(bridges: &Bridges) {
    let words = bridges.neighbour();
    let mut ssh = std::process::Command::new(&words[0]);
    let ended = ssh.args(&words[1..]).args(["ssh", "-q", "-O", "exit", "host1"]).status();
    assert!(ended.unwrap().success(), "there was a shared connection");
}

const SHARED: &str = "  ControlMaster auto\n  ControlPath ~/.ssh/shared-%n\n  ControlPersist 600\n";

#[test]
fn all_actions_share_a_connection_where_the_administrators_configuration_says_so() {
    let bridges = call_each(SHARED, |bridges, action| {
        // The harness's own, and one for all calls.
        assert_eq!(bridges.host(1).connections(), 2, "after {action}");
    });
    end_shared(&bridges);
}

#[test]
fn a_driver_that_ends_leaves_the_shared_connection_to_the_others() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    bridges.configure(SHARED);
    let host = bridges.host(1);
    bridges.bridged(cloud.monitor()).run().succeeds();
    let disk = cloud.file("disk.img", pattern(5, 64 * MIB as usize));
    for signal in ["TERM", "KILL"] {
        let (mut child, input) = bridges.bridged(cloud.cp(&disk)).start();
        child.stdin.take().unwrap().write_all(&input.unwrap()).unwrap();
        let start = Instant::now();
        while host.processes("cp").is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "no driver there");
            thread::sleep(Duration::from_millis(1));
        }
        ferrostore_tests::run("kill", ["-s", signal, &child.id().to_string()]);
        child.wait().unwrap();
        while !host.processes("cp").is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "it goes on after {signal}");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(host.listing().names(), [""; 0], "nothing is left after {signal}");
        bridges.bridged(cloud.monitor()).run().succeeds();
        assert_eq!(host.connections(), 2, "the harness's own, and the shared one");
    }
    end_shared(&bridges);
}
