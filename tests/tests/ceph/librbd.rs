//! New images made by librbd, in a process of the driver's own: they are what `rbd` makes, and nothing of that process
//! outlives a failure.

use ferrostore_tests::{Ceph, MIB, Page, Rule, Web, pattern};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Where a library that `rbd` needs is, as the dynamic linker says.
fn library(name: &str) -> String {
    let output = ferrostore_tests::run("ldd", ["/usr/bin/rbd"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.contains(name)).expect("rbd needs it");
    line.split_whitespace().nth(2).unwrap().to_owned()
}

/// What `rbd info` says of an image, without what no two images have in common.
fn info(ceph: &Ceph, name: &str) -> serde_json::Value {
    let text = ceph.rbd(["info", "--format", "json", &ceph.spec(name)]);
    let mut info: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in ["name", "id", "block_name_prefix"] {
        assert!(info.as_object_mut().unwrap().remove(key).is_some(), "{key} in {text}");
    }
    for key in ["create_timestamp", "access_timestamp", "modify_timestamp"] {
        info.as_object_mut().unwrap().remove(key);
    }
    info
}

#[test]
fn an_image_is_the_same_with_and_without_it() {
    let ceph = Ceph::new();
    let mut bytes = pattern(1, 9 * MIB as usize + 512);
    bytes[2 * MIB as usize..5 * MIB as usize].fill(0);
    let raw = ceph.cloud.file("disk.img", &bytes);
    let files = [
        ceph.cloud.compressed_qcow2(&raw, "disk.qcow2", ""),
        ceph.cloud.compressed(&raw, "gzip"),
        ceph.cloud.compressed(&raw, "xz"),
        raw,
    ];
    for data_pool in ["", "data"] {
        for file in &files {
            for (id, value) in [(5, "YES"), (6, "NO")] {
                ceph.use_librbd(value);
                let call = ceph.cp(id, file);
                let call = call.set("DATASTORE/TEMPLATE/EC_POOL_NAME", data_pool);
                let (outcome, programs) = ceph.counted(call);
                assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr_text());
                assert_eq!(programs.contains(&"rbd".to_owned()), value == "NO", "{programs:?}");
                assert!(ceph.content(&format!("one-{id}")) == bytes, "{file:?}, LIBRBD={value}");
            }
            assert_eq!(info(&ceph, "one-5"), info(&ceph, "one-6"), "{file:?}");
            let stored = |name| ceph.rbd(["diff", "--format", "json", &ceph.spec(name)]);
            assert_eq!(stored("one-5"), stored("one-6"), "{file:?}");
            for id in [5, 6] {
                ceph.on_image("rm", id).run().succeeds();
            }
        }
    }
    ceph.is_at_rest();
}

#[test]
fn where_it_is_missing_or_broken_rbd_makes_the_image() {
    let ceph = Ceph::new();
    ceph.use_librbd("YES");
    let (library, other) = (library("librbd.so.1"), library("libz.so.1"));
    let folder = ceph.cloud.root().join("lib");
    fs::create_dir(&folder).unwrap();
    fs::copy(&library, folder.join("librbd.so.1")).unwrap();
    let wrapper = ceph.cloud.root().join("rbd");
    let script = format!(
        "#!/bin/sh\nexport LD_LIBRARY_PATH={}\nexec /usr/bin/rbd \"$@\"\n",
        folder.display()
    );
    fs::write(&wrapper, script).unwrap();
    // None; one without its functions; one that aborts. `rbd` gets its own from elsewhere.
    let aborts = ceph.cloud.root().join("aborts.so");
    let source = ceph.cloud.file(
        "aborts.c",
        b"void abort(void); __attribute__((constructor)) static void now(void) { abort(); }\n",
    );
    let compile = ["-shared", "-o", aborts.to_str().unwrap(), source.to_str().unwrap()];
    ferrostore_tests::run("cc", compile);
    let bytes = pattern(1, 3 * MIB as usize);
    let file = ceph.cloud.file("disk.img", &bytes);
    for broken in ["/dev/null", other.as_str(), aborts.to_str().unwrap()] {
        let enter = format!(
            "mount --bind $(readlink -f '{broken}') $(readlink -f '{library}') && \
             mount -t tmpfs none /usr/local/sbin && \
             install -m 755 '{}' /usr/local/sbin/rbd && exec \"$0\" \"$@\"",
            wrapper.display()
        );
        for call in [ceph.cp(5, &file), ceph.mkfs(6, "raw", 4)] {
            call.under(["unshare", "--mount", "sh", "-c", &enter]).run().succeeds();
        }
        assert!(ceph.content("one-5") == bytes, "{broken}");
        assert_eq!(ceph.names(), ["one-5", "one-6"], "{broken}");
        for id in [5, 6] {
            ceph.on_image("rm", id).run().succeeds();
        }
    }
    ceph.is_at_rest();
}

#[test]
fn a_process_that_is_killed_while_it_writes_ends_the_call() {
    let ceph = Ceph::new();
    ceph.use_librbd("YES");
    let web = Web::new();
    let file = ceph.cloud.file("disk.img", pattern(1, 40 * MIB as usize));
    let url = web.page("disk.img", Page::of(&file).at_rate(4 * MIB));
    let call = ceph.cp(5, &url);
    let failure = thread::scope(|scope| {
        let failure = scope.spawn(|| call.run().fails());
        let until = Instant::now() + Duration::from_secs(30);
        while !ceph.names().contains(&"one-5.ferrostore".to_owned()) {
            assert!(Instant::now() < until, "the driver begins");
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_secs(2));
        ceph.kill_programs();
        failure.join().expect("it fails in one line")
    });
    failure.saying("librbd");
    // A client that was killed counts for half a minute.
    ceph.settle();
    ceph.cp(5, &file).run().succeeds();
    assert_eq!(ceph.names(), ["one-5"]);
    ceph.is_at_rest();
}

#[test]
fn a_refused_image_leaves_nothing_at_once() {
    let ceph = Ceph::new();
    ceph.use_librbd("YES");
    let file = ceph.cloud.raw("disk.img", 5 * MIB);
    let call = ceph.cp(5, &file).set("IMAGE/TEMPLATE/MD5", "0123456789abcdef0123456789abcdef");
    call.run().refused(Rule::DigestMismatch).naming("IMAGE/TEMPLATE/MD5");
    // The process has closed the image before it was removed: no client is taken for one that lives.
    assert_eq!(ceph.names(), [""; 0]);
    ceph.is_at_rest();
}

#[test]
fn no_admin_socket_is_left() {
    let ceph = Ceph::new();
    ceph.use_librbd("YES");
    let sockets = ceph.cloud.root().join("sockets");
    fs::create_dir(&sockets).unwrap();
    let conf = fs::read_to_string(ceph.conf()).unwrap();
    let own = format!("\n[client]\nadmin_socket = {}/$name.$pid.asok\n", sockets.display());
    fs::write(ceph.conf(), conf + &own).unwrap();
    ceph.cp(5, ceph.cloud.raw("disk.img", 2 * MIB)).run().succeeds();
    ceph.mkfs(6, "raw", 4).run().succeeds();
    assert_eq!(fs::read_dir(&sockets).unwrap().count(), 0);
    ceph.is_at_rest();
}

#[test]
fn a_value_that_is_neither_yes_nor_no_is_refused() {
    let ceph = Ceph::new();
    ceph.use_librbd("perhaps");
    ceph.mkfs(5, "raw", 4).run().fails().saying("LIBRBD").saying("perhaps").saying("YES or NO");
    assert_eq!(ceph.names(), [""; 0]);
}
