//! `cp` and `stat` by ssh, from a real sshd.

use ferrostore_tests::{
    Call, Cloud, Disk, MIB, Outcome, Rule, SshHost, digest, pattern, qemu_img_check, same_bytes,
    same_content, virtual_size, write_script,
};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

fn url(path: impl AsRef<Path>) -> String {
    format!("ssh://elsewhere:{}", path.as_ref().display())
}

/// Calls go where the host is known.
fn there<'c>(host: &SshHost, call: Call<'c>) -> Call<'c> {
    call.under(host.neighbour())
}

#[test]
fn every_kind_of_image_comes_from_another_host() {
    let (cloud, host) = (Cloud::new(), SshHost::new());
    let disk = cloud.raw("disk.img", 3 * MIB + 512);
    let qcow2 = cloud.qcow2(&disk, "disk.qcow2", "");
    let packed = cloud.compressed(&disk, "xz");
    for (file, format, driver) in [
        (&disk, "raw", "raw"),
        (&disk, "raw", "qcow2"),
        (&qcow2, "qcow2", "raw"),
        (&qcow2, "qcow2", "qcow2"),
        (&packed, "raw", "raw"),
        (&packed, "raw", "qcow2"),
    ] {
        println!("{} ({format}) to {driver}", file.display());
        let call = there(&host, cloud.cp(url(file))).driver(driver);
        let call = call.set("IMAGE/TEMPLATE/SHA256", digest("sha256sum", file));
        let image = call.run().succeeds().image(driver);
        same_content(&disk, "raw", &image, driver);
        assert_eq!(virtual_size(&image, driver), 3 * MIB + 512);
        if driver == "qcow2" {
            qemu_img_check(image);
        }
    }
    let image = there(&host, cloud.cp(url(&qcow2))).run().succeeds().image("qcow2");
    same_bytes(qcow2, image);
}

/// Names that a shell would take apart, expand or run.
const NAMES: [&str; 14] = [
    "with space.img",
    "a  b\tc.img",
    "it's.img",
    "\"quoted\".img",
    "$(touch ran).img",
    "`touch ran`.img",
    "$HOME.img",
    "a;touch ran;.img",
    "a&&touch ran&.img",
    "a|b>c<d*?{f,g}~!#.img",
    "line\nbreak.img",
    "back\\slash\\.img",
    "-n",
    "häß €.img",
];

#[test]
fn no_name_is_interpreted_on_the_other_host() {
    let cloud = Cloud::new();
    for shell in ["/bin/sh", "/bin/bash"] {
        let host = SshHost::with_shell(shell);
        for (number, name) in NAMES.iter().enumerate() {
            println!("{name:?} under {shell}");
            let file = cloud.file(name, pattern(number as u64, MIB as usize + 512));
            let copy = there(&host, cloud.cp(url(&file))).run().succeeds().image("raw");
            same_bytes(&file, copy);
            there(&host, cloud.stat(url(&file))).run().succeeds().replies("2");
            fs::copy(&file, host.home().join(name)).unwrap();
            let relative = format!("ssh://root@elsewhere:{name}");
            let copy = there(&host, cloud.cp(relative)).run().succeeds().image("raw");
            same_bytes(&file, copy);
        }
        assert!(!host.home().join("ran").exists(), "nothing was run");
    }
}

#[test]
fn brackets_and_colons_belong_to_the_path_behind_the_first_colon() {
    let (cloud, host) = (Cloud::new(), SshHost::new());
    for name in ["a[1].img", "a]b.img", "a]b:c.img", "a:b:c.img", "user@host:x.img"] {
        println!("{name}");
        let file = cloud.file(name, pattern(1, MIB as usize));
        let copy = there(&host, cloud.cp(url(&file))).run().succeeds().image("raw");
        same_bytes(file, copy);
    }
}

#[test]
fn a_host_is_never_taken_for_an_option() {
    let (cloud, host) = (Cloud::new(), SshHost::new());
    let trace = cloud.root().join("ran");
    let command = format!("-oProxyCommand=touch {}", trace.display());
    for name in [command.as_str(), "-v", "-oPermitLocalCommand=yes", "a b", "$(id)", "root@-v", ""]
    {
        let path = format!("ssh://{name}:/etc/hostname");
        there(&host, cloud.cp(&path)).run().refused(Rule::SshUrl).naming("IMAGE/PATH");
        there(&host, cloud.stat(&path)).run().refused(Rule::SshUrl).naming("IMAGE/PATH");
    }
    assert!(!trace.exists());
    for path in ["ssh://elsewhere", "ssh://elsewhere:", "ssh://", "ssh://:/a"] {
        there(&host, cloud.cp(path)).run().refused(Rule::SshUrl).naming("IMAGE/PATH");
    }
}

#[test]
fn what_ssh_says_reaches_the_user() {
    let (cloud, host) = (Cloud::new(), SshHost::new());
    let missing = url("/no/such/file.img");
    for action in ["cp", "stat"] {
        let call = |path: &str| {
            there(&host, cloud.call(action).path(path)).run().refused(Rule::Unreadable)
        };
        let failure = call(&missing);
        failure.naming("IMAGE/PATH").saying(&missing).saying("No such file");
        call("ssh://no-such-host.invalid:/a").naming("IMAGE/PATH").saying("no-such-host.invalid");
        // A known host without such a user.
        call("ssh://no-such-user@elsewhere:/a").naming("IMAGE/PATH").saying("Permission denied");
        // Not known: no key is accepted on sight.
        call("ssh://127.0.0.1:/a").naming("IMAGE/PATH").saying("ssh://127.0.0.1:/a");
        call(&url("/")).naming("IMAGE/PATH");
    }
}

#[test]
fn a_wrong_digest_or_a_broken_file_leaves_nothing() {
    let (cloud, host) = (Cloud::new(), SshHost::new());
    let disk = cloud.raw("disk.img", 2 * MIB);
    let wrong = digest("md5sum", cloud.file("other", "other"));
    let call = there(&host, cloud.cp(url(&disk))).set("IMAGE/TEMPLATE/MD5", &wrong);
    call.run().refused(Rule::DigestMismatch).naming("IMAGE/TEMPLATE/MD5").saying(&wrong);
    let empty = url(cloud.file("empty", ""));
    there(&host, cloud.cp(&empty)).run().fails().naming("IMAGE/PATH").saying("empty");
    let mut bytes = fs::read(cloud.compressed(&disk, "gzip")).unwrap();
    bytes.truncate(bytes.len() / 2);
    let short = url(cloud.file("short.gz", bytes));
    there(&host, cloud.cp(&short))
        .run()
        .refused(Rule::Unreadable)
        .naming("IMAGE/PATH")
        .saying(&short);
}

#[test]
fn an_image_is_measured_on_another_host() {
    let (cloud, host) = (Cloud::new(), SshHost::new());
    let disk = cloud.raw("disk.img", 9 * MIB + 1);
    let files = [
        (disk.clone(), "10"),
        (cloud.qcow2(&disk, "disk.qcow2", "preallocation=metadata"), "10"),
        (cloud.converted(&disk, "disk.vmdk", "vmdk", ""), "10"),
        (cloud.converted(&disk, "disk.vdi", "vdi", ""), "10"),
        (cloud.luks("disk.luks", 5 * MIB), "5"),
        (cloud.compressed(&disk, "xz"), "10"),
        (cloud.compressed(&disk, "zstd"), "10"),
        (cloud.compressed(&disk, "gzip"), "10"),
        (cloud.iso("disc.iso"), "1"),
    ];
    for (file, size) in files {
        println!("{}", file.display());
        // A machine that is very busy may take longer for one of them than `stat` waits.
        let call = there(&host, cloud.stat(url(&file)));
        let is_late = |outcome: &Outcome| outcome.stderr_text().contains("takes too long");
        let outcome = (0..5).map(|_| call.clone().run()).find(|outcome| !is_late(outcome));
        outcome.expect("it is measured in time").succeeds().replies(size);
    }
    let large = cloud.images().join("large.img");
    fs::File::create(&large).unwrap().set_len(50 << 30).unwrap();
    there(&host, cloud.stat(url(&large))).run().succeeds().replies("51200");
}

/// The call of the user waits meanwhile.
#[test]
fn a_host_that_hangs_is_not_waited_for_by_stat() {
    let cloud = Cloud::new();
    let shell = cloud.root().join("shell");
    write_script(&shell, "[ \"$2\" = true ] || exec sleep 40");
    let host = SshHost::with_shell(shell.to_str().unwrap());
    let path = url(cloud.raw("disk.img", MIB));
    let start = Instant::now();
    let outcome = there(&host, cloud.stat(&path)).run();
    assert!(start.elapsed() < Duration::from_secs(35), "{:?}", start.elapsed());
    outcome.refused(Rule::CantBeMeasured).naming("IMAGE/PATH").saying(&path);
}

#[test]
fn an_image_is_exported_here_and_registered_there() {
    let (here, host) = (Cloud::new(), SshHost::new());
    let disk = here.raw("disk.img", 3 * MIB + 512);
    let qcow2 = here.qcow2(&disk, "disk.qcow2", "");
    for (file, format) in [(&disk, "raw"), (&qcow2, "qcow2")] {
        let image = here.cp(file).run().succeeds().line().to_owned();
        let source = image.rsplit_once(' ').unwrap().0;
        let info = here.export(source, format).run().succeeds().text;
        let told = |name: &str| {
            let after = info.split_once(&format!("<{name}>")).expect(name).1;
            let value = after.split_once(&format!("</{name}>")).expect(name).0;
            value.trim_start_matches("<![CDATA[").trim_end_matches("]]>").to_owned()
        };
        assert_eq!(told("FORMAT"), format);
        let there_cloud = Cloud::new();
        let path = format!("ssh://elsewhere:{}", told("IMPORT_SOURCE"));
        let size = there(&host, there_cloud.stat(&path)).run().succeeds();
        size.replies(&told("SIZE"));
        let call = there(&host, there_cloud.cp(&path)).set("IMAGE/TEMPLATE/MD5", told("MD5"));
        let copy = call.set_escaped("IMAGE/SIZE", told("SIZE")).run().succeeds().image(format);
        same_content(&disk, "raw", copy, format);
    }
}

#[test]
fn what_grows_too_large_is_stopped() {
    let host = SshHost::new();
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(4 * MIB));
    let noise = cloud.file("noise.img", pattern(1, 12 * MIB as usize));
    let too_large = url(&noise);
    there(&host, cloud.cp(&too_large)).run().fails().naming("DATASTORE/BASE_PATH").saying("space");
    let zeros = cloud.file("zeros.img", vec![0; 40 * MIB as usize]);
    let packed = url(cloud.compressed(&zeros, "gzip"));
    let call = there(&host, cloud.cp(&packed)).set_escaped("IMAGE/SIZE", "10");
    cloud.datastore_conf("MAX_VIRTUAL_SIZE=10M\n");
    call.run().refused(Rule::LargerThanAllowed).naming("MAX_VIRTUAL_SIZE").saying(&packed);
}
