//! `cp`: paths that lead to nothing that could be an image, and paths with odd names.

use ferrostore_tests::{Cloud, MIB, Rule, pattern, run, same_bytes};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

#[test]
fn a_path_is_opened_once_and_never_looked_at_again() {
    let cloud = Cloud::new();
    let disk = cloud.raw("some disk.img", MIB);
    let trace = cloud.root().join("trace");
    for driver in ["raw", "qcow2"] {
        let strace =
            ["strace", "-f", "-qq", "-e", "trace=%file,%desc", "-o", trace.to_str().unwrap()];
        cloud.cp(&disk).driver(driver).under(strace).run().succeeds().image(driver);
        let log = fs::read_to_string(&trace).unwrap();
        let uses: Vec<_> = log
            .lines()
            .filter(|line| line.contains("some disk.img\""))
            // What the kernel says about an open file is no second look at the path.
            .filter(|line| !line.contains("readlink"))
            .collect();
        assert_eq!(uses.len(), 1, "{uses:#?}");
        assert!(uses[0].contains("open"), "{uses:#?}");
    }
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let cloud = Cloud::new();
    let fifo = cloud.images().join("fifo");
    run("mkfifo", [&fifo]);
    cloud.cp(&fifo).run().refused(Rule::WrongFileType).naming("IMAGE/PATH").saying_path(&fifo);

    let socket = cloud.images().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    cloud.cp(&socket).run().refused(Rule::WrongFileType).naming("IMAGE/PATH");

    let folder = cloud.images().join("folder");
    fs::create_dir(&folder).unwrap();
    cloud.cp(&folder).run().fails().naming("IMAGE/PATH").saying("director");
    cloud.cp(cloud.images()).run().refused(Rule::WrongFileType).naming("IMAGE/PATH");

    for device in ["/dev/zero", "/dev/null", "/dev/full", "/dev/tty"] {
        cloud
            .cp(device)
            .set("DATASTORE/TEMPLATE/SAFE_DIRS", "/dev")
            .run()
            .refused(Rule::WrongFileType)
            .naming("IMAGE/PATH")
            .saying(device);
    }
    for process in ["/proc/self/fd/0", "/dev/stdin"] {
        cloud
            .cp(process)
            .set("DATASTORE/TEMPLATE/SAFE_DIRS", "/dev /proc")
            .run()
            .refused(Rule::CantBeOpened)
            .naming("IMAGE/PATH");
    }
}

#[test]
fn a_missing_file_is_named() {
    let cloud = Cloud::new();
    let missing = cloud.images().join("nothing here.img");
    cloud.cp(&missing).run().refused(Rule::CantBeOpened).naming("IMAGE/PATH").saying_path(&missing);
    let dangling = cloud.images().join("dangling");
    symlink(&missing, &dangling).unwrap();
    cloud.cp(&dangling).run().refused(Rule::CantBeOpened).naming("IMAGE/PATH");
    let circle = cloud.images().join("circle");
    symlink(&circle, &circle).unwrap();
    cloud.cp(&circle).run().refused(Rule::CantBeOpened).naming("IMAGE/PATH");
    let below_a_file = cloud.raw("disk.img", MIB).join("more");
    cloud.cp(&below_a_file).run().refused(Rule::CantBeOpened).naming("IMAGE/PATH");
}

#[test]
fn an_empty_file_is_refused() {
    let cloud = Cloud::new();
    let empty = cloud.file("empty.img", "");
    for driver in ["", "raw", "qcow2"] {
        cloud.cp(&empty).driver(driver).run().fails().naming("IMAGE/PATH").saying("empty");
    }
    cloud.cp(&empty).cdrom().run().fails().naming("IMAGE/PATH").saying("empty");
    cloud
        .cp(&empty)
        .files_datastore()
        .set_escaped("IMAGE/TYPE", "5")
        .run()
        .fails()
        .naming("IMAGE/PATH")
        .saying("empty");
}

#[test]
fn a_file_that_the_driver_may_not_read_is_named() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    cloud.hand_over_to(12345);
    cloud.cp(&disk).as_user(12345).run().succeeds().image("raw");
    run("chmod", ["000", disk.to_str().unwrap()]);
    cloud
        .cp(&disk)
        .as_user(12345)
        .run()
        .fails()
        .naming("IMAGE/PATH")
        .saying_path(&disk)
        .saying("permission");
}

#[test]
fn a_relative_path_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    fs::copy(&disk, cloud.one_location().join("var/disk.img")).unwrap();
    for path in ["disk.img", "./disk.img", "../../images/disk.img", "-rf", "--help", "~/disk.img"] {
        println!("{path}");
        cloud.cp(path).run().refused(Rule::NotAbsolute).naming("IMAGE/PATH").saying(path);
    }
}

#[test]
fn an_unknown_scheme_is_named() {
    let cloud = Cloud::new();
    for path in ["s3://bucket/disk.img", "gopher://host/disk.img", "rbd://pool/disk"] {
        let scheme = path.split_once(':').unwrap().0;
        cloud
            .cp(path)
            .run()
            .refused_by_any(&[Rule::UnknownScheme, Rule::NotInstalled])
            .naming("IMAGE/PATH")
            .saying(scheme);
    }
}

#[test]
fn what_a_shell_would_act_upon_is_data() {
    let cloud = Cloud::new();
    let trap = cloud.root().join("trap");
    for name in [
        "$(touch trap).img",
        "`touch trap`.img",
        "a;touch trap;.img",
        "a|touch trap|b",
        "a&touch trap&",
        "'\"'\"quotes",
        "\\n\\\\back",
        "*",
        "?",
        "{a,b}",
        "-n",
        "--reflink=always",
        "%s%n%d",
        "~root",
        "#comment",
        "a:b,c=d",
        "file.filename=x",
        "json:{\"driver\":\"raw\"}",
        "new\nline",
        "\u{1b}[31mred",
    ] {
        println!("{name:?}");
        let disk = cloud.raw(name, MIB);
        let copy = cloud.cp(&disk).run().succeeds().image("raw");
        same_bytes(&disk, copy);
        let image = cloud.cp(&disk).driver("qcow2").run().succeeds();
        image.image("qcow2");
        cloud.stat(&disk).run().succeeds().replies("1");
        fs::remove_file(&disk).unwrap();
        for folder in
            [cloud.root(), &cloud.images(), &cloud.one_location().join("var"), &cloud.home()]
        {
            assert!(!folder.join("trap").exists() && !trap.exists(), "the name was executed");
        }
    }
}

#[test]
fn odd_names_of_other_formats_reach_qemu_img_as_they_are() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for name in ["a,b=c.vdi", "-O.vdi", "x:y.vdi", "json:{}.vdi", "$(touch trap) '\".vdi"] {
        println!("{name}");
        let image = cloud.images().join(name);
        fs::rename(cloud.converted(&disk, "plain.vdi", "vdi", ""), &image).unwrap();
        let copy = cloud.cp(&image).driver("raw").run().succeeds().image("raw");
        same_bytes(&disk, copy);
    }
}

#[test]
fn names_that_are_no_utf8_work_or_are_refused() {
    let cloud = Cloud::new();
    let name = OsStr::from_bytes(b"caf\xe9.img");
    let disk = cloud.images().join(name);
    fs::write(&disk, pattern(1, 5000)).unwrap();
    let outcome = cloud.cp(&disk).run();
    if outcome.status.success() {
        same_bytes(&disk, outcome.succeeds().image("raw"));
    } else {
        outcome.refused(Rule::CantBeOpened).naming("IMAGE/PATH");
    }
}
