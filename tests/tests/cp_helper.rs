//! `cp` and `stat` of what OpenNebula's own downloader fetches.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferrostore_tests::{Cloud, MIB, Rule, digest, pattern, same_bytes, same_content, write_script};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

const SCHEMES: [&str; 10] = [
    "s3",
    "rbd",
    "lxd",
    "restic",
    "restic+rbd",
    "rsync",
    "rsync+rbd",
    "netapp",
    "purefa",
    "docker",
];

/// Installs a downloader that writes down how it is called and runs `script`.
fn install(cloud: &Cloud, script: &str) {
    let noting = "printf '%s\\0' \"$@\" >> \"$ONE_LOCATION/arguments\"\n\
                  printf '%s' \"$DRV_ACTION\" > \"$ONE_LOCATION/action\"";
    write_script(cloud.downloader(), &format!("{noting}\n{script}"));
}

fn delivering(cloud: &Cloud, file: &Path) {
    install(cloud, &format!("exec cat '{}'", file.display()));
}

fn recorded(cloud: &Cloud) -> PathBuf {
    cloud.one_location().join("arguments")
}

/// The arguments of the one call since the last time.
fn arguments(cloud: &Cloud) -> Vec<String> {
    let text = fs::read_to_string(recorded(cloud)).expect("the downloader was called");
    fs::remove_file(recorded(cloud)).unwrap();
    text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
}

#[test]
fn the_downloader_serves_every_scheme_that_it_is_for() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB + 512);
    delivering(&cloud, &disk);
    for scheme in SCHEMES {
        println!("{scheme}");
        let path = format!("{scheme}://bucket/a path/disk.img?x=1&y='2'");
        let copy = cloud.cp(&path).run().succeeds().image("raw");
        same_bytes(&disk, copy);
        let arguments = arguments(&cloud);
        assert_eq!(arguments.iter().filter(|word| **word == path).count(), 1, "{arguments:?}");
        assert_eq!(arguments.last().unwrap(), "-", "to standard output: {arguments:?}");
    }
}

#[test]
fn the_downloader_gets_the_message() {
    let cloud = Cloud::new();
    delivering(&cloud, &cloud.raw("disk.img", MIB));
    let call = cloud.cp("s3://bucket/disk.img").set("IMAGE/TEMPLATE/NOTE", "a <secret> & more");
    let sent = call.message().xml();
    call.run().succeeds();
    let action = fs::read_to_string(cloud.one_location().join("action")).unwrap();
    assert_eq!(STANDARD.decode(action).expect("base64 without line breaks"), sent);
}

/// The stock downloader looks into a file first, in a transfer of its own, and undoes its
/// compression, unless told not to.
#[test]
fn the_downloader_is_told_to_leave_compression_to_us() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let packed = cloud.compressed(&disk, "gzip");
    install(
        &cloud,
        &format!(
            "case \" $* \" in *' --nodecomp '*) exec cat '{0}';; esac\nexec gunzip -c '{0}'",
            packed.display()
        ),
    );
    let call = || {
        let call = cloud.cp("s3://bucket/disk.img.gz");
        call.set("IMAGE/TEMPLATE/SHA256", digest("sha256sum", &packed))
    };
    same_bytes(&disk, call().run().succeeds().image("raw"));
    let kept = call().set("DATASTORE/TEMPLATE/NO_DECOMPRESS", "yes").run().succeeds().image("raw");
    same_bytes(&packed, kept);
}

#[test]
fn what_the_downloader_delivers_is_treated_like_any_stream() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB + 512);
    let qcow2 = cloud.qcow2(&disk, "disk.qcow2", "");
    for file in [&disk, &qcow2, &cloud.compressed(&disk, "zstd")] {
        delivering(&cloud, file);
        for driver in ["raw", "qcow2"] {
            let call = cloud.cp("rsync://host/module/disk").driver(driver);
            let call = call.set("IMAGE/TEMPLATE/SHA1", digest("sha1sum", file));
            let image = call.run().succeeds().image(driver);
            same_content(&disk, "raw", image, driver);
        }
        let wrong = digest("md5sum", recorded(&cloud));
        let call = cloud.cp("rsync://host/module/disk").set("IMAGE/TEMPLATE/MD5", &wrong);
        call.run().refused(Rule::DigestMismatch).naming("IMAGE/TEMPLATE/MD5").saying(&wrong);
    }
}

#[test]
fn what_the_downloader_complains_of_reaches_the_user() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let path = "s3://bucket/disk.img";
    for (script, words) in [
        ("echo 'NoSuchKey: no such key' >&2; exit 3".to_owned(), "no such key"),
        // Fails once everything has been delivered.
        (format!("cat '{}'; echo 'too late' >&2; exit 1", disk.display()), "too late"),
        // Nothing comes, and no reason.
        ("exit 0".to_owned(), "empty"),
        ("exit 255".to_owned(), "downloader.sh"),
        ("kill -9 $$".to_owned(), "downloader.sh"),
    ] {
        println!("{script}");
        install(&cloud, &script);
        for driver in ["", "qcow2"] {
            let failure = cloud.cp(path).driver(driver).run().fails();
            failure.naming("IMAGE/PATH").saying(path).saying(words);
        }
        cloud
            .stat(path)
            .run()
            .refused_by_any(&[Rule::Unreadable, Rule::Empty])
            .naming("IMAGE/PATH")
            .saying(path);
    }
}

#[test]
fn a_password_in_the_path_is_not_shown() {
    let cloud = Cloud::new();
    install(&cloud, "echo \"can't fetch $1 $2 $3\" >&2; exit 1");
    let path = "rsync://tom:hunter2@host/module/disk.img";
    for action in ["cp", "stat"] {
        let outcome = cloud.call(action).path(path).run();
        let stderr = outcome.stderr_text();
        assert!(!stderr.contains("hunter2"), "{stderr}");
        outcome.refused(Rule::PasswordShown).naming("IMAGE/PATH");
    }
}

#[test]
fn where_there_is_no_downloader_the_scheme_is_named() {
    let cloud = Cloud::new();
    for scheme in SCHEMES {
        let path = format!("{scheme}://bucket/disk.img");
        for action in ["cp", "stat"] {
            let failure = cloud.call(action).path(&path).run().fails();
            failure.naming("IMAGE/PATH").saying(&path).saying(scheme).saying("downloader.sh");
        }
    }
}

#[test]
fn an_unknown_scheme_is_an_error_and_never_a_path() {
    let cloud = Cloud::new();
    delivering(&cloud, &cloud.raw("disk.img", MIB));
    for scheme in ["gopher", "file", "data", "nbd", "javascript", "x"] {
        // A file of that very name, below the directory that the driver runs in.
        let folder = cloud.one_location().join(format!("var/{scheme}:/host"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("disk.img"), pattern(1, 1000)).unwrap();
        let path = format!("{scheme}://host/disk.img");
        for action in ["cp", "stat"] {
            let call = cloud.call(action).path(&path).set("DATASTORE/TEMPLATE/SAFE_DIRS", "/");
            call.run().fails().naming("IMAGE/PATH").saying(&path).saying("scheme");
        }
    }
    assert!(!recorded(&cloud).exists(), "the downloader is not asked either");
}

/// The stock downloader puts the path into a line that a shell reads, for some schemes between
/// double quotes.
#[test]
fn nothing_that_a_shell_would_run_is_handed_to_the_downloader() {
    let cloud = Cloud::new();
    delivering(&cloud, &cloud.raw("disk.img", MIB));
    for name in ["$(touch ran)", "`touch ran`", "a\";touch ran;\"", "a\\", "a\nb"] {
        for scheme in ["lxd", "docker", "s3"] {
            let path = format!("{scheme}://host/{name}");
            println!("{path:?}");
            for action in ["cp", "stat"] {
                cloud
                    .call(action)
                    .path(&path)
                    .run()
                    .refused(Rule::UnsafeCharacters)
                    .naming("IMAGE/PATH");
            }
        }
    }
    assert!(!recorded(&cloud).exists(), "the downloader is not even started");
}

#[test]
fn what_the_downloader_delivers_is_measured() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 9 * MIB + 1);
    let files = [
        (disk.clone(), "10"),
        (cloud.qcow2(&disk, "disk.qcow2", ""), "10"),
        (cloud.luks("disk.luks", 5 * MIB), "5"),
    ];
    for (file, size) in files {
        delivering(&cloud, &file);
        cloud.stat("s3://bucket/disk").run().succeeds().replies(size);
    }
}

/// The call of the user waits meanwhile.
#[test]
fn a_downloader_that_takes_for_ever_is_not_waited_for_by_stat() {
    let slow = [
        "exec sleep 40",
        "head -c 100000 /dev/zero; exec sleep 40",
        "for i in {1..400}; do echo; sleep 0.1; done",
        // Ends at once, but something that it started keeps its output open.
        "sleep 40 & exit 0",
    ];
    std::thread::scope(|scope| {
        for script in slow {
            scope.spawn(move || {
                let cloud = Cloud::new();
                install(&cloud, script);
                let start = Instant::now();
                let outcome = cloud.stat("s3://bucket/disk").run();
                assert!(start.elapsed().as_secs() < 35, "{script}: {:?}", start.elapsed());
                outcome
                    .refused(Rule::CantBeMeasured)
                    .naming("IMAGE/PATH")
                    .saying("s3://bucket/disk");
            });
        }
    });
}
