//! A driver that is told to stop leaves nothing; what one that is killed leaves is swept by the next call, and
//! what a live one is about is left alone.

use ferrostore_tests::layouts::{Chain, Layout};
use ferrostore_tests::{Call, Cloud, Contents, MIB, SshHost, pattern};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

const SIGNALS: [&str; 3] = ["TERM", "INT", "HUP"];

fn work(cloud: &Cloud) -> PathBuf {
    cloud.datastore().join(".ferrostore-work")
}

/// Processes that name `path` on their command lines.
fn naming(path: &Path) -> Vec<String> {
    let path = path.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(path) && !line.contains("/deps/"))
        .collect()
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let _ = Command::new("kill").args(["-s", name, &pid]).status();
}

/// Waits until a child is gone; it may take a machine that is busy a while to run it at all.
fn gone_within_a_second(child: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        thread::sleep(Duration::from_millis(2));
    }
    false
}

fn eventually_none(path: &Path) -> Vec<String> {
    for _ in 0..200 {
        if naming(path).is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    naming(path)
}

/// Starts the call again and again, sends it a signal after `moments` of its time, and looks at what is
/// left. `after` tells of a complete result.
fn stop(cloud: &Cloud, call: &Call, moments: &[u64], after: &dyn Fn() -> bool) {
    let start = Contents::of(&cloud.datastore());
    let mut stopped = 0;
    for (number, moment) in moments.iter().enumerate() {
        start.restore(&cloud.datastore());
        let name = SIGNALS[number % SIGNALS.len()];
        let at = format!("SIG{name} after {moment} ms");
        let (mut child, input) = call.start();
        if let (Some(bytes), Some(mut pipe)) = (input, child.stdin.take()) {
            let _ = std::io::Write::write_all(&mut pipe, &bytes);
        }
        thread::sleep(Duration::from_millis(*moment));
        let early = child.try_wait().unwrap().is_some();
        signal(&child, name);
        assert!(gone_within_a_second(&mut child), "{at}: it still runs");
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let at = format!("{at}: {}, {said:?}", output.status);
        assert!(!work(cloud).exists(), "{at}: something is left");
        match (output.status.code(), output.status.signal()) {
            (Some(0), _) => assert!(after(), "{at}: a success is one"),
            (Some(1), _) => {
                stopped += 1;
                assert!(!early, "{at}");
                let lines = said.lines().filter(|line| !line.starts_with("INFO: "));
                assert_eq!(lines.count(), 1, "{at}: one line");
                assert!(said.contains("stopped by SIG"), "{at}");
                assert!(output.stdout.is_empty(), "{at}");
                assert!(Contents::of(&cloud.datastore()) == start, "{at}: nothing has changed");
            }
            // Before it came to watch for signals, it had done nothing yet.
            (None, Some(_)) => assert!(Contents::of(&cloud.datastore()) == start, "{at}"),
            _ => panic!("{at}"),
        }
        assert_eq!(eventually_none(cloud.root()), [""; 0], "{at}: children live on");
    }
    start.restore(&cloud.datastore());
    assert!(stopped >= 3, "the moments are well chosen: {stopped} of {}", moments.len());
}

/// Many moments of the first `milliseconds`.
fn moments(milliseconds: u64) -> Vec<u64> {
    (0..24).map(|number| milliseconds * number / 24).collect()
}

/// How long a call takes here, so that moments can be chosen.
fn duration(call: &Call) -> u64 {
    let start = Instant::now();
    assert!(call.output().status.success());
    start.elapsed().as_millis() as u64
}

fn count(cloud: &Cloud) -> usize {
    Contents::of(&cloud.datastore()).names().count()
}

#[test]
fn a_conversion_is_stopped_at_any_moment() {
    let cloud = Cloud::new();
    let disk = cloud.file("disk.img", pattern(1, 48 * MIB as usize));
    let packed = cloud.compressed(&disk, "gzip");
    for call in [cloud.cp(&disk).driver("qcow2"), cloud.cp(&packed)] {
        let length = duration(&call);
        fs::remove_dir_all(cloud.datastore()).unwrap();
        fs::create_dir(cloud.datastore()).unwrap();
        stop(&cloud, &call, &moments(length), &|| count(&cloud) == 1);
    }
}

#[test]
fn a_flattening_is_stopped_at_any_moment() {
    let cloud = Cloud::new();
    let mut chain =
        Chain::on(&cloud, Layout::RELATIVE, ferrostore_tests::layouts::Level::of(64 * MIB));
    for number in 1..3 {
        chain.overlay(number, number - 1, ferrostore_tests::layouts::Level::of(64 * MIB));
    }
    let call = chain.call("snap_flatten", 1);
    let start = Contents::of(&cloud.datastore());
    let length = duration(&call);
    start.restore(&cloud.datastore());
    stop(&cloud, &call, &moments(length), &|| !chain.directory().exists());
}

#[test]
fn programs_that_a_driver_runs_are_stopped_with_it() {
    let cloud = Cloud::new();
    // All of its tables are written, which takes a while.
    cloud.datastore_conf("FS_OPTS_ext4=\"-E lazy_itable_init=0,lazy_journal_init=0,nodiscard\"\n");
    let disk = cloud.file("disk.img", pattern(1, 48 * MIB as usize));
    let vmdk = cloud.converted(&disk, "disk.vmdk", "vmdk", "");
    for call in [cloud.mkfs("raw", "2048").set("IMAGE/FS", "ext4"), cloud.cp(&vmdk).driver("qcow2")]
    {
        let length = duration(&call);
        fs::remove_dir_all(cloud.datastore()).unwrap();
        fs::create_dir(cloud.datastore()).unwrap();
        stop(&cloud, &call, &moments(length), &|| count(&cloud) == 1);
    }
}

fn install_downloader(cloud: &Cloud, script: &str) {
    let folder = cloud.one_location().join("var/remotes/datastore");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("downloader.sh");
    fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_download_that_never_ends_is_stopped() {
    let cloud = Cloud::new();
    let endless = cloud.file("endless", "");
    let script = format!("cat /dev/zero & tail -f '{}'", endless.display());
    install_downloader(&cloud, &script);
    let call = cloud.cp("s3://bucket/disk.img");
    stop(&cloud, &call, &[50, 100, 150, 200, 250, 300, 400, 500, 600], &|| false);

    let host = SshHost::new();
    let endless = cloud.images().join("zeros");
    std::os::unix::fs::symlink("/dev/zero", &endless).unwrap();
    let call = cloud.cp(format!("ssh://elsewhere:{}", endless.display())).under(host.neighbour());
    stop(&cloud, &call, &[500, 1000, 1500, 2000, 2500, 3000], &|| false);
}

#[test]
fn a_killed_driver_takes_its_programs_with_it_and_the_next_call_sweeps() {
    let cloud = Cloud::new();
    cloud.datastore_conf("FS_OPTS_ext4=\"-E lazy_itable_init=0,lazy_journal_init=0,nodiscard\"\n");
    let call = cloud.mkfs("raw", "2048").set("IMAGE/FS", "ext4");
    let length = duration(&call);
    let start = Contents::of(&cloud.datastore());
    let mut left = 0;
    for moment in moments(length) {
        let (mut child, input) = call.start();
        let mut pipe = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut pipe, &input.unwrap()).unwrap();
        drop(pipe);
        thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(eventually_none(&cloud.datastore()), [""; 0], "children live on");
        left += usize::from(work(&cloud).exists());
        // Whichever action comes next.
        let next = if left % 2 == 0 { cloud.monitor() } else { cloud.stat(cloud.images()) };
        // A child that was about to become its program dies a moment later, and counts as alive until then.
        let swept = (0..20).any(|_| {
            assert!(next.output().status.success());
            thread::sleep(Duration::from_millis(10));
            !work(&cloud).exists()
        });
        assert!(swept, "killed after {moment} ms: something is left");
        start.restore(&cloud.datastore());
    }
    assert!(left >= 3, "the moments are well chosen: {left}");
}

/// Up to fifteen drivers run at once: none may take another's unfinished work for left-overs.
#[test]
fn a_driver_that_sweeps_meanwhile_disturbs_no_other() {
    for layout in [Layout::ABSOLUTE, Layout::RESOLVED, Layout::SSH_SYSTEM, Layout::LOCAL] {
        for (action, target) in [("snap_flatten", 2), ("snap_revert", 1), ("snap_delete", 2)] {
            let cloud = Cloud::new();
            let chain = Chain::tree(&cloud, layout);
            // Slow enough that a sweep comes between any two steps.
            let slow =
                "inject=rename,renameat,renameat2,unlink,unlinkat,rmdir,linkat:delay_enter=100000";
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", slow];
            thread::scope(|scope| {
                let work = scope.spawn(|| chain.call(action, target).under(strace).output());
                while !work.is_finished() {
                    let monitor = cloud.monitor().output();
                    assert!(monitor.status.success(), "{monitor:?}");
                }
                let output = work.join().unwrap();
                assert!(output.status.success(), "{action} on {layout:?}: {output:?}");
            });
            assert!(!work(&cloud).exists());
            if action == "snap_flatten" {
                chain.check_content(chain.source(), target);
                assert!(!chain.directory().exists());
            } else {
                chain.check_content(chain.file(3), 3);
            }
        }
    }
}
