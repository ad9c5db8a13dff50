//! Examining changes nothing and costs little.

use crate::list::{image, pool};
use crate::{name, overwrite, two_images};
use ferrostore_tests::layouts::{Chain, Layout};
use ferrostore_tests::{Cloud, Disk, MIB, pattern, run};
use std::fs::{self};
use std::path::Path;

const NOBODY: u32 = 65534;

/// A datastore with something wrong of every kind.
fn a_mess(cloud: &Cloud) {
    let [raw, qcow2] = two_images(cloud);
    let chain = Chain::of_four(cloud, Layout::ABSOLUTE);
    cloud.leave(&[
        (cloud.cp(cloud.images().join("disk.img")), "staging"),
        (chain.call("snap_flatten", 1), "undo"),
        (chain.call("snap_flatten", 1), "trash"),
    ]);
    chain.current(1, "/nowhere/9");
    overwrite(Path::new(&qcow2), 40, &(1_u64 << 40).to_be_bytes());
    fs::write(format!("{raw}.md5sum"), "0").unwrap();
    fs::create_dir(cloud.datastore().join(name(7) + ".snap")).unwrap();
    fs::write(cloud.datastore().join("stranger"), "x").unwrap();
    let examination = cloud.fsck().run();
    let entries = examination.json["entries"].as_array().unwrap();
    let left = |kind: &str| {
        entries.iter().any(|entry| {
            entry["role"] == "left-over" && entry["name"].as_str().unwrap().contains(kind)
        })
    };
    for kind in ["staging", "undo", "trash", "lock"] {
        assert!(left(kind), "{kind}: {}", examination.text);
    }
}

#[test]
fn a_datastore_that_is_mounted_for_reading_only_gets_the_same_report() {
    let cloud = Cloud::new();
    a_mess(&cloud);
    let expected = cloud.fsck().run();
    assert_eq!(expected.code, 3);
    // In a mount namespace of its own: no other program sees this mount.
    let directory = cloud.datastore();
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && \
                  ! touch \"$0/x\" 2>/dev/null && exec \"$@\"";
    let mut wrapper: Vec<std::ffi::OsString> =
        ["unshare", "--mount", "sh", "-c", script].map(Into::into).to_vec();
    wrapper.push(directory.into());
    let examination = cloud.fsck().under(wrapper).run();
    assert_eq!(examination.text, expected.text);
}

#[test]
fn no_system_call_of_it_writes_anything() {
    let cloud = Cloud::new();
    a_mess(&cloud);
    let log = cloud.root().join("trace");
    let calls = "trace=openat,open,openat2,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,\
                 rmdir,link,linkat,symlink,symlinkat,truncate,ftruncate,fallocate,utimensat,fchmod,\
                 fchmodat,fchown,fchownat,pwrite64,setxattr,fsetxattr,execve";
    let strace = ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", calls];
    let (code, ..) = cloud.fsck().under(strace).start();
    assert_eq!(code, 3);
    let trace = fs::read_to_string(log).unwrap();
    let (mut opened, mut started) = (0, 0);
    for line in trace.lines() {
        if line.contains("execve(") {
            started += 1;
            continue;
        }
        assert!(line.contains(" open"), "{line}");
        assert!(line.contains("O_RDONLY") || line.contains("O_PATH"), "{line}");
        assert!(!line.contains("O_CREAT") && !line.contains("O_TRUNC"), "{line}");
        opened += 1;
    }
    assert!(opened > 10, "the trace shows what is opened: {trace}");
    assert_eq!(started, 1, "no other program is started");
}

#[test]
fn another_user_than_root_can_run_it() {
    let cloud = Cloud::new();
    a_mess(&cloud);
    let expected = cloud.fsck().run();
    cloud.hand_over_to(NOBODY);
    run("chown", ["-R", "65534:65534", cloud.datastore().to_str().unwrap()]);
    for folder in [cloud.one_location(), cloud.one_location().join("var")] {
        run("chmod", ["755", folder.to_str().unwrap()]);
    }
    let examination = cloud.fsck().as_user(NOBODY).run();
    assert_eq!(examination.text, expected.text);
}

#[test]
fn twenty_thousand_images_need_little_memory() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(400 * MIB));
    let raw = pattern(3, 4096);
    let qcow2 = cloud.images().join("disk.qcow2");
    let path = qcow2.to_str().unwrap();
    run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "1M"]);
    let qcow2 = fs::read(qcow2).unwrap();
    let mut list = Vec::new();
    for number in 0..20_000 {
        let bytes = if number % 2 == 0 { &raw } else { &qcow2 };
        fs::write(cloud.datastore().join(name(number)), bytes).unwrap();
        list.push(image(number, &cloud.source(number), "<FORMAT></FORMAT>"));
    }
    let list = cloud.file("list.xml", pool(&list));
    let limit = ["prlimit", "--data=67108864", "--cpu=60", "--"];
    let fsck = cloud.fsck().with(["--images".as_ref(), list.as_os_str()]).under(limit);
    fsck.run().clean().images(20_000);
}
