//! Whatever an attribute says is data: nothing of it is run, expanded or taken for an option, and where it
//! makes no sense the call fails as any other.

use ferrostore_tests::docs::attributes;
use ferrostore_tests::{Call, Cloud, KIB, Listing, pattern};
use std::fs;
use std::path::Path;

/// What a message may hold besides what the reference lists.
const UNLISTED: [&str; 9] = [
    "IMAGE/NAME",
    "IMAGE/DISK_TYPE",
    "IMAGE/SNAPSHOTS/SNAPSHOT/ID",
    "IMAGE/SNAPSHOTS/SNAPSHOT/PARENT",
    "IMAGE/SNAPSHOTS/SNAPSHOT/ACTIVE",
    "IMAGE/SNAPSHOTS/SNAPSHOT/CHILDREN",
    "DATASTORE/NAME",
    "DATASTORE/TM_MAD",
    "DATASTORE/TEMPLATE/UNKNOWN",
];

#[test]
fn the_reference_lists_what_matters() {
    let listed = attributes();
    for name in [
        "IMAGE/ID",
        "IMAGE/PATH",
        "IMAGE/PERSISTENT",
        "IMAGE/TEMPLATE/SHA512",
        "DATASTORE/ID",
        "DATASTORE/BASE_PATH",
        "DATASTORE/TEMPLATE/SAFE_DIRS",
        "DATASTORE/TEMPLATE/BRIDGE_LIST",
        "SOURCE_BRIDGE_LIST",
    ] {
        assert!(listed.iter().any(|listed| listed == name), "{name} in {listed:?}");
    }
}

/// Values that mean something to shells, to programs that take options, to `printf`, to path look-ups and to
/// readers of XML; `canary` is a file that must never come to be.
fn values(canary: &Path) -> Vec<Vec<u8>> {
    let canary = canary.display();
    let mut values: Vec<Vec<u8>> = [
        format!("a'b\"c\\; touch {canary} #"),
        format!("$(touch {canary})`touch {canary}`|touch {canary}&>{canary}"),
        format!("x\ntouch {canary}\r\n\ttouch canary\n"),
        format!("-oProxyCommand=touch {canary}"),
        "--help".to_owned(),
        "../../../../outside/secret.img".to_owned(),
        "%s%n%99999d${HOME}~*?[a-z]{1,2}".to_owned(),
        "]]>&amp;&#10;<IMAGE><PATH>/etc/passwd</PATH></IMAGE><!--".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec();
    values.push(b"caf\xe9 \xff\xfe\xc0\x80 \x01\x7f".to_vec());
    values.push(vec![b'A'; 1 << 20]);
    values
}

/// A call of `action` that would succeed as it is. What it needs is there.
fn usual<'c>(cloud: &'c Cloud, action: &str) -> Call<'c> {
    let _ = fs::remove_dir_all(cloud.datastore());
    let source = cloud.source(1);
    let file = cloud.datastore().join(Path::new(&source).file_name().unwrap());
    let snapshots = file.with_extension("snap");
    fs::create_dir_all(&snapshots).unwrap();
    for path in [file, snapshots.join("0"), snapshots.join("1")] {
        fs::write(path, pattern(1, 4 * KIB as usize)).unwrap();
    }
    match action {
        "cp" => cloud.cp(cloud.images().join("disk.img")),
        "stat" => cloud.stat(cloud.images().join("disk.img")),
        "mkfs" => cloud.mkfs("raw", "1"),
        "clone" => cloud.clone_of(source, "raw"),
        "rm" => cloud.rm(source),
        "export" => cloud.export(source, "raw"),
        "monitor" => cloud.monitor(),
        other => cloud.snap(other, source, "raw", 1),
    }
}

/// Tries every attribute with every value.
fn takes_everything_as_data(action: &str) {
    let cloud = Cloud::new();
    let disk = cloud.images().join("disk.img");
    fs::write(&disk, pattern(2, 4 * KIB as usize)).unwrap();
    let secret = cloud.outside().join("secret.img");
    fs::write(&secret, pattern(3, 4 * KIB as usize)).unwrap();
    usual(&cloud, action).run().succeeds();
    let canary = cloud.root().join("canary");
    let elsewhere = [cloud.images(), cloud.outside(), cloud.home()];
    let before = elsewhere.clone().map(|folder| Listing::of(&folder));
    let mut calls = 0;
    for name in attributes().iter().map(String::as_str).chain(UNLISTED) {
        for value in values(&canary) {
            let shown = String::from_utf8_lossy(&value[..value.len().min(60)]).into_owned();
            println!("{action}: {name} = {shown:?}");
            for call in [usual(&cloud, action).set(name, &value)].into_iter().chain(
                // Entities are another way to say the same; the long value needs no second way.
                (value.len() < 1000).then(|| usual(&cloud, action).set_escaped(name, &value)),
            ) {
                succeeds_or_fails_as_any_other(call);
                calls += 1;
            }
            let running = cloud.one_location().join("var");
            for folder in [cloud.root(), &running, &cloud.datastore(), Path::new("/")] {
                assert!(!folder.join("canary").exists(), "something was run");
            }
        }
        // A character reference to what no text may hold.
        succeeds_or_fails_as_any_other(usual(&cloud, action).set_xml(name, "a&#0;b"));
        for (folder, before) in elsewhere.iter().zip(&before) {
            assert_eq!(&Listing::of(folder), before, "{} was touched", folder.display());
        }
    }
    println!("{action}: {calls} calls");
}

#[track_caller]
fn succeeds_or_fails_as_any_other(call: Call) {
    let outcome = call.run();
    if outcome.status.success() {
        assert_eq!(outcome.user_lines(), [""; 0]);
    } else {
        let stderr = outcome.stderr_text();
        assert!(stderr.len() < 3000, "a line of {} bytes", stderr.len());
        // Each attribute has rules of its own, and each action reads others of them.
        outcome.fails().for_any_reason();
    }
}

macro_rules! each_action {
    ($($name:ident: $action:literal)+) => {
        $(#[test]
        fn $name() {
            takes_everything_as_data($action);
        })+
    };
}

each_action! {
    cp_takes_everything_as_data: "cp"
    mkfs_takes_everything_as_data: "mkfs"
    clone_takes_everything_as_data: "clone"
    rm_takes_everything_as_data: "rm"
    stat_takes_everything_as_data: "stat"
    snap_revert_takes_everything_as_data: "snap_revert"
    snap_flatten_takes_everything_as_data: "snap_flatten"
    snap_delete_takes_everything_as_data: "snap_delete"
    monitor_takes_everything_as_data: "monitor"
    export_takes_everything_as_data: "export"
}

#[test]
fn a_base_path_is_one_name_whatever_is_in_it() {
    for name in ["a b", "$(touch canary)", "a'b\"c", "-rf", "a;b|c&d", "%s", "caf\u{e9}", "a,b=c:d"]
    {
        println!("{name}");
        let cloud = Cloud::new();
        let disk = cloud.raw("disk.img", 64 * KIB);
        let directory = cloud.root().join(name);
        let base = directory.to_str().unwrap();
        for driver in ["raw", "qcow2"] {
            let reply = cloud.cp(&disk).driver(driver).set("DATASTORE/BASE_PATH", base).run();
            let text = String::from_utf8(reply.stdout.clone()).unwrap();
            assert!(reply.status.success(), "{}", reply.stderr_text());
            assert!(text.starts_with(&format!("{base}/")), "{text}");
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
        assert!(!cloud.one_location().join("var/canary").exists());
    }
}
