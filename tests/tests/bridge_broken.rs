//! Connections that break, and drivers that are told to stop, at any moment.

use ferrostore_tests::layouts::Copies;
use ferrostore_tests::{
    BridgeHost, Bridges, Call, Cloud, Contents, Listing, MIB, pattern, run, same_bytes,
    same_content,
};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How a call is cut off.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// A signal for the driver on the front-end.
    Here(&'static str),
    /// A signal for the driver on the bridge host.
    There(&'static str),
    /// The connection breaks, at the front-end's end or at the other.
    Ssh,
    Sshd,
}

const CUTS: [Cut; 7] = [
    Cut::Here("KILL"),
    Cut::Here("TERM"),
    Cut::Here("INT"),
    Cut::There("KILL"),
    Cut::There("TERM"),
    Cut::Ssh,
    Cut::Sshd,
];

fn begin(call: &Call) -> Child {
    let (mut command, input) = call.command();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the driver can be started");
    child.stdin.take().unwrap().write_all(&input).unwrap();
    child
}

/// Waits until the process has become the driver, which the namespace is entered before.
fn await_driver(process: u32, action: &str) {
    let name = || fs::read_to_string(format!("/proc/{process}/comm"));
    while name().is_ok_and(|name| name.trim() != action) {
        thread::sleep(Duration::from_millis(1));
    }
}

fn signal(name: &str, process: u32) {
    // It may have ended meanwhile.
    let _ = std::process::Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// The ssh that the driver `parent` has started.
fn ssh_of(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

impl Cut {
    fn make(self, host: &BridgeHost, action: &str, driver: u32) {
        match self {
            Self::Here(name) => signal(name, driver),
            Self::There(name) => {
                host.processes(action).into_iter().for_each(|process| signal(name, process));
            }
            Self::Ssh => ssh_of(driver).into_iter().for_each(|ssh| signal("KILL", ssh)),
            Self::Sshd => {
                // The listener stays.
                let mut servers = host.processes("sshd");
                servers.retain(|&server| Some(server) != host.listener());
                for server in servers {
                    signal("KILL", server);
                }
            }
        }
    }
}

/// Cuts a call off after some time; what it said, and how long it took to end then.
fn cut_after(
    call: &Call,
    action: &str,
    host: &BridgeHost,
    cut: Cut,
    delay: Duration,
) -> (Output, Duration) {
    let child = begin(call);
    await_driver(child.id(), action);
    thread::sleep(delay);
    cut.make(host, action, child.id());
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    let took = start.elapsed();
    // What the other side does without us, it does soon.
    while !host.processes(action).is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the driver there goes on after {cut:?}"
        );
        thread::sleep(Duration::from_millis(5));
    }
    (output, took)
}

/// Names in the datastore that are no images.
fn left_over(host: &BridgeHost) -> Vec<String> {
    let names = host.listing();
    names.names().into_iter().filter(|n| n.starts_with('.')).map(str::to_owned).collect()
}

#[track_caller]
fn check_words(output: &Output, cut: Cut, action: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let words: Vec<_> = stderr.lines().filter(|line| !line.contains(": host1: removed")).collect();
    let told = words.iter().filter(|line| line.starts_with(&format!("{action}: "))).count();
    if output.status.success() {
        assert_eq!(told, 0, "a success has no error after {cut:?}: {stderr}");
    } else if output.status.code().is_none() {
        // Before it had its own way with signals, a driver has done nothing.
        assert!(matches!(cut, Cut::Here(_)), "{cut:?}: {}", output.status);
    } else {
        assert_eq!(output.status.code(), Some(1), "{cut:?}: {stderr}");
        assert_eq!(told, 1, "one line after {cut:?}: {stderr}");
        assert_eq!(output.stdout, b"", "no reply after {cut:?}");
    }
}

/// Moments over the length of an undisturbed call.
fn moments(whole: Duration, count: u32) -> impl Iterator<Item = Duration> {
    (0..count).map(move |number| whole * number / count + whole / (2 * count))
}

/// Cuts calls that make an image off, at so many moments and in every way; `check` looks at an image that is there.
fn make_and_cut(
    bridges: &Bridges,
    cloud: &Cloud,
    action: &str,
    call: &Call,
    count: u32,
    check: &dyn Fn(&Path),
) {
    let host = bridges.host(1);
    call.clone().run().succeeds();
    let old = host.listing();
    let start = Instant::now();
    call.clone().run().succeeds();
    let whole = start.elapsed();
    let remove_new = |old: &Listing| {
        for name in host.listing().changed_since(old) {
            fs::remove_file(host.datastore().join(name)).unwrap();
        }
    };
    remove_new(&old);
    let mut counts = (0, 0);
    for cut in CUTS {
        for delay in moments(whole, count) {
            let (output, took) = cut_after(call, action, host, cut, delay);
            check_words(&output, cut, action);
            if let Cut::Here("TERM" | "INT") = cut {
                assert!(took < Duration::from_secs(3), "{cut:?} took {took:?}");
            }
            if cut != Cut::Here("KILL") && !matches!(cut, Cut::There("KILL")) {
                assert_eq!(left_over(host), [""; 0], "right after {cut:?} at {delay:?}");
            }
            bridges.bridged(cloud.monitor()).run().succeeds();
            assert_eq!(left_over(host), [""; 0], "after the next call, {cut:?} at {delay:?}");
            let after = host.listing();
            let new = after.changed_since(&old);
            if output.status.success() {
                counts.0 += 1;
                assert_eq!(new.len(), 1, "a success has its image");
            } else {
                counts.1 += 1;
                let most = usize::from(cut == Cut::Here("KILL"));
                assert!(
                    new.len() <= most,
                    "a failure has none: {new:?} after {cut:?} at {delay:?}"
                );
            }
            for name in new {
                check(&host.datastore().join(name));
            }
            remove_new(&old);
            assert_eq!(host.listing(), old, "all else is as it was after {cut:?} at {delay:?}");
        }
    }
    println!(
        "{action}: {} cuts: {} came too late, {} failed; 0 left-overs",
        counts.0 + counts.1,
        counts.0,
        counts.1
    );
    assert!(counts.1 >= 2 * count, "many cuts hit: {}", counts.1);
}

#[test]
fn a_registration_that_is_cut_off_leaves_the_old_state_or_the_new() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let disk = cloud.file("disk.img", pattern(5, 24 * MIB as usize));
    let call = bridges.bridged(cloud.cp(&disk));
    make_and_cut(&bridges, &cloud, "cp", &call, 6, &|image| same_bytes(&disk, image));
}

#[test]
fn an_empty_image_or_a_clone_that_is_cut_off_leaves_the_old_state_or_the_new() {
    let cloud = Cloud::new();
    let disk = cloud.file("disk.img", pattern(5, 24 * MIB as usize));
    let source = cloud.stored(1, &disk);
    let bridges = Bridges::of(&cloud, 1);
    let call = bridges.bridged(cloud.clone_of(&source, "raw").driver("qcow2"));
    make_and_cut(&bridges, &cloud, "clone", &call, 3, &|image| {
        same_content(&disk, "raw", image, "qcow2");
    });
    let call = bridges.bridged(cloud.mkfs("raw", "64").set("IMAGE/FS", "ext4"));
    make_and_cut(&bridges, &cloud, "mkfs", &call, 3, &|image| {
        run("fsck.ext4", [Path::new("-fn"), image]);
    });
}

#[test]
fn a_snapshot_action_that_is_cut_off_has_happened_or_not() {
    let cloud = Cloud::new();
    let copies = Copies::of_three_by(&cloud, "raw", 2 * MIB);
    let bridges = Bridges::of(&cloud, 1);
    let host = bridges.host(1);
    let old = Contents::of(host.datastore());
    for action in ["snap_revert", "snap_delete", "snap_flatten"] {
        old.restore(host.datastore());
        let call = bridges.bridged(copies.call(action, 1));
        call.clone().run().succeeds();
        let new = Contents::of(host.datastore());
        old.restore(host.datastore());
        let start = Instant::now();
        call.clone().run().succeeds();
        let whole = start.elapsed();
        let mut happened = 0;
        for cut in CUTS {
            for delay in moments(whole, 3) {
                old.restore(host.datastore());
                let (output, _) = cut_after(&call, action, host, cut, delay);
                check_words(&output, cut, action);
                let at = format!("{action}, {cut:?} at {delay:?}: {output:?}");
                bridges.bridged(cloud.monitor()).run().succeeds();
                assert_eq!(left_over(host), [""; 0], "{at}");
                let now = Contents::of(host.datastore());
                assert!(now == new || (now == old && !output.status.success()), "{at}");
                happened += u32::from(now == new);
            }
        }
        println!("{action}: 21 cuts: {happened} came too late; 0 left-overs");
        assert!(happened <= 16, "many cuts hit: {happened} came too late");
    }
}

#[test]
fn a_driver_that_is_cut_off_while_it_is_sent_leaves_nothing() {
    let cloud = Cloud::new();
    let bridges = Bridges::without_drivers(&cloud, 1);
    let host = bridges.host(1);
    let copies = host.path("/var/tmp/ferrostore-0");
    let call = bridges.bridged(cloud.monitor());
    let start = Instant::now();
    call.clone().run().succeeds();
    let whole = start.elapsed();
    for cut in [Cut::Here("KILL"), Cut::Here("TERM"), Cut::Ssh, Cut::Sshd] {
        for delay in moments(whole, 8) {
            let _ = fs::remove_dir_all(&copies);
            let (output, _) = cut_after(&call, "monitor", host, cut, delay);
            check_words(&output, cut, "monitor");
            call.clone().run().succeeds();
            let names: Vec<_> =
                fs::read_dir(&copies).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names.len(), 1, "{names:?} after {cut:?} at {delay:?}");
        }
    }
}

#[test]
fn a_deletion_that_is_cut_off_has_happened_or_not() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let sources: Vec<_> = (0..40).map(|number| cloud.stored(number, &disk)).collect();
    let bridges = Bridges::of(&cloud, 1);
    let host = bridges.host(1);
    let start = Instant::now();
    bridges.bridged(cloud.rm(&sources[39])).run().succeeds();
    let whole = start.elapsed();
    let mut sources = sources.iter();
    for cut in CUTS {
        for delay in moments(whole, 5) {
            let source = sources.next().unwrap();
            let there = host.path(Path::new(&source.replace("//", "/")));
            let call = bridges.bridged(cloud.rm(source));
            let (output, _) = cut_after(&call, "rm", host, cut, delay);
            check_words(&output, cut, "rm");
            if output.status.success() {
                assert!(!there.exists(), "a success has deleted it");
            }
            call.run().succeeds();
            assert!(!there.exists());
            assert_eq!(left_over(host), [""; 0], "{cut:?} at {delay:?}");
        }
    }
}

#[test]
fn children_of_the_driver_there_end_with_it() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let host = bridges.host(1);
    // A file system maker that takes its time.
    let slow = "printf '#!/bin/sh\\nexec sleep 60\\n' >/var/tmp/mkfs.ext4; chmod 755 /var/tmp/mkfs.ext4; \
                mount --bind /var/tmp/mkfs.ext4 $(readlink -f $(command -v mkfs.ext4))";
    assert!(host.run(slow).status.success());
    for cut in [Cut::Here("TERM"), Cut::Here("KILL"), Cut::Ssh, Cut::Sshd] {
        let call = bridges.bridged(cloud.mkfs("raw", "1").set("IMAGE/FS", "ext4"));
        let child = begin(&call);
        await_driver(child.id(), "mkfs");
        let start = Instant::now();
        while host.processes("sleep").is_empty() {
            assert!(start.elapsed() < Duration::from_secs(30), "mkfs.ext4 was not started");
            thread::sleep(Duration::from_millis(5));
        }
        cut.make(host, "mkfs", child.id());
        let start = Instant::now();
        let output = child.wait_with_output().unwrap();
        check_words(&output, cut, "mkfs");
        assert!(!output.status.success());
        while !host.processes("sleep").is_empty() || !host.processes("mkfs").is_empty() {
            assert!(start.elapsed() < Duration::from_secs(10), "it goes on after {cut:?}");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(left_over(host), [""; 0], "after {cut:?}");
        assert_eq!(host.listing().names(), [""; 0]);
    }
}

#[test]
fn a_clone_between_hosts_that_is_cut_off_leaves_nothing() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 2);
    let disk = cloud.file("disk.img", pattern(5, 16 * MIB as usize));
    let path = cloud.datastore().with_file_name("105").join("1".repeat(32));
    let there = bridges.host(2).path(&path);
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    run("cp", [&disk, &there]);
    let call = bridges.bridged(cloud.clone_of(&path, "raw"));
    let call = call.set("DATASTORE/TEMPLATE/BRIDGE_LIST", "host1");
    let call = call.set("SOURCE_BRIDGE_LIST", "host2");
    let start = Instant::now();
    call.clone().run().succeeds();
    let whole = start.elapsed();
    let target = bridges.host(1);
    for (host, cut) in [
        (bridges.host(2), Cut::There("KILL")),
        (bridges.host(2), Cut::Sshd),
        (target, Cut::There("KILL")),
        (target, Cut::Sshd),
        (target, Cut::Here("TERM")),
        (target, Cut::Here("KILL")),
    ] {
        for delay in moments(whole, 5) {
            let before = target.listing();
            let (output, _) = cut_after(&call, "clone", host, cut, delay);
            check_words(&output, cut, "clone");
            bridges.bridged(cloud.monitor()).set_escaped("DATASTORE/ID", "0").run().succeeds();
            assert_eq!(left_over(target), [""; 0], "{cut:?} at {delay:?}");
            let after = target.listing();
            for name in after.changed_since(&before) {
                assert!(output.status.success() || cut == Cut::Here("KILL"), "{cut:?}: {name}");
                same_bytes(&disk, target.datastore().join(name));
                fs::remove_file(target.datastore().join(name)).unwrap();
            }
        }
    }
}
