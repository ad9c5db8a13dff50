//! `mkfs`, `cp`, `clone`, `stat`, `monitor`, `export`.

use ferrostore_tests::{Ceph, MIB, Page, Rule, Web, pattern, run};
use std::fs;

/// The size of an image in bytes, as RBD has it.
fn size(ceph: &Ceph, name: &str) -> u64 {
    let info = ceph.rbd(["info", "--format", "json", &ceph.spec(name)]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    info["size"].as_u64().unwrap()
}

#[test]
fn an_empty_image_is_a_raw_one_of_its_size() {
    let ceph = Ceph::new();
    ceph.mkfs(5, "raw", 8).run().succeeds().replies(&ceph.spec("one-5"));
    ceph.mkfs(6, "", 8).run().succeeds().replies(&ceph.spec("one-6"));
    assert_eq!(ceph.layout(), ["one-5 []", "one-6 []"]);
    assert_eq!(size(&ceph, "one-5"), 8 * MIB);
    ceph.is_at_rest();
}

#[test]
fn a_file_system_and_swap_space_are_made_in_the_pool() {
    let ceph = Ceph::new();
    ceph.mkfs(5, "raw", 16).set("IMAGE/FS", "ext4").run().succeeds().replies(&ceph.spec("one-5"));
    ceph.mkfs(6, "swap", 16).run().succeeds();
    let disk = ceph.cloud.root().join("disk");
    fs::write(&disk, ceph.content("one-5")).unwrap();
    run("e2fsck", ["-fn".as_ref(), disk.as_os_str()]);
    assert_eq!(&ceph.content("one-6")[4086..4096], b"SWAPSPACE2");
    ceph.is_at_rest();
}

#[test]
fn save_as_makes_nothing_and_replies_where_the_disk_will_be() {
    let ceph = Ceph::new();
    ceph.mkfs(5, "save_as", 8).run().succeeds().replies(&ceph.spec("one-5"));
    assert_eq!(ceph.names(), [""; 0]);
}

#[test]
fn whatever_comes_is_the_raw_disk_that_stat_said_it_would_be() {
    let ceph = Ceph::new();
    let cloud = &ceph.cloud;
    let mut bytes = vec![0; 9 * MIB as usize];
    bytes[5 * MIB as usize..6 * MIB as usize].copy_from_slice(&pattern(1, MIB as usize));
    bytes[100..200].fill(7);
    let raw = cloud.file("disk.img", &bytes);
    let raw_name = raw.to_str().unwrap();
    let mut files = vec![raw.clone()];
    for (format, options) in [("qcow2", &["-c"][..]), ("qcow2", &[]), ("vmdk", &[]), ("vdi", &[])] {
        let file = cloud.images().join(format!("disk{}.{format}", files.len()));
        let arguments = [&["convert", "-O", format], options, &[raw_name, file.to_str().unwrap()]];
        run("qemu-img", arguments.concat());
        files.push(file);
    }
    for (program, end) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst"), ("bzip2", "bz2")] {
        run("sh", ["-c", &format!("{program} -qc {raw_name} > {raw_name}.{end}")]);
        files.push(cloud.images().join(format!("disk.img.{end}")));
    }
    for (id, file) in (10..).zip(&files) {
        let stat = cloud.stat(file).set("DATASTORE/DS_MAD", "ceph").run().succeeds();
        assert_eq!(stat.line(), "9", "{}", file.display());
        let expected = format!("{}/one-{id} raw", ceph.pool());
        ceph.cp(id, file).run().succeeds().replies(&expected);
        assert!(ceph.content(&format!("one-{id}")) == bytes, "{}", file.display());
    }
    ceph.is_at_rest();
}

#[test]
fn a_download_is_written_in_one_pass() {
    let ceph = Ceph::new();
    let bytes = pattern(3, 3 * MIB as usize);
    let file = ceph.cloud.file("disk.img", &bytes);
    let gz = ceph.cloud.compressed(&file, "gzip");
    let web = Web::new();
    let pages = [
        web.serve(&file),
        // A stream of unknown length: the image grows with it.
        web.page("chunked", Page::of(&file).chunked()),
        web.page("chunked.gz", Page::of(&gz).chunked()),
    ];
    for (id, page) in (5..).zip(&pages) {
        ceph.cp(id, page).run().succeeds();
        assert!(ceph.content(&format!("one-{id}")) == bytes, "{page}");
    }
    ceph.is_at_rest();
}

#[test]
fn an_image_has_whole_sectors() {
    let ceph = Ceph::new();
    let file = ceph.cloud.file("disk.img", pattern(1, 1000));
    ceph.cp(5, &file).run().succeeds();
    assert_eq!(size(&ceph, "one-5"), 1024);
    let gz = ceph.cloud.images().join("disk.img.gz");
    run("gzip", ["-k".as_ref(), file.as_os_str()]);
    ceph.cp(6, &gz).run().succeeds();
    assert_eq!(size(&ceph, "one-6"), 1024);
    assert!(ceph.content("one-6")[..1000] == pattern(1, 1000)[..]);
    ceph.cp(7, ceph.cloud.file("empty", "")).run().refused(Rule::Empty).naming("IMAGE/PATH");
    ceph.is_at_rest();
}

#[test]
fn holes_are_not_stored() {
    let ceph = Ceph::new();
    let file = ceph.cloud.images().join("disk.img");
    let disk = fs::File::create(&file).unwrap();
    disk.set_len(64 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&disk, &pattern(1, MIB as usize), 40 << 30).unwrap();
    ceph.cp(5, &file).run().succeeds();
    assert_eq!(size(&ceph, "one-5"), 64 << 30);
    let objects = ceph.rados(["ls"]);
    let data = objects.lines().filter(|name| name.starts_with("rbd_data.")).count();
    assert_eq!(data, 1, "{objects}");
}

#[test]
fn a_luks_image_stays_as_it_is() {
    let ceph = Ceph::new();
    let file = ceph.cloud.luks("disk.luks", 20 * MIB);
    ceph.cp(5, &file).run().succeeds().replies(&format!("{} raw", ceph.spec("one-5")));
    let content = ceph.content("one-5");
    let bytes = fs::read(&file).unwrap();
    assert!(content[..bytes.len()] == bytes && content.len() - bytes.len() < 512);
}

#[test]
fn a_wrong_digest_leaves_nothing() {
    let ceph = Ceph::new();
    let file = ceph.cloud.raw("disk.img", 2 * MIB);
    let call = ceph.cp(5, &file).set("IMAGE/TEMPLATE/MD5", "0".repeat(32));
    call.run().refused(Rule::DigestMismatch).naming("IMAGE/TEMPLATE/MD5");
    assert_eq!(ceph.names(), [""; 0]);
    ceph.is_at_rest();
}

#[test]
fn a_clone_is_a_copy_that_stands_alone() {
    let ceph = Ceph::new();
    ceph.image("one-5", "five");
    ceph.take_snapshot("one-5", "0");
    ceph.write("one-5", "head");
    let reply = ceph.clone_of(6, &ceph.spec("one-5")).run().succeeds();
    reply.replies(&format!("{} raw", ceph.spec("one-6")));
    assert_eq!(ceph.layout(), ["one-5 [0*]", "one-6 []"]);
    assert_eq!(ceph.head("one-6"), "head");
    ceph.clone_of(7, &ceph.spec("one-99")).run().fails().naming("IMAGE/PATH").saying("one-99");
    ceph.is_at_rest();
}

#[test]
fn data_go_to_the_erasure_coded_pool_with_every_action_that_makes_an_image() {
    let ceph = Ceph::new();
    ceph.make_erasure_coded_pool();
    let data_pool = |name: &str| {
        let info = ceph.rbd(["info", "--format", "json", &ceph.spec(name)]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        info["data_pool"].as_str().map(str::to_owned)
    };
    let bytes = pattern(1, 6 * MIB as usize);
    let file = ceph.cloud.file("disk.img", &bytes);
    let attribute = "DATASTORE/TEMPLATE/EC_POOL_NAME";
    ceph.cp(5, &file).set(attribute, "ec").run().succeeds();
    ceph.mkfs(6, "raw", 4).set(attribute, "ec").run().succeeds();
    ceph.clone_of(7, &ceph.spec("one-5")).set(attribute, "ec").run().succeeds();
    for (snapshot, action) in ["snap_revert", "snap_flatten"].into_iter().enumerate() {
        ceph.take_snapshot("one-5", &snapshot.to_string());
        ceph.write("one-5", "lost");
        ceph.snap(action, 5, snapshot as u32).set(attribute, "ec").run().succeeds();
    }
    for name in ["one-5", "one-6", "one-7"] {
        assert_eq!(data_pool(name).as_deref(), Some("ec"), "{name}");
    }
    assert!(ceph.content("one-5") == bytes && ceph.content("one-7") == bytes);
    let call = ceph.mkfs(8, "raw", 4).set(attribute, "nowhere");
    call.run().fails().naming(attribute).saying("nowhere");
    for id in 5..=7 {
        ceph.on_image("rm", id).set(attribute, "ec").run().succeeds();
    }
    assert_eq!(ceph.names(), [""; 0]);
    ceph.is_at_rest();
}

#[test]
fn monitor_counts_the_data_of_both_pools_and_what_the_erasure_coded_one_can_take() {
    let ceph = Ceph::new();
    let data = format!("{}data", ceph.pool());
    ceph.make_pool(&data);
    ceph.ceph(["osd", "pool", "set-quota", &data, "max_bytes", "52428800"]);
    let file = ceph.cloud.file("disk.img", pattern(1, 10 * MIB as usize));
    ceph.cp(4, &file).run().succeeds();
    let attribute = "DATASTORE/TEMPLATE/EC_POOL_NAME";
    ceph.cp(5, &file).set(attribute, &data).run().succeeds();
    let call = || ceph.call("monitor", 0).set(attribute, &data);
    let usage = (0..60)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(500));
            numbers(&call().run().succeeds().text)
        })
        .find(|usage| usage[0] >= 20)
        .expect("the manager notices");
    // A few bytes of RBD's own are in both pools too.
    assert!(usage[0] == 20 && (39..=40).contains(&usage[2]), "{usage:?}");
    assert!((59..=60).contains(&usage[1]), "{usage:?}");
}

/// The numbers of a reply of `monitor`: used, total, free.
fn numbers(text: &str) -> Vec<u64> {
    text.lines().map(|line| line.split('=').nth(1).unwrap().parse().unwrap()).collect()
}

#[test]
fn monitor_tells_what_the_pool_holds_and_can_still_take() {
    let ceph = Ceph::new();
    let free = numbers(&ceph.call("monitor", 0).run().succeeds().text)[2];
    assert!(free > 100, "{free}");
    ceph.ceph(["osd", "pool", "set-quota", ceph.pool(), "max_bytes", "104857600"]);
    ceph.cp(5, ceph.cloud.file("disk.img", pattern(1, 20 * MIB as usize))).run().succeeds();
    // The manager collects what OSDs report every few seconds.
    let usage = (0..60)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(500));
            numbers(&ceph.call("monitor", 0).run().succeeds().text)
        })
        .find(|usage| usage[0] >= 20)
        .expect("the manager notices");
    // A few bytes of RBD's own are in the pool too.
    assert_eq!((usage[0], usage[1]), (20, 100));
    assert!((79..=80).contains(&usage[2]), "{usage:?}");
}

#[test]
fn an_export_names_where_the_image_is_and_its_digest() {
    let ceph = Ceph::new();
    let bytes = pattern(5, 5 * MIB as usize);
    ceph.cp(5, ceph.cloud.file("disk.img", &bytes)).run().succeeds();
    ceph.rbd(["resize", "--no-progress", "--size", "9M", &ceph.spec("one-5")]);
    let content = ceph.cloud.file("content", ceph.content("one-5"));
    let md5 = String::from_utf8(run("md5sum", [&content]).stdout).unwrap();
    let call = ceph.on_image("export", 5).set_escaped("IMAGE/SIZE", "9");
    let key = ceph.user("reader", "profile rbd", &format!("profile rbd pool={}", ceph.pool()));
    let call = call
        .set("DATASTORE/TEMPLATE/CEPH_USER", "reader")
        .set("DATASTORE/TEMPLATE/CEPH_KEY", key.to_str().unwrap());
    let text = call.run().succeeds().text;
    let address = format!(
        "/{}/one-5?CEPH_USER=reader&amp;CEPH_KEY={}&amp;CEPH_CONF={}</IMPORT_SOURCE>",
        ceph.pool(),
        key.display(),
        ceph.conf().display()
    );
    assert!(
        text.starts_with("<IMPORT_INFO><IMPORT_SOURCE>rbd://") && text.contains(&address),
        "{text}"
    );
    let rest = format!(
        "<MD5>{}</MD5><SIZE>9</SIZE><FORMAT>raw</FORMAT><DISPOSE>NO</DISPOSE></IMPORT_INFO>",
        &md5[..32]
    );
    assert!(text.trim().ends_with(&rest), "{text} {rest}");
}

#[test]
fn few_programs_are_started() {
    let ceph = Ceph::new();
    let file = ceph.cloud.raw("disk.img", 2 * MIB);
    let count = |call| {
        let (outcome, programs) = ceph.counted(call);
        assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr_text());
        programs
    };
    // With librbd, the driver itself, once more.
    ceph.use_librbd("YES");
    assert_eq!(count(ceph.cp(3, &file)), ["exe"]);
    assert_eq!(count(ceph.mkfs(4, "raw", 4)), ["exe"]);
    ceph.use_librbd("NO");
    assert_eq!(count(ceph.cp(5, &file)), ["rbd"; 4]);
    assert_eq!(count(ceph.mkfs(6, "raw", 4)), ["rbd"; 3]);
    assert_eq!(count(ceph.clone_of(7, &ceph.spec("one-5"))), ["rbd"; 3]);
    assert_eq!(count(ceph.on_image("rm", 7)), ["rbd"; 2]);
    assert_eq!(count(ceph.call("monitor", 0)), ["ceph"]);
    for snapshot in ["0", "1"] {
        ceph.take_snapshot("one-5", snapshot);
    }
    // With snapshots on the image, with none, and with others.
    for (target, taken) in [(1, ""), (0, ""), (1, "2")] {
        if !taken.is_empty() {
            ceph.take_snapshot("one-5", taken);
        }
        let programs = count(ceph.snap("snap_revert", 5, target));
        assert!(programs.len() <= 6 && programs.iter().all(|name| name == "rbd"), "{programs:?}");
    }
    ceph.take_snapshot("one-6", "0");
    assert_eq!(count(ceph.snap("snap_delete", 6, 0)), ["rbd"; 2]);
}

#[test]
fn eight_drivers_at_once_mix_nothing_up() {
    let ceph = Ceph::new();
    let disks: Vec<_> = (0..8_u32)
        .map(|id| {
            ceph.cloud.file(&format!("disk{id}.img"), pattern(u64::from(id), 2 * MIB as usize))
        })
        .collect();
    std::thread::scope(|scope| {
        for (id, disk) in (0..).zip(&disks) {
            let call = ceph.cp(id, disk).without_listing();
            scope.spawn(move || {
                let outcome = call.run();
                assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr_text());
            });
        }
    });
    for (id, disk) in disks.iter().enumerate() {
        assert!(ceph.content(&format!("one-{id}")) == fs::read(disk).unwrap(), "image {id}");
    }
    ceph.is_at_rest();
}

#[test]
fn drivers_that_work_on_one_image_at_once_wait_for_each_other() {
    let ceph = Ceph::with_two_snapshots();
    std::thread::scope(|scope| {
        for number in 0..8_u32 {
            let call = match number {
                0..4 => ceph.snap("snap_revert", 5, number % 2),
                4 => ceph.mkfs(6, "raw", 4),
                _ => ceph.on_image("export", 5),
            };
            let call = call.without_listing();
            scope.spawn(move || {
                let outcome = call.run();
                assert_eq!(outcome.status.code(), Some(0), "{number}: {}", outcome.stderr_text());
            });
        }
    });
    let head = ceph.head("one-5");
    assert!(["s0", "s1"].contains(&head.as_str()), "{head}");
    let parent = &head[1..];
    let expected = [&format!("one-5 [] < one-5-0:1@{parent}"), "one-5-0:1 [0* 1*]", "one-6 []"];
    assert_eq!(ceph.layout(), expected);
    ceph.is_at_rest();
}
