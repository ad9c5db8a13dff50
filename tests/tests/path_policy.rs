//! The path policy against a program that changes what a name leads to while a driver looks at it.

use ferrostore_tests::{Call, Cloud, KIB, MIB, Rule, WORK_DIRECTORY, pattern, run, same_bytes};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Contents of a file that may be registered, and of one that may not.
fn good() -> Vec<u8> {
    pattern(1, 100_000)
}

fn secret() -> Vec<u8> {
    pattern(2, 3 * MIB as usize)
}

/// A cloud with a file of either kind, by the same name in two folders.
fn cloud() -> (Cloud, PathBuf, PathBuf) {
    let cloud = Cloud::new();
    let (safe, forbidden) = (cloud.images().join("own"), cloud.outside().join("other"));
    for (folder, content) in [(&safe, good()), (&forbidden, secret())] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("disk.img"), content).unwrap();
    }
    (cloud, safe, forbidden)
}

/// Stops another thread, even where an assertion fails.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets `name` be a link to one target and the other by turns, while `calls` runs.
fn while_swapping(name: &Path, targets: [&Path; 2], calls: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let other = name.with_extension("other");
    symlink(targets[0], name).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for target in targets.iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                symlink(target, &other).unwrap();
                fs::rename(&other, name).unwrap();
            }
        });
        let _stop = Stop(&stop);
        calls();
    });
}

const TRIES: usize = 150;

/// Registers and measures `path` again and again: only the good file is ever read.
fn only_the_good_file_is_read(cloud: &Cloud, path: &Path) {
    let (mut taken, mut refused) = (0, 0);
    for turn in 0..TRIES {
        let outcome = if turn % 2 == 0 { cloud.cp(path).run() } else { cloud.stat(path).run() };
        if !outcome.status.success() {
            outcome.refused(Rule::Restricted).naming("IMAGE/PATH");
            refused += 1;
            continue;
        }
        taken += 1;
        if turn % 2 == 0 {
            let copy = outcome.succeeds().image("raw");
            assert_eq!(fs::read(&copy).unwrap(), good(), "the forbidden file was read");
            fs::remove_file(copy).unwrap();
        } else {
            // The other one has 3 MiB.
            outcome.succeeds().replies("1");
        }
    }
    println!("{taken} taken, {refused} refused");
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
}

#[test]
fn a_link_that_is_swapped_in_a_loop_never_leads_outside() {
    let (cloud, safe, forbidden) = cloud();
    let name = cloud.images().join("link.img");
    let targets = [safe.join("disk.img"), forbidden.join("disk.img")];
    while_swapping(&name, [&targets[0], &targets[1]], || only_the_good_file_is_read(&cloud, &name));
}

#[test]
fn a_folder_that_is_swapped_in_a_loop_never_leads_outside() {
    let (cloud, safe, forbidden) = cloud();
    let name = cloud.images().join("folder");
    while_swapping(&name, [&safe, &forbidden], || {
        only_the_good_file_is_read(&cloud, &name.join("disk.img"));
    });
}

/// `clone` of what is in no datastore follows the rules of `cp`.
#[test]
fn a_clone_never_leads_outside_either() {
    let (cloud, safe, forbidden) = cloud();
    let name = cloud.images().join("folder");
    while_swapping(&name, [&safe, &forbidden], || {
        for _ in 0..TRIES / 2 {
            let outcome = cloud.clone_of(name.join("disk.img"), "raw").run();
            if outcome.status.success() {
                let copy = outcome.succeeds().image("raw");
                assert_eq!(fs::read(&copy).unwrap(), good(), "the forbidden file was read");
                fs::remove_file(copy).unwrap();
            } else {
                outcome.refused(Rule::Restricted).naming("IMAGE/PATH");
            }
        }
    });
}

#[test]
fn what_was_found_is_what_is_read() {
    let (cloud, safe, forbidden) = cloud();
    let name = cloud.images().join("link.img");
    symlink(safe.join("disk.img"), &name).unwrap();
    let swap = || {
        fs::remove_file(&name).unwrap();
        symlink(forbidden.join("disk.img"), &name).unwrap();
    };
    let outcome = cloud.cp(&name).paused_at("openat2", swap);
    assert_eq!(fs::read(outcome.succeeds().image("raw")).unwrap(), good());
    // The change has taken effect.
    cloud.cp(&name).run().refused(Rule::Restricted).naming("IMAGE/PATH");
}

#[test]
fn a_folder_that_becomes_a_link_is_not_measured() {
    let cloud = Cloud::new();
    let tree = cloud.images().join("tree");
    let inner = tree.join("inner");
    fs::create_dir_all(&inner).unwrap();
    fs::write(inner.join("file"), pattern(1, 10_000)).unwrap();
    let big = cloud.outside().join("big");
    fs::create_dir(&big).unwrap();
    fs::write(big.join("file"), pattern(1, 40 * MIB as usize)).unwrap();
    let swap = || {
        fs::rename(&inner, tree.join("moved")).unwrap();
        symlink(&big, &inner).unwrap();
    };
    let outcome = cloud.stat(&tree).paused_at("getdents64", swap);
    if outcome.status.success() {
        outcome.succeeds().replies("1");
    } else {
        outcome.refused(Rule::CantBeMeasured).naming("IMAGE/PATH");
    }
}

/// The lines of a trace in which `name` is looked up by a system call.
fn look_ups(cloud: &Cloud, call: Call, name: &str) -> Vec<String> {
    let trace = cloud.root().join("trace");
    let strace = ["strace", "-f", "-qq", "-e", "trace=%file", "-o", trace.to_str().unwrap()];
    call.under(strace).run().succeeds();
    let log = fs::read_to_string(&trace).unwrap();
    let quoted = format!("{name}\"");
    log.lines()
        .filter(|line| {
            line.contains(&quoted) && !line.contains("readlink") && !line.contains("execve")
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn an_image_is_looked_up_by_its_name_once_and_only_to_hold_it() {
    let cloud = Cloud::new();
    let disk = cloud.raw("a disk.img", MIB);
    let qcow2 = cloud.qcow2(&disk, "a disk.qcow2", "");
    let vdi = cloud.converted(&disk, "a disk.vdi", "vdi", "");
    for file in [&disk, &qcow2, &vdi, &cloud.compressed(&disk, "gzip")] {
        let name = file.file_name().unwrap().to_str().unwrap();
        for call in [cloud.cp(file).driver("qcow2"), cloud.cp(file).driver("raw"), cloud.stat(file)]
        {
            let look_ups = look_ups(&cloud, call, name);
            assert_eq!(look_ups.len(), 1, "{look_ups:#?}");
            assert!(look_ups[0].contains("O_PATH"), "{look_ups:#?}");
        }
    }
}

#[test]
fn an_image_of_a_datastore_is_opened_only_through_what_holds_it() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let qcow2 = cloud.qcow2(&disk, "disk.qcow2", "");
    for (file, format) in [(disk, "raw"), (qcow2, "qcow2")] {
        let source = cloud.stored(1, &file);
        let name = Path::new(&source).file_name().unwrap().to_str().unwrap();
        let look_ups = look_ups(&cloud, cloud.clone_of(&source, format), name);
        // Its lock bears its name too.
        let image = |line: &&String| line.contains("open") && !line.contains(WORK_DIRECTORY);
        let opened: Vec<_> = look_ups.iter().filter(image).collect();
        assert!(!opened.is_empty(), "{look_ups:#?}");
        assert!(opened.iter().all(|line| line.contains("O_PATH")), "{opened:#?}");
        fs::remove_file(source).unwrap();
    }
}

#[test]
fn files_that_the_kernel_makes_up_are_no_images() {
    let cloud = Cloud::new();
    for path in
        ["/proc/cpuinfo", "/proc/self/environ", "/proc/1/status", "/sys/kernel/uevent_seqnum"]
    {
        for safe in ["/proc /sys", "/"] {
            for action in ["cp", "stat"] {
                let call = cloud.call(action).path(path).set("DATASTORE/TEMPLATE/SAFE_DIRS", safe);
                call.run().refused(Rule::PseudoFile).naming("IMAGE/PATH").saying(path);
            }
        }
    }
}

#[test]
fn open_files_of_the_driver_are_no_images() {
    let cloud = Cloud::new();
    for path in [
        "/dev/fd/0",
        "/dev/stdin",
        "/proc/self/fd/0",
        "/proc/thread-self/fd/0",
        "/proc/self/exe",
        "/proc/self/cwd/x",
    ] {
        for action in ["cp", "stat"] {
            let call = cloud.call(action).path(path).set("DATASTORE/TEMPLATE/SAFE_DIRS", "/");
            call.run().refused(Rule::CantBeOpened).naming("IMAGE/PATH").saying(path);
        }
    }
}

#[test]
fn slashes_and_dots_mean_what_they_always_mean() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 64 * KIB);
    let images = cloud.images().display().to_string();
    for path in [format!("/{images}//disk.img"), format!("{images}/./../images/disk.img")] {
        same_bytes(&disk, cloud.cp(path).run().succeeds().image("raw"));
    }
    for path in [
        format!("{images}/disk.img/"),
        format!("{images}/disk.img/."),
        format!("{images}/disk.img/.."),
    ] {
        for action in ["cp", "stat"] {
            cloud
                .call(action)
                .path(&path)
                .run()
                .refused(Rule::CantBeOpened)
                .naming("IMAGE/PATH")
                .saying(&path);
        }
    }
}

#[test]
fn a_relative_safe_directory_is_none() {
    let cloud = Cloud::new();
    // Where drivers run.
    let secret = cloud.one_location().join("var/secret.img");
    fs::write(&secret, secret_bytes()).unwrap();
    for safe in [".", "./", "", "..", "secret.img"] {
        let call = cloud.cp(&secret).set("DATASTORE/TEMPLATE/SAFE_DIRS", safe);
        call.run().refused(Rule::Restricted).naming("IMAGE/PATH");
    }
}

fn secret_bytes() -> Vec<u8> {
    pattern(3, 5000)
}

/// The kernel does not let a user make a hard link to another user's file.
#[test]
fn a_hard_link_is_judged_by_where_it_lies() {
    let cloud = Cloud::new();
    let protection = fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap();
    let disk = cloud.raw("disk.img", 64 * KIB);
    let link = cloud.images().join("link.img");
    fs::hard_link(&disk, &link).unwrap();
    if protection.trim() == "1" {
        same_bytes(&disk, cloud.cp(&link).run().succeeds().image("raw"));
    } else {
        cloud.cp(&link).run().fails().naming("IMAGE/PATH").saying("hard links");
    }
}

#[test]
fn a_chain_is_cloned_only_if_it_stays_in_its_datastore() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let other = cloud.datastore().parent().unwrap().join("105");
    fs::create_dir(&other).unwrap();
    let base = cloud.qcow2(&disk, "base.qcow2", "");
    let inside = other.join("00000000000000000000000000000001");
    fs::copy(&base, &inside).unwrap();
    let top = other.join("00000000000000000000000000000002");
    let own = cloud.stored(3, &base);
    let overlay = |below: &str| {
        let _ = fs::remove_file(&top);
        let arguments =
            ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, top.to_str().unwrap()];
        run("qemu-img", arguments);
    };
    overlay(inside.to_str().unwrap());
    let copy = cloud.clone_of(&top, "qcow2").driver("raw").run().succeeds().image("raw");
    same_bytes(&disk, copy);
    for below in [base.to_str().unwrap(), own.as_str()] {
        overlay(below);
        for driver in ["", "raw", "qcow2"] {
            let call = cloud.clone_of(&top, "qcow2").driver(driver);
            call.run().fails().naming("IMAGE/PATH").saying("datastore");
        }
    }
}
