//! Two actions on the same image exclude each other; actions on different images don't wait.

use ferrostore_tests::layouts::Copies;
use ferrostore_tests::{Call, Cloud, Disk, MIB};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

fn lock(cloud: &Cloud, name: &str) -> PathBuf {
    cloud.work_directory().join(format!("lock.{name}"))
}

/// A call that holds the lock of its image for a long time, until it is killed.
struct Holder {
    strace: Child,
    driver: String,
}

impl Holder {
    /// Starts it, and waits until it has the lock.
    fn of(cloud: &Cloud, name: &str, call: Call, slow: &str) -> Self {
        let inject = format!("inject={slow}:delay_enter=60000000");
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
        let (mut strace, input) = call.under(strace).start();
        let mut pipe = strace.stdin.take().unwrap();
        std::io::Write::write_all(&mut pipe, &input.unwrap()).unwrap();
        drop(pipe);
        loop {
            let text = fs::read_to_string(lock(cloud, name)).unwrap_or_default();
            if let Some((_, rest)) = text.split_once("process ") {
                let driver = rest.split(' ').next().unwrap().to_owned();
                return Self { strace, driver };
            }
            assert!(strace.try_wait().unwrap().is_none(), "the holder has ended");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-s", "KILL", &self.driver]).status();
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

#[test]
fn an_action_waits_for_another_one_on_the_same_image_but_not_for_ever() {
    let cloud = Cloud::new();
    cloud.datastore_conf("LOCK_WAIT=\"1\"\n");
    let copies = Copies::of_three(&cloud, "raw");
    let other = cloud.stored(5, &cloud.raw("other.img", MIB));
    let revert = copies.call("snap_revert", 1);
    let holder = Holder::of(&cloud, copies.name(), revert.clone(), "fsync,fdatasync");
    for call in [
        revert.clone(),
        copies.call("snap_delete", 0),
        copies.call("snap_flatten", 2),
        cloud.rm(copies.source()),
        cloud.export(copies.source(), "raw"),
        cloud.clone_of(copies.source(), "raw"),
    ] {
        let start = Instant::now();
        let output = call.output();
        assert!(start.elapsed() >= Duration::from_secs(1), "it waits");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("snap_revert"), "the holder's action: {said}");
        assert!(said.contains(&format!("process {}", holder.driver)), "its process: {said}");
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert!(said.contains(host.trim()), "its host: {said}");
        assert!(said.contains("IMAGE/"), "the attribute: {said}");
    }
    // An action on another image does not wait.
    cloud.datastore_conf("LOCK_WAIT=\"0\"\n");
    let output = cloud.rm(&other).output();
    assert!(output.status.success(), "{output:?}");
    // And with its holder, the lock is gone.
    drop(holder);
    let output = revert.output();
    assert!(output.status.success(), "{output:?}");
    copies.check_content(copies.source(), 1);
    assert!(!cloud.work_directory().exists());
}

#[test]
fn a_wait_that_makes_no_sense_is_named() {
    let cloud = Cloud::new();
    let source = cloud.stored(1, &cloud.raw("disk.img", MIB));
    for value in ["soon", "-1", "1.5", "10s", "\"\""] {
        cloud.datastore_conf(&format!("LOCK_WAIT={value}\n"));
        for call in
            [cloud.rm(&source), cloud.clone_of(&source, "raw"), cloud.export(&source, "raw")]
        {
            call.run().fails().naming("LOCK_WAIT").saying("datastore.conf").saying("seconds");
        }
    }
    cloud.datastore_conf("LOCK_WAIT=\" 5 \"\n");
    cloud.rm(&source).run().succeeds();
}

#[test]
fn a_server_that_never_grants_a_lock_keeps_no_driver_from_stopping() {
    let cloud = Cloud::new();
    // Every fcntl of the driver is delayed, those of the record too.
    cloud.datastore_conf("CALL_LOG=no\n");
    let source = cloud.stored(1, &cloud.raw("disk.img", MIB));
    let name = source.rsplit('/').next().unwrap();
    let slow = "inject=fcntl:delay_enter=60000000";
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", slow];
    let (mut strace, input) = cloud.rm(&source).under(strace).start();
    let mut pipe = strace.stdin.take().unwrap();
    std::io::Write::write_all(&mut pipe, &input.unwrap()).unwrap();
    drop(pipe);
    while !lock(&cloud, name).exists() {
        assert!(strace.try_wait().unwrap().is_none(), "the driver has ended");
        thread::sleep(Duration::from_millis(5));
    }
    let children = format!("/proc/{0}/task/{0}/children", strace.id());
    let driver = fs::read_to_string(children).unwrap();
    let start = Instant::now();
    ferrostore_tests::run("kill", ["-s", "TERM", driver.trim()]);
    let mut said = String::new();
    BufReader::new(strace.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("stopped by SIGTERM"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    // It has ended, but for the thread that strace keeps.
    strace.kill().unwrap();
    strace.wait().unwrap();
    // What it has left, the next driver removes.
    cloud.rm(&source).run().succeeds();
    assert!(!cloud.datastore().join(".ferrostore-work").exists());
}

#[test]
fn an_image_may_be_read_by_several_at_once() {
    let cloud = Cloud::new();
    cloud.datastore_conf("LOCK_WAIT=\"0\"\n");
    let raw = cloud.raw("disk.img", MIB);
    let source = cloud.stored(1, &raw);
    let name = source.rsplit('/').next().unwrap();
    let clone = cloud.clone_of(&source, "raw");
    let holder = Holder::of(&cloud, name, clone.clone(), "fsync,fdatasync");
    let copy = clone.output();
    assert!(copy.status.success(), "{copy:?}");
    assert!(cloud.export(&source, "raw").output().status.success());
    let said = String::from_utf8(cloud.rm(&source).output().stderr).unwrap();
    assert!(said.contains("is in use"), "{said}");
    drop(holder);
    let removed = cloud.rm(&source).output();
    assert!(removed.status.success(), "{removed:?}");
}

#[test]
fn an_image_can_be_removed_from_a_full_disk() {
    for disk in [Disk::Ext4(8 * MIB), Disk::Xfs(320 * MIB), Disk::Tmpfs(4 * MIB)] {
        let cloud = Cloud::with_datastore_on(disk);
        let disk = cloud.raw("disk.img", MIB);
        let (first, second) = (cloud.stored(1, &disk), cloud.stored(2, &disk));
        fs::create_dir(format!("{first}.snap")).unwrap();
        fs::copy(&disk, format!("{first}.snap/0")).unwrap();
        fs::copy(&disk, format!("{first}.snap/1")).unwrap();
        fill(&cloud);
        let call = cloud.snap("snap_delete", &first, "raw", 1);
        let output = call.output();
        assert!(output.status.success(), "{output:?}");
        assert!(!PathBuf::from(format!("{first}.snap/1")).exists());
        fill(&cloud);
        for source in [&first, &second] {
            let output = cloud.rm(source).output();
            assert!(output.status.success(), "{output:?}");
            fill(&cloud);
        }
        let left = cloud.listing();
        let left: Vec<_> =
            left.names().into_iter().filter(|name| !name.starts_with("filler")).collect();
        assert_eq!(left, [""; 0]);
    }
}

/// Fills the datastore until not even an empty file takes a byte, nor an empty folder fits where those take
/// any.
fn fill(cloud: &Cloud) {
    let mut vain = 0;
    for number in 0.. {
        let path = cloud.datastore().join(format!("filler{number}"));
        let Ok(mut file) = fs::File::options().append(true).create(true).open(&path) else {
            return;
        };
        let (mut size, mut written) = (MIB as usize, false);
        while size > 0 {
            match std::io::Write::write_all(&mut file, &vec![1; size]) {
                Ok(()) => written = true,
                Err(_) => size /= 2,
            }
        }
        vain = if written { 0 } else { vain + 1 };
        let folder = cloud.datastore().join("folder");
        if vain > 3 || fs::create_dir(&folder).is_err() {
            return;
        }
        fs::remove_dir(folder).unwrap();
    }
}
