//! A driver that is told to stop leaves nothing; what one that is killed leaves is removed by the next call, and
//! what a live one is about is left alone.

use ferrostore_tests::layouts::{Chain, Layout};
use ferrostore_tests::{Call, Cloud, Contents, MIB, SshHost, pattern, write_script};
use std::cell::Cell;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

const SIGNALS: [&str; 3] = ["TERM", "INT", "HUP"];

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

/// Waits until a child is gone; how long that takes. A busy machine may take a while to run it at all.
fn gone_after(child: &mut Child) -> Option<Duration> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if child.try_wait().unwrap().is_some() {
            return Some(start.elapsed());
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

/// Whether most of them took less than a second.
fn most_within_seconds(mut times: Vec<Duration>) -> bool {
    times.sort();
    times[times.len() / 2] < Duration::from_secs(5)
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

/// When a driver is to be hit.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So many milliseconds after its start.
    After(u64),
    /// As soon as it is seen at work in the datastore.
    AtWork,
}

impl Moment {
    /// Waits for it.
    fn wait(self, cloud: &Cloud, child: &mut Child) {
        match self {
            Self::After(milliseconds) => thread::sleep(Duration::from_millis(milliseconds)),
            Self::AtWork => {
                while !cloud.work_directory().exists() && child.try_wait().unwrap().is_none() {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
}

/// Those of a call that takes so many milliseconds here and now; and, since it may take more or less each time, more
/// that are in the middle of it, until `enough` drivers were hit there.
fn moments<'e>(
    milliseconds: u64,
    enough: impl Fn() -> bool + 'e,
) -> impl Iterator<Item = Moment> + 'e {
    let spread = (0..24).map(move |number| Moment::After(milliseconds * number / 24));
    spread.chain(std::iter::repeat_n(Moment::AtWork, 200).take_while(move |_| !enough()))
}

/// Starts the call, which takes so many milliseconds, again and again, sends it a signal at all kinds of moments, and
/// looks at what is left. `after` tells of a complete result.
fn stop(cloud: &Cloud, call: &Call, length: u64, after: &dyn Fn() -> bool) {
    let start = Contents::of(&cloud.datastore());
    let stopped = Cell::new(0);
    let mut times = Vec::new();
    for (number, moment) in moments(length, || stopped.get() >= 3).enumerate() {
        start.restore(&cloud.datastore());
        let name = SIGNALS[number % SIGNALS.len()];
        let at = format!("SIG{name}, {moment:?}");
        let (mut child, input) = call.start();
        if let (Some(bytes), Some(mut pipe)) = (input, child.stdin.take()) {
            let _ = std::io::Write::write_all(&mut pipe, &bytes);
        }
        moment.wait(cloud, &mut child);
        let early = child.try_wait().unwrap().is_some();
        signal(&child, name);
        times.push(gone_after(&mut child).unwrap_or_else(|| panic!("{at}: it still runs")));
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let at = format!("{at}: {}, {said:?}", output.status);
        assert!(!cloud.work_directory().exists(), "{at}: something is left");
        match (output.status.code(), output.status.signal()) {
            (Some(0), _) => assert!(after(), "{at}: a success is one"),
            (Some(1), _) => {
                stopped.set(stopped.get() + 1);
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
    assert!(stopped.get() >= 3, "{} of {} were stopped", stopped.get(), times.len());
    assert!(most_within_seconds(times), "a driver that is told to stop does so within seconds");
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
        stop(&cloud, &call, length, &|| count(&cloud) == 1);
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
    stop(&cloud, &call, length, &|| !chain.directory().exists());
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
        stop(&cloud, &call, length, &|| count(&cloud) == 1);
    }
}

#[test]
fn a_download_that_never_ends_is_stopped() {
    let cloud = Cloud::new();
    let endless = cloud.file("endless", "");
    let script = format!("cat /dev/zero & tail -f '{}'", endless.display());
    write_script(cloud.downloader(), &script);
    let call = cloud.cp("s3://bucket/disk.img");
    stop(&cloud, &call, 600, &|| false);

    let host = SshHost::new();
    let endless = cloud.images().join("zeros");
    std::os::unix::fs::symlink("/dev/zero", &endless).unwrap();
    let call = cloud.cp(format!("ssh://elsewhere:{}", endless.display())).under(host.neighbour());
    stop(&cloud, &call, 2400, &|| false);
}

#[test]
fn a_killed_driver_takes_its_programs_with_it_and_the_next_call_cleans_up() {
    let cloud = Cloud::new();
    cloud.datastore_conf("FS_OPTS_ext4=\"-E lazy_itable_init=0,lazy_journal_init=0,nodiscard\"\n");
    let call = cloud.mkfs("raw", "2048").set("IMAGE/FS", "ext4");
    let length = duration(&call);
    let start = Contents::of(&cloud.datastore());
    let left = Cell::new(0);
    for moment in moments(length, || left.get() >= 3) {
        let (mut child, input) = call.start();
        let mut pipe = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut pipe, &input.unwrap()).unwrap();
        drop(pipe);
        moment.wait(&cloud, &mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(eventually_none(&cloud.datastore()), [""; 0], "children live on");
        left.set(left.get() + usize::from(cloud.work_directory().exists()));
        // Whichever action comes next.
        let next =
            if left.get().is_multiple_of(2) { cloud.monitor() } else { cloud.stat(cloud.images()) };
        // A child that was about to become its program dies a moment later, and counts as alive until then.
        let clean = (0..20).any(|_| {
            assert!(next.output().status.success());
            thread::sleep(Duration::from_millis(10));
            !cloud.work_directory().exists()
        });
        assert!(clean, "killed, {moment:?}: something is left");
        start.restore(&cloud.datastore());
    }
    assert!(left.get() >= 3, "{} killed drivers left something", left.get());
}

/// Up to fifteen drivers run at once: none may take another's unfinished work for left-overs.
#[test]
fn a_driver_that_recovers_meanwhile_disturbs_no_other() {
    for layout in [Layout::ABSOLUTE, Layout::RESOLVED, Layout::SSH_SYSTEM, Layout::LOCAL] {
        for (action, target) in [("snap_flatten", 2), ("snap_revert", 1), ("snap_delete", 2)] {
            let cloud = Cloud::new();
            let chain = Chain::tree(&cloud, layout);
            // Slow enough that a recovery comes between any two steps.
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
            assert!(!cloud.work_directory().exists());
            if action == "snap_flatten" {
                chain.check_content(chain.source(), target);
                assert!(!chain.directory().exists());
            } else {
                chain.check_content(chain.file(3), 3);
            }
        }
    }
}
