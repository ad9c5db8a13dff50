//! The driver on a bridge host: the same executable as on the front-end, or none.

use ferrostore_tests::{BridgeHost, Bridges, Cloud, MIB, Rule, digest, run, same_bytes, stripped};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where copies of drivers are put, below the staging directory.
fn copies(host: &BridgeHost, staging: &str) -> PathBuf {
    host.path(staging).join("ferrostore-0")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn copy_of(action: &str) -> String {
    format!("{action}-{}", digest("sha256sum", stripped(action)))
}

#[test]
fn a_driver_that_is_missing_is_sent_once() {
    let cloud = Cloud::new();
    let bridges = Bridges::without_drivers(&cloud, 1);
    let host = bridges.host(1);
    let disk = cloud.raw("disk.img", 2 * MIB);
    let before = host.connections();
    for round in ["sent", "found"] {
        let reply = bridges.bridged(cloud.cp(&disk)).run().succeeds();
        same_bytes(&disk, reply.image("raw"));
        let told = reply.outcome.stderr_text().contains("INFO: host host1 ");
        assert_eq!(told, round == "sent", "{}", reply.outcome.stderr_text());
    }
    bridges.bridged(cloud.monitor()).run().succeeds();
    assert_eq!(host.connections() - before, 3, "one connection for each action, sent or not");
    let copies = copies(host, "/var/tmp");
    assert_eq!(names(&copies), [copy_of("cp"), copy_of("monitor")]);
    assert_eq!(fs::metadata(&copies).unwrap().permissions().mode() & 0o777, 0o700);
    same_bytes(stripped("cp"), copies.join(copy_of("cp")));
}

#[test]
fn a_driver_of_another_version_is_left_alone_and_not_used() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let host = bridges.host(1);
    let other = host.path("/var/tmp/one/datastore/fs/monitor");
    fs::write(&other, "#!/bin/sh\ntouch /var/tmp/ran\necho USED_MB=1\n").unwrap();
    bridges.bridged(cloud.monitor()).run().succeeds();
    assert!(!host.path("/var/tmp/ran").exists(), "what is not the same is not run");
    assert_eq!(names(&copies(host, "/var/tmp")), [copy_of("monitor")]);
    assert!(fs::read_to_string(other).unwrap().contains("ran"));
}

#[test]
fn a_copy_that_was_tampered_with_is_not_run() {
    let cloud = Cloud::new();
    let bridges = Bridges::without_drivers(&cloud, 1);
    let host = bridges.host(1);
    bridges.bridged(cloud.monitor()).run().succeeds();
    let copy = copies(host, "/var/tmp").join(copy_of("monitor"));
    fs::remove_file(&copy).unwrap();
    fs::write(&copy, "#!/bin/sh\ntouch /var/tmp/ran\n").unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o700)).unwrap();
    bridges.bridged(cloud.monitor()).run().succeeds();
    assert!(!host.path("/var/tmp/ran").exists());
    same_bytes(stripped("monitor"), copy);
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let cloud = Cloud::new();
    let bridges = Bridges::without_drivers(&cloud, 1);
    let host = bridges.host(1);
    let copies = copies(host, "/var/tmp");
    let elsewhere = host.path("/var/tmp/elsewhere");
    let refused = || {
        let failure = bridges.bridged(cloud.monitor()).run().fails();
        let reasons = ["others may write to it", "none can be put into STAGING_DIR"];
        let failure = failure.saying_any(&reasons);
        failure.saying("host1: ").saying("STAGING_DIR").saying("/var/tmp");
        assert!(!elsewhere.exists() || names(&elsewhere).is_empty());
    };
    fs::create_dir(&copies).unwrap();
    fs::set_permissions(&copies, fs::Permissions::from_mode(0o777)).unwrap();
    refused();
    fs::set_permissions(&copies, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&copies, Some(65534), Some(65534)).unwrap();
    refused();
    fs::remove_dir(&copies).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o777)).unwrap();
    symlink("/var/tmp/elsewhere", &copies).unwrap();
    refused();
    fs::remove_file(&copies).unwrap();
    symlink("/var/tmp/nowhere", &copies).unwrap();
    refused();
    fs::remove_file(&copies).unwrap();
    fs::write(&copies, "").unwrap();
    refused();
}

#[test]
fn the_datastore_says_where_copies_go() {
    let cloud = Cloud::new();
    let bridges = Bridges::without_drivers(&cloud, 1);
    let host = bridges.host(1);
    let odd = "/var/tmp/it's a $(touch ran) \"dir\";*";
    for directory in ["/var/tmp/staging", odd] {
        let call =
            bridges.bridged(cloud.monitor()).set("DATASTORE/TEMPLATE/STAGING_DIR", directory);
        let failure = call.clone().run().fails();
        failure.saying("none can be put into STAGING_DIR").saying("host1: ");
        fs::create_dir(host.path(directory)).unwrap();
        call.run().succeeds();
        assert_eq!(names(&copies(host, directory)), [copy_of("monitor")]);
    }
    assert_eq!(names(host.path("/var/tmp").as_path()).len(), 4, "storage, lost+found and these");
    for directory in ["relative", "/var/tmp/two\nlines"] {
        let call = bridges.bridged(cloud.monitor());
        let call = call.set("DATASTORE/TEMPLATE/STAGING_DIR", directory);
        call.run().refused(Rule::DriverDirectory).naming("DATASTORE/TEMPLATE/STAGING_DIR");
    }
}

#[test]
fn oneds_configuration_says_where_drivers_are() {
    let cloud = Cloud::new();
    let bridges = Bridges::without_drivers(&cloud, 1);
    let host = bridges.host(1);
    let conf = cloud.one_location().join("etc/oned.conf");
    fs::write(conf, "LOG = [\n  SYSTEM = \"file\" ]\nSCRIPTS_REMOTE_DIR = \"/var/tmp/my one\"\n")
        .unwrap();
    let directory = host.path("/var/tmp/my one/datastore/fs");
    fs::create_dir_all(&directory).unwrap();
    run("cp", [stripped("monitor"), directory.join("monitor")]);
    bridges.bridged(cloud.monitor()).run().succeeds();
    assert!(!copies(host, "/var/tmp").exists(), "nothing had to be sent");
}

/// `setarch` makes a host say that it has a 32-bit processor.
#[test]
fn a_host_with_another_processor_is_named() {
    let cloud = Cloud::new();
    let mut bridges = Bridges::of(&cloud, 1);
    bridges.host_mut(1).stop();
    bridges.host_mut(1).start_under(&["setarch", "i686"]);
    let failure = bridges.bridged(cloud.monitor()).run().fails();
    failure.saying("host1: ").saying("processor").saying("i686").saying("x86_64");
}

#[test]
fn a_host_that_cannot_run_the_driver_says_why() {
    let cloud = Cloud::new();
    let bridges = Bridges::without_drivers(&cloud, 1);
    let host = bridges.host(1);
    let mount = "mkdir /var/tmp/s && mount -t tmpfs -o noexec tmpfs /var/tmp/s";
    assert!(host.run(mount).status.success());
    let call = bridges.bridged(cloud.monitor()).set("DATASTORE/TEMPLATE/STAGING_DIR", "/var/tmp/s");
    call.run().fails().naming("STAGING_DIR").saying("host1: ").saying("noexec");
}

/// The host gets a C library that lacks a version which drivers need, and the programs of the host don't: this machine's
/// own, with another name for that version.
#[test]
fn a_host_whose_c_library_is_too_old_is_named() {
    const LIBRARY: &str = "/lib/x86_64-linux-gnu/libc.so.6";
    const VERSION: &[u8] = b"GLIBC_2.32\0";
    let cloud = Cloud::new();
    let bridges = Bridges::without_drivers(&cloud, 1);
    let host = bridges.host(1);
    let mut library = fs::read(LIBRARY).unwrap();
    let at = library.windows(VERSION.len()).position(|name| name == VERSION).expect("its version");
    library[at + VERSION.len() - 2] = b'x';
    fs::create_dir(host.path("/var/tmp/old")).unwrap();
    fs::write(host.path("/var/tmp/old/libc.so.6"), library).unwrap();
    fs::write(bridges.home().join(".bashrc"), "export LD_LIBRARY_PATH=/var/tmp/old\n").unwrap();
    for call in [cloud.monitor(), cloud.mkfs("raw", "1"), cloud.cp(cloud.raw("disk.img", MIB))] {
        let failure = bridges.bridged(call).run().fails();
        failure.saying("host1: ").saying("C library is too old").saying("GLIBC_2.32");
    }
}

#[test]
fn login_scripts_and_banners_do_not_disturb() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let noise = "echo welcome; echo; printf 'no end'; echo ERROR: not me >&2\n";
    fs::write(bridges.home().join(".bashrc"), noise).unwrap();
    let usage = bridges.bridged(cloud.monitor()).run().succeeds().text;
    assert!(usage.starts_with("USED_MB="), "{usage}");
}

#[test]
fn nothing_of_a_message_is_in_a_command_line() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let log = cloud.root().join("trace");
    let mut words = bridges.neighbour();
    words.extend(
        ["strace", "-f", "-qq", "-s", "100000", "-e", "trace=execve", "-o"].map(Into::into),
    );
    words.push(log.clone().into());
    let secret = "s3cr3t-value";
    let call = bridges.bridged(cloud.mkfs("raw", "1")).set("IMAGE/NAME", secret);
    let call = call.set("IMAGE/TEMPLATE/LUKS_SECRET", secret).under(words);
    call.run().succeeds();
    let trace = fs::read_to_string(log).unwrap();
    let line = trace.lines().find(|line| line.contains("/ssh\"")).expect("ssh was started");
    // Before them is the process, behind them an address: numbers that may be any.
    let words = &line[line.find('[').unwrap()..line.rfind(']').unwrap()];
    for word in [secret, "104", "datastores", "mkfs"] {
        assert!(!words.contains(word), "{word} is in {words}");
    }
    assert!(!trace.contains(secret));
}

#[test]
fn called_by_hand_it_explains_itself() {
    let cloud = Cloud::new();
    for (input, word) in [("", "connection"), ("hello, world", "--bridged")] {
        let call = cloud.monitor().arguments(["--bridged"]).input(input);
        let failure = call.run();
        assert_eq!(failure.status.code(), Some(1));
        let lines = failure.user_lines();
        assert!(lines.len() == 1 && lines[0].contains(word), "{lines:?}");
    }
}
