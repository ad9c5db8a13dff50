//! The kind `dev`: block devices that are registered as they are.

use ferrostore_tests::{Call, Cloud, Listing, LoopDevice, MIB, Rule, run};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

trait InDeviceDatastore {
    fn dev(self) -> Self;
}

impl InDeviceDatastore for Call<'_> {
    fn dev(self) -> Self {
        self.set("DATASTORE/DS_MAD", "dev")
            .set("DATASTORE/TM_MAD", "dev")
            .set("DATASTORE/TEMPLATE/DISK_TYPE", "BLOCK")
            .set_escaped("IMAGE/PERSISTENT", "1")
    }
}

fn device(cloud: &Cloud, size: u64) -> LoopDevice {
    LoopDevice::new(&cloud.outside().join("device"), size)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder of links in `/dev`, as udev makes them, removed when dropped.
struct Links(PathBuf);

impl Links {
    fn new(name: &str) -> Self {
        let folder =
            Path::new("/dev").join(format!("ferrostore-test-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn to(&self, device: &LoopDevice) -> PathBuf {
        let link = self.0.join("wwn-0x5000");
        symlink(device.path(), &link).unwrap();
        link
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_device_is_registered_under_its_own_path_and_left_alone() {
    let cloud = Cloud::new();
    let device = device(&cloud, 4 * MIB);
    let before = Listing::of(&cloud.outside());
    let path = text(device.path());
    let reply = cloud.cp(path).dev().run().succeeds();
    reply.replies(&format!("{path} raw")).changing_nothing();
    // What a datastore of files would do makes no difference.
    for driver in ["raw", "qcow2"] {
        cloud.cp(path).dev().driver(driver).run().succeeds().replies(&format!("{path} raw"));
    }
    assert_eq!(Listing::of(&cloud.outside()), before);
}

#[test]
fn a_link_with_a_lasting_name_keeps_that_name() {
    let cloud = Cloud::new();
    let device = device(&cloud, 4 * MIB);
    let links = Links::new("lasting");
    let link = links.to(&device);
    cloud.cp(&link).dev().run().succeeds().replies(&format!("{} raw", link.display()));
    cloud.stat(&link).dev().run().succeeds().replies("0");
}

#[test]
fn the_size_is_told_only_where_oned_does_not_compare_it() {
    let cloud = Cloud::new();
    let device = device(&cloud, 5 * MIB + 512);
    let stat = || cloud.stat(device.path()).dev();
    stat().run().succeeds().replies("0");
    for (check, size) in [("NO", "6"), ("no", "6"), ("YES", "0"), ("", "0")] {
        let check = stat().set("DATASTORE/TEMPLATE/DATASTORE_CAPACITY_CHECK", check);
        check.run().succeeds().replies(size);
    }
    stat()
        .set("DATASTORE/TEMPLATE/DATASTORE_CAPACITY_CHECK", "maybe")
        .run()
        .refused(Rule::NotValid)
        .naming("DATASTORE/TEMPLATE/DATASTORE_CAPACITY_CHECK");
}

#[test]
fn the_datastore_has_no_space_of_its_own() {
    let cloud = Cloud::new();
    let reply = cloud.monitor().dev().run().succeeds();
    assert_eq!(reply.text, "USED_MB=0\nTOTAL_MB=1\nFREE_MB=1\n");
    fs::remove_dir(cloud.datastore()).unwrap();
    cloud.monitor().dev().run().succeeds();
    assert!(!cloud.datastore().exists(), "no directory is made for nothing");
}

#[test]
fn deleting_the_image_leaves_the_device() {
    let cloud = Cloud::new();
    let mut device = device(&cloud, MIB);
    let before = Listing::of(&cloud.outside());
    cloud.rm(device.path()).dev().run().succeeds().silently();
    assert_eq!(Listing::of(&cloud.outside()), before);
    assert_eq!(cloud.cp(device.path()).dev().run().succeeds().line().split(' ').count(), 2);
    let _still_detached = device.detach();
    cloud.rm(device.path()).dev().run().succeeds().silently();
    cloud.rm("/dev/ferrostore-is-gone").dev().run().succeeds().silently();
}

#[test]
fn what_is_no_block_device_is_refused() {
    let cloud = Cloud::new();
    let fifo = cloud.images().join("fifo");
    run("mkfifo", [&fifo]);
    let file = cloud.raw("disk.img", MIB);
    let images = cloud.images();
    for (path, what) in [
        (text(&file), "regular file"),
        (text(&images), "directory"),
        (text(&fifo), "FIFO"),
        ("/dev/null", "character device"),
        ("dev/sda", "absolute"),
        ("https://example.com/disk.img", "absolute"),
        ("iqn.2001-04.com.example:disk", "absolute"),
    ] {
        for call in [cloud.cp(path), cloud.stat(path)] {
            let failure =
                call.dev().run().refused_by_any(&[Rule::WrongFileType, Rule::NotAbsolute]);
            failure.naming("IMAGE/PATH").saying(path).saying(what);
        }
    }
    let file_behind_a_link = cloud.images().join("link");
    symlink(&file, &file_behind_a_link).unwrap();
    cloud.cp(file_behind_a_link).dev().run().fails().saying("regular file");
}

#[test]
fn a_device_that_only_the_hosts_have_is_registered_with_a_warning() {
    let cloud = Cloud::new();
    let links = Links::new("hosts");
    let dangling = links.0.join("wwn-0x5001");
    symlink("../ferrostore-is-missing", &dangling).unwrap();
    let names =
        ["/dev/ferrostore-is-missing", "/dev/mapper/none-of-this/machine's", text(&dangling)];
    for path in names {
        let calls = [
            (cloud.cp(path), format!("{path} raw")),
            (cloud.stat(path), "0".to_owned()),
            (cloud.stat(path).set("DATASTORE/TEMPLATE/DATASTORE_CAPACITY_CHECK", "NO"), "0".into()),
        ];
        for (call, reply) in calls {
            let outcome = call.dev().run().succeeds();
            outcome.replies(&reply).changing_nothing();
            let log = outcome.outcome.log_lines();
            assert!(
                log.len() == 1 && log[0].starts_with("WARN: ") && log[0].contains(path),
                "{log:?}"
            );
        }
    }
}

#[test]
fn what_can_be_no_device_of_a_host_is_refused_where_it_is_missing() {
    let cloud = Cloud::new();
    let outside = cloud.images().join("missing");
    for path in [
        text(&outside),
        "/dev/../var/tmp/ferrostore-is-missing",
        "/dev/fd/../../ferrostore-is-missing",
        "/devices/ferrostore-is-missing",
        "/dev/null/ferrostore-is-missing",
    ] {
        for call in [cloud.cp(path), cloud.stat(path)] {
            call.dev()
                .run()
                .refused_by_any(&[Rule::CantBeOpened, Rule::Restricted])
                .naming("IMAGE/PATH")
                .saying(path);
        }
    }
    for (restricted, safe) in [("/dev", ""), ("/", "/dev/disk")] {
        let call = cloud.cp("/dev/ferrostore-is-missing").dev();
        let call = call.set("DATASTORE/TEMPLATE/RESTRICTED_DIRS", restricted);
        call.set("DATASTORE/TEMPLATE/SAFE_DIRS", safe).run().refused(Rule::Restricted);
    }
}

#[test]
fn a_device_that_has_disappeared_is_refused() {
    let cloud = Cloud::new();
    let mut device = device(&cloud, MIB);
    let link = cloud.images().join("link");
    symlink(device.path(), &link).unwrap();
    cloud.cp(&link).dev().run().succeeds();
    let _still_detached = device.detach();
    for call in [cloud.cp(&link), cloud.stat(&link)] {
        call.dev().run().fails().naming("IMAGE/PATH").saying("its size is 0");
    }
    // A device file that no device stands behind: a number for local use.
    let node = cloud.images().join("node");
    run("mknod", [text(&node), "b", "240", "77"]);
    for call in [cloud.cp(&node), cloud.stat(&node)] {
        call.dev().run().fails().naming("IMAGE/PATH").saying("not there");
    }
}

#[test]
fn the_default_directories_of_oned_leave_devices_to_the_administrator() {
    let cloud = Cloud::new();
    let device = device(&cloud, MIB);
    let path = text(device.path());
    let call = |restricted, safe| {
        cloud
            .cp(path)
            .dev()
            .set("DATASTORE/TEMPLATE/RESTRICTED_DIRS", restricted)
            .set("DATASTORE/TEMPLATE/SAFE_DIRS", safe)
            .run()
    };
    call("/", "/var/tmp").succeeds();
    call("", "").succeeds();
    call("/root /etc", "/var/tmp/images").succeeds();
    call("/", "/dev").succeeds();
    call("/dev", "/dev").succeeds();
    for (restricted, safe) in [
        ("/dev", ""),
        ("/dev", "/var/tmp"),
        (path, "/var/tmp"),
        ("/", "/dev/disk"),
        ("/", "/dev/disk /var/tmp"),
    ] {
        call(restricted, safe).refused(Rule::Restricted).naming("IMAGE/PATH").saying(path);
    }
}

#[test]
fn a_link_in_a_safe_directory_of_devices_is_as_safe_as_a_device() {
    let cloud = Cloud::new();
    let device = device(&cloud, MIB);
    let links = Links::new("safe");
    let link = links.to(&device);
    let cp = |path: &Path| {
        let safe = format!("{} {}", links.0.display(), cloud.images().display());
        cloud.cp(path).dev().set("DATASTORE/TEMPLATE/SAFE_DIRS", safe).run()
    };
    cp(&link).succeeds();
    cp(device.path()).refused(Rule::Restricted).naming("IMAGE/PATH");
    cp(&links.0.join("..").join(device.path().file_name().unwrap())).refused(Rule::Restricted);
    // Users can make links where their images lie.
    let own = cloud.images().join("link");
    symlink(device.path(), &own).unwrap();
    cp(&own).refused(Rule::Restricted).naming("IMAGE/PATH").saying_path(device.path());
}

#[test]
fn the_front_end_need_not_be_able_to_read_the_device() {
    let cloud = Cloud::new();
    let device = device(&cloud, 3 * MIB);
    let node = cloud.images().join("node");
    run("cp", ["-a", text(device.path()), text(&node)]);
    run("chmod", ["000", text(&node)]);
    cloud.hand_over_to(12345);
    cloud.cp(&node).dev().as_user(12345).run().succeeds();
    let size = cloud.stat(&node).dev().set("DATASTORE/TEMPLATE/DATASTORE_CAPACITY_CHECK", "NO");
    size.as_user(12345).run().succeeds().replies("3");
}

#[test]
fn a_path_that_would_not_survive_the_reply_is_refused() {
    let cloud = Cloud::new();
    let device = device(&cloud, MIB);
    for name in ["a b", "a\tb", "a\nb", " a", "a\u{a0}b", "a\u{1b}b"] {
        println!("{name:?}");
        let link = cloud.images().join(name);
        symlink(device.path(), &link).unwrap();
        cloud.cp(&link).dev().run().fails().naming("IMAGE/PATH").saying("blanks");
    }
}

#[test]
fn verbs_that_make_or_change_data_are_not_supported() {
    let cloud = Cloud::new();
    let device = device(&cloud, MIB);
    let path = device.path();
    let calls = [
        ("mkfs", cloud.mkfs("raw", "4")),
        ("clone", cloud.clone_of(path, "raw")),
        ("snap_revert", cloud.snap("snap_revert", path, "raw", 0)),
        ("snap_delete", cloud.snap("snap_delete", path, "raw", 0)),
        ("snap_flatten", cloud.snap("snap_flatten", path, "raw", 0)),
        ("export", cloud.export(path, "raw")),
    ];
    for (verb, call) in calls {
        let line = format!("{verb}: {verb} is not supported by DS_MAD dev");
        call.dev().run().refused(Rule::NotSupported).saying(&line);
    }
}

#[test]
fn a_name_of_its_own_needs_only_its_kind() {
    let cloud = Cloud::new();
    let device = device(&cloud, MIB);
    let path = text(device.path());
    let call = || cloud.cp(path).dev().set("DATASTORE/DS_MAD", "san");
    call().run().fails().naming("DATASTORE/DS_MAD").saying("san");
    let folder = cloud.one_location().join("var/remotes/etc/datastore/san");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("san.conf"), "KIND=dev\n").unwrap();
    call().run().succeeds().replies(&format!("{path} raw"));
    let mkfs = cloud.mkfs("raw", "4").set("DATASTORE/DS_MAD", "san");
    mkfs.run().fails().saying("not supported by DS_MAD san");
}
